"""Causal n-gram hints and the tilt of a distribution towards them (record of 9 April 2026, A2).

For every position one hint h and a strength β, from the tokens before it only: p'(t) ∝ p(t) exp(β [t = h]), so
nll' = nll + ln(1 + p_h (e^β - 1)) - β [target = h], a proper distribution for every h. Three experts count what
followed: token n-grams of orders 16 … 8, the pieces of the current word, and the last four words. The largest β wins.

Of the word expert only its use as published is built: it is asked behind the first piece of a word, with the history
that piece was predicted from, so it repeats that piece and never hits. Tables are exact (no hash collisions).
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np

LOWEST_ORDER, HIGHEST_ORDER = 8, 16
WORD_HISTORY = 4
WORD_MINIMUM = 3
NO_HINT = -1


@dataclass
class FollowerCounts:
    """What followed each context: how often it was seen, its most frequent follower, and how often that followed."""

    contexts: dict[Hashable, list[int]] = field(default_factory=dict)
    pairs: dict[Hashable, int] = field(default_factory=dict)

    def lookup(self, context: Hashable, threshold: float, minimum: int) -> tuple[int, float]:
        """(most frequent follower, its share), or no hint where the context is too rare or too undecided."""
        count, best, best_count = self.contexts.get(context, (0, NO_HINT, 0))
        if count < minimum or not count or best_count / count < threshold:
            return NO_HINT, 0.0
        return best, best_count / count

    def add(self, context: Hashable, token: int) -> None:
        entry = self.contexts.setdefault(context, [0, NO_HINT, 0])
        pair = (context, token)
        self.pairs[pair] = times = self.pairs.get(pair, 0) + 1
        entry[0] += 1
        if token == entry[1]:
            entry[2] += 1
        elif times > entry[2]:
            entry[1], entry[2] = token, times


def order_limits(order: int) -> tuple[float, int]:
    """Smallest share and smallest count at which a token n-gram gives a hint."""
    return (0.7, 3) if order <= 10 else (0.6, 2) if order <= 13 else (0.5, 2)


class NgramHints:
    """Hints for a stream, position by position.

    Args:
        word_start: per token id, whether a piece begins a word. boundary: whether it separates texts (BOS …).
        base_beta: β of a token n-gram that always followed. agree_bonus: added where another expert agrees with it.
        within_threshold, within_beta: of the expert inside words. word_threshold, word_beta: of the expert of words.
        order_stride: between the orders of the token n-grams.
    """

    def __init__(
        self,
        word_start: np.ndarray,
        boundary: np.ndarray,
        base_beta: float = 2.0,
        agree_bonus: float = 0.1,
        within_threshold: float = 0.25,
        within_beta: float = 0.0,
        word_threshold: float = 0.8,
        word_beta: float = 0.0,
        order_stride: int = 2,
    ):
        self.word_start, self.boundary = word_start, boundary
        self.base_beta, self.agree_bonus = base_beta, agree_bonus
        self.within_threshold, self.within_beta = within_threshold, within_beta
        self.word_threshold, self.word_beta = word_threshold, word_beta
        self.orders = range(HIGHEST_ORDER, LOWEST_ORDER - 1, -order_stride)
        self.ngrams = {order: FollowerCounts() for order in self.orders}
        self.within, self.words = FollowerCounts(), FollowerCounts()
        self.tokens: list[int] = []
        self.pieces: tuple[int, ...] = ()  # of the word in progress
        self.history: list[tuple[int, ...]] = []  # finished words since the last boundary

    def hint(self) -> tuple[int, float]:
        """(hint, β) for the next token; (NO_HINT, 0) without one."""
        token, share = self._token_hint()
        other, beta = self._word_hint()
        if token == NO_HINT:
            return other, beta
        strength = self.base_beta * share + (self.agree_bonus if other == token else 0.0)
        return (other, beta) if other != NO_HINT and beta > strength else (token, strength)

    def _token_hint(self) -> tuple[int, float]:
        for order in self.orders:
            if len(self.tokens) >= order:
                found = self.ngrams[order].lookup(tuple(self.tokens[-order:]), *order_limits(order))
                if found[0] != NO_HINT:
                    return found
        return NO_HINT, 0.0

    def _word_hint(self) -> tuple[int, float]:
        """Of the expert inside words behind a later piece of one, of the expert of words behind a first piece."""
        if not self.tokens or self.boundary[self.tokens[-1]]:
            return NO_HINT, 0.0
        if not self.word_start[self.tokens[-1]]:
            found = self.within.lookup(self.pieces, self.within_threshold, 1)[0] if self.pieces else NO_HINT
            return (found, self.within_beta) if found != NO_HINT else (NO_HINT, 0.0)
        if len(self.history) < WORD_HISTORY:
            return NO_HINT, 0.0
        found = self.words.lookup(tuple(self.history[-WORD_HISTORY:]), self.word_threshold, WORD_MINIMUM)[0]
        return (found, self.word_beta) if found != NO_HINT else (NO_HINT, 0.0)

    def add(self, token: int) -> None:
        """Count a token that has its score."""
        for order in self.orders:
            if len(self.tokens) >= order:
                self.ngrams[order].add(tuple(self.tokens[-order:]), token)
        if self.boundary[token]:
            self.pieces, self.history = (), []
        elif self.word_start[token]:
            if self.pieces:
                self.history.append(self.pieces)
            if len(self.history) >= WORD_HISTORY:
                self.words.add(tuple(self.history[-WORD_HISTORY:]), token)
            self.pieces = (token,)
        else:
            if self.pieces:
                self.within.add(self.pieces, token)
            self.pieces = (*self.pieces, token)
        self.tokens = [*self.tokens[-HIGHEST_ORDER:], token]
        self.history = self.history[-WORD_HISTORY:]

    def hints(self, tokens: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Hints [N] int32 and strengths [N] float64 of a whole stream: each from what is before it."""
        hints_N, betas_N = np.empty(len(tokens), np.int32), np.empty(len(tokens), np.float64)
        for position, token in enumerate(tokens):
            hints_N[position], betas_N[position] = self.hint()
            self.add(int(token))
        return hints_N, betas_N


def tilted_nll(
    nll_N: np.ndarray,
    hint_log_probability_N: np.ndarray,
    targets_N: np.ndarray,
    hints_N: np.ndarray,
    betas_N: np.ndarray,
) -> np.ndarray:
    """Losses under the tilted distributions, float64; as they are where there is no hint."""
    p_N = np.exp(np.minimum(hint_log_probability_N.astype(np.float64), 0.0))
    tilted_N = nll_N + np.log1p(p_N * np.expm1(betas_N)) - betas_N * (targets_N == hints_N)
    return np.where(hints_N == NO_HINT, nll_N, tilted_N)
