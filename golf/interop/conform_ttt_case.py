"""One case of test-time training: its network, its tokens, and golf's evaluation of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from golf.interop.conform_network import BOS_ID, Sidecar, described_network
from golf.interop.conform_result import Check, measured, relative_difference
from golf.interop.conform_weights import generate_weights
from golf.interop.upstream import build_upstream_model
from golf.interop.upstream_names import back_to_upstream, pieces_of

NLL_TOLERANCE = 2e-3
MEAN_TOLERANCE = 1e-4
NORM_TOLERANCE = 1e-3


class TttCase:
    """One case with its network and tokens."""

    def __init__(self, vector: str, name: str, case: Mapping[str, Any], arrays: Mapping[str, np.ndarray]):
        self.vector, self.name, self.case = vector, name, case
        self.settings = dict(case.get("settings") or case["ttt"])
        self.state = dict(generate_weights(case["weight_seed"], case["tensors"]))
        self.shapes = {key: tuple(tensor.shape) for key, tensor in self.state.items()}
        self.model = build_upstream_model(self.state, *described_network(case["model"], case["script"]))
        self.tokens = arrays["tokens"].astype(np.int64)
        self.bytes = arrays.get("bytes")
        self.expected = torch.from_numpy(
            np.asarray(arrays["scored_nll"] if "scored_nll" in arrays else arrays["nll_by_document"])
        )

    def evaluate(self, method: Any, seq_len: int, stride: int = 0, tail: str = "exact", listener: Any = None) -> Any:
        """golf's evaluation; `listener(session)` sees the session before it starts."""
        from golf.evaluation.adaptive import Adaptive
        from golf.evaluation.protocol import evaluate

        class Heard(Adaptive):
            def run(self, session: Any) -> None:
                if listener is not None:
                    listener(session)
                super().run(session)

        evaluator = Heard(seq_len, stride or seq_len, tail, method)
        return evaluate(self.model, self.tokens, self.table(), evaluator, bos_id=BOS_ID)

    def table(self) -> Any:
        from golf.data.bytes import uniform_byte_table

        return uniform_byte_table(int(self.model.vocab_size)) if self.bytes is None else Sidecar(self.bytes)

    def check(self, quantity: str, error: float, tolerance: float) -> Check:
        return measured(self.vector, self.name, quantity, error, tolerance)

    def norms(self, found: Mapping[str, torch.Tensor], expected: Mapping[str, Any], quantity: str) -> Check:
        """Largest relative error of the norms of all tensors of a state, under the script's names."""
        theirs = back_to_upstream(found, self.shapes, pieces_of(self.shapes))
        errors = [
            relative_difference(float(theirs[key].double().norm()), values["l2"]) for key, values in expected.items()
        ]
        return self.check(quantity, max(errors), NORM_TOLERANCE)
