"""A slice of the training split as a ruler: the BPB of changed weights, where validation data must choose nothing.

The slice is the end of the training split (what short runs have not read), scored in contiguous windows by the ladder's
own scorer. Invariant: validation shards are not opened; every figure names the slice (`label`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from golf.config.build import build
from golf.data.shards import Shards
from golf.errors import UserError
from golf.evaluation.contiguous import Contiguous
from golf.evaluation.protocol import evaluate
from golf.pipeline.run_folder import RunFolder
from golf.quant.calibration_ledger import require_training_shards
from golf.training.device import torch_device


class TrainingSlice:
    """Scores whole state dicts of a run's network on the last `tokens` targets of its training split.

    Raises:
        UserError: the training shards are gone, or hold less than one window.
        VerificationFailed: they are not those of the training split.
    """

    def __init__(self, run: RunFolder, config: dict[str, Any], tokens: int):
        prepared = run.data()
        self.net = build(config["model"])
        self.device = torch_device(config["hardware"])
        self.net.to(self.device).eval()
        torch.set_num_threads(config["hardware"]["threads"])
        tokenizer = prepared.tokenizer(self.net.vocab_size)
        unique_tokens = run.config["budget"].get("unique_tokens", 0)
        shards = Shards(prepared.train_paths, self.net.vocab_size, tokenizer.bos_id, unique_tokens)
        require_training_shards(shards)
        seq_len = config["data"]["seq_len"]
        targets = min(tokens, len(shards) - 1) // seq_len * seq_len
        if targets < seq_len:
            raise UserError(
                f"{tokens:,} tokens are shorter than one window of {seq_len:,}: "
                f"type sensitivity.tokens={seq_len} (fit.score_tokens={seq_len}) or more"
            )
        self.tokens = shards.take(len(shards) - targets - 1, targets + 1)
        self.table, self.bos_id = tokenizer.byte_table(), tokenizer.bos_id
        self.evaluator = Contiguous(seq_len)
        self.label = f"last {targets:,} targets of the training split, contiguous windows of {seq_len:,} tokens"

    def bpb(self, state: Mapping[str, torch.Tensor]) -> float:
        """Bits per byte of the network with these weights."""
        self.net.load_state_dict(dict(state))
        return evaluate(self.net, self.tokens, self.table, self.evaluator, self.device, bos_id=self.bos_id).score.bpb
