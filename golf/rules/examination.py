"""Watching an evaluation path: what its scores do when tokens change, when the stream ends early, when it runs twice.

A path is anything that scores a stream into a ledger from a fresh state; it is called, never read. With x the stream,
s_k the score (nats) of target k and p_k(v) the probability a path gives token v at k:
- flip: tokens >= j are changed (all redrawn, one, all turned into document starts): s_k for k < j must stay, bit for
  bit; where the path shows its distributions, p_j must stay as well, which no score can show.
- truncation: a stream that ends at j has the same scores before j, or they were not made in one pass to the right.
- mass: sum over v of exp(-s_k(x with x_k = v)) = 1, or the scores are not those of one distribution.
- replay: s_k = -log p_k(x_k), where p_k was asked for with x_k and all that follows hidden; where state changes between
  scores, it is asked for at the moment of scoring, of the state that scored (`probe`).
- sample: where a vocabulary is too large to score every token, the scores of some equal one distribution's.
Legend: N targets, V vocabulary.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

MASS_TOLERANCE = 1e-3
LOG_TOLERANCE = 1e-4
FEW_TOKENS = 1000  # scoring every token in turn costs more than this: one place has to do
ROW_TOKENS = 32_768  # tokens of the batch that tries every token of a vocabulary
SAMPLED_TARGETS, SAMPLED_CONTEXT = 60, 16


@dataclass(frozen=True)
class AuditedPath:
    """An evaluation path with what is known of it.

    score: tokens -> ledger, from a fresh state each time.  tokens: a stream to test with.
    distribution: (tokens, k) -> log-probabilities [V] of target k, as the path computes them on that stream.
    all_targets: (tokens, k, candidates, context) -> scores of target k, after at most `context` tokens, for tokens it
        could be; without it the stream is scored V times.  prediction: (tokens, k, context) -> log-probabilities [V].
    hidden: (tokens, targets) -> {target: (-log p of the hidden target, size of p)}, many at once; places: how many.
    probe: (tokens, targets) -> {target: (score, -log p of the hidden target, size of p)}, for a path that learns.
    watched: has `record`, `passes`, `steps` of the last run (golf/rules/watched.py).
    state: hash of everything that lives between two scores.  lengths: stream lengths it can score.
    keeps_documents: it orders or pads by document, so where documents begin is part of what it is given: changes leave
        that as it is, and the stream is not cut. (What the lengths of later documents may tell is not tested then.)
    window: tokens of its windows in the tests, 0 = not known; scale: what was made smaller for the tests, in words.
    mass_tokens: tokens that enumerating a vocabulary may cost. all_kinds: several kinds of change at the first places,
        else one at each, by turns.
    tolerance: nats by which the same numbers may differ (0 on a CPU); loose: where shapes differ as well.
    """

    name: str
    score: Callable[[np.ndarray], Any]
    tokens: np.ndarray
    vocab_size: int
    bos_id: int = 1
    distribution: Callable[[np.ndarray, int], np.ndarray] | None = None
    all_targets: Callable[[np.ndarray, int, np.ndarray, int], np.ndarray] | None = None
    state: Callable[[], str] | None = None
    lengths: tuple[int, ...] = ()
    tolerance: float = 0.0
    loose: float = 1e-4
    flips: int = 6
    mass_places: int = 2
    keeps_documents: bool = False
    window: int = 0
    scale: str = ""
    mass_tokens: int = 400_000
    all_kinds: bool = True
    probe: Callable[[np.ndarray, list[int]], dict[int, tuple[float, float, int]]] | None = None
    prediction: Callable[[np.ndarray, int, int], np.ndarray] | None = None
    hidden: Callable[[np.ndarray, list[int]], dict[int, tuple[float, int]]] | None = None
    places: int = 0
    watched: Any = None


@dataclass(frozen=True)
class Trace:
    """Scores of one run of a path; `error` is what its ledger refused, `state` the state's hash before and after."""

    nats_N: np.ndarray
    times_N: np.ndarray
    error: str | None
    state: tuple[str, str] | None
    order_N: np.ndarray | None = None  # in which of the ledger's records each target was scored, where that is known


@dataclass(frozen=True)
class Shift:
    """How much a score moved that should not have: target k, by nats, because of what was changed."""

    target: int
    nats: float
    what: str


class Examination:
    """All observations of one path; each is made once, when it is first asked for."""

    def __init__(self, path: AuditedPath, seed: int = 0):
        self.path, self.seed = path, seed
        self.random_moved: list[str] = []  # generators whose state another than the base run would find changed
        self.record: dict[str, Any] = {}  # of the base run
        self.passes, self.steps = 0, [0, 0, 0]

    def run(self, tokens: np.ndarray, watch_state: bool = False) -> Trace:
        state = self.path.state if watch_state else None
        before = state() if state else ""
        error, targets = None, len(tokens) - 1
        try:
            ledger = self.path.score(tokens)
            nats_N, times_N = np.array(ledger.nats_N), np.array(ledger.times_N)
        except Exception as problem:
            if type(problem).__name__ != "LedgerError":
                raise
            error, nats_N, times_N = str(problem), np.full(targets, np.nan), np.zeros(targets, dtype=np.int32)
        order = getattr(self.path.watched, "order", None) if error is None else None
        return Trace(nats_N, times_N, error, (before, state()) if state else None, order)

    @cached_property
    def base(self) -> Trace:
        """The first run: its scores, and what it left behind."""
        before = random_states()
        trace = self.run(self.path.tokens, watch_state=True)
        self.random_moved = [name for name, state in random_states().items() if state != before.get(name, state)]
        if (watched := self.path.watched) is not None and trace.error is None:
            self.record, self.passes, self.steps = watched.record, watched.passes, list(watched.steps)
        return trace

    @cached_property
    def again(self) -> Trace:
        return self.run(self.path.tokens)

    @property
    def repeats(self) -> float:
        """Largest difference between two runs of the same stream."""
        return float(np.max(np.abs(self.base.nats_N - self.again.nats_N), initial=0.0))

    @cached_property
    def positions(self) -> list[int]:
        """Tokens to change: the last, the second, and others anywhere between."""
        n, generator = len(self.path.tokens), np.random.default_rng(self.seed)
        inner = generator.choice(np.arange(2, n - 1), size=min(max(self.path.flips - 2, 1), n - 3), replace=False)
        return sorted({n - 1, min(2, n - 1), *map(int, inner)})

    @cached_property
    def flipped(self) -> list[Shift]:
        """Scores that moved because of later tokens, largest first."""
        found: list[Shift] = []
        for number, j in enumerate(self.positions):
            kinds = self._changes(j)
            for what, tokens in (
                kinds[: 3 if number < 3 else 1] if self.path.all_kinds else [kinds[number % len(kinds)]]
            ):
                moved = np.abs(self.run(tokens).nats_N - self.base.nats_N)
                moved = np.nan_to_num(moved, nan=np.inf)[self.before(tokens)]
                if moved.size and moved.max() > self.path.tolerance:
                    k = int(self.before(tokens)[np.argmax(moved)])
                    found.append(Shift(k + 1, float(moved.max()), f"{what} {j}"))
        return sorted(found, key=lambda shift: -shift.nats)

    def before(self, tokens: np.ndarray) -> np.ndarray:
        """Indices of the targets that were scored before any changed token was a target.

        Along the stream these are the targets before the first change; by document the order is the ledger's, and
        within one record it is the stream's.
        """
        changed_N = tokens[1:] != self.path.tokens[1:]
        order_N = self.base.order_N
        if order_N is None or not changed_N.any():
            first = int(np.argmax(changed_N)) if changed_N.any() else changed_N.size
            return np.arange(first)
        earliest = order_N[changed_N].min()
        first = int(np.argmax(changed_N & (order_N == earliest)))
        index_N = np.arange(changed_N.size)
        return np.flatnonzero((order_N < earliest) | ((order_N == earliest) & (index_N < first)))

    @cached_property
    def shown(self) -> dict[int, np.ndarray]:
        """The distributions that the path shows at the positions, on the stream itself."""
        distribution = self.path.distribution
        assert distribution is not None
        return {j: np.asarray(distribution(self.path.tokens, j), dtype=np.float64) for j in self.positions}

    @cached_property
    def redirected(self) -> list[Shift] | None:
        """Distributions that moved because of their own target or what follows; None if the path shows none."""
        distribution = self.path.distribution
        if distribution is None:
            return None
        found: list[Shift] = []
        for j in self.positions:
            expected = self.shown[j]
            for what, tokens in [*self._changes(j), *self._swaps(j)]:
                moved = np.abs(np.asarray(distribution(tokens, j), dtype=np.float64) - expected)
                if moved.max(initial=0.0) > self.path.tolerance:
                    found.append(Shift(j, float(moved.max()), f"{what} {j}"))
        return sorted(found, key=lambda shift: -shift.nats)

    @cached_property
    def truncated(self) -> list[Shift]:
        """Scores that differ when the stream ends earlier."""
        found: list[Shift] = []
        n = len(self.path.tokens)
        if self.path.keeps_documents:
            return found
        for length in self.path.lengths or (n // 3 + 2, 2 * n // 3 + 1, n - 1):
            if not 2 <= length < n:
                continue
            moved = np.abs(self.run(self.path.tokens[:length]).nats_N - self.base.nats_N[: length - 1])
            moved = np.nan_to_num(moved, nan=np.inf)
            if moved.max(initial=0.0) > self.path.loose:
                k = int(np.argmax(moved))
                found.append(Shift(k + 1, float(moved[k]), f"the end of the stream at token {length - 1}"))
        return sorted(found, key=lambda shift: -shift.nats)

    @cached_property
    def masses(self) -> dict[int, float] | None:
        """Target -> total probability of everything it could be; None if that would take too long."""
        rows, n, everything = self.path.all_targets, len(self.path.tokens), np.arange(self.path.vocab_size)
        cost = self.path.vocab_size * (1 if rows is not None else n)
        if cost > self.path.mass_tokens:
            return None
        positions = [self.positions[len(self.positions) // 2], self.positions[-1]]
        few = (rows is None and cost > FEW_TOKENS) or self.path.mass_places < 2
        context = int(np.clip(min(ROW_TOKENS, self.path.mass_tokens) // self.path.vocab_size, 1, n))
        found = {}
        for k in positions[-1:] if few else positions:
            nats_V = self._enumerate(k) if rows is None else rows(self.path.tokens, k, everything, context)
            found[k] = float(np.exp(-np.asarray(nats_V, dtype=np.float64)).sum())
        return found

    @cached_property
    def sampled(self) -> dict[int, tuple[float, int]] | None:
        """Target -> (largest difference between a token's score and its prediction, tokens tried), None without both.

        Tried are the target, the token before it, a document start, both ends of the vocabulary, and random ones.
        """
        rows, prediction = self.path.all_targets, self.path.prediction
        if rows is None or prediction is None:
            return None
        found = {}
        for k in {self.positions[len(self.positions) // 2], self.positions[-1]}:
            drawn = np.random.default_rng([self.seed, k]).integers(0, self.path.vocab_size, size=SAMPLED_TARGETS)
            fixed = [int(self.path.tokens[k]), int(self.path.tokens[k - 1]), self.path.bos_id, 0]
            tokens = np.unique(np.r_[fixed, self.path.vocab_size - 1, drawn])
            nats = np.asarray(rows(self.path.tokens, k, tokens, SAMPLED_CONTEXT), dtype=np.float64)
            logs_V = np.asarray(prediction(self.path.tokens, k, SAMPLED_CONTEXT), dtype=np.float64)
            found[k] = (float(np.abs(nats + logs_V[tokens]).max()), tokens.size)
        return found

    def _enumerate(self, k: int) -> np.ndarray:
        nats_V = np.empty(self.path.vocab_size)
        for v in range(self.path.vocab_size):
            tokens = self.path.tokens.copy()
            tokens[k] = v
            nats_V[v] = self.run(tokens).nats_N[k - 1]
        return nats_V

    @cached_property
    def replays(self) -> dict[int, tuple[float, float, int]] | None:
        """Target -> (score, -log p of the hidden target, size of the distribution), or None."""
        distribution = self.path.distribution
        count = len(self.path.tokens) - 1
        spread = np.linspace(1, count, min(self.path.places, count)).astype(int)
        targets = sorted({*self.positions, *map(int, spread)})
        if self.path.hidden is not None and self.base.error is None:
            seen = self.path.hidden(self.path.tokens, targets)
            return {k: (float(self.base.nats_N[k - 1]), *seen[k]) for k in targets if k in seen}
        if distribution is None:
            return None if self.path.probe is None else self.path.probe(self.path.tokens, targets)
        found = {}
        for k in self.positions:
            hidden = self.path.tokens.copy()
            hidden[k:] = self._redrawn(k)
            logs_V = np.asarray(distribution(hidden, k), dtype=np.float64)
            target = int(self.path.tokens[k])
            own = -float(logs_V[target]) if target < logs_V.size else float("inf")
            found[k] = (float(self.base.nats_N[k - 1]), own, logs_V.size)
        return found

    @cached_property
    def log_masses(self) -> dict[int, float] | None:
        """Target -> log of the sum of the distribution that the path shows; nan for one with a nan."""
        if self.path.distribution is None:
            return None
        found = {}
        for k, logs_V in self.shown.items():
            top = logs_V.max()
            found[k] = float(top + np.log(np.exp(logs_V - top).sum()))
        return found

    def _redrawn(self, j: int) -> np.ndarray:
        """Other tokens for all from j on, each different from what stands there; see keeps_documents."""
        old, size = self.path.tokens[j:].astype(np.int64), self.path.vocab_size
        shift = np.random.default_rng([self.seed, j]).integers(1, size, size=old.size)
        new = (old + shift) % size
        if self.path.keeps_documents:
            bos = self.path.bos_id
            new = np.where(new == bos, (bos + 1 + (old == bos + 1)) % size, new)
            new = np.where(old == bos, bos, new)
        return new.astype(self.path.tokens.dtype)

    def _changes(self, j: int) -> list[tuple[str, np.ndarray]]:
        tail, one, starts = (self.path.tokens.copy() for _ in range(3))
        tail[j:] = self._redrawn(j)
        one[j] = tail[j]
        starts[j:] = self.path.bos_id
        changed = [("all tokens from", tail), ("token", one)]
        return changed if self.path.keeps_documents else [*changed, ("document starts from", starts)]

    def _swaps(self, j: int) -> list[tuple[str, np.ndarray]]:
        """The target alone, swapped for a few others: its predecessor, a document start, the highest id."""
        found, bos = [], self.path.bos_id
        for token in (int(self.path.tokens[j - 1]), bos, self.path.vocab_size - 1, 0):
            if self.path.keeps_documents and bos in (token, int(self.path.tokens[j])):
                continue
            tokens = self.path.tokens.copy()
            tokens[j] = token
            found.append((f"token {token} as target", tokens))
        return found


def random_states() -> dict[str, Any]:
    """The states of the process-wide generators, as values that can be compared; torch's only where it is loaded."""
    states: dict[str, Any] = {"random": random.getstate()}
    name, keys, *rest = np.random.get_state(legacy=True)
    states["numpy.random"] = (name, np.asarray(keys).tobytes(), *rest)
    if (torch := sys.modules.get("torch")) is not None:
        states["torch.random"] = torch.random.get_rng_state().numpy().tobytes()
    return states
