"""Adapters per document, and between phases SGD on the whole network with the documents that are already scored.

Documents go in batches as in `lora`. After the batch that reaches the k-th of P boundaries (k/P of `documents`) all
ranks meet, so that any number of them learns from the same documents; of everything scored so far the shortest
`boundary` documents are put one after the other and trained on in chunks (fresh momentum, cosine over the chunks, the
last chunk left out). Then the adapters start anew and scoring goes on with the changed network (records of 13 and 14
April, 27 April 2026; one phase = 13 April).
"""

import math
from typing import Any

import torch

from golf.errors import UserError
from golf.evaluation.documents import DocumentSpan
from golf.ttt.lora import AdapterSlots, LoraTtt
from golf.ttt.sgd import SgdTtt


class PhasedTtt:
    """`lora`: the adapters. `sgd`: the training between phases. `documents`: learned from at most; `phases`: P."""

    by_document = True

    def __init__(self, lora: LoraTtt, sgd: SgdTtt, documents: int = 2000, phases: int = 3):
        if phases < 1 or documents < phases:
            raise UserError(f"ttt.phases={phases} of ttt.documents={documents}: type ttt.phases=1, or more documents")
        self.lora, self.sgd, self.documents, self.phases = lora, sgd, documents, phases

    def boundaries(self, available: int) -> list[int]:
        """Numbers of scored documents at which a phase ends."""
        total = min(self.documents, available)
        ends = (total * phase // self.phases for phase in range(1, self.phases + 1))
        return sorted({end for end in ends if end})  # fewer documents than phases: a phase that has none is left out

    def require_fits(self, seq_len: int) -> None:
        """UserError if a chunk of either is too long or too short for the windows."""
        self.lora.require_fits(seq_len, "ttt.lora")
        self.sgd.require_fits(seq_len, "ttt.sgd")

    def run(self, session: Any, seq_len: int) -> None:
        """Score and learn, phase by phase; after the last batch nothing is learned."""
        self.require_fits(seq_len)
        context = self.lora.context or seq_len
        batches = self.lora.batches(session.documents())
        self.lora.expect(session, batches, context)
        slots = AdapterSlots(self.lora, session.model)
        begin = 0
        for end, boundary in [*self.phase_ends(batches), (len(batches), 0)]:
            for number, batch in session.deal(batches[begin:end]):
                self.lora.score_batch(session, begin + number, batch, slots, context)
            begin = end
            spans = self.shortest(batches[:end], boundary)
            if end < len(batches) and session.may_learn(together=True, tokens=sum(span.length for span in spans)):
                session.share_coverage()
                self.learn(session, spans, seq_len)
                slots.restart()

    def phase_ends(self, batches: list[list[DocumentSpan]]) -> list[tuple[int, int]]:
        """(batches, boundary) where a phase ends: with the batch that reaches its boundary, on any number of ranks."""
        boundaries, found, scored = self.boundaries(sum(map(len, batches))), [], 0
        for end, batch in enumerate(batches, 1):
            scored += len(batch)
            if boundaries and scored >= boundaries[0]:
                found.append((end, boundaries.pop(0)))
        return found

    def shortest(self, scored: list[list[DocumentSpan]], boundary: int) -> list[DocumentSpan]:
        """The `boundary` first documents of what is scored, the last batches first when the longest came first."""
        ordered = scored[::-1] if self.lora.order == "longest_first" else scored
        return [span for batch in ordered for span in batch][:boundary]

    def learn(self, session: Any, spans: list[DocumentSpan], seq_len: int) -> None:
        """One pass of SGD over documents laid end to end."""
        tokens_N = torch.cat([session.scored_tokens(span.start, span.length) for span in spans])
        optimizer = self.sgd.optimizer(session.model)
        size = self.sgd.chunk_tokens
        chunks = math.ceil((len(tokens_N) - 1) / size)
        with session.adapting():
            for chunk in range(chunks - 1):
                self.sgd.set_rate(optimizer, chunk, chunks)
                self.sgd.learn(session, optimizer, tokens_N[chunk * size : (chunk + 1) * size + 1], seq_len)
        for parameter in session.model.parameters():
            parameter.requires_grad_(False)
            parameter.grad = None
        session.note_state(f"after {len(spans)} documents")
