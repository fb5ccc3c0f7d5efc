"""What an evaluation protocol is, and the one function that scores with it.

A protocol only says which windows of the stream the model reads and which of their targets count (`Evaluator`); the
losses go to the ledger, which computes the score. `evaluate` is a pure function: it changes neither the model (weights
that test-time training moves are put back) nor any random state, sums in float64, and deals the same batches to any
number of ranks, so that all numbers of ranks give the same score.
Legend: B windows of a batch, T tokens of a window, S scored targets of a window, N targets of the stream.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from golf.errors import UserError
from golf.evaluation.bpb import Score
from golf.evaluation.ledger import Coverage, Ledger
from golf.evaluation.phases import EvaluationClock

# Logits held at once where batch_tokens is 0: 64 MB of float32 on a CPU (larger batches are slower there), else 512 MB.
CPU_LOGITS, ACCELERATOR_LOGITS, MAX_BATCH_TOKENS = 1 << 24, 1 << 27, 65_536
BYTE_COUNT_CHUNK = 1 << 22  # targets whose bytes are counted at once: bounds the memory, whatever the split's length


class Window(NamedTuple):
    """The model reads tokens[start : start + length] and predicts the targets start + 1 … start + length.

    Of these, start + 1 + first_scored … start + length are scored; the others are context.
    """

    start: int
    length: int
    first_scored: int


class Evaluator(Protocol):
    """One protocol at one window length. `rescoring` is the ledger's mode, `interleaved` how ranks share windows."""

    name: str
    seq_len: int
    stride: int
    rescoring: str
    interleaved: bool

    def windows(self, num_tokens: int) -> Sequence[Window]: ...


class EvaluationPlan(Protocol):
    """What the `eval` option builds: evaluators by name, cheapest first, and how much to score at once and at all."""

    batch_tokens: int
    max_tokens: int

    def evaluators(self, train_seq_len: int) -> dict[str, Evaluator]: ...


class NoEvaluation:
    """Nothing is scored (eval=none)."""

    batch_tokens = 0
    max_tokens = 0

    def evaluators(self, train_seq_len: int) -> dict[str, Evaluator]:
        return {}


@dataclass(frozen=True)
class Evaluation:
    """One rung of the ladder: the score, what it covers, and how it was obtained."""

    score: Score
    coverage: Coverage
    protocol: str
    seconds: float
    ledger: Ledger
    record: dict[str, Any] = field(default_factory=dict)  # phases, states, updates: how the scores came about

    @property
    def bpb(self) -> float:
        return self.score.bpb

    @property
    def nats_per_token(self) -> float:
        return self.score.nats_per_token

    def as_dict(self) -> dict[str, Any]:
        """The fields of a ladder entry in summary.json."""
        return {
            "nats_per_token": self.nats_per_token,
            "bpb": self.bpb,
            "tokens": self.score.targets,
            "bytes": self.score.bytes,
            "seconds": self.seconds,
            "protocol": self.protocol,
            "coverage": self.coverage.as_dict(),
            "record": self.record,
        }


def describe_evaluator(evaluator: Evaluator) -> str:
    """Name of a protocol with its numbers, e.g. `sliding seq_len=1024 stride=64`."""
    method = getattr(evaluator, "method", None)
    if method is None:
        return f"{evaluator.name} seq_len={evaluator.seq_len} stride={evaluator.stride}"
    walk = "by document" if method.by_document else f"stride={evaluator.stride}"
    return f"{evaluator.name} {type(method).__name__} seq_len={evaluator.seq_len} {walk}"


def validation_tokens(tokens: np.ndarray, seq_len: int, max_tokens: int = 0) -> np.ndarray:
    """The scored beginning of a split of n tokens: floor((n - 1) / T) * T + 1 of them, at most max_tokens targets.

    Raises UserError where not even one window fits.
    """
    targets = len(tokens) - 1
    if targets < seq_len:
        raise UserError(
            f"validation has {max(targets, 0):,} targets, shorter than one window of {seq_len:,}: "
            f"type eval.seq_len={max(targets, 1)} or less, or use a longer validation split"
        )
    if 0 < max_tokens < seq_len:
        raise UserError(
            f"eval.max_tokens={max_tokens} is shorter than one window of {seq_len}: "
            f"allowed is 0 (whole split) or at least {seq_len}; type eval.max_tokens={seq_len}"
        )
    limit = min(targets, max_tokens) if max_tokens else targets
    return tokens[: limit // seq_len * seq_len + 1]


def rank_share(windows: Sequence[Any], rank: int, world: int, interleaved: bool = False) -> Sequence[Any]:
    """This rank's windows: a contiguous share, sizes differing by at most one (or every world-th window)."""
    if interleaved:
        return windows[rank::world]
    return windows[len(windows) * rank // world : len(windows) * (rank + 1) // world]


def window_batches(
    evaluator: Evaluator, num_tokens: int, batch_tokens: int, rank: int = 0, world: int = 1
) -> list[list[Window]]:
    """This rank's windows in batches of one shape: equal length and equal scored part, at most batch_tokens tokens.

    Where batch_tokens is 0, batches are those of a CPU and a small vocabulary.
    """
    batch_tokens = batch_tokens or derived_batch_tokens("cpu", 1024)
    windows = evaluator.windows(num_tokens)
    return score_batches(rank_share(windows, rank, world, evaluator.interleaved), batch_tokens)


def score_batches(windows: Sequence[Window], batch_tokens: int) -> list[list[Window]]:
    """Neighbouring windows of one shape in batches of at most batch_tokens tokens."""
    batches: list[list[Window]] = []
    for window in windows:
        last = batches[-1] if batches else None
        if last and last[0][1:] == window[1:] and (len(last) + 1) * window.length <= batch_tokens:
            last.append(window)
        else:
            batches.append([window])
    return batches


def derived_batch_tokens(device: Any, vocab_size: int) -> int:
    """Tokens per forward pass that keep the logits within a fixed memory."""
    logits = CPU_LOGITS if torch.device(device).type == "cpu" else ACCELERATOR_LOGITS
    return min(max(logits // vocab_size, 1), MAX_BATCH_TOKENS)


def padded_width(length: int, longest: int) -> int:
    """Width of the row that a window of `length` tokens is read in: a power of two from 16 on, at most `longest`.

    It depends on nothing but the window, so a score does not depend on the batch; and there are few widths.
    """
    return min(max(16, 1 << max(length - 1, 0).bit_length()), max(longest, length))


def score_windows(
    model: Any, tokens: np.ndarray, windows: Sequence[Window], device: Any, longest: int = 0
) -> list[tuple[int, torch.Tensor]]:
    """First scored target and its losses (float64, CPU, [S]) for every window of one batch.

    Windows of unequal length are padded at their end to `padded_width`, which a causal model does not see.
    A model that offers `nll_suffix(ids_BT, targets_BT, first_scored)` computes logits at the scored positions only.
    """
    first_scored = min(w.first_scored for w in windows)
    width = max(w.length for w in windows) if not longest else padded_width(windows[0].length, longest)
    rows = np.zeros((len(windows), width + 1), dtype=np.int64)
    for row, w in zip(rows, windows):
        row[: w.length + 1] = tokens[w.start : w.start + w.length + 1]
    span = torch.from_numpy(rows).to(device)
    ids_BT, targets_BT = span[:, :-1], span[:, 1:]
    suffix = getattr(model, "nll_suffix", None)
    if first_scored and suffix is not None:
        nll_BS = suffix(ids_BT, targets_BT, first_scored)
    else:
        nll_BS = model(ids_BT, targets_BT, reduction="none")[:, first_scored:]
    nll_BS = nll_BS.to("cpu", torch.float64)
    return [
        (w.start + 1 + w.first_scored, nll_BS[b, w.first_scored - first_scored : w.length - first_scored])
        for b, w in enumerate(windows)
    ]


def count_target_bytes(tokens: np.ndarray, byte_table: Any) -> np.ndarray:
    """Bytes of the targets 1 … N: entry i is what token i + 1 stands for after token i.

    A table with `bytes_of(begin, end)` (a sidecar) is asked for the bytes of the tokens at these positions instead.
    """
    targets = len(tokens) - 1
    sidecar = getattr(byte_table, "bytes_of", None)
    if sidecar is not None:
        return np.asarray(sidecar(1, targets + 1), dtype=np.int32)
    bytes_N = np.empty(targets, dtype=np.int32)
    for begin in range(0, targets, BYTE_COUNT_CHUNK):
        end = min(begin + BYTE_COUNT_CHUNK, targets)
        span = np.asarray(tokens[begin : end + 1])
        bytes_N[begin:end] = byte_table.count(span[:-1], span[1:])
    return bytes_N


def dealt_batches(
    evaluator: Evaluator, num_tokens: int, batch_tokens: int, rank: int = 0, world: int = 1
) -> list[list[Window]]:
    """This rank's share of the batches that one rank alone would score: so any number of ranks scores the same."""
    return list(rank_share(window_batches(evaluator, num_tokens, batch_tokens), rank, world, evaluator.interleaved))


def evaluate(
    model: Any,
    tokens: np.ndarray,
    byte_table: Any,
    evaluator: Evaluator,
    device: Any = "cpu",
    batch_tokens: int = 0,
    rank: int = 0,
    world: int = 1,
    progress: Callable[[int, int], None] | None = None,
    sum_over_ranks: Callable[[torch.Tensor], torch.Tensor] | None = None,
    split_targets: int | None = None,
    bos_id: int | None = None,
    limit_seconds: float = 0.0,
) -> Evaluation:
    """Score `tokens` with `model(ids_BT, targets_BT, reduction="none") -> nll_BT` under a protocol.

    batch_tokens = 0 derives the batch from device and vocabulary. progress(done, total) is called after each batch with
    numbers of targets. With world > 1 the result is this rank's part; with `sum_over_ranks` (sums a tensor over ranks)
    it is the whole. bos_id: begins documents, for protocols that know them. limit_seconds: 0 = no limit.
    An evaluator with `run(session)` goes its own way; the others are their windows.
    """
    from golf.evaluation.session import ScoringSession

    if len(tokens) - 1 < evaluator.seq_len:
        validation_tokens(tokens, evaluator.seq_len)  # raises
    check_vocabulary(model, tokens)
    batch_tokens = batch_tokens or derived_batch_tokens(device, getattr(model, "vocab_size", 1024))
    limit_seconds = limit_seconds or getattr(evaluator, "limit_seconds", 0.0)
    clock = EvaluationClock(limit_seconds, torch.cuda.synchronize if torch.device(device).type == "cuda" else None)
    by_document = bool(getattr(evaluator, "by_document", False))
    session = ScoringSession(
        model,
        tokens,
        evaluator.rescoring,
        device,
        batch_tokens,
        rank,
        world,
        sum_over_ranks,
        bos_id,
        clock,
        progress,
        by_document,
    )
    session.identify_model()
    session.note_state("start")
    modules_training = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        own_way = getattr(evaluator, "run", None)
        if own_way is not None:
            own_way(session)
        else:
            batches = dealt_batches(evaluator, len(tokens), batch_tokens, rank, world)
            if world == 1 and not batches:
                raise UserError(
                    f"{describe_evaluator(evaluator)} scores nothing in {len(tokens):,} tokens: use a longer split"
                )
            session.expect(sum(w.length - w.first_scored for batch in batches for w in batch))
            session.score(batches)
        session.note_state("end")
    finally:
        for module, training in modules_training:
            module.training = training
    if sum_over_ranks is not None:
        session.ledger.reduce(sum_over_ranks)
    score = session.ledger.score(count_target_bytes(tokens, byte_table))
    coverage = session.ledger.coverage(split_targets)
    return Evaluation(score, coverage, describe_evaluator(evaluator), clock.read(), session.ledger, session.record())


def check_vocabulary(model: Any, tokens: np.ndarray) -> None:
    """Refuse tokens that the model has no row for: the split was made with another tokenizer."""
    vocab_size = getattr(model, "vocab_size", None)
    highest = int(np.max(tokens)) if len(tokens) else 0
    if vocab_size is not None and highest >= vocab_size:
        raise UserError(
            f"validation holds the token id {highest}, but the model's vocabulary is {vocab_size}: "
            f"the split was made with another tokenizer; use the data the model was trained on"
        )


def evaluate_plan(
    model: Any, tokens: np.ndarray, byte_table: Any, plan: EvaluationPlan, train_seq_len: int, **options: Any
) -> dict[str, Evaluation]:
    """Score a whole split with every protocol of a plan, by name; `options` are passed to `evaluate`."""
    results: dict[str, Evaluation] = {}
    for name, evaluator in plan.evaluators(train_seq_len).items():
        part = validation_tokens(tokens, evaluator.seq_len, plan.max_tokens)
        results[name] = evaluate(
            model,
            part,
            byte_table,
            evaluator,
            batch_tokens=plan.batch_tokens,
            split_targets=len(validation_tokens(tokens, evaluator.seq_len)) - 1,
            **options,
        )
    return results
