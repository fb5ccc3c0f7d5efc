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
from typing import Any, Protocol

import numpy as np
import torch

from golf.errors import UserError
from golf.evaluation.bpb import Score
from golf.evaluation.ledger import Coverage, Ledger
from golf.evaluation.phases import OVER_LIMIT, EvaluationClock
from golf.evaluation.session import ScoringSession
from golf.evaluation.split import bytes_between, check_context, check_vocabulary, split_part, validation_tokens
from golf.evaluation.windows import Window, derived_batch_tokens, rank_share


class Evaluator(Protocol):
    """One protocol at one window length. `rescoring` is the ledger's mode, `interleaved` how ranks share windows."""

    name: str
    seq_len: int
    stride: int
    rescoring: str
    interleaved: bool

    def windows(self, num_tokens: int) -> Sequence[Window]: ...


class EvaluationPlan(Protocol):
    """What the `eval` option builds: evaluators by name, cheapest first, and how much to score at once and at all.

    max_tokens, max_documents: the first so many of the split, 0 = all; see golf/evaluation/split.py.
    """

    batch_tokens: int
    max_tokens: int
    max_documents: int

    def evaluators(self, train_seq_len: int) -> dict[str, Evaluator]: ...


class NoEvaluation:
    """Nothing is scored (eval=none)."""

    batch_tokens = 0
    max_tokens = 0
    max_documents = 0

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
    """Name of a protocol with its numbers, e.g. `sliding seq_len=1024 stride=64`; says what published variants do."""
    method = getattr(evaluator, "method", None)
    published = getattr(evaluator, "as_published", "")
    note = f" ({published})" if published else ""
    if method is None:
        return f"{evaluator.name} seq_len={evaluator.seq_len} stride={evaluator.stride}{note}"
    walk = "by document" if method.by_document else f"stride={evaluator.stride}{note}"
    return f"{evaluator.name} {type(method).__name__} seq_len={evaluator.seq_len} {walk}"


def clock_for(evaluator: Any, device: Any, limit_seconds: float = 0.0) -> EvaluationClock:
    """The clock of one scoring, with the limit and the policy of its protocol."""
    limit_seconds = limit_seconds or getattr(evaluator, "limit_seconds", 0.0)
    synchronise = torch.cuda.synchronize if torch.device(device).type == "cuda" else None
    return EvaluationClock(limit_seconds, synchronise, over_limit=getattr(evaluator, "over_limit", OVER_LIMIT[0]))


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
    compiled: bool = False,
    breakdown: Any = None,
    identify: bool = True,
    clock: EvaluationClock | None = None,
    queue: Any = None,
) -> Evaluation:
    """Score `tokens` with `model(ids_BT, targets_BT, reduction="none") -> nll_BT` under a protocol.

    batch_tokens = 0 derives the batch from device and vocabulary. progress(done, total) is called after each batch with
    numbers of targets. With world > 1 the result is this rank's part; with `sum_over_ranks` (sums a tensor over ranks)
    it is the whole. bos_id: begins documents, for protocols that know them. limit_seconds: 0 = no limit.
    compiled: compile the shapes of batches that are worth it. breakdown: is told of every loss (`Breakdown`).
    identify: hash the weights that score, for the record (the referee, which scores the same file often, does not).
    clock: made by `clock_for`, where the caller wants to read it meanwhile. queue: documents of test-time training are
    shared with other processes through it (`WorkQueue`), and the result is the whole, in each of them.
    An evaluator with `run(session)` goes its own way; the others are their windows.
    """
    if len(tokens) - 1 < evaluator.seq_len:
        validation_tokens(tokens, evaluator.seq_len)  # raises
    check_vocabulary(model, tokens)
    check_context(model, evaluator.seq_len)
    batch_tokens = batch_tokens or derived_batch_tokens(device, getattr(model, "vocab_size", 1024))
    clock = clock or clock_for(evaluator, device, limit_seconds)
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
        compiled,
        breakdown,
        byte_table if hasattr(byte_table, "boundary") else None,
        queue,
        bool(getattr(evaluator, "whole", False)),
    )
    if identify:
        session.identify_model()
        session.note_state("start")
    modules_training = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        own_way = getattr(evaluator, "run", None)
        if own_way is not None:
            own_way(session)
        else:
            batches = session.batches(evaluator.windows(len(tokens)))
            if not batches:
                raise UserError(
                    f"{describe_evaluator(evaluator)} scores nothing in {len(tokens):,} tokens: use a longer split"
                )
            mine: Any = rank_share(batches, rank, world, evaluator.interleaved)
            session.expect(mine.num_targets)
            session.score(mine)
        if identify:
            session.note_state("end")
    finally:
        for module, training in modules_training:
            module.training = training
    if sum_over_ranks is not None:
        session.ledger.reduce(sum_over_ranks)
    if breakdown is not None:
        breakdown.finish(session.ledger, sum_over_ranks)
    score = session.ledger.score_by(lambda begin, end: bytes_between(tokens, byte_table, begin, end))
    coverage = session.ledger.coverage(split_targets)
    return Evaluation(score, coverage, describe_evaluator(evaluator), clock.read(), session.ledger, session.record())


def evaluate_plan(
    model: Any, tokens: np.ndarray, byte_table: Any, plan: EvaluationPlan, train_seq_len: int, **options: Any
) -> dict[str, Evaluation]:
    """Score a whole split with every protocol of a plan, by name; `options` are passed to `evaluate`."""
    results: dict[str, Evaluation] = {}
    for name, evaluator in plan.evaluators(train_seq_len).items():
        part = split_part(tokens, evaluator, plan, options.get("bos_id"))
        results[name] = evaluate(
            model,
            part.tokens,
            byte_table,
            evaluator,
            batch_tokens=plan.batch_tokens,
            split_targets=part.split_targets,
            **options,
        )
    return results
