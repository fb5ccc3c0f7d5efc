"""Per-document low-rank adapters that learn from each chunk of the document after it has been scored.

A document (from its BOS to the next BOS, inclusive) is scored in chunks of C targets, each in a window of at most
`context` tokens that ends with the chunk. The forward pass that scores a chunk is the one that is differentiated: one
AdamW step on the mean loss of the chunk, unless it is the document's last; further steps (`grad_steps`) go forward
again, and score nothing. Documents are batched; each has its own adapter, so with `warm_start` off nothing crosses
documents (records of 17 March, 10 April and 27 April 2026).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from golf.errors import UserError
from golf.evaluation.documents import DocumentSpan
from golf.evaluation.fingerprint import is_noted
from golf.evaluation.windows import Window
from golf.ttt.adapters import DocumentAdapters, uniform_start

SEED_STRIDE = 1_000_003  # between the seeds of the draws of two runs: more than there are batches
DOCUMENT_ORDERS = ("shortest_first", "longest_first", "stream")


class LoraTtt:
    """Adapters per document.

    Args:
        targets: where they are: head, q, k, v, o, mlp. rank: r. alpha: output scale alpha / r; 0 = no scale.
        chunk: targets scored between two steps. context: tokens a window reads; 0 = eval.seq_len.
        batch_documents: documents that go together. order: of the batches, by number of tokens; "shortest_first" sorts
            by number of chunks (17 March), "longest_first" by tokens (10 April), "stream" leaves them as they come.
        learning_rate, betas, epsilon, weight_decay: of AdamW, decoupled; moments start at zero with every batch.
        grad_steps: AdamW steps per scored chunk (1 in every record).
        warm_start: keep A from batch to batch, B = 0 only (23 April); else both are drawn anew.
        per_visit: an adapter for every visit of a repeated block, else one per block. seed: of the draws of A.
    """

    by_document = True

    def __init__(
        self,
        targets: Sequence[str] = ("q", "v", "head"),
        rank: int = 8,
        alpha: float = 0.0,
        chunk: int = 256,
        context: int = 0,
        batch_documents: int = 64,
        order: str = "shortest_first",
        learning_rate: float = 0.01,
        betas: Sequence[float] = (0.9, 0.95),
        epsilon: float = 1e-10,
        weight_decay: float = 0.0,
        grad_steps: int = 1,
        warm_start: bool = False,
        per_visit: bool = True,
        seed: int = 0,
    ):
        if order not in DOCUMENT_ORDERS:
            raise UserError(f"ttt.order={order}: allowed are {', '.join(DOCUMENT_ORDERS)}; type ttt.order=stream")
        sizes = {"rank": rank, "chunk": chunk, "batch_documents": batch_documents, "grad_steps": grad_steps}
        for key, value in sizes.items():
            if value < 1:
                raise UserError(f"ttt.{key}={value} must be at least 1; type ttt.{key}=8")
        if context and context < chunk:
            raise UserError(f"ttt.context={context} does not hold ttt.chunk={chunk}; type ttt.context={chunk}")
        self.targets, self.rank, self.chunk, self.context = tuple(targets), rank, chunk, context
        self.scale = alpha / rank if alpha else 1.0
        self.batch_documents, self.order, self.warm_start, self.per_visit = (
            batch_documents,
            order,
            warm_start,
            per_visit,
        )
        self.learning_rate, self.betas = learning_rate, (float(betas[0]), float(betas[1]))
        self.epsilon, self.weight_decay, self.grad_steps, self.seed = epsilon, weight_decay, grad_steps, seed
        self.draw: Callable[..., Tensor] = uniform_start

    # -- which documents go together ----------------------------------------------------------------------------------
    def chunks_of(self, span: DocumentSpan) -> int:
        return math.ceil((span.length - 1) / self.chunk)

    def tokens_read(self, span: DocumentSpan, context: int) -> int:
        """Tokens of all windows of a document."""
        chunks = self.chunks_of(span)
        growing = min(chunks, context // self.chunk)  # windows that still begin with the document
        return self.chunk * growing * (growing + 1) // 2 + (chunks - growing) * context

    def batches(self, spans: Sequence[DocumentSpan]) -> list[list[DocumentSpan]]:
        """All documents in batches, in the order in which they are scored."""
        spans, size = list(spans), self.batch_documents
        if self.order == "shortest_first":
            spans.sort(key=self.chunks_of)
        elif self.order == "longest_first":
            spans.sort(key=lambda span: span.length)
        batches = [spans[first : first + size] for first in range(0, len(spans), size)]
        return batches[::-1] if self.order == "longest_first" else batches

    # -- scoring and learning -----------------------------------------------------------------------------------------
    def require_fits(self, seq_len: int, node: str = "ttt") -> None:
        """UserError if a chunk is longer than the windows; `node` is where this is in the configuration."""
        context = self.context or seq_len
        if context < self.chunk:
            raise UserError(
                f"{node}.chunk={self.chunk} does not fit into eval.seq_len={context}; type {node}.chunk={context}"
            )

    def run(self, session: Any, seq_len: int) -> None:
        self.require_fits(seq_len)
        batches, context = self.batches(session.documents()), self.context or seq_len
        self.expect(session, batches, context)
        slots = AdapterSlots(self, session.model)
        for number, batch in session.deal(batches):
            self.score_batch(session, number, batch, slots, context)

    def expect(self, session: Any, batches: Sequence[Sequence[DocumentSpan]], context: int) -> None:
        """Announce the work; freeze the network, which only the adapters change."""
        mine = session.share_of(batches)
        targets = sum(span.length - 1 for batch in mine for span in batch)
        session.expect(targets, sum(self.tokens_read(span, context) for batch in mine for span in batch))
        for parameter in session.model.parameters():
            parameter.requires_grad_(False)

    def score_batch(
        self, session: Any, number: int, batch: Sequence[DocumentSpan], slots: "AdapterSlots", context: int
    ) -> None:
        """Score a batch of documents chunk by chunk, learning in between; write down what it ended with."""
        adapters = slots.for_batch(number, len(batch))
        parameters = adapters.parameters()
        optimizer = torch.optim.AdamW(
            parameters, lr=self.learning_rate, betas=self.betas, eps=self.epsilon, weight_decay=self.weight_decay
        )
        counts = [self.chunks_of(span) for span in batch]
        with adapters.installed():
            for chunk in range(max(counts)):
                rows = [row for row, count in enumerate(counts) if chunk < count]
                time_left = session.may_learn()
                learning = [time_left and chunk < counts[row] - 1 for row in rows]
                adapters.rows = None if len(rows) == len(batch) else torch.tensor(rows, device=adapters.device)
                width, first = self.window_shape(chunk, context)
                windows = [self.window(batch[row], chunk, context) for row in rows]
                with torch.set_grad_enabled(any(learning)):
                    nll_BS = session.score_rows(windows, width, first)
                for step in range(self.grad_steps if any(learning) else 0):
                    with session.adapting(self.chunk * sum(learning) if step == 0 else 0):
                        if step:
                            nll_BS = session.losses_again(windows, width, first)
                        self.step(optimizer, nll_BS, learning)
        adapters.rows = None
        if is_noted(number):
            session.note_state(f"adapters after batch {number}", adapters.named())

    def step(self, optimizer: torch.optim.Optimizer, nll_BS: Tensor, learning: Sequence[bool]) -> None:
        """One step on the sum over learning documents of the mean loss of their chunk."""
        wanted_B = torch.tensor(learning, device=nll_BS.device)
        loss = (nll_BS[:, : self.chunk].mean(1) * wanted_B).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    def window_shape(self, chunk: int, context: int) -> tuple[int, int]:
        """Width of the windows of this chunk, and the position of the chunk's first target in whole ones."""
        end = (chunk + 1) * self.chunk
        return min(context, end), chunk * self.chunk - max(0, end - context)

    def window(self, span: DocumentSpan, chunk: int, context: int) -> Window:
        """Window of one document's chunk: the last `context` tokens up to its end."""
        begin, end = chunk * self.chunk, min((chunk + 1) * self.chunk, span.length - 1)
        start = max(0, end - context)
        return Window(span.start + start, end - start, begin - start)


class AdapterSlots:
    """The adapters of one rank: one set for whole batches, a fresh one for a batch of another size."""

    def __init__(self, method: LoraTtt, model: Any):
        self.method, self.model = method, model
        self.generator = torch.Generator().manual_seed(method.seed)
        self.main = self.fresh(method.batch_documents)
        self.used = False

    def fresh(self, documents: int) -> DocumentAdapters:
        method = self.method
        return DocumentAdapters(
            self.model,
            method.targets,
            documents,
            method.rank,
            method.scale,
            method.per_visit,
            method.draw,
            self.generator,
        )

    def restart(self) -> None:
        """Forget everything, A included."""
        self.main, self.used = self.fresh(self.method.batch_documents), False

    def for_batch(self, number: int, documents: int) -> DocumentAdapters:
        """Adapters for a batch, reset as the method says.

        Without a warm start the draws of A follow from the batch's number, whatever rank scores it.
        """
        if not self.method.warm_start:
            self.generator.manual_seed(self.method.seed * SEED_STRIDE + number)
        if documents != self.method.batch_documents:
            return self.fresh(documents)
        if not self.method.warm_start:
            self.main.redraw()
        elif self.used:
            self.main.zero()
        self.used = True
        return self.main
