"""From stored tensors to sections of bytes and back: which tensors share a compressed stream, and in which order.

A section holds one kind of part (codes, scales, values …) of one class of tensors (embedding, attention, mlp …) in one
dtype, like tensors next to each other. So bytes by class are exact, and each stream has one kind of statistics (as
small as one stream for all, measured on trained int8 and int6 matrices).
Invariant: the order depends on names and classes alone.
"""

import re
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from torch import Tensor

from golf.codec.layout import (
    STORED_DTYPES,
    dtype_name,
    flat_from_bytes,
    split_planes,
    tensor_bytes,
    tensor_from_flat,
    torch_dtype,
)
from golf.quant.protocol import Reader, StoredTensor

CLASS_OF_ROLE = {"embedding": "embedding", "head": "head", "table": "tables", "gate": "gates", "scalar": "scalars"}
TENSOR_CLASSES = ("embedding", "head", "attention", "mlp", "tables", "gates", "scalars", "other")


def tensor_class(name: str, role: str) -> str:
    """The class under which a tensor's bytes are reported."""
    if role in CLASS_OF_ROLE:
        return CLASS_OF_ROLE[role]
    if ".attn." in name:
        return "attention"
    return "mlp" if ".mlp." in name else "other"


def section_label(tensor_class_name: str, part: str) -> str:
    """Codes and plain values count for their tensor's class; scales and corrections are classes of their own."""
    if part.startswith("correction"):
        return "corrections"
    if part.endswith(("codes", "values")):
        return tensor_class_name
    return "scales" if part.endswith("scales") else "corrections"


def canonical_order(classes: Mapping[str, str]) -> list[str]:
    """Names by class, then like names together (digits ignored), then by the numbers in them."""

    def key(name: str) -> tuple[int, str, list[int], str]:
        numbers = [int(digits) for digits in re.findall(r"\d+", name)]
        return TENSOR_CLASSES.index(classes[name]), re.sub(r"\d+", "", name), numbers, name

    return sorted(classes, key=key)


def build_directory(
    tensors: Mapping[str, StoredTensor], classes: Mapping[str, str]
) -> tuple[dict[str, Any], list[list[Tensor]]]:
    """Describe tensors as plain data and sort their parts into groups.

    Returns:
        The directory {"specs": [[kind, meta], …], "groups": [[label, part, dtype], …], "tensors": [[name, class, spec,
        [[part, group, shape], …]], …]} and the tensors of each group.
    """
    specs: list[Any] = []
    groups: dict[tuple[str, str, str], list[Tensor]] = {}
    entries = []
    for name in canonical_order(classes):
        stored, parts = tensors[name], []
        spec = [stored.kind, stored.meta()]
        if spec not in specs:
            specs.append(spec)
        for part, tensor in sorted(stored.parts().items()):
            group = section_label(classes[name], part), part, dtype_name(tensor.dtype)
            groups.setdefault(group, []).append(tensor)
            parts.append([part, list(groups).index(group), list(tensor.shape)])
        entries.append([name, classes[name], specs.index(spec), parts])
    return {"specs": specs, "groups": list(groups), "tensors": entries}, list(groups.values())


def group_bytes(tensors: Sequence[Tensor], permuted: bool) -> bytes:
    """The bytes of one section: plain, or permuted as pays for elements of their size."""
    itemsize = tensors[0].itemsize
    raw = b"".join(tensor_bytes(tensor, permuted and itemsize == 1) for tensor in tensors)
    return split_planes(raw, itemsize) if permuted else raw


def tensors_from_sections(
    header: Mapping[str, Any], sections: Sequence[bytes], readers: Mapping[str, Reader]
) -> dict[str, StoredTensor]:
    """Rebuild stored tensors from a header and its expanded sections.

    Raises:
        ValueError: the directory is inconsistent: a name twice, a shape that is not in its section, bytes left over.
    """
    if damage_of_directory(header) or damage_of_sections(header, sections):
        raise ValueError(damage_of_directory(header) or damage_of_sections(header, sections))
    left = []
    for (_, _, dtype), permuted, raw in zip(header["groups"], header["layouts"], sections):
        left.append(flat_from_bytes(raw, dtype, torch_dtype(dtype).itemsize if permuted else 1))
    tensors: dict[str, StoredTensor] = {}
    for name, _, spec, entries in header["tensors"]:
        parts: dict[str, Tensor] = {}
        for part, group, shape in entries:
            flat, left[group] = left[group].tensor_split([prod(shape)])
            parts[part] = tensor_from_flat(flat, shape, header["layouts"][group] and flat.itemsize == 1)
        kind, meta = header["specs"][spec]
        tensors[name] = readers[kind](meta, parts)
    return tensors


def classes_in(header: Mapping[str, Any]) -> dict[str, str]:
    """The class of every tensor of a directory."""
    return {name: class_name for name, class_name, _, _ in header["tensors"]}


def damage_of_directory(header: Mapping[str, Any]) -> str:
    """What is inconsistent in a directory by itself; "" if nothing is."""
    groups, names = header["groups"], set[str]()
    for name, class_name, spec, entries in header["tensors"]:
        if type(name) is not str or name in names or class_name not in TENSOR_CLASSES or spec < 0:
            return "a tensor's name or class"
        names.add(name)
        if len({part for part, _, _ in entries}) != len(entries):
            return f"a part of {name} twice"
        for part, group, shape in entries:
            if any(type(size) is not int or not 0 <= size < 2**40 for size in shape) or len(shape) > 8 or group < 0:
                return f"the shape of {name}"
            label, group_part, _ = groups[group]
            if part != group_part or label != section_label(class_name, part):
                return f"the section of {name}"
    return ""


def damage_of_sections(header: Mapping[str, Any], sections: Sequence[bytes]) -> str:
    """How expanded sections differ from what their directory says; "" if they do not."""
    groups, layouts = header["groups"], header["layouts"]
    if not len(groups) == len(layouts) == len(sections):
        return "groups, layouts and sections differ in number"
    if any(permuted not in (0, 1) for permuted in layouts):
        return "a section's layout"
    numbers = [0] * len(groups)
    for _, _, _, entries in header["tensors"]:
        for _, group, shape in entries:
            numbers[group] += prod(shape)
    for (_, _, dtype), number, raw in zip(groups, numbers, sections):
        if len(raw) != number * STORED_DTYPES[dtype].itemsize:
            return "the size of a section"
    return ""
