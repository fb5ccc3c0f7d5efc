"""The bug museum, part one: ways to score that look right, each with one deliberate fault, and what they copy.

Everything scores the same tiny streams with counts of pairs (no network), so that a fault is a line, not a model. The
sound ones are as adaptive as the broken ones: an examiner that calls adaptation a fault would fail here as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from golf.evaluation.ledger import Ledger
from golf.rules.examination import AuditedPath

VOCABULARY = 12
BOS = 1
TOKENS = np.random.default_rng(7).choice(VOCABULARY, size=61, p=np.arange(1, 13) / 78).astype(np.int64)


class Pairs:
    """Sound: P(v | previous) from counts of what is already scored; learns after every score."""

    shows = True
    window = 8

    def fresh(self) -> np.ndarray:
        return np.full((VOCABULARY, VOCABULARY), 0.5)

    def learn(self, counts: np.ndarray, tokens: np.ndarray, k: int) -> None:
        counts[tokens[k - 1], tokens[k]] += 1

    def probabilities(self, counts: np.ndarray, tokens: np.ndarray, k: int) -> np.ndarray:
        row = counts[tokens[k - 1]]
        return row / row.sum()

    def nats(self, counts: np.ndarray, tokens: np.ndarray, k: int) -> float:
        return -float(np.log(self.probabilities(counts, tokens, k)[tokens[k]]))

    def score(self, tokens: np.ndarray) -> Ledger:
        ledger, counts = Ledger(len(tokens) - 1), self.fresh()
        for k in range(1, len(tokens)):
            ledger.record(k, [self.nats(counts, tokens, k)])
            self.learn(counts, tokens, k)
        return ledger

    def distribution(self, tokens: np.ndarray, k: int) -> np.ndarray:
        counts = self.fresh()
        for earlier in range(1, k):
            self.learn(counts, tokens, earlier)
        return np.log(self.probabilities(counts, tokens, k))


class Still(Pairs):
    """Sound: the same without learning."""

    def fresh(self) -> np.ndarray:
        return np.random.default_rng(3).random((VOCABULARY, VOCABULARY)) + 0.1

    def learn(self, counts: np.ndarray, tokens: np.ndarray, k: int) -> None:
        pass


class Chunks(Pairs):
    """Sound: scores a chunk, then learns from it three times (L8 is about that, and open)."""

    shows = False

    def score(self, tokens: np.ndarray) -> Ledger:
        ledger, counts = Ledger(len(tokens) - 1), self.fresh()
        for first in range(1, len(tokens), self.window):
            chunk = range(first, min(first + self.window, len(tokens)))
            ledger.record(first, [self.nats(counts, tokens, k) for k in chunk])
            for _ in range(3):
                for k in chunk:
                    self.learn(counts, tokens, k)
        return ledger


class Mixture(Pairs):
    """Sound: two experts, the weight chosen from the token before (#1514, the legal form of the gate)."""

    def probabilities(self, counts: np.ndarray, tokens: np.ndarray, k: int) -> np.ndarray:
        pairs, single = super().probabilities(counts, tokens, k), counts.sum(0) / counts.sum()
        share = 0.9 if tokens[k - 1] % 2 else 0.3
        return share * pairs + (1 - share) * single


class KeyWithTarget(Still):
    """#779: the n-gram's key holds the target, so a hit says what the target is."""

    shows = False

    def nats(self, counts: np.ndarray, tokens: np.ndarray, k: int) -> float:
        seen = any(tokens[j - 1] == tokens[k - 1] and tokens[j] == tokens[k] for j in range(1, k))
        honest = np.exp(-super().nats(counts, tokens, k))
        return -float(np.log(0.5 * honest + 0.5 * seen))


class KeyWithTargetShown(KeyWithTarget):
    """The same, in a program that shows distributions: made for the token that comes."""

    shows = True

    def probabilities(self, counts: np.ndarray, tokens: np.ndarray, k: int) -> np.ndarray:
        sure = Pairs.probabilities(self, counts, tokens, k) * 0.5
        sure[tokens[k]] += 0.5
        return sure


class PeekingGate(Mixture):
    """#1967: the gate between two experts looks at the token that is scored."""

    def probabilities(self, counts: np.ndarray, tokens: np.ndarray, k: int) -> np.ndarray:
        pairs, single = Pairs.probabilities(self, counts, tokens, k), counts.sum(0) / counts.sum()
        return pairs if tokens[k] % 2 else single


class PeekingGateHidden(PeekingGate):
    """The same behind a wall: only scores come out."""

    shows = False


class Unnormalised(Pairs):
    """#886: a cache's probability is added on top."""

    def probabilities(self, counts: np.ndarray, tokens: np.ndarray, k: int) -> np.ndarray:
        return super().probabilities(counts, tokens, k) + 0.2 * (counts.sum(0) / counts.sum())


class UnnormalisedHidden(Unnormalised):
    shows = False


class Halved(Pairs):
    """Only the half of the vocabulary that has been seen gets probability: a distribution, of something else."""

    def probabilities(self, counts: np.ndarray, tokens: np.ndarray, k: int) -> np.ndarray:
        return super().probabilities(counts, tokens, k)[:-1]

    def nats(self, counts: np.ndarray, tokens: np.ndarray, k: int) -> float:
        found = super().probabilities(counts, tokens, k)
        return -float(np.log(found[min(tokens[k], VOCABULARY - 2)]))


class SpreadBytes(Still):
    """#1872: a token's probability spread evenly over its bytes and mixed with a byte model."""

    shows = False
    lengths = 1 + np.arange(VOCABULARY) % 4

    def nats(self, counts: np.ndarray, tokens: np.ndarray, k: int) -> float:
        n, token = int(self.lengths[tokens[k]]), np.exp(-super().nats(counts, tokens, k))
        per_byte = 0.5 * token ** (1 / n) + 0.5 / 5
        return -n * float(np.log(per_byte))


class TrainThenScore(Pairs):
    """#1376: epochs over the validation split, then the score."""

    shows = False

    def score(self, tokens: np.ndarray) -> Ledger:
        ledger, counts = Ledger(len(tokens) - 1), self.fresh()
        for k in range(1, len(tokens)):
            self.learn(counts, tokens, k)
        ledger.record(1, [self.nats(counts, tokens, k) for k in range(1, len(tokens))])
        return ledger


class LastEpoch(Chunks):
    """#568: scores a chunk in the last of its epochs of adaptation."""

    def score(self, tokens: np.ndarray) -> Ledger:
        ledger, counts = Ledger(len(tokens) - 1), self.fresh()
        for first in range(1, len(tokens), self.window):
            chunk = range(first, min(first + self.window, len(tokens)))
            for _ in range(3):
                for k in chunk:
                    self.learn(counts, tokens, k)
            ledger.record(first, [self.nats(counts, tokens, k) for k in chunk])
        return ledger


class TwoPasses(Pairs):
    """#888: scores, learns, and scores again into the same ledger."""

    shows = False

    def score(self, tokens: np.ndarray) -> Ledger:
        ledger = super().score(tokens)
        ledger.record(1, TrainThenScore.score(self, tokens).nats_N)
        return ledger


class TwoPassesHidden(Pairs):
    """The same with a ledger of its own for the first pass."""

    shows = False

    def score(self, tokens: np.ndarray) -> Ledger:
        first, second, ledger = super().score(tokens), TrainThenScore.score(self, tokens), Ledger(len(tokens) - 1)
        ledger.record(1, 0.5 * first.nats_N + 0.5 * second.nats_N)
        return ledger


class BestOfTwo(Still):
    """#573: the better of two models, chosen per token after the fact."""

    shows = False

    def nats(self, counts: np.ndarray, tokens: np.ndarray, k: int) -> float:
        single = -float(np.log(counts.sum(0)[tokens[k]] / counts.sum()))
        return min(super().nats(counts, tokens, k), single)


class Slot(Still):
    """#1240: a correction per window, fitted on the positions that the window scores."""

    shows = False

    def score(self, tokens: np.ndarray) -> Ledger:
        ledger, counts = Ledger(len(tokens) - 1), self.fresh()
        for first in range(1, len(tokens), self.window):
            chunk = np.arange(first, min(first + self.window, len(tokens)))
            delta = np.bincount(tokens[chunk], minlength=VOCABULARY) / 8
            for k in chunk.tolist():
                logits = np.log(self.probabilities(counts, tokens, k)) + delta
                ledger.record(k, [float(np.log(np.exp(logits).sum()) - logits[tokens[k]])])
        return ledger


class Offset(Still):
    """A leak at distance `ahead`: the share of an expert depends on a token that is still to come."""

    shows = False

    def __init__(self, ahead: int):
        self.ahead = ahead

    def probabilities(self, counts: np.ndarray, tokens: np.ndarray, k: int) -> np.ndarray:
        pairs, single = super().probabilities(counts, tokens, k), counts.sum(0) / counts.sum()
        far = tokens[min(k + self.ahead, len(tokens) - 1)]
        share = 0.2 + 0.05 * far
        return share * pairs + (1 - share) * single


class SeededByStream(Still):
    """The leak is in a random generator: seeded with the sum of all tokens."""

    shows = False

    def fresh(self) -> np.ndarray:
        return np.random.default_rng(self.seed).random((VOCABULARY, VOCABULARY)) + 0.1

    def score(self, tokens: np.ndarray) -> Ledger:
        self.seed = int(tokens.sum())
        return super().score(tokens)


class Temperature(Still):
    """A normaliser's state: a temperature from statistics of the whole stream."""

    shows = False

    def score(self, tokens: np.ndarray) -> Ledger:
        self.temperature = 1.0 + float(np.mean(tokens))
        return super().score(tokens)

    def probabilities(self, counts: np.ndarray, tokens: np.ndarray, k: int) -> np.ndarray:
        powers = super().probabilities(counts, tokens, k) ** (1 / self.temperature)
        return powers / powers.sum()


class Remembers(Pairs):
    """A buffer that outlives a run: the second time, everything is known."""

    shows = False

    def __init__(self) -> None:
        self.kept = super().fresh()

    def fresh(self) -> np.ndarray:
        return self.kept


class RemembersInFile(Remembers):
    """The same through a file."""

    def __init__(self, path: Path):
        self.path = path

    def fresh(self) -> np.ndarray:
        return np.load(self.path) if self.path.is_file() else Pairs.fresh(self)

    def score(self, tokens: np.ndarray) -> Ledger:
        counts, ledger = self.fresh(), Pairs.score(self, tokens)
        for k in range(1, len(tokens)):
            self.learn(counts, tokens, k)
        np.save(self.path, counts)
        return ledger


class Dice(Still):
    """Scores with noise: no leak, but no score either."""

    shows = False

    def nats(self, counts: np.ndarray, tokens: np.ndarray, k: int) -> float:
        return super().nats(counts, tokens, k) + float(np.random.default_rng().random()) * 1e-3


class TailAgain(Still):
    """The copied sliding evaluator: the last targets are scored many times."""

    shows = False

    def score(self, tokens: np.ndarray) -> Ledger:
        ledger, counts = Ledger(len(tokens) - 1, "count"), self.fresh()
        ledger.record(1, [self.nats(counts, tokens, k) for k in range(1, len(tokens))])
        for _ in range(15):
            ledger.record(len(tokens) - 4, [self.nats(counts, tokens, k) for k in range(len(tokens) - 4, len(tokens))])
        return ledger


class TailDropped(Still):
    """Tokens after the last whole window are left out."""

    shows = False

    def score(self, tokens: np.ndarray) -> Ledger:
        ledger, counts = Ledger(len(tokens) - 1), self.fresh()
        whole = (len(tokens) - 1) // self.window * self.window - self.window
        ledger.record(1, [self.nats(counts, tokens, k) for k in range(1, whole + 1)])
        return ledger


class NotANumber(Still):
    """A scorer that yields NaN."""

    shows = False

    def nats(self, counts: np.ndarray, tokens: np.ndarray, k: int) -> float:
        return float("nan") if k == 30 else super().nats(counts, tokens, k)


class Improbable(Still):
    """A probability above one."""

    shows = False

    def nats(self, counts: np.ndarray, tokens: np.ndarray, k: int) -> float:
        return super().nats(counts, tokens, k) - 3.0


def path_to(scorer: Any, tokens: np.ndarray = TOKENS) -> AuditedPath:
    """A scorer as the referee gets it: a function, a stream, and what the program shows of itself."""
    shown = scorer.distribution if scorer.shows else None
    return AuditedPath(type(scorer).__name__, scorer.score, tokens, VOCABULARY, BOS, shown, loose=1e-9)
