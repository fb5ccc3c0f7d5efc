"""A whole quantised network: stored tensors by name, and what its evaluation must see after `dequantise`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from golf.codec.container import only_codec, read_guarded, read_header, read_sections, write_container
from golf.codec.files import read_whole_file, write_whole_file
from golf.codec.layout import STORED_DTYPES, torch_dtype
from golf.codec.none_codec import NoCodec
from golf.codec.sections import build_directory, classes_in, tensors_from_sections
from golf.quant.protocol import StoredTensor, readers_of
from golf.quant.rtn import QuantisedTensor


@dataclass(frozen=True)
class PlainTensor:
    """A tensor kept as numbers (perhaps in a smaller float type); `dequantise` returns the original dtype."""

    values: Tensor
    original_dtype: str

    kind: ClassVar[str] = "plain"

    def parts(self) -> dict[str, Tensor]:
        return {"values": self.values}

    def meta(self) -> dict[str, Any]:
        return {"dtype": self.original_dtype}

    @classmethod
    def from_parts(cls, meta: Mapping[str, Any], parts: Mapping[str, Tensor]) -> "PlainTensor":
        if set(meta) != {"dtype"} or meta["dtype"] not in STORED_DTYPES or set(parts) != {"values"}:
            raise ValueError("not a plain tensor")
        return cls(parts["values"], meta["dtype"])

    def dequantise(self) -> Tensor:
        return self.values.to(torch_dtype(self.original_dtype))


STORED_KINDS = (PlainTensor, QuantisedTensor)


@dataclass(frozen=True)
class QuantisedState:
    """Stored tensors and the class (embedding, attention …) under which each one's bytes are reported.

    `notes`: what an algorithm had to do otherwise than asked, one line each; not part of a file.
    """

    tensors: dict[str, StoredTensor]
    classes: dict[str, str]
    notes: tuple[str, ...] = ()

    def dequantise(self) -> dict[str, Tensor]:
        """The state dict that is evaluated, in the original dtypes."""
        return {name: stored.dequantise() for name, stored in self.tensors.items()}

    def payload_bytes(self) -> int:
        """Bytes of all codes, scales and values before compression (bookkeeping of names and shapes not counted)."""
        return sum(part.numel() * part.itemsize for stored in self.tensors.values() for part in stored.parts().values())

    def save(self, path: str | Path) -> None:
        """Write the state, uncompressed, in the artifact's container (no network, no tokenizer)."""
        write_whole_file(path, write_container(NoCodec(), *build_directory(self.tensors, self.classes))[0])

    @classmethod
    def load(cls, path: str | Path, kinds: Sequence[type[StoredTensor]] = ()) -> "QuantisedState":
        """Read what `save` wrote. `kinds`: of stored tensors that may occur, () = all that golf has."""
        known = kinds or import_module("golf.quant.kinds").ALL_STORED_KINDS
        blob = read_whole_file(path)

        def read() -> QuantisedState:
            header, codec, start = read_header(blob, only_codec(NoCodec()), str(path))
            sections = read_sections(blob, header, codec, start, str(path))
            return cls(tensors_from_sections(header, sections, readers_of(known)), classes_in(header))

        return read_guarded(str(path), read)


def same_state(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> bool:
    """Whether two state dicts have the same names, dtypes, shapes and bits (NaN payloads and signed zeros included)."""

    def bits(tensor: Tensor) -> Tensor:
        return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)

    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype
        and left[name].shape == right[name].shape
        and (not left[name].numel() or torch.equal(bits(left[name]), bits(right[name])))
        for name in left
    )
