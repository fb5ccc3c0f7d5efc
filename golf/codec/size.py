"""Bytes as they are shipped: the size of an artifact and its code, by class, adding up exactly to the files.

The limit is decimal: code + artifact ≤ 16,000,000 bytes. A compressed section may hold several classes (queries and
keys are coded together); its bytes are shared out in proportion to the bits of their codes before compression.
Invariant: the classes add up to the size of the file, and follow from its directory alone.
"""

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

from golf.codec.layout import STORED_DTYPES
from golf.errors import LimitExceeded, UserError

LIMIT_BYTES = 16_000_000
# What attention and MLP are made of, and matrices that serve something else: a module's name -> the class under which
# its bytes are reported.
FINER_CLASSES = {
    "other": {"tok_emb": "embedding", "bigram": "tables", "values": "tables"},
    "attention": {
        **{"c_q": "attention_q", "c_k": "attention_k", "c_v": "attention_v", "c_qkv": "attention_qkv"},
        **{"c_kv": "attention_kv", "proj": "attention_o"},
    },
    "mlp": {"fc": "mlp_in", "gate": "mlp_in", "up": "mlp_in", "proj": "mlp_out", "down": "mlp_out"},
}


def finer_class(name: str, class_name: str) -> str:
    """The reported class of a tensor: attention by query, key, value and output, an MLP by its two sides."""
    finer = FINER_CLASSES.get("mlp" if name.startswith("extra_mlps.") else class_name, {})
    return next((finer[part] for part in reversed(name.split(".")) if part in finer), class_name)


def shared_out(total: int, weights: Sequence[float]) -> list[int]:
    """Whole numbers in proportion to `weights` that add up to `total`; the largest remainders are rounded up."""
    whole = sum(weights)
    if not weights:
        return []
    exact = [total * weight / whole if whole else total / len(weights) for weight in weights]
    shares = [int(share) for share in exact]
    order = sorted(range(len(exact)), key=lambda index: (shares[index] - exact[index], index))
    for index in order[: total - sum(shares)]:
        shares[index] += 1
    return shares


def code_bits(spec: Sequence[Any], part: str, dtype: str) -> int:
    """Bits that one element of a part needs before compression: of its format for codes, of its type otherwise."""
    meta = spec[1]
    if part == "codes" and isinstance(meta, dict) and isinstance(meta.get("format"), dict):
        return int(meta["format"].get("bits", 8))
    return 8 * STORED_DTYPES[dtype].itemsize


def sizes_of_sections(header: Mapping[str, Any], total: int) -> dict[str, int]:
    """Bytes by class of one artifact of `total` bytes: its sections by label, the rest "metadata"."""
    bits: list[dict[str, int]] = [{} for _ in header["groups"]]
    for name, class_name, spec, parts in header["tensors"]:
        for part, group, shape in parts:
            label, _, dtype = header["groups"][group]
            label = finer_class(name, class_name) if label == class_name else label
            needed = prod(shape) * code_bits(header["specs"][spec], part, dtype)
            bits[group][label] = bits[group].get(label, 0) + needed
    sizes: dict[str, int] = {}
    for needs, (stored, _, _) in zip(bits, header["sections"]):
        for label, share in zip(needs, shared_out(stored, list(needs.values()))):
            sizes[label] = sizes.get(label, 0) + share
    sizes["metadata"] = total - sum(sizes.values())
    return sizes


def file_bytes(path: str | Path) -> int:
    """Size of a shipped file."""
    try:
        return Path(path).stat().st_size
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}: check the path") from error


def total_bytes(artifact_path: str | Path, code_path: str | Path | None = None) -> int:
    """What counts against the limit: the artifact and, if given, the code file."""
    return file_bytes(artifact_path) + (file_bytes(code_path) if code_path is not None else 0)


def with_code(sizes: Mapping[str, int], code_path: str | Path | None) -> dict[str, int]:
    """Bytes by class with the class "code" added."""
    return {**sizes, "code": file_bytes(code_path)} if code_path is not None else dict(sizes)


def require_fit(sizes: Mapping[str, int], limit_bytes: int = LIMIT_BYTES) -> int:
    """Return the total of bytes by class.

    Raises:
        LimitExceeded: it is above `limit_bytes` (exit code 3); the message lists the classes, largest first.
    """
    total = sum(sizes.values())
    if total > limit_bytes:
        listed = ", ".join(f"{name} {size:,}" for name, size in sorted(sizes.items(), key=lambda item: -item[1]))
        raise LimitExceeded(
            f"{total:,} bytes are {total - limit_bytes:,} over the limit of {limit_bytes:,} ({listed}): "
            "use fewer bits (quant=int6_rows), a stronger codec (codec=lzma) or a smaller model"
        )
    return total
