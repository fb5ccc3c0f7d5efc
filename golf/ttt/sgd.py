"""Score-first SGD on all weights, along the stream: score a chunk, then train on it, then score the next.

The stream is cut into chunks of C targets; a sliding window belongs to the chunk of its first scored target. A scored
chunk is trained on in whole sequences of T tokens, `epochs` times, by SGD with momentum that lasts over chunks, with
the learning rate lr/2 (1 + cos(pi c / (n - 1))) in chunk c of n; the last chunk is not trained on. Gradients are those
of the mean loss over a step's sequences on all ranks, clipped together (records of 23 March and 9 April 2026).
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from golf.data.packed import segment_boundaries
from golf.errors import UserError
from golf.evaluation.fingerprint import is_noted
from golf.evaluation.session import BOUNDARY_BUCKET
from golf.evaluation.windows import Window, rank_share, score_batches
from golf.models.roles import roles_of

FROZEN_PARTS = ("blocks", "vectors")


class SgdTtt:
    """SGD on the network's own weights.

    Args:
        chunk_tokens: C. epochs: passes over a chunk. batch_sequences: sequences per step, of all ranks together.
        learning_rate: lr of the first chunk. momentum: of SGD. grad_clip: largest norm of a gradient; 0 = as it is.
        freeze_blocks: first blocks that do not learn. frozen: "blocks" = all of such a block; "vectors" = only what is
            no matrix, which is what freezing meant in the scripts of 23 March, whose matrices lie in banks.
        document_mask: train on flat rows with attention inside documents (27 April), else on plain sequences.
    """

    by_document = False

    def __init__(
        self,
        chunk_tokens: int = 32768,
        learning_rate: float = 0.005,
        epochs: int = 3,
        momentum: float = 0.9,
        batch_sequences: int = 32,
        grad_clip: float = 1.0,
        freeze_blocks: int = 0,
        frozen: str = "blocks",
        document_mask: bool = False,
    ):
        if frozen not in FROZEN_PARTS:
            raise UserError(f"ttt.frozen={frozen}: allowed are {', '.join(FROZEN_PARTS)}; type ttt.frozen=blocks")
        for key, value in (("chunk_tokens", chunk_tokens), ("epochs", epochs), ("batch_sequences", batch_sequences)):
            if value < 1:
                raise UserError(f"ttt.{key}={value} must be at least 1; type ttt.{key}=1")
        self.chunk_tokens, self.learning_rate, self.epochs, self.momentum = (
            chunk_tokens,
            learning_rate,
            epochs,
            momentum,
        )
        self.batch_sequences, self.grad_clip = batch_sequences, grad_clip
        self.freeze_blocks, self.frozen, self.document_mask = freeze_blocks, frozen, document_mask

    def require_fits(self, seq_len: int, node: str = "ttt") -> None:
        """UserError if a chunk holds no sequence to learn from; `node` is where this is in the configuration."""
        if self.chunk_tokens < seq_len:
            raise UserError(
                f"{node}.chunk_tokens={self.chunk_tokens} holds no sequence of eval.seq_len={seq_len}; "
                f"type {node}.chunk_tokens={seq_len}"
            )

    def run(self, session: Any, seq_len: int, windows: Sequence[Window]) -> None:
        """Score and train chunk by chunk."""
        self.require_fits(seq_len)
        optimizer = self.optimizer(session.model)
        chunks = self.chunks(windows, session.num_targets)
        share = [
            list(rank_share(score_batches(own, session.batch_tokens), session.rank, session.world)) for own in chunks
        ]
        session.expect(sum(w.length - w.first_scored for own in share for batch in own for w in batch))
        for chunk, batches in enumerate(share):
            session.score(batches)
            if chunk == len(chunks) - 1 or not session.may_learn(together=True):
                continue
            session.share_coverage()
            start = chunk * self.chunk_tokens
            tokens_N = session.scored_tokens(start, min(self.chunk_tokens, session.num_targets - start) + 1)
            self.set_rate(optimizer, chunk, len(chunks))
            with session.adapting():
                self.learn(session, optimizer, tokens_N, seq_len)
            if is_noted(chunk):
                session.note_state(f"after chunk {chunk}")

    def chunks(self, windows: Sequence[Window], num_targets: int) -> list[list[Window]]:
        """Windows by the chunk that their first scored target is in."""
        count = math.ceil(num_targets / self.chunk_tokens)
        found: list[list[Window]] = [[] for _ in range(count)]
        for window in windows:
            found[min((window.start + window.first_scored) // self.chunk_tokens, count - 1)].append(window)
        return found

    # -- learning -----------------------------------------------------------------------------------------------------
    def optimizer(self, model: Any) -> torch.optim.SGD:
        """SGD on what may learn; freezes the rest."""
        roles = roles_of(model)
        first_blocks = tuple(f"blocks.{block}." for block in range(self.freeze_blocks))
        for name, parameter in model.named_parameters():
            kept = self.frozen == "vectors" and roles[name] == "matrix"
            parameter.requires_grad_(kept or not name.startswith(first_blocks))
        learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if not learning:
            raise UserError(f"ttt.freeze_blocks={self.freeze_blocks} leaves nothing to learn; type ttt.freeze_blocks=0")
        return torch.optim.SGD(learning, lr=self.learning_rate, momentum=self.momentum)

    def set_rate(self, optimizer: torch.optim.SGD, chunk: int, chunks: int) -> None:
        """Cosine over the chunks."""
        rate = 0.5 * self.learning_rate * (1.0 + math.cos(math.pi * chunk / max(chunks - 1, 1)))
        for group in optimizer.param_groups:
            group["lr"] = rate

    def learn(self, session: Any, optimizer: torch.optim.SGD, tokens_N: Tensor, seq_len: int) -> None:
        """All epochs on one scored chunk (its targets and the token before them)."""
        session.model.train()
        try:
            for first, count in self.steps((len(tokens_N) - 1) // seq_len):
                mine = rank_share(range(first, first + count), session.rank, session.world)
                optimizer.zero_grad(set_to_none=True)
                if len(mine):
                    begin, end = mine[0] * seq_len, (mine[-1] + 1) * seq_len
                    nll = self.losses(session, tokens_N[begin : end + 1], seq_len)
                    (nll.sum() / (count * seq_len)).backward()
                self.step(session, optimizer)
        finally:
            session.model.eval()

    def steps(self, sequences: int) -> Iterator[tuple[int, int]]:
        """First sequence and number of sequences of every step of every epoch."""
        for _ in range(self.epochs):
            for first in range(0, sequences, self.batch_sequences):
                yield first, min(self.batch_sequences, sequences - first)

    def losses(self, session: Any, tokens: Tensor, seq_len: int) -> Tensor:
        """Losses of neighbouring sequences: as rows, or as one flat row with the documents' boundaries."""
        ids, targets = tokens[:-1], tokens[1:]
        if not self.document_mask:
            return session.model(ids.view(-1, seq_len), targets.view(-1, seq_len), reduction="none")
        boundaries = segment_boundaries(ids.cpu().numpy(), session.bos_id, seq_len, BOUNDARY_BUCKET)
        cu_seqlens_S = torch.from_numpy(boundaries).to(ids.device)
        return session.model(ids[None], targets[None], "none", cu_seqlens_S, seq_len)

    def step(self, session: Any, optimizer: torch.optim.SGD) -> None:
        """Add up the gradients of all ranks, clip, step."""
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if session.world > 1:
            for parameter in parameters:
                gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad = session.sum_over_ranks(gradient)
        if self.grad_clip:
            torch.nn.utils.clip_grad_norm_([p for p in parameters if p.grad is not None], self.grad_clip)
        optimizer.step()
