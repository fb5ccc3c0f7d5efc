"""The {"w": tensors, "m": what each one is} dictionaries of the records from 2026-03-21 on, as stored tensors.

    passthrough …      <name> as it is, mostly float16
    {"type": "intB"},  <name>.q int8 codes, <name>.scale one per row (or one)
    gptq (intB)        the same; +lqer_asym: plus the product of <name>.lqA_a [R, r] (one scale, lqAs_a) and
                       <name>.lqB_a [r, C] (scales lqBs_a in groups); +lqer: lqA, lqB with a scale per row each
    gate_int8_row      <name>.gq, <name>.gs

Decoding gives float32. Invariant: every tensor of the file is used by exactly one entry.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from golf.codec.layout import FLOAT_DTYPES
from golf.interop.plain_pickle import refused_ptz
from golf.quant.formats import QuantFormat, floor_rows, int8_gate_rows
from golf.quant.lowrank import CorrectedTensor
from golf.quant.protocol import StoredTensor
from golf.quant.rtn import QuantisedTensor
from golf.quant.state import PlainTensor

INTEGER_CODES = re.compile(r"(?:\w+ )?\(?int([2-8])\)?(?:\+(lqer_asym|lqer))?")
CORRECTION_PARTS = {"left": "lqA", "left_scales": "lqAs", "right": "lqB", "right_scales": "lqBs"}


def stored_from_weights(loaded: Mapping[str, Any], where: str) -> dict[str, StoredTensor]:
    """Stored tensors by name, in the order of the descriptions.

    Raises:
        UserError: a description that is not known, or tensors that do not fit theirs.
    """
    weights, described = loaded.get("w"), loaded.get("m")
    if not isinstance(weights, dict) or not isinstance(described, dict) or set(loaded) != {"w", "m"}:
        raise refused_ptz(where, f"its tables are {', '.join(sorted(loaded)) or 'none'}")
    left = dict(weights)
    stored: dict[str, StoredTensor] = {}
    for name, what in described.items():
        try:
            stored[name] = stored_tensor(name, description(what), left)
        except KeyError as error:
            raise refused_ptz(where, f"tensor {error} is missing") from error
        except (ValueError, AttributeError, TypeError) as error:
            raise refused_ptz(where, f"tensor '{name}' is inconsistent ({error})") from error
    if left or not stored:
        raise refused_ptz(where, f"tensor '{next(iter(left), '')}' is not described" if left else "it has no tensors")
    return stored


def description(what: Any) -> str:
    """The text of a description: scripts write text, or a dictionary with a type."""
    found = what.get("type") if isinstance(what, dict) else what
    if not isinstance(found, str):
        raise ValueError("its description is no text")
    return found


def stored_tensor(name: str, what: str, left: dict[str, Any]) -> StoredTensor:
    """Take the parts of one tensor out of `left`.

    Raises:
        KeyError: a part is missing. ValueError: a part does not fit.
    """
    if what.startswith("passthrough"):
        values = taken(left, name)
        floating = values.dtype in FLOAT_DTYPES.values()
        return PlainTensor(values, "float32" if floating else str(values.dtype).removeprefix("torch."))
    if what.startswith("gate_int8_row"):
        return codes_and_scales(taken(left, f"{name}.gq"), taken(left, f"{name}.gs"), int8_gate_rows(), "float32")
    match = INTEGER_CODES.fullmatch(what)
    if match is None:
        raise ValueError(f"'{what[:40]}' is not a kind that golf knows")
    codes, scales = taken(left, f"{name}.q"), taken(left, f"{name}.scale")
    base = codes_and_scales(codes, scales, floor_rows(int(match[1])), "float32")
    if codes.numel() and not base.format.code_min <= int(codes.min()) <= int(codes.max()) <= base.format.code_max:
        raise ValueError(f"codes {int(codes.min())}..{int(codes.max())} in {match[1]} bits")
    if match[2] is None:
        return base
    ending = "_a" if match[2] == "lqer_asym" else ""
    parts = {f"correction_{part}": taken(left, f"{name}.{key}{ending}") for part, key in CORRECTION_PARTS.items()}
    for part in ("correction_left_scales", "correction_right_scales"):
        parts[part] = parts[part].reshape(-1).half()
    return CorrectedTensor.from_parts(base.meta(), {**base.parts(), **parts})


def taken(left: dict[str, Any], key: str) -> Tensor:
    """One tensor of its own memory, taken out."""
    value = left.pop(key)
    if not isinstance(value, Tensor):
        raise ValueError(f"{key} is a {type(value).__name__}")
    return value.contiguous().clone()


def codes_and_scales(codes: Tensor, scales: Tensor, fmt: QuantFormat, dtype: str) -> QuantisedTensor:
    """One quantised tensor, checked: codes of the format, a scale per row of the codes, or one for all."""
    if codes.dtype != torch.int8 or scales.dtype not in FLOAT_DTYPES.values() or dtype not in FLOAT_DTYPES:
        raise ValueError("codes must be int8, scales and dtype floating point")
    if scales.ndim and (scales.ndim != 1 or not codes.ndim or scales.shape[0] != codes.shape[0]):
        raise ValueError(f"{tuple(scales.shape)} scales for codes {tuple(codes.shape)}")
    return QuantisedTensor(codes.contiguous().clone(), scales.contiguous().clone(), fmt, dtype)
