"""Adaptive evaluation: the model learns from what it has scored, and scores the rest better (test-time training).

The windows are those of sliding evaluation where the method wants windows, or documents where it wants documents. A
method is handed a `ScoringSession` and nothing else (golf.ttt.protocol), so it cannot see a token that has no score.
The model's weights are as before when the evaluation ends.
"""

from __future__ import annotations

from typing import Any

import torch

from golf.errors import UserError
from golf.evaluation.protocol import Evaluator, Window
from golf.evaluation.sliding import Sliding


class Adaptive:
    """`ttt`: the method, from the `ttt` group. seq_len, stride, tail: of the windows, as in eval=sliding."""

    name = "ttt"
    interleaved = False

    def __init__(
        self,
        seq_len: int = 0,
        stride: int = 64,
        tail: str = "exact",
        ttt: Any = None,
        batch_tokens: int = 0,
        max_tokens: int = 0,
        limit_seconds: float = 0.0,
    ) -> None:
        if not ttt:
            raise UserError("eval=adaptive needs a method of test-time training; type ttt=sgd, ttt=lora or ttt=phased")
        self.method = ttt
        self.windowing = Sliding(seq_len, stride, tail, batch_tokens, max_tokens)
        self.seq_len, self.stride, self.tail = seq_len, stride, tail
        self.batch_tokens, self.max_tokens, self.limit_seconds = batch_tokens, max_tokens, limit_seconds
        self.by_document = bool(ttt.by_document)
        self.rescoring = "forbid" if self.by_document else self.windowing.rescoring

    def evaluators(self, train_seq_len: int) -> dict[str, Evaluator]:
        seq_len = self.seq_len or train_seq_len
        sizes = (self.batch_tokens, self.max_tokens, self.limit_seconds)
        return {self.name: Adaptive(seq_len, self.stride, self.tail, self.method, *sizes)}

    def windows(self, num_tokens: int) -> list[Window]:
        return self.windowing.windows(num_tokens)

    def run(self, session: Any) -> None:
        """Let the method score and learn; put the weights back."""
        before = {name: tensor.detach().clone() for name, tensor in session.model.state_dict().items()}
        wanted = [(parameter, parameter.requires_grad) for parameter in session.model.parameters()]
        try:
            if self.method.by_document:
                self.method.run(session, self.seq_len)
            else:
                self.method.run(session, self.seq_len, self.windows(session.num_targets + 1))
        finally:
            with torch.no_grad():
                for name, tensor in session.model.state_dict().items():
                    tensor.copy_(before[name])
            for parameter, wants in wanted:
                parameter.grad = None
                parameter.requires_grad_(wants)
