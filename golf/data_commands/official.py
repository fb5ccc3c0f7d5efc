"""What is known of the challenge's official data: tokenizers by sha256, the validation split's counts, its beginning.

Sources: counts are those of golf.rules.byte_fingerprint (derived from published logs); the tokenizers' hashes and the
first million sp1024 tokens are those of the published files.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

DOCUMENTS = 50_000
SPLIT_BYTES = 151_080_363
SPLIT_TOLERANCE = 2e-4  # tokenizers lose some bytes to normalisation: none known more than 0.004 %
SCORED_MULTIPLE = 1024
PREFIX_TOKENS = 1_000_000


@dataclass(frozen=True)
class OfficialTokenizer:
    """`file`: its published name; `targets` and `bytes` of the split in sequences of 1024; `prefix`: see above."""

    name: str
    file: str
    targets: int
    bytes: int
    prefix: str = ""

    @property
    def bytes_per_token(self) -> float:
        return self.bytes / self.targets


OFFICIAL_TOKENIZERS = {
    "4f5e8adb109c66b4886963bc75a7befd73bda36d27fd7102df8e9e66503b0e2a": OfficialTokenizer(
        "sp1024",
        "fineweb_1024_bpe.model",
        62_021_632,
        151_080_363,
        "57d7bd4d123e63d6e30eb8ba1549339c71d7786f7e5d9d60dff1e498b4b2147e",
    ),
    "6b0337698df13acdb58e5b05446ef26d9d7e4ca5545dc5e13ad5815a7ec904e0": OfficialTokenizer(
        "sp4096", "fineweb_4096_bpe.model", 45_508_608, 151_074_053
    ),
    "5697ec9cf5a1f193b509a6f8739be415c618d7e4e0c531fd2d884f12c1c482fc": OfficialTokenizer(
        "sp8192", "fineweb_8192_bpe.model", 40_540_160, 151_078_222
    ),
    "97754754561f20def5edd99765ca0668f880bd94e67316d54aa10ab25f45cc4d": OfficialTokenizer(
        "sp8192_lossless_caps_caseops_v1_reserved",
        "fineweb_8192_bpe_lossless_caps_caseops_v1_reserved.model",
        47_851_520,
        151_074_499,
    ),
}
BYTE260 = OfficialTokenizer("byte260", "fineweb_pure_byte_260.json", 151_130_112, 151_080_113)


def official_tokenizer(sha256: str, kind: str) -> OfficialTokenizer | None:
    """The official tokenizer with this content; pure bytes are the same whatever their file says."""
    return BYTE260 if kind == "bytes" else OFFICIAL_TOKENIZERS.get(sha256)


def tokenizer_sha256(file_name: str) -> str | None:
    """The sha256 of an official tokenizer's file by its published name, where it is known."""
    return next((sha256 for sha256, known in OFFICIAL_TOKENIZERS.items() if known.file == file_name), None)


def token_sha256(tokens: np.ndarray) -> str:
    """sha256 of tokens as a shard stores them."""
    return hashlib.sha256(tokens.astype("<u2").tobytes()).hexdigest()
