"""Sliding evaluation tilted towards n-gram hints (record of 9 April 2026): p'(t) ∝ p(t) exp(β [t = h]).

The hint h and its strength β are asked for before the counts are shown the target, so they depend on earlier tokens
only (`ScoringSession.score_distributions`); each tilted distribution is checked to add up to one. Counting is exact and
in Python, with some kilobytes of memory per token: for splits cut with eval.max_documents or eval.max_tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from golf.evaluation.protocol import Evaluator
from golf.evaluation.sliding import Sliding
from golf.evaluation.tilt import NO_HINT, NgramHints
from golf.evaluation.windows import WindowGrid, rank_share


class NgramTilt:
    """What the hints are made of: see `NgramHints`."""

    def __init__(
        self,
        base_beta: float = 2.0,
        agree_bonus: float = 0.1,
        within_threshold: float = 0.25,
        within_beta: float = 0.0,
        word_threshold: float = 0.8,
        word_beta: float = 0.0,
        order_stride: int = 2,
    ) -> None:
        thresholds = (within_threshold, within_beta, word_threshold, word_beta)
        self.strengths = (base_beta, agree_bonus, *thresholds, order_stride)

    def hints_for(self, session: Any) -> TiltingHints:
        return TiltingHints(session.vocabulary, session.model.vocab_size, self.strengths)


class Tilted:
    """Windows as in `Sliding`, their distributions tilted; with test-time training `tilt` is a key of the ladder."""

    name = "tilted"
    rescoring = "forbid"
    interleaved = False

    def __init__(
        self,
        seq_len: int = 0,
        stride: int = 64,
        batch_tokens: int = 0,
        max_tokens: int = 0,
        max_documents: int = 0,
        limit_seconds: float | None = None,
        tilt: NgramTilt | None = None,
    ) -> None:
        self.windowing = Sliding(seq_len, stride, "exact", batch_tokens, max_tokens, max_documents)
        self.seq_len, self.stride, self.batch_tokens = seq_len, stride, batch_tokens
        self.max_tokens, self.max_documents, self.limit_seconds = max_tokens, max_documents, limit_seconds or 0.0
        self.tilt = tilt or NgramTilt()

    def evaluators(self, train_seq_len: int) -> dict[str, Evaluator]:
        seq_len = self.seq_len or train_seq_len
        sizes = (self.batch_tokens, self.max_tokens, self.max_documents, self.limit_seconds)
        return {
            "sliding": Sliding(seq_len, self.stride, limit_seconds=self.limit_seconds),
            self.name: Tilted(seq_len, self.stride, *sizes, self.tilt),
        }

    def windows(self, num_tokens: int) -> WindowGrid:
        return self.windowing.windows(num_tokens)

    def run(self, session: Any) -> None:
        """Score this rank's windows; the counts walk the stream from its beginning on every rank."""
        batches: Any = rank_share(session.batches(self.windows(session.num_targets + 1)), session.rank, session.world)
        session.expect(batches.num_targets)
        session.score_distributions(batches, self.tilt.hints_for(session))


class TiltingHints:
    """N-gram counts of the stream, and the distributions that follow from them.

    vocabulary: byte table of the tokenizer; without one, every token counts as a word of its own.
    """

    def __init__(self, vocabulary: Any, vocab_size: int, strengths: Sequence[Any]):
        word_start = np.ones(vocab_size, dtype=bool) if vocabulary is None else vocabulary.leading_space
        boundary = np.zeros(vocab_size, dtype=bool) if vocabulary is None else vocabulary.boundary
        self.counts = NgramHints(word_start, boundary, *strengths)

    def hint(self) -> tuple[int, float]:
        return self.counts.hint()

    def add(self, token: int) -> None:
        self.counts.add(token)

    def change(self, log_p_SV: Tensor, hints: Sequence[tuple[int, float]]) -> Tensor:
        """log p'(t) = log p(t) + β [t = h] - log(1 + p_h (e^β - 1)); unchanged without a hint."""
        rows = [row for row, (hint, _) in enumerate(hints) if hint != NO_HINT]
        if not rows:
            return log_p_SV
        chosen = [hints[row] for row in rows]
        at_R = torch.tensor(rows, device=log_p_SV.device)
        hint_R = torch.tensor([hint for hint, _ in chosen], device=log_p_SV.device)
        beta_R = torch.tensor([beta for _, beta in chosen], dtype=log_p_SV.dtype, device=log_p_SV.device)
        tilted_SV = log_p_SV.clone()
        tilted_SV[at_R] -= torch.log1p(log_p_SV[at_R, hint_R].exp() * torch.expm1(beta_R))[:, None]
        tilted_SV[at_R, hint_R] += beta_R
        return tilted_SV
