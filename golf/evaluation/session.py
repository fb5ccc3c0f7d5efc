"""One scoring of one stream: the only hands that hold both the tokens and the ledger.

An evaluator, and a method of test-time training most of all, works through a session. It can ask for three things:
the losses of windows, which are in the ledger before the call returns; tokens to learn from, which are refused unless
each of them has its final score; and where documents begin. So the order "score, then learn" is not a convention.
Legend: B windows of a batch, T tokens of the longest, S positions from the first scored one on, N targets.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from golf.data.packed import segment_boundaries
from golf.errors import UserError
from golf.evaluation.fingerprint import state_checksum, state_sha256
from golf.evaluation.ledger import Ledger
from golf.evaluation.phases import EvaluationClock
from golf.evaluation.protocol import Window, padded_width, score_windows

BOUNDARY_BUCKET = 64  # lists of boundaries are padded to multiples of this, so that there are few shapes


class DocumentSpan(NamedTuple):
    """tokens[start : start + length]: a BOS, its document, and the next document's BOS; length - 1 targets."""

    start: int
    length: int


class ScoringSession:
    """See above. `rank`, `world`, `sum_over_ranks`: as for `evaluate`; `progress(done, total)` counts targets."""

    def __init__(
        self,
        model: Any,
        tokens: np.ndarray,
        rescoring: str = "forbid",
        device: Any = "cpu",
        batch_tokens: int = 16_384,
        rank: int = 0,
        world: int = 1,
        sum_over_ranks: Callable[[Tensor], Tensor] | None = None,
        bos_id: int | None = None,
        clock: EvaluationClock | None = None,
        progress: Callable[[int, int], None] | None = None,
        by_document: bool = False,
    ):
        self.model, self.device, self.batch_tokens = model, torch.device(device), batch_tokens
        self.rank, self.world, self.bos_id = rank, world, bos_id
        self._tokens, self._sum, self._progress = tokens, sum_over_ranks, progress
        self.num_targets = len(tokens) - 1
        segments = [span.start + 1 for span in self.documents()] if by_document else [1]
        self.ledger = Ledger(self.num_targets, rescoring, segments)
        self.clock = EvaluationClock() if clock is None else clock
        self.updates, self.learned_targets, self.states = 0, 0, []
        self._expected, self._recorded = 0, 0

    # -- structure ----------------------------------------------------------------------------------------------------
    def documents(self) -> list[DocumentSpan]:
        """Documents in stream order; together their targets are all targets.

        Raises:
            UserError: the tokenizer has no BOS, so documents cannot be told apart.
        """
        if self.bos_id is None or self.bos_id < 0:
            raise UserError("this tokenizer has no BOS, so documents cannot be told apart; type eval=sliding, ttt=none")
        starts = np.flatnonzero(self._tokens[:-1] == self.bos_id)
        if not len(starts) or starts[0]:
            starts = np.concatenate([[0], starts])
        ends = np.append(starts[1:], self.num_targets)
        return [DocumentSpan(int(s), int(e - s) + 1) for s, e in zip(starts, ends)]

    # -- scoring ------------------------------------------------------------------------------------------------------
    def expect(self, targets: int) -> None:
        """How many targets this rank is going to score: what progress and the clock's prediction refer to."""
        self._expected = targets

    def score(self, batches: Sequence[Sequence[Window]], longest: int = 0) -> None:
        """Score batches of windows without gradients; `longest`: they are of unequal lengths, at most this."""
        with self.clock.phase("score"), torch.no_grad():
            for batch in batches:
                for first_target, nll_S in score_windows(self.model, self._tokens, batch, self.device, longest):
                    self._record(first_target, nll_S)
                self._tick()

    def score_flat(self, rows: Sequence[Window], longest: int) -> None:
        """Score flat rows with attention inside their documents, and inside segments of at most `longest` tokens."""
        self.documents()  # raises where there is no BOS
        with self.clock.phase("score"), torch.no_grad():
            for row in rows:
                tokens = self._tokens[row.start : row.start + row.length + 1]
                boundaries = segment_boundaries(tokens[:-1], int(self.bos_id or 0), longest, BOUNDARY_BUCKET)
                span = torch.from_numpy(tokens.astype(np.int64)).to(self.device)[None]
                cu_seqlens_S = torch.from_numpy(boundaries).to(self.device)
                nll_BT = self.model(span[:, :-1], span[:, 1:], "none", cu_seqlens_S, longest)
                self._record(row.start + 1, nll_BT[0].to("cpu", torch.float64))
                self._tick()

    def score_rows(self, windows: Sequence[Window], width: int, first: int) -> Tensor:
        """Losses [B, S] of right-padded windows from position `first` on, as the model gives them, once recorded.

        With gradients enabled the losses carry them; positions behind a window's end are zero.
        """
        with self.clock.phase("score"):
            ids_BT, targets_BT, real_BT = self._rows(windows, width)
            nll_BS = self.model.nll_suffix(ids_BT, targets_BT, first) * real_BT[:, first:]
            plain_BS = nll_BS.detach().to("cpu", torch.float64)
            for row, window in enumerate(windows):
                scored = plain_BS[row, window.first_scored - first : window.length - first]
                self._record(window.start + 1 + window.first_scored, scored)
            self._tick()
        return nll_BS

    def _rows(self, windows: Sequence[Window], width: int) -> tuple[Tensor, Tensor, Tensor]:
        rows = np.zeros((2, len(windows), width), dtype=np.int64)
        real = np.zeros((len(windows), width), dtype=bool)
        for row, (start, length, _) in enumerate(windows):
            span = self._tokens[start : start + length + 1]
            rows[0, row, :length], rows[1, row, :length], real[row, :length] = span[:-1], span[1:], True
        ids_BT, targets_BT = torch.from_numpy(rows).to(self.device)
        return ids_BT, targets_BT, torch.from_numpy(real).to(self.device)

    def _record(self, first_target: int, nll_S: Tensor) -> None:
        self.ledger.record(first_target, nll_S)
        self._recorded += len(nll_S)

    def _tick(self) -> None:
        expected = self._expected or self.num_targets
        self.clock.check(min(self._recorded / max(expected, 1), 1.0))
        if self._progress is not None:
            self._progress(min(self._recorded, expected), expected)

    # -- learning -----------------------------------------------------------------------------------------------------
    @contextmanager
    def adapting(self, targets: int = 0) -> Iterator[None]:
        """Around every change of the state: the adapt phase of the clock, with gradients.

        `targets`: how many recorded losses of `score_rows` are learned from.
        """
        self.learned_targets += targets
        with self.clock.phase("adapt"), torch.enable_grad():
            yield
        self.updates += 1

    def scored_tokens(self, start: int, length: int) -> Tensor:
        """tokens[start : start + length] as [length] int64; the first is context, every later one must be scored.

        Raises:
            LedgerError: one of them has no final score yet.
        """
        if length > 1:
            self.ledger.require_scored(start + 1, start + length - 1)
        self.learned_targets += max(length - 1, 0)
        return torch.from_numpy(self._tokens[start : start + length].astype(np.int64)).to(self.device)

    def share_coverage(self) -> None:
        """Wait for the other ranks, and learn what they have scored."""
        if self._sum is not None and self.world > 1:
            self.ledger.share_coverage(self._sum)

    def sum_over_ranks(self, tensor: Tensor) -> Tensor:
        """Sum of a tensor over ranks; on one rank, the tensor."""
        return tensor if self._sum is None or self.world == 1 else self._sum(tensor).to(tensor.device)

    def note_state(self, what: str, tensors: Any = None) -> None:
        """Write down which state scores from here on: model and adapters by their checksum."""
        named = list(self.model.named_parameters()) if tensors is None else tensors
        self.states.append(
            {"what": what, "updates": self.updates, "scored": self._recorded, "checksum": state_checksum(named)}
        )

    def record(self) -> dict[str, Any]:
        """What the ledger knows of how the scores came about, for summary.json."""
        shown = self.states if len(self.states) <= 8 else [*self.states[:4], *self.states[-4:]]
        return {
            **self.clock.as_dict(),
            "model_sha256": self.model_sha256,
            "states": shown,
            "updates": self.updates,
            "read": {"validation_targets_scored": self._recorded, "validation_targets_learned": self.learned_targets},
        }

    model_sha256 = ""

    def identify_model(self) -> None:
        """Hash the weights that begin the scoring."""
        with self.clock.phase("load"):
            self.model_sha256 = state_sha256(self.model.state_dict().items())


def document_windows(span: DocumentSpan, longest: int, stride: int) -> list[Window]:
    """Windows of one document: each ends `stride` targets after the one before and reads at most `longest` tokens."""
    targets = span.length - 1
    ends = [*range(stride, targets, stride), targets]
    found = []
    for before, end in zip([0, *ends[:-1]], ends):
        start = max(0, end - longest)
        found.append(Window(span.start + start, end - start, before - start))
    return found


def padded_batches(windows: Sequence[Window], longest: int, batch_tokens: int) -> list[list[Window]]:
    """Neighbours of one padded width in batches of at most batch_tokens tokens; few widths, so few shapes."""
    batches: list[list[Window]] = []
    for window in windows:
        width = padded_width(window.length, longest)
        last = batches[-1] if batches else None
        if last and padded_width(last[0].length, longest) == width and (len(last) + 1) * width <= batch_tokens:
            last.append(window)
        else:
            batches.append([window])
    return batches
