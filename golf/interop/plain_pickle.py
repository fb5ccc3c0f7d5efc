"""Pickles of `torch.save` that hold nothing but tensors, dictionaries, lists, strings and numbers.

A pickle is read only by `torch.load(weights_only=True)`, and only from a plain zip of stored entries; then every value
is checked. Invariant: nothing in a file is ever executed; anything else than plain data is refused in one line.
"""

import io
import zipfile
from typing import Any

import torch
from torch import Tensor

from golf.codec.protocol import DECODE_LIMIT_BYTES
from golf.errors import UserError

ZIP_MAGIC = b"PK\x03\x04"
PLAIN_TYPES = (str, int, float, bool, type(None))


def refused_ptz(where: str, what: str) -> UserError:
    """The one-line error for a file that is not an upstream artifact."""
    return UserError(f"{where} is not an upstream artifact: {what}; pass a final_model.int8.ptz or .int6.ptz")


def load_plain_pickle(raw: bytes, where: str) -> dict[str, Any]:
    """Load `torch.save` bytes that hold nothing but plain data.

    Raises:
        UserError: not such bytes, or more in them than data.
    """
    if not raw.startswith(ZIP_MAGIC):
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
    if depth > 5:
        raise refused_ptz(where, "its dictionaries are nested too deeply")
    if type(value) is dict or type(value).__name__ == "OrderedDict":
        for key, item in value.items():
            if type(key) is not str:
                raise refused_ptz(where, f"a key is a {type(key).__name__}")
            require_plain(item, where, depth + 1)
    elif type(value) in (list, tuple, torch.Size):
        for item in value:
            require_plain(item, where, depth + 1)
    elif type(value) is Tensor:
        dense = value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized
        if not dense or value.numel() * value.itemsize > value.untyped_storage().nbytes():
            raise refused_ptz(where, "a tensor is not dense")
    elif type(value) not in PLAIN_TYPES:
        raise refused_ptz(where, f"it contains a {type(value).__name__}")


def tensors_within(value: Any) -> list[Tensor]:
    """All tensors of nested dictionaries and lists."""
    if isinstance(value, dict):
        return [tensor for item in value.values() for tensor in tensors_within(item)]
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in tensors_within(item)]
    return [value] if isinstance(value, Tensor) else []
