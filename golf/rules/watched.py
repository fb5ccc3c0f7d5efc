"""A network under a protocol, watched while it scores: the functions behind `AuditedPath` (golf/rules/examination.py).

Everything goes through `evaluate`, the function that scores runs. What cannot be asked from outside (which state of
test-time training scored a target) is asked at the moment of scoring, with the target and all that follows hidden.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from golf.errors import UserError
from golf.evaluation.protocol import evaluate

HIDDEN_TOKENS = 2048  # of a batch in which a row hides what follows one target


class Watched:
    """Scores, distributions and possible targets of a network, through the functions that score it.

    `record` is what the ledger's session wrote down in the last run, `passes` how often the same row went through a
    differentiated forward pass in it, `steps` optimizer steps (before the first score, between, after the last).
    """

    def __init__(self, net: Any, evaluator: Any, bos_id: int):
        self.net, self.evaluator, self.bos_id = net, evaluator, bos_id
        self.record: dict[str, Any] = {}
        self.passes, self.steps = 0, [0, 0, 0]
        self.order: np.ndarray | None = None  # of every target: in which record of the ledger it was scored

    # -- runs ---------------------------------------------------------------------------------------------------------
    def score(self, tokens: np.ndarray) -> Any:
        return self._evaluate(tokens, self.evaluator)

    def _evaluate(self, tokens: np.ndarray, evaluator: Any) -> Any:
        counter = _Counter(self.net)
        if hasattr(evaluator, "method"):
            evaluator = _Ordering(evaluator, len(tokens) - 1)
        with counter:
            found = evaluate(
                self.net,
                tokens,
                NoBytes(),
                evaluator,
                bos_id=self.bos_id,
                progress=counter.progress,
                limit_seconds=1e9,
                identify=False,
            )
        self.order = getattr(evaluator, "order", None)
        self.record, self.steps = found.record, counter.steps
        self.passes = max(counter.rows.values(), default=0)
        return found.ledger

    def probe(self, tokens: np.ndarray, targets: Sequence[int]) -> dict[int, tuple[float, float, int]]:
        """Target -> (its score, -log p of it by the state that scored it with the target hidden, size of p)."""
        probing = _Probing(self.evaluator, self.net, tokens, targets)
        self._evaluate(tokens, probing)
        return probing.found

    # -- protocols that do not learn ----------------------------------------------------------------------------------
    def window(self, tokens: np.ndarray, target: int) -> Any:
        """The window that scores a target."""
        for window in self.windows(tokens):
            if window.start + 1 + window.first_scored <= target <= window.start + window.length:
                return window
        raise UserError(f"the protocol {self.evaluator.name} does not score target {target}")

    def windows(self, tokens: np.ndarray) -> Any:
        """All windows of the protocol on a stream."""
        if self.evaluator.name != "document":
            return self.evaluator.windows(len(tokens))
        from golf.evaluation.documents import DocumentSpan, document_windows

        starts = np.unique(np.r_[0, np.flatnonzero(tokens[:-1] == self.bos_id)])
        spans = zip(starts, np.append(starts[1:], len(tokens) - 1))
        sizes = self.evaluator.seq_len, self.evaluator.stride
        return [w for s, e in spans for w in document_windows(DocumentSpan(int(s), int(e - s) + 1), *sizes)]

    def distribution(self, tokens: np.ndarray, target: int) -> np.ndarray:
        window = self.window(tokens, target)
        ids_BT = torch.from_numpy(tokens[window.start : window.start + window.length][None].astype(np.int64))
        return _log_p(self.net, ids_BT)[0, target - 1 - window.start].numpy()

    def hidden(self, tokens: np.ndarray, targets: Sequence[int]) -> dict[int, tuple[float, int]]:
        """Target -> (-log p of it with the target and all that follows changed, size of p), many in one pass."""
        found: dict[int, tuple[float, int]] = {}
        for window in self.windows(tokens):
            first, last = window.start + 1 + window.first_scored, window.start + window.length
            mine = [target for target in targets if first <= target <= last]
            rows = max(HIDDEN_TOKENS // window.length, 1)
            for part in (mine[begin : begin + rows] for begin in range(0, len(mine), rows)):
                ids_T = tokens[window.start : window.start + window.length]
                ids_BT = torch.from_numpy(np.tile(ids_T.astype(np.int64), (len(part), 1)))
                logits_BV = hidden_logits(self.net, ids_BT, torch.tensor(part) - 1 - window.start)
                found |= {
                    k: (own_loss(logits_V, int(tokens[k])), logits_V.numel()) for k, logits_V in zip(part, logits_BV)
                }
        return found

    def targets_at(self, tokens: np.ndarray, target: int, candidates: np.ndarray, context: int) -> np.ndarray:
        """Scores of candidate tokens at a target after at most `context` tokens, by the function that scores."""
        start = max(self.window(tokens, target).start, target - context)
        rows, width = len(candidates), target - start
        ids_BT = torch.from_numpy(tokens[None, start:target].astype(np.int64)).expand(rows, width)
        targets_BT = torch.from_numpy(tokens[None, start + 1 : target + 1].astype(np.int64)).repeat(rows, 1)
        targets_BT[:, -1] = torch.from_numpy(candidates.astype(np.int64))
        suffix = getattr(self.net, "nll_suffix", None)
        with torch.inference_mode():
            if suffix is not None:
                return suffix(ids_BT, targets_BT, width - 1)[:, -1].double().numpy()
            return self.net(ids_BT, targets_BT, reduction="none")[:, -1].double().numpy()

    def prediction(self, tokens: np.ndarray, target: int, context: int) -> np.ndarray:
        """Log-probabilities [V] after the same context as in `targets_at`."""
        start = max(self.window(tokens, target).start, target - context)
        ids_BT = torch.from_numpy(tokens[None, start:target].astype(np.int64))
        return _log_p(self.net, ids_BT)[0, -1].numpy()


def _log_p(net: Any, ids_BT: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return net(ids_BT).double().log_softmax(-1)


def hidden_logits(net: Any, ids_BT: torch.Tensor, places_B: torch.Tensor) -> torch.Tensor:
    """Logits [B, V] at one place of every row, from rows in which everything behind that place is another token."""
    behind_BT = torch.arange(ids_BT.shape[1]) > places_B[:, None]
    with torch.no_grad():
        logits_BTV = net(torch.where(behind_BT, (ids_BT + 1) % net.vocab_size, ids_BT))
    return logits_BTV[torch.arange(len(ids_BT)), places_B]


def own_loss(logits_V: torch.Tensor, token: int) -> float:
    return -float(logits_V.double().log_softmax(-1)[token])


class _Probing:
    """An evaluator that asks, right after the scores of some targets, what the state that made them predicts."""

    def __init__(self, evaluator: Any, net: Any, tokens: np.ndarray, targets: Sequence[int]):
        self.evaluator, self.net, self.tokens, self.targets = evaluator, net, tokens, targets
        self.found: dict[int, tuple[float, float, int]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.evaluator, name)

    def run(self, session: Any) -> None:
        score, score_rows = session.score, session.score_rows

        def scored(batches: Sequence[Sequence[Any]], *sizes: int) -> None:
            score(batches, *sizes)
            for batch in batches:
                for window in batch:
                    self.ask(session, [window], window.length)

        def rows_scored(windows: Sequence[Any], width: int, first: int) -> torch.Tensor:
            found = score_rows(windows, width, first)
            self.ask(session, windows, width)
            return found

        session.score, session.score_rows = scored, rows_scored
        self.evaluator.run(session)

    def ask(self, session: Any, windows: Sequence[Any], width: int) -> None:
        """One target of every row at a time: a row may have adapters of its own."""
        ids_BT = np.zeros((len(windows), width), dtype=np.int64)
        for row, (start, length, _) in enumerate(windows):
            ids_BT[row, :length] = self.tokens[start : start + length]
        mine = [[k for k in self.targets if w.start + w.first_scored < k <= w.start + w.length] for w in windows]
        for step in range(max(map(len, mine), default=0)):
            asked = [(row, targets[step]) for row, targets in enumerate(mine) if step < len(targets)]
            places_B = torch.full((len(windows),), width - 1)
            for row, target in asked:
                places_B[row] = target - 1 - windows[row].start
            logits_BV = hidden_logits(self.net, torch.from_numpy(ids_BT), places_B)
            for row, target in asked:
                own = own_loss(logits_BV[row], int(self.tokens[target]))
                self.found[target] = (float(session.ledger.nats_N[target - 1]), own, logits_BV.shape[1])


class _Ordering:
    """An evaluator that notes in which order targets are scored: by document it is not that of the stream."""

    def __init__(self, evaluator: Any, targets: int):
        self.evaluator, self.order, self.records = evaluator, np.full(targets, -1), 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.evaluator, name)

    def run(self, session: Any) -> None:
        record = session.ledger.record

        def recorded(first_target: int, nll: Any, *rest: Any, **named: Any) -> Any:
            self.order[first_target - 1 : first_target - 1 + len(nll)] = self.records
            self.records += 1
            return record(first_target, nll, *rest, **named)

        session.ledger.record = recorded
        self.evaluator.run(session)


class _Counter:
    """Counts, while a network is evaluated: optimizer steps by when they come, rows that gradients were asked for."""

    def __init__(self, net: Any):
        self.net, self.steps, self.rows = net, [0, 0, 0], Counter[bytes]()
        self.done, self.total = 0, 1

    def progress(self, done: int, total: int) -> None:
        self.done, self.total = done, total

    def __enter__(self) -> _Counter:
        from torch.optim.optimizer import register_optimizer_step_post_hook

        self.hook = register_optimizer_step_post_hook(self._stepped)
        self.plain = {name: self.net.__dict__.get(name) for name in ("nll_suffix", "forward")}
        for name in self.plain:
            if hasattr(self.net, name):
                self.net.__dict__[name] = self._counted(getattr(self.net, name), name == "nll_suffix")
        return self

    def __exit__(self, *error: object) -> None:
        self.hook.remove()
        for name, own in self.plain.items():
            self.net.__dict__.pop(name, None)
            if own is not None:
                self.net.__dict__[name] = own

    def _stepped(self, *arguments: Any) -> None:
        self.steps[0 if not self.done else 2 if self.done >= self.total else 1] += 1

    def _counted(self, function: Any, has_first: bool) -> Any:
        def call(ids_BT: Any, targets_BT: Any = None, *rest: Any, **named: Any) -> Any:
            if torch.is_grad_enabled() and targets_BT is not None:
                first = (rest[0] if rest else named["first_scored"]) if has_first else 0
                rows = torch.cat([ids_BT, targets_BT[:, first:]], 1).cpu().numpy()
                self.rows.update(row.tobytes() for row in rows)
            return function(ids_BT, targets_BT, *rest, **named)

        return call


class NoBytes:
    """Bytes do not matter where only losses are compared."""

    def count(self, previous_ids: np.ndarray, target_ids: np.ndarray) -> np.ndarray:
        return np.ones(len(target_ids), dtype=np.int64)
