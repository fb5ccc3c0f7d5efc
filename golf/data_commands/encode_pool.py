"""Batches through worker processes, in order, a bounded number of them on the way (so that memory is constant)."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from golf.data_commands.encode_worker import EncodedBatch, EncodeWorker, start, work
from golf.data_commands.sources import DocumentBatch
from golf.errors import UserError

AHEAD_PER_WORKER = 3


def encoded_batches(
    batches: Iterator[DocumentBatch], tokenizer: str, field: str, workers: int, prove: bool
) -> Iterator[tuple[DocumentBatch, EncodedBatch]]:
    """Each batch and what it became; one worker needs no process of its own."""
    if workers == 1:
        worker = EncodeWorker(tokenizer, field)
        for batch in batches:
            yield batch, worker.encode(batch, prove)
        return
    waiting: deque[tuple[DocumentBatch, Future[EncodedBatch]]] = deque()
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), start, (tokenizer, field)) as pool:
        try:
            for batch in batches:
                waiting.append((batch, pool.submit(work, batch, prove)))
                if len(waiting) >= AHEAD_PER_WORKER * workers:
                    first, result = waiting.popleft()
                    yield first, result.result()
            while waiting:
                first, result = waiting.popleft()
                yield first, result.result()
        except BrokenProcessPool:
            raise UserError("a worker died (out of memory?); type the command again, with fewer --workers") from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
