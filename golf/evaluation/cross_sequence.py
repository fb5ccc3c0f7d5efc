"""Contiguous evaluation with memory, for networks whose last visits attend to the window before.

Windows are those of `Contiguous`, in order; each hands its keys and values to the next, so that every token is still
predicted from earlier tokens only, all of them scored. A rank that begins in the middle first reads as many windows
before its own as the memory reaches back, unscored: losses depend neither on the batches nor on the number of ranks.
"""

from typing import Any

import torch
from torch import Tensor

from golf.errors import UserError
from golf.evaluation.contiguous import Contiguous
from golf.evaluation.protocol import Evaluator
from golf.evaluation.windows import Window, rank_share, score_batches


class CrossSequence(Contiguous):
    """Contiguous windows without and then with memory: the difference is what the memory is worth."""

    name = "cross_sequence"

    def evaluators(self, train_seq_len: int) -> dict[str, Evaluator]:
        seq_len = self.seq_len or train_seq_len
        sizes = (self.batch_tokens, self.max_tokens, self.max_documents, self.limit_seconds)
        return {"contiguous": Contiguous(seq_len, *sizes), self.name: CrossSequence(seq_len, *sizes)}

    def require_network(self, net: Any) -> None:
        """UserError if the network remembers nothing: before the rung without memory is scored."""
        ids_BT = torch.zeros(1, 2, dtype=torch.int64, device=next(net.parameters()).device)
        with torch.no_grad():
            RememberingModel(net)(ids_BT, ids_BT)

    def run(self, session: Any) -> None:
        """Score this rank's windows, a contiguous share of the stream."""
        windows = rank_share(self.windows(session.num_targets + 1), session.rank, session.world)
        if not windows:
            return
        batches = score_batches(windows, session.batch_tokens)
        session.expect(sum(batches.scored))
        plain, session.model = session.model, RememberingModel(session.model)
        try:
            if windows[0].start:
                self.read_before(session, windows[0].start)
            session.score(batches)
        finally:
            session.model = plain

    def read_before(self, session: Any, start: int) -> None:
        """Fill the memory with what the first window of a rank would have found there; nothing is scored."""
        T = self.seq_len
        session.score([[Window(start - T, T, T)]])
        reach = len(session.model.memory)  # as many windows back as there are visits with memory
        session.model.memory = None
        session.score([[Window(begin, T, T)] for begin in range(max(start - reach * T, 0), start, T)])


class RememberingModel:
    """A network that is given consecutive windows, in order, and begins each where the one before ended.

    Raises:
        UserError: the network remembers nothing.
    """

    def __init__(self, net: Any):
        if not hasattr(net, "nll_with_memory"):
            raise UserError(f"eval=cross_sequence: {type(net).__name__} has no memory; type eval=contiguous")
        self.net = net
        self.memory: Any = None

    def __call__(self, ids_BT: Tensor, targets_BT: Tensor, reduction: str = "none") -> Tensor:
        """Losses [B, T] of B consecutive windows."""
        nll_BT, self.memory = self.net.nll_with_memory(ids_BT, targets_BT, self.memory)
        if not self.memory:
            raise UserError("eval=cross_sequence needs model/attention=cross_sequence; type eval=contiguous without it")
        return nll_BT
