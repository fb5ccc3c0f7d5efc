"""Upstream's `.int8.ptz` files: `int8_clean_per_row_v1` (2026-03-17), zlib level 9 over a `torch.save` dictionary.

    {"__quant_format__", "quantized": {name: int8 codes}, "scales": {name: float16 [R] or float32 []},
     "dtypes": {name: original dtype}, "passthrough": {name: tensor},
     "qmeta": {name: {"scheme": "per_row", "axis": 0}} (row scales only),
     "passthrough_orig_dtypes": {name: original dtype} (tensors kept as float16)}

A pickle is read only by `torch.load(weights_only=True)`, and only from a plain zip of stored entries; then every value
is checked to be a dense tensor, a string or a number. Anything else is refused in one line and never executed.
Invariant: reading and writing an upstream file again gives its tensors, tables and order back (and, under the torch
version that wrote it, its bytes).
"""

import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from golf.codec.files import read_whole_file, write_whole_file
from golf.codec.layout import STORED_DTYPES
from golf.codec.protocol import DECODE_LIMIT_BYTES
from golf.codec.sections import tensor_class
from golf.codec.zlib_codec import ZlibCodec
from golf.errors import UserError
from golf.quant.formats import int8_rows
from golf.quant.protocol import StoredTensor
from golf.quant.rtn import FLOAT_DTYPES, QuantisedTensor
from golf.quant.state import PlainTensor, QuantisedState

PTZ_FORMAT = "int8_clean_per_row_v1"
PTZ_REQUIRED = {"__quant_format__", "quantized", "scales", "dtypes", "passthrough"}
PTZ_OPTIONAL = {"qmeta", "passthrough_orig_dtypes"}
OTHER_CONTAINERS = (
    (b"\x28\xb5\x2f\xfd", "a zstd stream (the int6 containers of 2026-03-21 and relatives)"),
    (b"PGRP", "a per-group container (record of 2026-04-27)"),
    (b"BSHF", "a byte-shuffled container (records of 2026-04-05 and later)"),
    (b"GOLF", "a golf artifact: pass it as artifact=<file>"),
    (b"PK\x03\x04", "an uncompressed torch.save file or zip"),
)


def read_ptz(path: str | Path) -> QuantisedState:
    """Read an upstream int8 artifact.

    Raises:
        UserError: not zlib, another format, a pickle with anything but tensors, dictionaries, strings and numbers, or
            codes and scales that do not belong together.
    """
    where = str(path)
    blob = read_whole_file(path)
    for magic, what in OTHER_CONTAINERS:
        if blob.startswith(magic):
            raise refused_ptz(where, f"it is {what}")
    try:
        raw = ZlibCodec().decode(blob)
    except UserError as error:
        what = "is damaged or incomplete" if blob[:1] == b"\x78" else "is another compressor's (brotli has no mark)"
        raise refused_ptz(where, f"its stream {what}") from error
    return state_from_tables(load_plain_pickle(raw, where), where)


def refused_ptz(where: str, what: str) -> UserError:
    """The one-line error for a file that is not an upstream int8 artifact."""
    return UserError(f"{where} is not an upstream {PTZ_FORMAT} artifact: {what}; pass a final_model.int8.ptz")


def load_plain_pickle(raw: bytes, where: str) -> dict[str, Any]:
    """Load `torch.save` bytes that hold nothing but tensors, dictionaries, strings and numbers."""
    if not raw.startswith(b"PK\x03\x04"):
        safetensors = len(raw) > 9 and raw[8:9] == b"{" and int.from_bytes(raw[:8], "little") < len(raw)
        what = "it holds safetensors" if safetensors else "it does not hold a torch.save file"
        raise refused_ptz(where, what)
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED or entry.file_size > len(raw) for entry in entries):
            raise refused_ptz(where, "its zip entries are compressed, which torch.save never does")
        loaded = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:  # torch raises many types on damaged or unsafe pickles; all mean the same here
        what = "its pickle is damaged or has more in it than tensors, dictionaries, strings and numbers (not run)"
        raise refused_ptz(where, what) from error
    require_plain(loaded, where, depth=0)
    if not isinstance(loaded, dict) or sum(t.numel() * t.itemsize for t in tensors_within(loaded)) > DECODE_LIMIT_BYTES:
        raise refused_ptz(where, "it is not a dictionary of model size")
    return loaded


def require_plain(value: Any, where: str, depth: int) -> None:
    """Refuse every type that upstream does not write, and tensors that claim more elements than they store."""
    if depth > 4:
        raise refused_ptz(where, "its dictionaries are nested too deeply")
    if type(value) is dict or type(value).__name__ == "OrderedDict":
        for key, item in value.items():
            if type(key) is not str:
                raise refused_ptz(where, f"a key is a {type(key).__name__}")
            require_plain(item, where, depth + 1)
    elif type(value) is Tensor:
        dense = value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized
        if not dense or value.numel() * value.itemsize > value.untyped_storage().nbytes():
            raise refused_ptz(where, "a tensor is not dense")
    elif type(value) not in (str, int, float, bool, type(None)):
        raise refused_ptz(where, f"it contains a {type(value).__name__}")


def tensors_within(value: Any) -> list[Tensor]:
    """All tensors of nested dictionaries."""
    if isinstance(value, dict):
        return [tensor for item in value.values() for tensor in tensors_within(item)]
    return [value] if isinstance(value, Tensor) else []


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
            stored[name] = stored_codes(codes, tables["scales"][name], tables["dtypes"][name])
        for name, values in plain.items():
            original = tables["passthrough_orig_dtypes"].get(name, str(values.dtype).removeprefix("torch."))
            if original not in STORED_DTYPES:
                raise ValueError(f"unknown dtype {original}")
            stored[name] = PlainTensor(values.contiguous().clone(), original)
    except (ValueError, AttributeError, TypeError) as error:
        raise refused_ptz(where, f"tensor '{name}' is inconsistent ({error})") from error
    return QuantisedState(stored, {name: tensor_class(name, upstream_role(name)) for name in stored})


def stored_codes(codes: Tensor, scales: Tensor, dtype: str) -> QuantisedTensor:
    """One quantised tensor, checked: a scale per row of the codes, or one for all."""
    if codes.dtype != torch.int8 or scales.dtype not in FLOAT_DTYPES.values() or dtype not in FLOAT_DTYPES:
        raise ValueError("codes must be int8, scales and dtype floating point")
    if scales.ndim and (scales.ndim != 1 or not codes.ndim or scales.shape[0] != codes.shape[0]):
        raise ValueError(f"{tuple(scales.shape)} scales for codes {tuple(codes.shape)}")
    return QuantisedTensor(codes.contiguous().clone(), scales.contiguous().clone(), int8_rows(), dtype)


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
    """Compare an upstream artifact with published facts about its tensors; an empty list means all agree.

    Args:
        path: the `.ptz` file.
        expected: {name: {"shape", "sha256_fp32_le", "sum", "l2", "first"}} after dequantisation to float32.
    """
    state = read_ptz(path).dequantise()
    problems = [f"{name}: not expected" for name in state if name not in expected]
    for name, facts in expected.items():
        if name not in state:
            problems.append(f"{name}: missing")
            continue
        values = state[name].float().numpy().astype("<f4")
        if list(values.shape) != list(facts["shape"]):
            problems.append(f"{name}: shape {list(values.shape)}, expected {facts['shape']}")
            continue
        if hashlib.sha256(values.tobytes()).hexdigest() != facts["sha256_fp32_le"]:
            wide = values.astype(np.float64)
            error = abs(float(wide.sum()) - facts["sum"]) + abs(float(np.sqrt((wide**2).sum())) - facts["l2"])
            problems.append(f"{name}: bits differ (sum and l2 off by {error:.3g})")
    return problems
