"""The byte fingerprint: loss, BPB and tokens of a score say how many bytes it was divided by.

    bytes = tokens · loss / (ln 2 · bpb)

The FineWeb validation split (50,000 documents) holds 151.08 million bytes whatever the tokenizer; the counts below were
derived from published logs with eight decimals, each the only integer that fits all of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

SPLIT_BYTES = (151_080_363, 151_080_960)  # of the whole split, the tail included
TOLERANCE = 0.005  # of what published evaluators drop at the end, and of logs with four decimals
WHOLE_SPLIT_TOKENS = (38_000_000, 152_000_000)  # between the shortest and the longest tokenisation known


@dataclass(frozen=True)
class KnownCount:
    """Targets and bytes of one way to tokenise and cut the split; `whole` is False where known tokens are left out."""

    name: str
    vocab_size: int
    targets: int
    bytes: int
    whole: bool = True
    note: str = ""

    @property
    def ratio(self) -> float:
        return self.targets / self.bytes


KNOWN_COUNTS = (
    KnownCount("sp1024", 1024, 62_021_632, 151_080_363),
    KnownCount("sp1024, sequences of 16384", 1024, 62_013_440, 151_061_141),
    KnownCount("sp1024, sequences of 32768", 1024, 61_997_056, 151_024_099),
    KnownCount("sp1024, old export", 1024, 63_779_840, 155_769_746, note="another split: 155.77 million bytes"),
    KnownCount("sp4096", 4096, 45_508_608, 151_074_053),
    KnownCount("sp4096, exported again", 4096, 45_514_752, 151_074_924),
    KnownCount("sp8192", 8192, 40_540_160, 151_078_222),
    KnownCount("sp8192, other tokens", 8192, 40_540_160, 151_076_460),
    KnownCount("sp8192, sequences of 4096", 8192, 40_538_112, 151_071_114),
    KnownCount("sp8192 caseops", 8192, 47_851_520, 151_074_499),
    KnownCount("byte260", 260, 151_130_112, 151_080_113),
    KnownCount("byte256", 256, 151_076_864, 151_076_864),
    KnownCount(
        "sp1024 sliding, tail scored 16 times", 1024, 62_022_592, 151_082_508, False, "last 64 targets 16 times"
    ),
    KnownCount(
        "sp1024 sliding, tail scored 32 times", 1024, 62_023_616, 151_084_796, False, "last 64 targets 32 times"
    ),
    KnownCount(
        "sp4096 sliding, tail scored 32 times", 4096, 45_510_592, 151_079_044, False, "last 64 targets 32 times"
    ),
    KnownCount("sp1024, first window in part", 1024, 62_020_672, 151_077_893, False, "first 960 targets unscored"),
    KnownCount("sp1024 stride 512", 1024, 62_020_096, 151_076_344, False, "first 1,536 targets unscored"),
    KnownCount("sp1024, second window late", 1024, 62_019_712, 151_075_879, False, "1,920 targets unscored"),
    KnownCount(
        "sp8192, sequences per rank cut to 32", 8192, 40_370_176, 150_449_603, False, "170,000 targets unscored"
    ),
    KnownCount(
        "caseops, sequences per rank cut to 32", 8192, 47_710_208, 150_638_137, False, "141,000 targets unscored"
    ),
)


def implied_bytes(tokens: int, loss: float, bpb: float) -> float:
    """Bytes that a score was divided by."""
    return tokens * loss / (math.log(2.0) * bpb)


def tokens_per_byte(loss: float, bpb: float) -> float:
    """The ratio that a (loss, BPB) pair contains, also without a count of tokens."""
    return bpb * math.log(2.0) / loss


def known_count(tokens: int) -> KnownCount | None:
    """The published count with exactly these targets."""
    return next((known for known in KNOWN_COUNTS if known.targets == tokens), None)


def is_whole_split(tokens: int) -> bool:
    """Whether a count of tokens can be the whole FineWeb validation split at all."""
    return WHOLE_SPLIT_TOKENS[0] <= tokens <= WHOLE_SPLIT_TOKENS[1]


def canonical_step_zero(vocab_size: int, targets: int, byte_sum: int) -> float:
    """BPB of a model that knows nothing: log2(V) · tokens / bytes (an untrained network is within 0.01 of it)."""
    return math.log2(vocab_size) * targets / byte_sum
