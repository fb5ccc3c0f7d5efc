"""The LightningModule: an adapter around the network. Nothing is logged and nothing synchronises in a training step."""

from __future__ import annotations

import inspect
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import LightningModule
from torch import Tensor

from golf.config.build import build
from golf.data.stream import Batch
from golf.evaluation.contiguous import Contiguous
from golf.evaluation.ledger import Ledger
from golf.evaluation.scorer import score_windows
from golf.evaluation.split import count_target_bytes, split_part
from golf.evaluation.windows import Window
from golf.loop import training_loss
from golf.training.session import Session

# Graphs of one network: depth phases × fake quantisation × shapes (packed rows, staged sequence lengths).
RECOMPILE_LIMIT = 64


class GolfModule(LightningModule):
    """Trains `session.net` with one composite optimizer; validates on the first protocol of the `eval` group."""

    def __init__(self, session: Session):
        super().__init__()
        self.session = session
        self.net = session.net
        self._ledger: Any = None  # the Ledger of the validation that is running
        self._bytes_N: Any = None
        self._part: Any = None  # the tokens that are validated on
        self._said_cheap = False

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_current_fx_name":  # set twice around every hook: a string needs no registering
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def configure_model(self) -> None:
        # In place, so that parameter names stay as they are; the network only, never this module.
        if self.session.config["hardware"]["compile"]:
            if self.session.world > 1:
                torch._dynamo.config.optimize_ddp = False
            torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, RECOMPILE_LIMIT)
            self.net.compile(fullgraph=True, dynamic=False)

    def configure_optimizers(self) -> Any:
        self.session.optimizer = build(self.session.config["optim"])(self.net)
        return self.session.optimizer

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        session = self.session
        loss = training_loss(self.net, session.schedules.resized(batch, session.rates), session.stream)
        self.session.meter.add(loss.detach())
        return loss

    # Lightning asks for this signature at every step; working it out anew costs more than all of golf's callbacks.
    training_step.__signature__ = inspect.signature(training_step)  # type: ignore[attr-defined]

    def configure_gradient_clipping(self, *arguments: Any, **named: Any) -> None:
        """Nothing: clipping is part of the optimizer (`optim.clip_norm`)."""

    # -- validation: the same windows, ledger and byte counts as every other score ------------------------------------
    def validation_protocol(self) -> Any:
        """Name and windows; where the first protocol is more than its windows, plain blocks, and the log says so."""
        seq_len = self.session.stream.seq_len
        found = next(iter(self.session.evaluation.evaluators(seq_len).items()), None)
        if found is None or not hasattr(found[1], "run"):
            return found
        if not self._said_cheap:
            self._said_cheap = True
            self.session.say(
                f"validation during training: contiguous blocks of {seq_len:,} tokens ({found[0]} scores at the end)"
            )
        return "contiguous", Contiguous(seq_len)

    def validation_part(self) -> Any:
        """The part of the validation split that is scored during training."""
        if self._part is None:
            session = self.session
            bos_id = session.stream.shards.bos_id
            found = split_part(session.validation_tokens, self.validation_protocol()[1], session.evaluation, bos_id)
            self._part = found.tokens
        return self._part

    def on_validation_epoch_start(self) -> None:
        tokens = self.validation_part()
        if self._bytes_N is None:
            self._bytes_N = count_target_bytes(tokens, self.session.byte_table)
        self._ledger = Ledger(len(tokens) - 1, self.validation_protocol()[1].rescoring)

    def validation_step(self, windows: list[Window], batch_index: int) -> None:
        for first_target, nll_S in score_windows(_Uncompiled(self.net), self.validation_part(), windows, self.device):
            self._ledger.record(first_target, nll_S)

    def on_validation_epoch_end(self) -> None:
        if self.session.world > 1:
            self._ledger.reduce(self._sum_over_ranks)
        score = self._ledger.score(self._bytes_N)
        values = {"val/loss": score.nats_per_token, "val/bpb": score.bpb}
        self.session.validation = {"step": self.session.step, **values}
        self.session.statistics["validated_targets"] = score.targets
        self.log_dict({name: torch.tensor(value) for name, value in values.items()}, logger=False, sync_dist=False)

    def _sum_over_ranks(self, tensor: Tensor) -> Tensor:
        on_device = tensor.to(self.device)
        dist.all_reduce(on_device)
        return on_device


class _Uncompiled:
    """The network without its compiled graph: validation has other shapes than training."""

    def __init__(self, net: Any):
        self.net, self.nll_at = net, net.nll_at

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.net.eager(*args, **kwargs)
