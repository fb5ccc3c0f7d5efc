"""The artifact: one self-contained file with the quantised weights, the network's config and the tokenizer's identity.

`read_artifact` needs nothing else to rebuild the network: header["network"] is its config node (plain data), and the
tensors come back bit for bit as they were evaluated. Layout: golf/codec/container.py and sections.py.
Invariant: packing the same state, network, tokenizer and codec gives the same bytes, in any process.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from golf.codec.container import (
    only_codec,
    read_guarded,
    read_header,
    read_sections,
    refuse_artifact,
    section_entries,
    write_container,
)
from golf.codec.files import read_whole_file, write_whole_file
from golf.codec.protocol import Codec
from golf.codec.sections import build_sections, tensors_from_sections
from golf.codec.size import sizes_of_sections
from golf.quant.protocol import StoredTensor
from golf.quant.state import STORED_KINDS, QuantisedState


@dataclass(frozen=True)
class Artifact:
    """What an artifact holds. `sizes`: bytes by class, adding up to the file's size; `codec`: the name of its codec."""

    network: dict[str, Any]
    tokenizer: dict[str, Any]
    quantised: QuantisedState
    sizes: dict[str, int]
    codec: str


def artifact_bytes(
    quantised: QuantisedState, network: Mapping[str, Any], tokenizer: Mapping[str, Any], codec: Codec
) -> tuple[bytes, dict[str, int]]:
    """The bytes of an artifact, and how many of them each class takes."""
    directory, candidates = build_sections(quantised.tensors, quantised.classes)
    header = {**directory, "network": dict(network), "tokenizer": dict(tokenizer)}
    blob, written = write_container(codec, header, candidates)
    return blob, sizes_of_sections(written, len(blob))


def pack(
    path: str | Path, quantised: QuantisedState, network: Mapping[str, Any], tokenizer: Mapping[str, Any], codec: Codec
) -> dict[str, int]:
    """Write an artifact (atomically) and return its bytes by class.

    Args:
        path: the file to write; its folder is made.
        quantised: what a plan's `quantise` returned.
        network: the model's config node as plain data, `_target_` included.
        tokenizer: identity of the tokenizer as plain data (kind, vocab_size, sha256).
        codec: compresses header and sections.
    """
    blob, sizes = artifact_bytes(quantised, network, tokenizer, codec)
    write_whole_file(path, blob)
    return sizes


def read_artifact(path: str | Path, codec: Codec | None = None, kinds: Sequence[type[StoredTensor]] = ()) -> Artifact:
    """Read an artifact whole, or raise one UserError.

    Args:
        path: the file.
        codec: the codec it was packed with; None looks it up by the name in the file (any codec that golf has).
        kinds: classes of stored tensors that may occur, () = all that golf has.
    """
    kinds = kinds or import_module("golf.quant.kinds").ALL_STORED_KINDS
    choose = only_codec(codec) if codec else import_module("golf.codec.catalogue").codec_named
    return read_artifact_with(path, choose, kinds)


def read_artifact_with(
    path: str | Path, choose: Callable[[str], Codec], kinds: Sequence[type[StoredTensor]] = STORED_KINDS
) -> Artifact:
    """`read_artifact` with codecs by name from `choose`: a program that has one codec need not carry all of them."""
    where = str(path)
    blob = read_whole_file(path)

    def read() -> Artifact:
        header, found, start = read_header(blob, choose, where)
        tensors, classes = tensors_from_sections(header, read_sections(blob, header, found, start, where), kinds)
        network, tokenizer = header["network"], header["tokenizer"]
        if not isinstance(network, dict) or not isinstance(tokenizer, dict):
            refuse_artifact(where, "its network or tokenizer is not a table")
        sizes = sizes_of_sections(header, len(blob))
        return Artifact(network, tokenizer, QuantisedState(tensors, classes), sizes, found.name)

    return read_guarded(where, read)


def bytes_by_class(artifact_path: str | Path) -> dict[str, int]:
    """Bytes by class of a packed file, from its directory alone."""
    where = str(artifact_path)
    blob = read_whole_file(artifact_path)

    def read() -> dict[str, int]:
        header, _, start = read_header(blob, import_module("golf.codec.catalogue").codec_named, where)
        section_entries(header, len(blob) - start, where)
        return sizes_of_sections(header, len(blob))

    return read_guarded(where, read)
