"""A source whose best possible score is known in closed form: the end-to-end test of the metric.

A sparse Markov chain of order 1 over the ids 4 … V−1 in documents of geometric length. From a token s the next is
BOS with probability q = 1/document_tokens, else one of `branches` successors of s; after BOS comes one of
`branches` openings. With the stationary distribution pi of the whole chain (BOS included) and H(s) the entropy of
the row s, a perfect model scores  bpb = sum_s pi(s) H(s) / ln 2 / ((1 - pi(BOS)) · bytes_per_token).
Invariant: shards, table and formula come from the same seeded table. Legend: V vocabulary, N tokens.
"""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from golf.data.atomic import build_folder_once
from golf.data.dataset import PreparedData, ShardedDataset, write_split
from golf.data.manifest import describe_files, write_manifest
from golf.data.stream import SequentialStream, TokenStream
from golf.data.tokenizer import AUTOMATIC, load_tokenizer
from golf.data.tokenizer_kinds import BOS_ID, BYTE_OFFSET, synthetic_description
from golf.errors import UserError

STATIONARY_TOLERANCE = 1e-13
STATIONARY_ROUNDS = 100_000
PARALLEL_DOCUMENTS = 4096


@dataclass(frozen=True)
class MarkovChain:
    """Successors int64 [V, branches] and probabilities float64 [V, branches] given "no BOS"; row BOS = openings."""

    successors: np.ndarray
    probabilities: np.ndarray
    bos_probability: float

    def stationary(self) -> np.ndarray:
        """Stationary distribution of the chain, BOS included, float64 [V]."""
        vocab_size = len(self.successors)
        stay = np.full(vocab_size, 1.0 - self.bos_probability)
        stay[BOS_ID] = 1.0
        state = np.zeros(vocab_size)
        state[BOS_ID] = 1.0
        for _ in range(STATIONARY_ROUNDS):
            flow = (state * stay)[:, None] * self.probabilities
            moved = np.bincount(self.successors.ravel(), weights=flow.ravel(), minlength=vocab_size)
            moved[BOS_ID] += self.bos_probability * (1.0 - state[BOS_ID])
            moved = 0.5 * (moved + state)
            if np.abs(moved - state).sum() < STATIONARY_TOLERANCE:
                break
            state = moved
        return state

    def entropy_nats(self) -> np.ndarray:
        """Entropy of the next token after each id, float64 [V]; 0 for ids that never occur."""
        q = self.bos_probability
        inner = -(self.probabilities * np.log(self.probabilities)).sum(axis=1)
        outer = -(q * math.log(q) + (1.0 - q) * math.log(1.0 - q)) + (1.0 - q) * inner
        outer[BOS_ID] = inner[BOS_ID]
        outer[[token for token in range(BYTE_OFFSET) if token != BOS_ID]] = 0.0
        return outer

    def nats_per_token(self) -> float:
        """Entropy rate."""
        return float(self.stationary() @ self.entropy_nats())

    def nll(self, previous_ids: np.ndarray, target_ids: np.ndarray) -> np.ndarray:
        """Negative log-likelihood in nats of targets [N] under the true chain; infinite for an impossible step."""
        matches = self.successors[previous_ids] == target_ids[:, None]
        inside = (self.probabilities[previous_ids] * matches).sum(axis=1)
        after_bos = previous_ids == BOS_ID
        probability = np.where(after_bos, inside, (1.0 - self.bos_probability) * inside)
        probability = np.where((target_ids == BOS_ID) & ~after_bos, self.bos_probability, probability)
        with np.errstate(divide="ignore"):
            return -np.log(probability)

    def sample(self, num_tokens: int, rng: np.random.Generator) -> np.ndarray:
        """The first `num_tokens` tokens of a chain started at BOS, uint16 [N]."""
        cumulative = np.cumsum(self.probabilities, axis=1)
        pieces: list[np.ndarray] = []
        total = 0
        while total < num_tokens:
            lengths = rng.geometric(self.bos_probability, size=PARALLEL_DOCUMENTS)
            documents = np.empty((PARALLEL_DOCUMENTS, int(lengths.max()) + 1), dtype=np.uint16)
            documents[:, 0] = BOS_ID
            for place in range(1, documents.shape[1]):
                rows = np.flatnonzero(lengths >= place)
                previous = documents[rows, place - 1]
                chosen = (rng.random(len(rows))[:, None] >= cumulative[previous, :-1]).sum(axis=1)
                documents[rows, place] = self.successors[previous, chosen]
            inside = np.arange(documents.shape[1]) <= lengths[:, None]
            pieces.append(documents[inside])
            total += len(pieces[-1])
        return np.concatenate(pieces)[:num_tokens]


def make_markov_chain(vocab_size: int, branches: int, document_tokens: float, seed: int) -> MarkovChain:
    """A chain drawn by `seed`: distinct successors per row, probabilities from a flat Dirichlet kept above 0."""
    states = vocab_size - BYTE_OFFSET
    if branches < 1 or states < branches:
        raise UserError(
            f"data.branches={branches} needs 1 to {max(1, states)}, the ids of tokenizer.vocab_size={vocab_size}"
        )
    if document_tokens <= 1:
        raise UserError(f"data.document_tokens={document_tokens} must be more than 1, e.g. 256")
    rng = np.random.default_rng(seed)
    offsets = np.stack([rng.choice(states, size=branches, replace=False) for _ in range(vocab_size)])
    weights = rng.dirichlet(np.ones(branches), size=vocab_size) + 0.02
    probabilities = weights / weights.sum(axis=1, keepdims=True)
    return MarkovChain(offsets + BYTE_OFFSET, probabilities, 1.0 / document_tokens)


class SyntheticSource(ShardedDataset):
    """Shards drawn from a known chain, written and read like any dataset, under `folder`/<key>/."""

    def __init__(
        self,
        folder: str = "data/synthetic",
        tokenizer: str = AUTOMATIC,
        vocab_size: int = 1024,
        branches: int = 8,
        document_tokens: float = 256.0,
        bytes_per_token: int = 2,
        train_tokens: int = 4_000_000,
        val_tokens: int = 200_000,
        shard_tokens: int = 1_000_000,
        source_seed: int = 0,
        tokens_per_step: int = 524_288,
        seq_len: int = 1024,
        spans_per_step: int = 8,
        order: Callable[..., TokenStream] = SequentialStream,
    ) -> None:
        super().__init__(tokens_per_step, seq_len, spans_per_step, order)
        if tokenizer != AUTOMATIC:
            raise UserError("data=synthetic has its own tokenizer; type tokenizer.path=auto")
        self.folder = Path(folder)
        self.vocab_size = vocab_size
        self.bytes_per_token = bytes_per_token
        self.train_tokens = train_tokens
        self.val_tokens = val_tokens
        self.shard_tokens = shard_tokens
        self.source_seed = source_seed
        self.branches = branches
        self.document_tokens = document_tokens

    def chain(self) -> MarkovChain:
        """The table behind the tokens."""
        return make_markov_chain(self.vocab_size, self.branches, self.document_tokens, self.source_seed)

    def expected_bpb(self) -> float:
        """Score of a perfect model on an endless validation stream, in bits per byte."""
        chain = self.chain()
        bytes_per_target = (1.0 - float(chain.stationary()[BOS_ID])) * self.bytes_per_token
        return chain.nats_per_token() / math.log(2.0) / bytes_per_target

    def oracle_nll(self, previous_ids: np.ndarray, target_ids: np.ndarray) -> np.ndarray:
        """Nats of each target [N] for a perfect model: its score on the actual validation tokens, exactly."""
        return self.chain().nll(np.asarray(previous_ids, dtype=np.int64), np.asarray(target_ids, dtype=np.int64))

    def prepare(self, say: Callable[[str], None] = print, require_train: bool = True) -> PreparedData:
        """The dataset's folder, generated if need be."""
        key = hashlib.sha256(json.dumps(self._settings(), sort_keys=True).encode()).hexdigest()[:12]
        folder = build_folder_once(self.folder / key, self._build)
        return self.open_own(folder, self.vocab_size, require_train)

    def _settings(self) -> dict[str, Any]:
        names = ("vocab_size", "branches", "document_tokens", "bytes_per_token")
        sizes = ("train_tokens", "val_tokens", "shard_tokens", "source_seed")
        return {name: getattr(self, name) for name in names + sizes}

    def _build(self, folder: Path) -> None:
        chain = self.chain()
        rng = np.random.default_rng([self.source_seed, 1])
        (folder / "tokenizer.json").write_bytes(synthetic_description(self.vocab_size, self.bytes_per_token))
        tokenizer = load_tokenizer(folder=folder)
        counts: dict[str, int] = {}
        for split, num_tokens in (("val", self.val_tokens), ("train", self.train_tokens)):
            counts |= write_split(folder, split, chain.sample(num_tokens, rng), self.shard_tokens)
        fields = {
            "name": "synthetic",
            "source": "Markov chain drawn by seed (no text)",
            "licence": "CC0-1.0",
            "attribution": "",
            "settings": self._settings(),
            "expected_bpb": self.expected_bpb(),
            "tokenizer": {"kind": tokenizer.kind, "vocab_size": tokenizer.vocab_size, "sha256": tokenizer.sha256},
            "files": describe_files(folder, counts),
        }
        write_manifest(folder, fields)
