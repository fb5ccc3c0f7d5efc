"""The artifact: one self-contained file with the quantised weights, the network's config and the tokenizer's identity.

`read_artifact` needs nothing else to rebuild the network: header["network"] is its config node (plain data), and the
tensors come back bit for bit as they were evaluated. Layout: golf/codec/container.py and sections.py.
Invariant: packing the same state, network, tokenizer and codec gives the same bytes, in any process.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any
from zlib import crc32

from torch import Tensor

from golf.codec.container import (
    READ_ERRORS,
    codec_name,
    container_bytes,
    header_of,
    named_error,
    only_codec,
    read_guarded,
    read_header,
    read_sections,
    refuse_artifact,
    require_sections,
    section_bytes,
    write_container,
)
from golf.codec.files import read_whole_file, write_whole_file
from golf.codec.layout import STORED_DTYPES
from golf.codec.parts import PartsCodec, part_groups
from golf.codec.protocol import Codec
from golf.codec.sections import build_directory, classes_in, damage_of_directory, tensors_from_sections
from golf.codec.size import sizes_of_sections
from golf.errors import UserError
from golf.quant.protocol import Reader, StoredTensor, readers_of
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
    blob, written = artifact_file(quantised, network, tokenizer, codec)
    return blob, sizes_of_sections(written, len(blob))


def artifact_file(
    quantised: QuantisedState, network: Mapping[str, Any], tokenizer: Mapping[str, Any], codec: Codec
) -> tuple[bytes, dict[str, Any]]:
    """The bytes of an artifact and its header: the smallest of the state's variants."""
    tried = [packed_file(variant, network, tokenizer, codec) for variant in state_variants(quantised)]
    return min(tried, key=lambda packed: len(packed[0]))


def state_variants(quantised: QuantisedState) -> list[QuantisedState]:
    """The same weights in every packing that their quantiser left open (`variants` of a stored tensor)."""
    choices: dict[str, dict[str, StoredTensor]] = {
        name: getattr(tensor, "variants", dict)() for name, tensor in quantised.tensors.items()
    }
    labels = dict.fromkeys(label for variants in choices.values() for label in variants)
    found = []
    for label in labels:
        tensors = {name: choices[name].get(label, tensor) for name, tensor in quantised.tensors.items()}
        found.append(QuantisedState(tensors, quantised.classes, quantised.notes))
    return found or [quantised]


def packed_file(
    quantised: QuantisedState, network: Mapping[str, Any], tokenizer: Mapping[str, Any], codec: Codec
) -> tuple[bytes, dict[str, Any]]:
    """An artifact of exactly these stored tensors, and its header."""
    directory, members = build_directory(quantised.tensors, quantised.classes)
    header = {**directory, "network": network, "tokenizer": tokenizer}
    if hasattr(codec, "encode_parts"):
        return write_parts(codec, header, members)  # pyright: ignore[reportArgumentType]
    return write_container(codec, header, members)


def write_parts(
    codec: PartsCodec, header: dict[str, Any], members: Sequence[Sequence[Tensor]]
) -> tuple[bytes, dict[str, Any]]:
    """A container whose sections a parts codec made."""
    stored, entries = [], []
    groups = part_groups(header)
    known = tuple(t for group, tensors in zip(groups, members) if group.comes_first() for t in tensors)
    for group, tensors in zip(groups, members):
        packed = codec.encode_parts(group if group.comes_first() else replace(group, known=known), tensors)
        stored.append(packed)
        entries.append([len(packed), group.raw_bytes(), crc32(packed)])
    return container_bytes(codec, {**header, "sections": entries, "layouts": "parts"}, stored, 2)


def read_parts(
    codec: PartsCodec,
    header: dict[str, Any],
    sections: Sequence[tuple[bytes, int]],
    readers: Mapping[str, Reader],
) -> dict[str, StoredTensor]:
    """Stored tensors from what `write_parts` wrote."""
    if damage_of_directory(header):
        raise ValueError(damage_of_directory(header))
    groups = part_groups(header)
    if len(groups) != len(sections) or any(group.raw_bytes() != raw for group, (_, raw) in zip(groups, sections)):
        raise ValueError("sections of other sizes than its tensors")
    pieces = [piece for piece, _ in sections]
    first = [codec.decode_parts(g, piece) if g.comes_first() else [] for g, piece in zip(groups, pieces)]
    known = tuple(tensor for tensors in first for tensor in tensors)
    parts = [
        iter(found if g.comes_first() else codec.decode_parts(replace(g, known=known), piece))
        for g, found, piece in zip(groups, first, pieces)
    ]
    tensors: dict[str, StoredTensor] = {}
    for name, _, spec, entries in header["tensors"]:
        found = {part: next(parts[group]) for part, group, _ in entries}
        for part, group, shape in entries:
            if found[part].dtype != STORED_DTYPES[groups[group].dtype] or found[part].shape != tuple(shape):
                raise ValueError(f"the shape of {name}")
        kind, meta = header["specs"][spec]
        tensors[name] = readers[kind](meta, found)
    return tensors


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
    where, blob = str(path), read_whole_file(path)

    def read() -> Artifact:
        codec = choose(codec_name(blob, where))
        header, tensors = read_stored(blob, codec, readers_of(kinds), where)
        stored = QuantisedState(tensors, classes_in(header))
        return Artifact(
            header["network"], header["tokenizer"], stored, sizes_of_sections(header, len(blob)), codec.name
        )

    return read_guarded(where, read)


def read_stored(
    blob: bytes, codec: Codec, readers: Mapping[str, Reader], where: str
) -> tuple[dict[str, Any], dict[str, StoredTensor]]:
    """The header and the tensors of an artifact that this codec packed."""
    if codec_name(blob, where) != codec.name:
        raise UserError(f"{where} was packed with codec '{codec_name(blob, where)}', not '{codec.name}'")
    try:
        header, start = header_of(blob, codec, where)
        if hasattr(codec, "decode_parts") and header["layouts"] == "parts":
            pieces = section_bytes(blob, header, start, where)
            tensors = read_parts(codec, header, pieces, readers)  # pyright: ignore[reportArgumentType]
        else:
            tensors = tensors_from_sections(header, read_sections(blob, header, codec, start, where), readers)
        if not isinstance(header["network"], dict) or not isinstance(header["tokenizer"], dict):
            refuse_artifact(where, "its network or tokenizer is not a table")
    except (UserError, *READ_ERRORS) as error:
        raise UserError(named_error(where, error)) from error
    return header, tensors


def bytes_by_class(artifact_path: str | Path) -> dict[str, int]:
    """Bytes by class of a packed file, from its directory alone."""
    where = str(artifact_path)
    blob = read_whole_file(artifact_path)

    def read() -> dict[str, int]:
        header, _, start = read_header(blob, import_module("golf.codec.catalogue").codec_named, where)
        require_sections(blob, header, start, where)
        return sizes_of_sections(header, len(blob))

    return read_guarded(where, read)
