"""One scoring of one stream: the only hands that hold both the tokens and the ledger.

An evaluator, and a method of test-time training most of all, works through a session. It can ask for three things:
the losses of windows, which are in the ledger before the call returns; tokens to learn from, which are refused unless
each of them has its final score; and where documents begin. So the order "score, then learn" is not a convention.
Legend: B windows of a batch, T tokens of the longest, S positions from the first scored one on, N targets.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from golf.data.packed import segment_boundaries
from golf.evaluation.documents import DocumentSpan, documents_of, segment_positions
from golf.evaluation.fingerprint import state_checksum, state_sha256
from golf.evaluation.ledger import Ledger, LedgerError, losses_of
from golf.evaluation.phases import EvaluationClock
from golf.evaluation.scorer import Losses, WindowScorer
from golf.evaluation.windows import Window, WindowBatches, score_batches

BOUNDARY_BUCKET = 64  # lists of boundaries are padded to multiples of this, so that there are few shapes


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
        compiled: bool = False,
        breakdown: Any = None,
        vocabulary: Any = None,
        queue: Any = None,
        whole: bool = False,
    ):
        self.model, self.device, self.batch_tokens = model, torch.device(device), batch_tokens
        self.rank, self.world, self.bos_id = rank, world, bos_id
        self.vocabulary = vocabulary  # the tokenizer's byte table, where there is one
        self._tokens, self._sum, self._progress = tokens, sum_over_ranks, progress
        self.num_targets = len(tokens) - 1
        segments = [span.start + 1 for span in self.documents()] if by_document else [1]
        self.ledger = Ledger(self.num_targets, rescoring, segments)
        self.clock = EvaluationClock() if clock is None else clock
        self._scorer, self._breakdown = WindowScorer(tokens, device, compiled, whole), breakdown
        self.updates, self.learned_targets, self.states = 0, 0, []
        self._expected, self._recorded = 0, 0
        self._work, self.worked = 0.0, 0  # tokens that all of the scoring reads, where that is known; read here so far
        self._queue = queue
        self.noted: list[tuple[int, Tensor, np.ndarray]] | None = None  # where a queue wants it, all that is written
        self._updates_before, self._updates_until = 0, 0  # the first score; the last one
        self._watcher: Any = None
        self._shown = 0  # tokens that a watcher has seen
        self.learning_ended: int | None = None  # targets that were scored when there was no time to learn any more

    # -- structure ----------------------------------------------------------------------------------------------------
    def documents(self) -> list[DocumentSpan]:
        """Documents in stream order; together their targets are all targets.

        Raises:
            UserError: the tokenizer has no BOS, so documents cannot be told apart.
        """
        return documents_of(self._tokens, self.bos_id)

    # -- scoring ------------------------------------------------------------------------------------------------------
    def expect(self, targets: int, work: float = 0.0) -> None:
        """What progress and predictions refer to: targets that this rank is going to score, and tokens that it reads.

        With a queue both are those of all processes together. work: 0 = in proportion to the targets.
        """
        self._expected, self._work = targets, work

    def deal(self, pieces: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """This rank's pieces of work with their numbers, in order; the caller scores each before it asks for the next.

        Without a queue it is every world-th piece. With one, it is whatever nobody else has claimed, and when there is
        nothing left, the losses that the others found have been written into this ledger.
        """
        if self._queue is None:
            yield from self.share_of(list(enumerate(pieces)))
        else:
            yield from self._queue.deal(self, pieces)

    def share_of(self, pieces: Sequence[Any]) -> Sequence[Any]:
        """Of pieces that are dealt, those that `expect` speaks of."""
        return pieces if self._queue is not None else pieces[self.rank :: self.world]

    def batches(self, windows: Sequence[Window], longest: int = 0, stride: int = 0) -> WindowBatches:
        """All windows, of all ranks, in the batches that they are scored in; chooses what is compiled."""
        found = score_batches(windows, self.batch_tokens, longest, stride)
        self._scorer.plan(self.model, found, self.batch_tokens)
        return found

    def score(self, batches: Sequence[Sequence[Window]], longest: int = 0, stride: int = 0) -> None:
        """Score batches of windows without gradients; `longest`: they are of unequal lengths, at most this.

        What is left to do on the host for one batch is done while the device computes the next.
        """
        if self._watcher is not None:
            return self.score_distributions(batches, self._watcher)
        waiting: Losses | None = None
        with self.clock.phase("score"), torch.no_grad():
            for batch in batches:
                rows = self._scorer.rows(batch, longest, stride)
                found = [] if waiting is None else waiting.by_window()
                if self._scorer.first_time(rows.shape):
                    with self.clock.phase("warm-up"):
                        waiting = self._scorer.start(self.model, rows)
                else:
                    waiting = self._scorer.start(self.model, rows)
                self.worked += rows.tokens.numel()
                self._record_windows(found)
            self._record_windows([] if waiting is None else waiting.by_window())

    def _record_windows(self, found: Sequence[tuple[Window, Tensor]]) -> None:
        """Write the losses of a batch; those of neighbouring targets at once."""
        begin = 0
        for index, (window, _) in enumerate(found):
            after = found[index + 1][0] if index + 1 < len(found) else None
            if after is None or after.start + after.first_scored != window.start + window.length:
                part = found[begin : index + 1]
                first_target = part[0][0].start + part[0][0].first_scored + 1
                contexts = [np.arange(w.first_scored + 1, w.length + 1) for w, _ in part] if self._breakdown else ()
                self.write(first_target, torch.cat([nll for _, nll in part]), contexts)
                begin = index + 1
        if found:
            self._tick()

    def watch(self, watcher: Any) -> None:
        """From here on `score` scores by the distributions that this watcher makes."""
        self._watcher = watcher

    def score_distributions(self, batches: Sequence[Sequence[Window]], watcher: Any) -> None:
        """Score by distributions that `watcher` makes of the network's, from what it saw of the stream so far.

        It is asked for a hint about a target before it is shown the target's token (`hint`, `add`), in order; then
        change(log_p_SV, hints) gives the logarithms of the probabilities that count, whose mass is checked.

        Raises:
            LedgerError: a target is not behind everything that the watcher has seen.
        """
        with self.clock.phase("score"), torch.no_grad():
            for batch in batches:
                for window, logits_SV in self._scorer.logits(self.model, self._scorer.rows(batch)):
                    first_target, end = window.start + window.first_scored + 1, window.start + window.length + 1
                    if first_target < self._shown:
                        raise LedgerError(
                            f"target {first_target} is scored after its token was shown: go along the stream"
                        )
                    for token in self._tokens[self._shown : first_target]:
                        watcher.add(int(token))
                    targets_S, hints = self._tokens[first_target:end].astype(np.int64), []
                    for token in targets_S.tolist():
                        hints.append(watcher.hint())
                        watcher.add(token)
                    self._shown = end
                    log_p_SV = watcher.change(logits_SV.log_softmax(-1), hints)
                    contexts = [np.arange(window.first_scored + 1, window.length + 1)] if self._breakdown else ()
                    self.write(first_target, losses_of(first_target, log_p_SV, targets_S), contexts)
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
                self.worked += row.length
                contexts = [segment_positions(boundaries, row.length)] if self._breakdown else ()
                self.write(row.start + 1, nll_BT[0].to("cpu", torch.float64), contexts)
                self._tick()

    def score_rows(self, windows: Sequence[Window], width: int, first: int) -> Tensor:
        """Losses [B, S] of right-padded windows from position `first` on, as the model gives them, once recorded.

        With gradients enabled the losses carry them; positions behind a window's end are zero.
        """
        with self.clock.phase("score"):
            ids_BT, targets_BT, real_BT = self._rows(windows, width)
            nll_BS = self.model.nll_suffix(ids_BT, targets_BT, first) * real_BT[:, first:]
            self.worked += ids_BT.numel()
            plain_BS = nll_BS.detach().to("cpu", torch.float64)
            for row, window in enumerate(windows):
                scored = plain_BS[row, window.first_scored - first : window.length - first]
                contexts = [np.arange(window.first_scored + 1, window.length + 1)] if self._breakdown else ()
                self.write(window.start + 1 + window.first_scored, scored, contexts)
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

    def write(self, first_target: int, nll_S: Tensor, contexts: Sequence[np.ndarray] = ()) -> None:
        """Write losses into the ledger.

        `contexts`: how many tokens the network read before each target, where a breakdown wants to know.
        """
        if not self._recorded:
            self._updates_before = self.updates
        self.ledger.record(first_target, nll_S)
        if self.noted is not None:
            read_S = np.concatenate(contexts) if contexts else np.ones(len(nll_S), np.int64)
            self.noted.append((first_target, nll_S, read_S))
        if self._breakdown is not None:
            self._breakdown.add(first_target, nll_S.numpy(), np.concatenate(contexts))
        self._recorded += len(nll_S)
        self._updates_until = self.updates

    def _share(self) -> float:
        """Part of all the work that is done."""
        done, work = (self.worked, self._work) if self._work else (self._recorded, self._expected or self.num_targets)
        if self._queue is not None:
            done += self._queue.elsewhere(self.worked)
        return min(done / max(work, 1), 1.0)

    def check(self) -> None:
        """Let the clock predict."""
        self.clock.check(self._share())

    def _tick(self) -> None:
        expected = self._expected or self.num_targets
        self.check()
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

    def losses_again(self, windows: Sequence[Window], width: int, first: int) -> Tensor:
        """`score_rows` for a further step on windows that are scored: losses to learn from, which nobody records.

        Raises:
            LedgerError: a target of a window has no final score yet.
        """
        for window in windows:
            self.ledger.require_scored(window.start + 1, window.start + window.length)
        ids_BT, targets_BT, real_BT = self._rows(windows, width)
        return self.model.nll_suffix(ids_BT, targets_BT, first) * real_BT[:, first:]

    def may_learn(self, together: bool = False, tokens: int = 0) -> bool:
        """Whether the clock leaves time to learn from so many tokens in one go.

        `together`: all ranks ask at the same point, and one no is a no (on a queue, the first answer is everybody's).
        """
        share = self._share()
        part = tokens / max(self._work or self._expected or self.num_targets, 1)
        if self.learning_ended is None and not self.clock.time_to_learn(share, part):
            self.learning_ended = self._recorded
        over = self.learning_ended is not None
        if together and self._queue is not None:
            over = self._queue.agree("no-time-to-learn", over)
            self.learning_ended = self._recorded if over and self.learning_ended is None else self.learning_ended
            return not over
        return not bool(self.sum_over_ranks(torch.tensor([float(over)])) if together else over)

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
        if self._sum is not None and self.world > 1:  # with a queue, `deal` has done it
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
            "updates_before_first_score": self._updates_before if self._recorded else self.updates,
            "updates_after_last_score": self.updates - self._updates_until if self._recorded else 0,
            "learning_ended_at": self.learning_ended,
            "compiled_shapes": [list(shape) for shape in ([] if self._scorer.compile_error else self._scorer.rows_of)],
            "compile_error": self._scorer.compile_error,
            "read": {"validation_targets_scored": self._recorded, "validation_targets_learned": self.learned_targets},
        }

    model_sha256 = ""

    def identify_model(self) -> None:
        """Hash the weights that begin the scoring."""
        with self.clock.phase("load"):
            self.model_sha256 = state_sha256(self.model.state_dict().items())
