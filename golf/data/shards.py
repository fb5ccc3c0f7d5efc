"""Token shards: the challenge's binary files.

Format: 256 little-endian int32 (20240520, 1, token count n, zeros), then n little-endian uint16; the file has
exactly 1024 + 2n bytes. Files of a split are read in the order of their names and form one stream of tokens.
Invariant: a `Shards` object is a pure view: `take` depends on its arguments only, and memory does not grow with
the number of shards: a span is read from its file when it is asked for, and nothing stays open.
Legend: N tokens, V vocabulary.
"""

import os
from collections.abc import Iterable, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np

from golf.errors import UserError

SHARD_MAGIC = 20240520
SHARD_VERSION = 1
SHARD_HEADER_INTS = 256
SHARD_HEADER_BYTES = 4 * SHARD_HEADER_INTS
MAX_SHARD_TOKENS = 2**31 - 1
TRAIN_PATTERN = "fineweb_train_*.bin"
VALIDATION_PATTERN = "fineweb_val_*.bin"
SIDECAR_PREFIX = "fineweb_val_bytes_"


def shard_length(path: str | Path) -> int:
    """Number of tokens of a shard; UserError unless the file is a whole, valid one."""
    if fault := shard_fault(path):
        raise UserError(fault)
    return (os.path.getsize(path) - SHARD_HEADER_BYTES) // 2


def shard_fault(path: str | Path) -> str:
    """What is wrong with a file that should be a shard; "" if nothing is."""
    try:
        with open(path, "rb") as file:
            header = file.read(SHARD_HEADER_BYTES)
            size = os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        return f"shard {path} does not exist; name an existing dataset with data.folder=<folder>"
    except OSError as error:
        return f"shard {path} cannot be read ({error.strerror}); fetch it again or fix its rights"
    if len(header) < SHARD_HEADER_BYTES:
        return f"shard {path} has {size} bytes, less than its {SHARD_HEADER_BYTES}-byte header; fetch it again"
    magic, version, count = (int(value) for value in np.frombuffer(header, dtype="<i4", count=3))
    if magic != SHARD_MAGIC:
        return f"{path} is not a token shard: magic {magic}, not {SHARD_MAGIC}; fetch it again or remove it"
    if version != SHARD_VERSION:
        return f"shard {path} has version {version}; golf reads version {SHARD_VERSION}; fetch it again"
    expected = SHARD_HEADER_BYTES + 2 * count
    if count < 0 or size != expected:
        return f"shard {path} has {size} bytes, but its header of {count} tokens asks for {expected}; fetch it again"
    return ""


def read_shard(path: str | Path) -> np.memmap:
    """The tokens [N] of one shard as a read-only uint16 memory map (nothing is loaded yet)."""
    if shard_length(path) == 0:
        raise UserError(f"shard {path} holds no tokens; fetch it again or remove it")
    return np.memmap(path, dtype="<u2", mode="r", offset=SHARD_HEADER_BYTES)


def write_shard(path: str | Path, tokens: np.ndarray | Sequence[int]) -> None:
    """Write tokens [N], ids 0 … 65,535, as one shard."""
    values = np.asarray(tokens)
    if values.ndim != 1 or not 0 < len(values) <= MAX_SHARD_TOKENS:
        raise UserError(f"a shard takes 1 to {MAX_SHARD_TOKENS} tokens in one dimension, not shape {values.shape}")
    if int(values.min()) < 0 or int(values.max()) > 0xFFFF:
        raise UserError(f"token ids {values.min()} to {values.max()} do not fit a shard (0 to 65535)")
    header = np.zeros(SHARD_HEADER_INTS, dtype="<i4")
    header[:3] = SHARD_MAGIC, SHARD_VERSION, len(values)
    with open(path, "wb") as file:
        file.write(header.tobytes())
        file.write(values.astype("<u2").tobytes())


def require_vocabulary(tokens: np.ndarray, vocab_size: int, path: str | Path) -> None:
    """UserError if an id is outside the vocabulary: an embedding lookup would read garbage or kill the device."""
    largest = int(tokens.max())
    if largest >= vocab_size:
        raise UserError(
            f"{path} holds token id {largest}, outside the vocabulary of {vocab_size}; "
            "name the tokenizer it was made with: tokenizer.path=<file> tokenizer.vocab_size=<size>"
        )


class Shards:
    """Shards of one split: one stream of `len` tokens, any span by `take`, or any part of one shard by `read`.

    vocab_size: every token that is read is checked against it. bos_id: the token that begins a document, if known.
    first_tokens: the stream is only so long, as if the files ended there; 0 = all of them.
    """

    def __init__(
        self,
        paths: Iterable[str | Path],
        vocab_size: int | None = None,
        bos_id: int | None = None,
        first_tokens: int = 0,
    ) -> None:
        self.paths = [str(path) for path in paths]
        self.vocab_size = vocab_size
        self.bos_id = bos_id
        self.lengths = [shard_length(path) for path in self.paths]
        if first_tokens:
            self._shorten(first_tokens)
        if not len(self):
            raise UserError("no shard holds a token; name a folder of fineweb_*.bin files with data.folder=<folder>")

    def __len__(self) -> int:
        return sum(self.lengths)

    def _shorten(self, first_tokens: int) -> None:
        """Forget what comes after the first tokens."""
        if first_tokens > sum(self.lengths):
            raise UserError(
                f"budget.unique_tokens={first_tokens}: the training split has only {sum(self.lengths)} tokens; "
                f"type budget.unique_tokens={sum(self.lengths)} or fetch more shards"
            )
        before = [sum(self.lengths[:index]) for index in range(len(self.lengths))]
        kept = [min(length, first_tokens - start) for length, start in zip(self.lengths, before)]
        self.lengths = [length for length in kept if length > 0]
        self.paths = self.paths[: len(self.lengths)]

    def take(self, start: int, count: int, wrap: bool = False) -> np.ndarray:
        """Tokens start … start+count−1 as uint16 [count]; with `wrap` the stream repeats for ever."""
        if start < 0 or count < 0 or (not wrap and start + count > len(self)):
            raise UserError(f"tokens {start} to {start + count} are outside the stream of {len(self)} tokens")
        start %= len(self)
        pieces: list[np.ndarray] = []
        for path, length in cycle(zip(self.paths, self.lengths)):
            if start < length:
                pieces.append(self._read(path, start, min(count, length - start)))
                count -= len(pieces[-1])
                if not count:
                    break
            start = max(start - length, 0)
        return np.concatenate(pieces)

    def read(self, index: int, start: int, count: int) -> np.ndarray:
        """Tokens start … start+count−1 of shard `index`, uint16 [count]."""
        if start < 0 or count < 1 or start + count > self.lengths[index]:
            raise UserError(f"tokens {start} to {start + count} are outside {self.paths[index]}")
        return self._read(self.paths[index], start, count)

    def _read(self, path: str, start: int, count: int) -> np.ndarray:
        tokens = np.fromfile(path, dtype="<u2", count=count, offset=SHARD_HEADER_BYTES + 2 * start)
        if len(tokens) != count:
            raise UserError(f"shard {path} has become shorter than its header says; fetch it again")
        if self.vocab_size is not None and count:
            require_vocabulary(tokens, self.vocab_size, path)
        return tokens

    def read_all(self) -> np.ndarray:
        """The whole stream in memory, uint16 [N] (meant for validation: 124 MB for the official split)."""
        return self.take(0, len(self))


def train_shards(folder: str | Path) -> list[str]:
    """Sorted paths of the training shards in a dataset folder; UserError if there are none."""
    return _shards_of_split(Path(folder), TRAIN_PATTERN)


def validation_shards(folder: str | Path) -> list[str]:
    """Sorted paths of the validation shards (byte sidecars `fineweb_val_bytes_*` are not tokens and are left out)."""
    return _shards_of_split(Path(folder), VALIDATION_PATTERN)


def _shards_of_split(folder: Path, pattern: str) -> list[str]:
    if not folder.is_dir():
        there = sorted(path.name for path in folder.parent.glob("*") if path.is_dir() and any(path.glob("*.bin")))
        nearest = f"; beside it there are: {', '.join(there[:8])}" if there else ""
        raise UserError(f"dataset folder {folder} does not exist{nearest}; type data.folder=<folder with {pattern}>")
    if not _paths_in(folder, pattern):
        raise UserError(f"no {pattern} in {folder}; type data.folder=<folder in the official layout>")
    return _paths_in(folder, pattern)


def _paths_in(folder: Path, pattern: str) -> list[str]:
    return sorted(str(path) for path in folder.glob(pattern) if not path.name.startswith(SIDECAR_PREFIX))


def require_window(num_tokens: int, seq_len: int) -> None:
    """UserError if a validation stream of `num_tokens` cannot fill one window of `seq_len` inputs and targets."""
    if num_tokens < seq_len + 1:
        raise UserError(
            f"validation has {num_tokens} tokens, shorter than one window of {seq_len} + 1; "
            f"type data.seq_len={max(1, num_tokens - 1)} or less, or use a larger validation split"
        )
