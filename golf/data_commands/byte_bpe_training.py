"""Train a byte-level BPE as GPT-2's: merge the most frequent adjacent pair of tokens inside pieces, again and again.

Sennrich et al. 2016 (arXiv:1508.07909) on the bytes of GPT-2's pieces. Ties go to the pair of smaller bytes, so that
the same texts give the same tokens. Counts are kept for pairs, with the pieces that hold each: a merge touches those.
"""

from __future__ import annotations

import heapq
import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from golf.data.byte_bpe import gpt2_pattern
from golf.errors import UserError

Pair = tuple[bytes, bytes]


def train_byte_bpe(texts: Iterable[str], vocab_size: int) -> list[bytes]:
    """`vocab_size` − 1 byte strings in the order of their ranks: the 256 bytes, then merges (the last id: BOS)."""
    pieces: Counter[bytes] = Counter()
    for text in texts:
        pieces.update(piece.encode("utf-8") for piece in gpt2_pattern().findall(text))
    tokens = [bytes([byte]) for byte in range(256)]
    if vocab_size < len(tokens) + 1:
        raise UserError(f"--vocab-size {vocab_size} has no room for 256 bytes and <|endoftext|>; type 257 or more")
    words = [[piece[i : i + 1] for i in range(len(piece))] for piece in pieces]
    merges = Merges(words, list(pieces.values()))
    known = set(tokens)
    while len(tokens) < vocab_size - 1:
        pair = merges.most_frequent()
        if pair is None:
            raise UserError(f"the texts yield {len(tokens) + 1} tokens; type --vocab-size {len(tokens) + 1}")
        joined = pair[0] + pair[1]
        merges.apply(pair, joined)
        if joined not in known:  # two ways to the same bytes are one token
            known.add(joined)
            tokens.append(joined)
    return tokens


class Merges:
    """Pieces as lists of tokens, how often each occurs, and for every pair its count and where it is."""

    def __init__(self, words: list[list[bytes]], counts: list[int]) -> None:
        self.words, self.counts = words, counts
        self.pairs: Counter[Pair] = Counter()
        self.places: dict[Pair, set[int]] = defaultdict(set)
        for number in range(len(words)):
            self._add(number, 1)
        self._heap = [(-count, pair) for pair, count in self.pairs.items()]
        heapq.heapify(self._heap)

    def most_frequent(self) -> Pair | None:
        """The pair to merge next; entries of the heap that are out of date are dropped or put back."""
        while self._heap:
            negative, pair = heapq.heappop(self._heap)
            count = self.pairs[pair]
            if count == -negative and count > 0:
                return pair
            if 0 < count < -negative:
                heapq.heappush(self._heap, (-count, pair))
        return None

    def apply(self, pair: Pair, joined: bytes) -> None:
        """Replace the pair in every piece that holds it."""
        changed: set[Pair] = set()
        for number in list(self.places[pair]):
            self._add(number, -1)
            merged: list[bytes] = []
            for token in self.words[number]:
                if merged and (merged[-1], token) == pair:
                    merged[-1] = joined
                else:
                    merged.append(token)
            self.words[number] = merged
            self._add(number, 1)
            changed.update(pairwise(merged))
        for other in changed:
            heapq.heappush(self._heap, (-self.pairs[other], other))

    def _add(self, number: int, sign: int) -> None:
        for pair in pairwise(self.words[number]):
            self.pairs[pair] += sign * self.counts[number]
            if sign > 0:
                self.places[pair].add(number)
            else:
                self.places[pair].discard(number)


def tokens_of_vocabulary(path: Path) -> list[bytes]:
    """Byte strings by rank of a GPT-2 `vocab.json` (also encoder.json), which writes bytes as printable characters."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    byte_of = {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}
    try:
        ids = json.loads(path.read_text(encoding="utf-8"))
        ranked = sorted((int(rank), token) for token, rank in ids.items() if token != "<|endoftext|>")
        return [bytes(byte_of[character] for character in token) for _, token in ranked]
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); name GPT-2's vocab.json") from None
    except (ValueError, KeyError, AttributeError, TypeError):
        raise UserError(f"{path} is not GPT-2's vocab.json (token to id); name that file") from None
