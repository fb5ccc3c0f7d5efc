"""Byte sidecars: the bytes of every validation token, for tokenizers where they are not a function of the ids.

fineweb_val_bytes_%06d.bin beside fineweb_val_%06d.bin, in the same format: one uint16 for each token, the bytes of the
source text that it accounts for; 0 for a BOS. Invariant: a sidecar that does not belong to its tokens is refused.
Legend: N tokens.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from golf.data.accounting import has_sidecar
from golf.data.bytes import ByteTable
from golf.data.shards import SIDECAR_PREFIX, Shards, read_shard, shard_length
from golf.data.tokenizer_kinds import Tokenizer
from golf.errors import UserError

SIDECAR_REMEDY = "fetch both files from one source, or type golf data retokenise"
SAMPLED_BLOCKS = 8
BLOCK_TOKENS = 1 << 17
MIN_AGREEMENT = 0.8


def sidecar_path(shard: str | Path) -> Path:
    """Where the sidecar of a validation shard belongs."""
    shard = Path(shard)
    return shard.with_name(SIDECAR_PREFIX + shard.name.rpartition("_")[2])


class ByteSidecar:
    """Bytes of the validation stream's tokens."""

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self.counts = Shards(paths)

    def bytes_of(self, begin: int, end: int) -> np.ndarray:
        """Bytes of tokens begin … end−1 of the stream, uint16."""
        return self.counts.take(begin, end - begin)


def byte_counter(tokenizer: Tokenizer, val_paths: Sequence[str]) -> ByteTable | ByteSidecar:
    """What tells the bytes of the validation tokens: the sidecar where the tokenizer needs one, else its byte table.

    Raises:
        UserError: the sidecar is not there, or is not the one of these tokens.
    """
    if not has_sidecar(tokenizer):
        return tokenizer.byte_table()
    paths = [sidecar_path(path) for path in val_paths]
    for path, shard in zip(paths, val_paths):
        require_sidecar(path, shard, tokenizer)
    return ByteSidecar(paths)


def require_sidecar(path: Path, shard: str, tokenizer: Tokenizer, blocks: int = SAMPLED_BLOCKS) -> None:
    """UserError unless the sidecar has a number for every token of its shard, and numbers that fit these tokens."""
    if not path.is_file():
        raise UserError(f"{shard} is CaseOps text, its bytes are in {path}, which is not there; {SIDECAR_REMEDY}")
    wanted, found = shard_length(shard), shard_length(path)
    if wanted != found:
        raise UserError(f"{path} counts the bytes of {found} tokens, {shard} has {wanted}; {SIDECAR_REMEDY}")
    tokens, counts = np.asarray(read_shard(shard)), np.asarray(read_shard(path))
    table = tokenizer.byte_table()
    for first in np.unique(np.linspace(0, max(wanted - BLOCK_TOKENS, 0), blocks).astype(int)).tolist():
        span = slice(first, first + BLOCK_TOKENS)
        fault = sidecar_fault(tokens[span], counts[span], table, tokenizer.bos_id)
        if fault:
            raise UserError(f"{path} does not belong to {shard}: {fault} (from token {first} on); {SIDECAR_REMEDY}")


def sidecar_fault(tokens_N: np.ndarray, counts_N: np.ndarray, table: ByteTable, bos_id: int) -> str:
    """What shows that counts are not of these tokens; "" if nothing does.

    A BOS has no bytes. A piece of several ASCII letters nearly always stands for itself (not: white space folded into
    one space, characters that normalisation takes apart), so most of the longer pieces have their own length.
    """
    counted_bos = int((counts_N[tokens_N == bos_id] > 0).sum())
    if counted_bos:
        return f"{counted_bos} BOS tokens have bytes, expected 0"
    own = table.count_stream(np.concatenate([[bos_id], tokens_N]).astype(np.int64))
    longer = own >= 2
    agreement = float((counts_N[longer] == own[longer]).mean()) if longer.any() else 1.0
    if agreement < MIN_AGREEMENT:
        return f"{agreement:.0%} of the pieces of two bytes and more have their own length, expected over 80%"
    return ""
