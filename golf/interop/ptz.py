"""Upstream's `.ptz` files. Every one is read; `int8_clean_per_row_v1` (2026-03-17) is written, too: zlib level 9 over

    {"__quant_format__", "quantized": {name: int8 codes}, "scales": {name: float16 [R] or float32 []},
     "dtypes": {name: original dtype}, "passthrough": {name: tensor},
     "qmeta": {name: {"scheme": "per_row", "axis": 0}} (row scales only),
     "passthrough_orig_dtypes": {name: original dtype} (tensors kept as float16)}

The records' own containers and dictionaries are in golf/interop/{containers,pergroup,weight_tables}.py.
Invariant: reading and writing an int8 file again gives its tensors, tables and order back (and, under the torch
version that wrote it, its bytes).
"""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from golf.codec.files import read_whole_file, write_whole_file
from golf.codec.layout import STORED_DTYPES
from golf.codec.sections import tensor_class
from golf.codec.zlib_codec import ZlibCodec
from golf.errors import UserError
from golf.interop.containers import open_container
from golf.interop.plain_pickle import refused_ptz
from golf.interop.weight_tables import codes_and_scales, stored_from_weights
from golf.quant.formats import int8_rows
from golf.quant.protocol import StoredTensor
from golf.quant.rtn import QuantisedTensor
from golf.quant.state import PlainTensor, QuantisedState

PTZ_FORMAT = "int8_clean_per_row_v1"
PTZ_REQUIRED = {"__quant_format__", "quantized", "scales", "dtypes", "passthrough"}
PTZ_OPTIONAL = {"qmeta", "passthrough_orig_dtypes"}


def read_ptz(path: str | Path) -> QuantisedState:
    """Read an artifact of the public scripts: the baseline's int8 format, or any {"w", "m"} dictionary of a record.

    Raises:
        UserError: not such a file, a pickle with anything but tensors, dictionaries, strings and numbers, or codes and
            scales that do not belong together.
    """
    return read_ptz_and_format(path)[0]


def read_ptz_and_format(path: str | Path) -> tuple[QuantisedState, str]:
    """As `read_ptz`; the second is PTZ_FORMAT, or "record" for a record's dictionary."""
    where = str(path)
    loaded = open_container(read_whole_file(path), where)
    if "w" not in loaded:
        return state_from_tables(loaded, where), PTZ_FORMAT
    stored = stored_from_weights(loaded, where)
    return QuantisedState(stored, {name: tensor_class(name, upstream_role(name)) for name in stored}), "record"


def state_from_tables(loaded: Mapping[str, Any], where: str) -> QuantisedState:
    """Turn upstream's tables into stored tensors, checking each entry."""
    found = loaded.get("__quant_format__")
    if found != PTZ_FORMAT:
        raise refused_ptz(where, f"its __quant_format__ is {found!r}" if found else "it has no __quant_format__")
    tables = {key: loaded.get(key, {}) for key in (PTZ_REQUIRED | PTZ_OPTIONAL) - {"__quant_format__"}}
    if not set(loaded) >= PTZ_REQUIRED or set(loaded) - PTZ_REQUIRED - PTZ_OPTIONAL:
        raise refused_ptz(where, f"its tables are {', '.join(sorted(loaded))}")
    if not all(isinstance(table, dict) for table in tables.values()):
        raise refused_ptz(where, "one of its tables is not a dictionary")
    quantised, plain = tables["quantized"], tables["passthrough"]
    if not quantised.keys() == tables["scales"].keys() == tables["dtypes"].keys() or quantised.keys() & plain.keys():
        raise refused_ptz(where, "its codes, scales, dtypes and passthrough do not name the same tensors")
    stored: dict[str, StoredTensor] = {}
    name = ""
    try:
        for name, codes in quantised.items():
            stored[name] = codes_and_scales(codes, tables["scales"][name], int8_rows(), tables["dtypes"][name])
        for name, values in plain.items():
            original = tables["passthrough_orig_dtypes"].get(name, str(values.dtype).removeprefix("torch."))
            if original not in STORED_DTYPES:
                raise ValueError(f"unknown dtype {original}")
            stored[name] = PlainTensor(values.contiguous().clone(), original)
    except (ValueError, AttributeError, TypeError) as error:
        raise refused_ptz(where, f"tensor '{name}' is inconsistent ({error})") from error
    return QuantisedState(stored, {name: tensor_class(name, upstream_role(name)) for name in stored})


def upstream_role(name: str) -> str:
    """A role good enough for bytes by class; the model's own roles are not in the file."""
    if "tok_emb" in name:
        return "embedding"
    if "lm_head" in name:
        return "head"
    control = ("attn_scale", "mlp_scale", "resid_mix", "q_gain", "skip_weight")
    return "scalar" if any(pattern in name for pattern in control) else "matrix"


def write_ptz(path: str | Path, quantised: QuantisedState) -> int:
    """Write a state in upstream's layout and return the file's size. Reading it back gives the same bits.

    Raises:
        UserError: a tensor that is neither codes with scales nor plain numbers.
    """
    tables: dict[str, Any] = {key: {} for key in ("quantized", "scales", "dtypes", "passthrough", "qmeta")}
    original: dict[str, str] = {}
    for name, stored in quantised.tensors.items():
        if isinstance(stored, QuantisedTensor):
            tables["quantized"][name] = stored.codes
            tables["scales"][name] = stored.scales
            tables["dtypes"][name] = stored.original_dtype
            if stored.scales.ndim:
                tables["qmeta"][name] = {"scheme": "per_row", "axis": 0}
        elif isinstance(stored, PlainTensor):
            tables["passthrough"][name] = stored.values
            if stored.original_dtype != str(stored.values.dtype).removeprefix("torch."):
                original[name] = stored.original_dtype
        else:
            raise UserError(f"{path}: {PTZ_FORMAT} cannot hold tensor '{name}': export with quant=int8_rows")
    document: dict[str, Any] = {"__quant_format__": PTZ_FORMAT, **tables}
    if not document["qmeta"]:
        del document["qmeta"]
    if original:
        document["passthrough_orig_dtypes"] = original
    buffer = io.BytesIO()
    torch.save(document, buffer)
    packed = ZlibCodec(9).encode(buffer.getvalue())
    write_whole_file(path, packed)
    return len(packed)


def compare_dequantised(path: str | Path, expected: Mapping[str, Any]) -> list[str]:
    """Compare an upstream artifact with published facts about its tensors; an empty list means all agree."""
    return differing_tensors(read_ptz(path).dequantise(), expected)


def differing_tensors(state: Mapping[str, Tensor], expected: Mapping[str, Any]) -> list[str]:
    """Compare tensors with published facts, one line for each that differs.

    Args:
        expected: {name: {"shape", "sum", "l2", "first", and mostly "sha256_fp32_le"}} after dequantisation to float32.
            Where no sha256 is stated, sum and l2 have to agree to 1e-6 of the tensor's l2 norm.
    """
    problems = [f"{name}: not expected" for name in state if name not in expected]
    for name, facts in expected.items():
        if name not in state:
            problems.append(f"{name}: missing")
            continue
        values = state[name].float().numpy().astype("<f4")
        if list(values.shape) != list(facts["shape"]):
            problems.append(f"{name}: shape {list(values.shape)}, expected {facts['shape']}")
            continue
        wide = values.astype(np.float64)
        error = abs(float(wide.sum()) - facts["sum"]) + abs(float(np.sqrt((wide**2).sum())) - facts["l2"])
        stated = facts.get("sha256_fp32_le")
        if stated is not None and hashlib.sha256(values.tobytes()).hexdigest() != stated:
            problems.append(f"{name}: bits differ (sum and l2 off by {error:.3g})")
        elif stated is None and error > 1e-6 * max(1.0, facts["l2"]):
            problems.append(f"{name}: sum and l2 off by {error:.3g}")
    return problems
