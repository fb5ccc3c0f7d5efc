"""The per-group container of the record of 2026-04-27: integer codes of like matrices in a stream of their own.

    "PGRP", count uint32, lengths uint32 each, then the streams: one `lrzip -z` file per group in the order below,
    a brotli stream of a `torch.save` dictionary {"r": all other tensors, "m": what each tensor is, "s": shapes of each
    group's matrices}, and a brotli stream of row orders (uint16).
    A group is its matrices in the order of layers, each [R, C] written column by column; in three of the groups the
    rows were sorted: row i of what is stored is row order[i] of the matrix.

Invariant: the result is the {"w", "m"} dictionary that the other containers of that script hold.
"""

import re
import struct
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import torch

from golf.codec.brotli_codec import BrotliCodec
from golf.codec.protocol import DECODE_LIMIT_BYTES
from golf.errors import UserError
from golf.interop.lrzip import expand_lrzip
from golf.interop.plain_pickle import load_plain_pickle, refused_ptz

PERGROUP_MAGIC = b"PGRP"
MOST_STREAMS = 64
# Kinds of matrices in the order of their streams, and whether their rows are sorted.
GROUPS = {
    "tok_emb.weight": True,
    "attn.c_k.weight": False,
    "attn.c_q.weight": True,
    "attn.c_v.weight": False,
    "attn.proj.weight": False,
    "mlp.fc.weight": True,
    "mlp.proj.weight": False,
}


def open_pergroup(blob: bytes, where: str) -> dict[str, Any]:
    """The tensors and their descriptions.

    Raises:
        UserError: damaged or inconsistent.
    """
    streams = split_streams(blob, where)
    try:
        rest = load_plain_pickle(BrotliCodec().decode(streams[-2]), where)
        orders = np.frombuffer(BrotliCodec().decode(streams[-1]), dtype="<u2")
        groups = groups_of(rest, len(streams) - 2)
        sizes = [sum(prod(shape) for _, shape in members) for members in groups.values()]
        if sum(sizes) > DECODE_LIMIT_BYTES:
            raise ValueError("its matrices are larger than any model")
        expanded = expand_lrzip(streams[:-2], sizes)
        codes = codes_of(groups, expanded, orders)
    except (UserError, ValueError, TypeError) as error:
        if isinstance(error, UserError) and ("pip install" in str(error) or "not an upstream" in str(error)):
            raise
        raise refused_ptz(where, f"its per-group streams are damaged ({str(error).partition(':')[0]})") from error
    if codes.keys() & rest["r"].keys():
        raise refused_ptz(where, "a tensor is in two of its streams")
    return {"w": {**rest["r"], **codes}, "m": rest["m"]}


def split_streams(blob: bytes, where: str) -> list[bytes]:
    """The streams by the table of their lengths, which fill the file."""
    count = int.from_bytes(blob[4:8], "little")
    start = 8 + 4 * count
    if not 3 <= count <= MOST_STREAMS or len(blob) < start:
        raise refused_ptz(where, "its per-group table of streams is damaged or incomplete")
    lengths = struct.unpack_from(f"<{count}I", blob, 8)
    if start + sum(lengths) != len(blob):
        raise refused_ptz(where, f"it has {len(blob):,} bytes, its streams {start + sum(lengths):,}")
    found = []
    for length in lengths:
        found.append(blob[start : start + length])
        start += length
    return found


def groups_of(rest: Mapping[str, Any], count: int) -> dict[str, list[tuple[str, tuple[int, int]]]]:
    """Kind -> (tensor, shape) in the order of the streams.

    Raises:
        ValueError: shapes, names and streams do not belong together.
    """
    if set(rest) != {"r", "m", "s"} or not all(isinstance(rest[key], dict) for key in rest):
        raise ValueError("a part of its description is missing")
    shapes = {key.lstrip("_").removesuffix(".q"): value for key, value in rest["s"].items()}
    kinds = [kind for kind in GROUPS if kind in shapes]
    if len(kinds) != len(rest["s"]) or len(kinds) != count:
        raise ValueError(f"{count} streams of matrices, {len(rest['s'])} kinds described")
    return {kind: members_of(kind, shapes[kind], rest["m"]) for kind in kinds}


def members_of(kind: str, shapes: Sequence[Any], described: Mapping[str, Any]) -> list[tuple[str, tuple[int, int]]]:
    """The quantised tensors of one kind by layer, with their shapes."""
    pattern = re.compile(rf"(?:blocks\.(\d+)\.)?{re.escape(kind)}")
    matched = [(pattern.fullmatch(name), name) for name, what in described.items() if "int" in str(what)]
    by_layer = {int(match[1] or 0): name for match, name in matched if match}
    names = [by_layer[layer] for layer in sorted(by_layer)]
    if len(names) != len(shapes):
        raise ValueError(f"{len(shapes)} matrices of the kind {kind}, {len(names)} described")
    for shape in shapes:
        if len(shape) != 2 or any(type(n) is not int or not 0 < n < 2**24 for n in shape):
            raise ValueError(f"an impossible shape of {kind}")
    return [(name, (shape[0], shape[1])) for name, shape in zip(names, shapes)]


def codes_of(
    groups: Mapping[str, Sequence[tuple[str, tuple[int, int]]]], expanded: Sequence[bytes], orders: np.ndarray
) -> dict[str, torch.Tensor]:
    """Codes by name, rows in their own order."""
    found: dict[str, torch.Tensor] = {}
    used = 0
    for (kind, members), raw in zip(groups.items(), expanded):
        start = 0
        for name, (rows, columns) in members:
            stored = np.frombuffer(raw, dtype=np.int8, count=rows * columns, offset=start).reshape(columns, rows).T
            start += rows * columns
            matrix = np.ascontiguousarray(stored)
            if GROUPS[kind]:
                order = orders[used : used + rows]
                used += rows
                if not np.array_equal(np.sort(order), np.arange(rows)):
                    raise ValueError(f"the order of rows of {name}")
                matrix = np.empty_like(matrix)
                matrix[order] = stored
            found[f"{name}.q"] = torch.from_numpy(matrix)
    if used != len(orders):
        raise ValueError("orders of rows that belong to no matrix")
    return found
