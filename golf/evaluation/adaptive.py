"""Adaptive evaluation: the model learns from what it has scored, and scores the rest better (test-time training).

The windows are those of sliding evaluation where the method wants windows, or documents where it wants documents. A
method is handed a `ScoringSession` and nothing else (golf.ttt.protocol), so it cannot see a token that has no score.
The model's weights are as before when the evaluation ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from golf.errors import UserError
from golf.evaluation.phases import OVER_LIMIT
from golf.evaluation.protocol import Evaluator
from golf.evaluation.sliding import Sliding
from golf.evaluation.windows import Window

TRAINABLE = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


class Adaptive:
    """`ttt`: the method, from the `ttt` group. seq_len, stride, tail: of the windows, as in eval=sliding.

    limit_seconds: of the evaluation clock; 0 or null = only measure. over_limit: what does not fit is refused, or
    learning ends in time ("shorten"). tilt: hints towards which the scored distributions are tilted (`NgramTilt`);
    what is learned from is the network's own loss.
    """

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
        limit_seconds: float | None = None,
        over_limit: str = "refuse",
        max_documents: int = 0,
        tilt: Any = None,
    ) -> None:
        if over_limit not in OVER_LIMIT:
            raise UserError(f"eval.over_limit={over_limit}: allowed are {', '.join(OVER_LIMIT)}; type {OVER_LIMIT[0]}")
        if not ttt:
            raise UserError("eval=adaptive needs a method of test-time training; type ttt=sgd, ttt=lora or ttt=phased")
        self.method = ttt
        self.by_document = bool(ttt.by_document)
        if self.by_document:  # documents have no stride
            stride = min(stride, seq_len or stride)
        self.windowing = Sliding(seq_len, stride, tail, batch_tokens, max_tokens)
        self.seq_len, self.stride, self.tail = seq_len, stride, tail
        self.batch_tokens, self.max_tokens, self.limit_seconds = batch_tokens, max_tokens, limit_seconds or 0.0
        self.max_documents = max_documents
        self.over_limit = over_limit
        self.rescoring = "forbid" if self.by_document else self.windowing.rescoring
        self.tilt = tilt or None
        if self.tilt is not None:
            self.name = "ttt_tilted"
            if self.by_document or tail != "exact":
                method = type(ttt).__name__
                raise UserError(
                    f"eval.tilt: hints follow the stream once, and {method} with eval.tail={tail} does not; "
                    "type ttt=sgd eval.tail=exact, or eval.tilt=null"
                )

    def evaluators(self, train_seq_len: int) -> dict[str, Evaluator]:
        seq_len = self.seq_len or train_seq_len
        require_fits = getattr(self.method, "require_fits", None)
        if require_fits is not None:  # here, and not when the rungs below are scored
            require_fits(seq_len)
        sizes = (self.batch_tokens, self.max_tokens, self.limit_seconds, self.over_limit)
        return {self.name: Adaptive(seq_len, self.stride, self.tail, self.method, *sizes, tilt=self.tilt)}

    def windows(self, num_tokens: int) -> Sequence[Window]:
        return self.windowing.windows(num_tokens)

    def run(self, session: Any) -> None:
        """Let the method score and learn; put the weights back."""
        require_trainable(session.model)
        before = {name: tensor.detach().clone() for name, tensor in session.model.state_dict().items()}
        wanted = [(parameter, parameter.requires_grad) for parameter in session.model.parameters()]
        if self.tilt is not None:
            session.watch(self.tilt.hints_for(session))
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


def require_trainable(model: Any) -> None:
    """Gradients need weights in floating point, as opening an artifact dequantises them.

    Raises:
        UserError: there are none, or one is still as it is stored.
    """
    parameters = list(model.named_parameters())
    packed = next((name for name, p in parameters if p.dtype not in TRAINABLE or p.is_inference()), None)
    if packed is None and parameters:
        return
    what = f"the weight {packed} is {dict(parameters)[packed].dtype}" if packed else "the network has no weights"
    raise UserError(
        f"test-time training needs dequantised weights that take gradients, and {what}: open the file with golf.load "
        "or evaluate.py, which dequantise it; or type ttt=none"
    )
