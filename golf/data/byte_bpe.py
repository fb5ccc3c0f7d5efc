"""Byte-level BPE as GPT-2 has it, from a `.tiktoken` file: lines of base64(token bytes) and rank.

Text is cut by GPT-2's pattern; in each piece the adjacent pair whose joined bytes have the lowest rank is merged until
none is left; the ranks are the ids. <|endoftext|>, the id after the last rank, begins a document (BOS).
Invariant: lossless: decode(encode(text)) == text, and the bytes of a document's tokens are exactly its UTF-8 bytes.
"""

import base64
import binascii
import hashlib
import re
import sys
import unicodedata
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np

from golf.data.bytes import ByteTable
from golf.data.tokenizer_kinds import read_tokenizer_file
from golf.errors import UserError

GPT2_KIND = "gpt2"
TIKTOKEN_SUFFIX = ".tiktoken"
WHITE_SPACE = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
CACHED_PIECES = 1 << 18


@lru_cache(maxsize=1)
def gpt2_pattern() -> re.Pattern[str]:
    """'(?:[sdmt]|ll|ve|re)| ?letters+| ?numbers+| ?others+|white space not before a text|white space.

    The classes are Unicode's L and N categories, which `re` has no names for: written out once (a third of a second).
    """
    letters, numbers = _category_ranges("L"), _category_ranges("N")
    return re.compile(
        f"'(?:[sdmt]|ll|ve|re)| ?[{letters}]+| ?[{numbers}]+| ?[^{WHITE_SPACE}{letters}{numbers}]+"
        f"|[{WHITE_SPACE}]+(?![^{WHITE_SPACE}])|[{WHITE_SPACE}]+"
    )


def _category_ranges(category: str) -> str:
    """The code points of a Unicode category as the inside of a character class."""
    inside = np.fromiter((unicodedata.category(chr(i))[0] == category for i in range(sys.maxunicode + 1)), bool)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]]).astype(np.int8))).tolist()
    return "".join(f"\\U{first:08x}-\\U{last - 1:08x}" for first, last in zip(edges[::2], edges[1::2]))


class ByteBpeTokenizer:
    """A `.tiktoken` file; ids 0 … ranks−1 are byte strings, the next is <|endoftext|>. No BOS added by `encode`."""

    kind = GPT2_KIND

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        content = read_tokenizer_file(path)
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.ranks = read_ranks(content, path)
        self.token_bytes = sorted(self.ranks, key=self.ranks.__getitem__)
        self.bos_id = len(self.ranks)
        self.vocab_size = self.bos_id + 1
        self._known: dict[str, list[int]] = {}

    def encode(self, text: str) -> list[int]:
        """Ids of a text; <|endoftext|> written in the text is text."""
        ids: list[int] = []
        for piece in gpt2_pattern().findall(text):
            known = self._known.get(piece)
            if known is None:
                known = self._merge(piece.encode("utf-8"))
                if len(self._known) < CACHED_PIECES:
                    self._known[piece] = known
            ids += known
        return ids

    def decode(self, ids: list[int]) -> str:
        content = b"".join(self.token_bytes[int(token)] for token in ids if token != self.bos_id)
        return content.decode("utf-8", errors="replace")

    def byte_table(self) -> ByteTable:
        base_bytes = np.array([*map(len, self.token_bytes), 0])
        boundary = np.zeros(self.vocab_size, dtype=bool)
        boundary[self.bos_id] = True
        return ByteTable(base_bytes, np.zeros(self.vocab_size, dtype=bool), boundary)

    def _merge(self, piece: bytes) -> list[int]:
        whole = self.ranks.get(piece)
        if whole is not None:
            return [whole]
        parts = [piece[i : i + 1] for i in range(len(piece))]
        while True:
            joined = [self.ranks.get(left + right, self.bos_id) for left, right in pairwise(parts)]
            lowest = min(joined, default=self.bos_id)
            if lowest == self.bos_id:
                return [self.ranks[part] for part in parts]
            place = joined.index(lowest)
            parts[place : place + 2] = [parts[place] + parts[place + 1]]


def read_ranks(content: bytes, path: str | Path) -> dict[bytes, int]:
    """Rank by token bytes; UserError unless the file is whole: ranks 0, 1, 2 … once each, every single byte a token."""
    ranks: dict[bytes, int] = {}
    try:
        for line in content.splitlines():
            if line:
                token, rank = line.split()
                ranks[base64.b64decode(token, validate=True)] = int(rank)
    except (ValueError, binascii.Error):
        raise UserError(f"{path} is not a .tiktoken file (lines of base64 and rank); name one that is") from None
    missing = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if missing or sorted(ranks.values()) != list(range(len(ranks))):
        fault = f"byte {missing[0]} is no token" if missing else f"{len(ranks)} tokens are not ranked 0, 1, 2 …"
        raise UserError(f"{path} is damaged: {fault}; fetch it again")
    return ranks


def ranks_content(tokens: list[bytes]) -> bytes:
    """Content of a `.tiktoken` file of tokens in the order of their ranks."""
    return b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(tokens))
