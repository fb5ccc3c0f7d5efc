"""From stored tensors to sections of bytes and back: which tensors share a compressed stream, and in which order.

A section holds one kind of part (codes, scales, values …) of one class of tensors (embedding, attention, mlp …) in one
dtype, like tensors next to each other. So bytes by class are exact, and each stream has one kind of statistics (as
small as one stream for all, measured on trained int8 and int6 matrices).
Invariant: the order depends on names and classes alone.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

from torch import Tensor

from golf.codec.layout import (
    LAYOUTS,
    STORED_DTYPES,
    join_planes,
    layouts_worth_trying,
    split_planes,
    tensor_bytes,
    tensor_from_bytes,
)
from golf.quant.protocol import StoredTensor

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
    groups: list[list[str]] = []
    members: list[list[Tensor]] = []
    entries = []
    for name in canonical_order(classes):
        stored = tensors[name]
        spec = [stored.kind, stored.meta()]
        if spec not in specs:
            specs.append(spec)
        parts = []
        for part, tensor in sorted(stored.parts().items()):
            group = [section_label(classes[name], part), part, str(tensor.dtype).removeprefix("torch.")]
            if group not in groups:
                groups.append(group)
                members.append([])
            members[groups.index(group)].append(tensor)
            parts.append([part, groups.index(group), list(tensor.shape)])
        entries.append([name, classes[name], specs.index(spec), parts])
    return {"specs": specs, "groups": groups, "tensors": entries}, members


def build_sections(
    tensors: Mapping[str, StoredTensor], classes: Mapping[str, str]
) -> tuple[dict[str, Any], list[list[bytes]]]:
    """The directory, and for each group its bytes in every layout worth trying."""
    directory, members = build_directory(tensors, classes)
    candidates = []
    for (_, _, dtype), group_tensors in zip(directory["groups"], members):
        candidates.append([group_bytes(group_tensors, dtype, layout) for layout in layouts_worth_trying(dtype)])
    return directory, candidates


def group_bytes(tensors: Sequence[Tensor], dtype: str, layout: str) -> bytes:
    """The bytes of one section in one layout."""
    raw = b"".join(tensor_bytes(tensor, layout) for tensor in tensors)
    return split_planes(raw, STORED_DTYPES[dtype].itemsize) if layout == "planes" else raw


def tensors_from_sections(
    header: Mapping[str, Any], sections: Sequence[bytes], kinds: Sequence[type[StoredTensor]]
) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """Rebuild stored tensors and their classes from a header and its expanded sections.

    Raises:
        ValueError: the directory is inconsistent: a name twice, a shape that is not in its section, bytes left over.
    """
    groups, layouts = header["groups"], header["layouts"]
    if not len(groups) == len(layouts) == len(sections):
        raise ValueError("groups, layouts and sections differ in number")
    orders, views = [], []
    for (_, _, dtype), choice, raw in zip(groups, layouts, sections):
        layout = layouts_worth_trying(dtype)[choice]
        itemsize = STORED_DTYPES[dtype].itemsize
        if layout not in LAYOUTS or choice < 0 or len(raw) % itemsize:
            raise ValueError("a section's layout")
        orders.append(layout)
        views.append(memoryview(join_planes(raw, itemsize) if layout == "planes" else raw))
    offsets = [0] * len(groups)

    def next_part(name: str, group: int, shape: Sequence[int]) -> Tensor:
        dtype = groups[group][2]
        end = offsets[group] + prod(shape) * STORED_DTYPES[dtype].itemsize
        if end > len(views[group]):
            raise ValueError(f"the size of {name}")
        start, offsets[group] = offsets[group], end
        return tensor_from_bytes(views[group][start:end], dtype, shape, orders[group])

    found = assemble_tensors(header, next_part, kinds)
    if offsets != [len(view) for view in views]:
        raise ValueError("bytes that belong to no tensor")
    return found


def assemble_tensors(
    header: Mapping[str, Any],
    next_part: Callable[[str, int, Sequence[int]], Tensor],
    kinds: Sequence[type[StoredTensor]],
) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """Stored tensors and their classes from a directory and a source of parts: (tensor's name, group, shape) -> part.

    Raises:
        ValueError: the directory is inconsistent: a name twice, an impossible shape, a part in a strange group.
    """
    groups = header["groups"]
    kind_of = {kind.kind: kind for kind in kinds}
    tensors: dict[str, StoredTensor] = {}
    classes: dict[str, str] = {}
    for name, class_name, spec, part_entries in header["tensors"]:
        parts: dict[str, Tensor] = {}
        for part, group, shape in part_entries:
            if any(type(size) is not int or not 0 <= size < 2**40 for size in shape) or len(shape) > 8 or group < 0:
                raise ValueError(f"the shape of {name}")
            label, group_part, _ = groups[group]
            if part != group_part or part in parts or label != section_label(class_name, part):
                raise ValueError(f"the size of {name}")
            parts[part] = next_part(name, group, shape)
        kind, meta = header["specs"][spec]
        if type(name) is not str or name in tensors or class_name not in TENSOR_CLASSES or spec < 0:
            raise ValueError("a tensor's name or class")
        tensors[name] = kind_of[kind].from_parts(meta, parts)
        classes[name] = class_name
    return tensors, classes
