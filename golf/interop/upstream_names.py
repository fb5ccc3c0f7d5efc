"""Names of tensors in the public scripts and in golf, in both directions, for the flat and the banked family.

A correspondence is a list of pieces: a tensor of theirs, or one slice of it, is a tensor of ours, or one row of it.
Banks (scripts from 23 March 2026): qo_bank [2L, D, D] holds the queries' matrices, then the outputs'; kv_bank
[2L, K, D] keys, then values; mlp_up_bank [L, F, D], mlp_down_bank [L, D, F]. Where names differ, shapes decide.
Invariant: every tensor has one home; one that is missing, left over or of another shape is an error that names it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

from golf.errors import UserError
from golf.interop.upstream_settings import UnsupportedNetwork

Shapes = Mapping[str, Sequence[int]]

# Theirs -> ours, where k is a number.
ROOT_NAMES = {
    "tok_emb.weight": "tok_emb.weight",
    "lm_head.weight": "lm_head.weight",
    "skip_weights": "skips.weights",
    "skip_gates": "skips.gates",
    "smear.gate": "smear.gate",
    "smear_gate.weight": "smear.weight",
    "smear_lambda": "smear.share",
    "bigram.embed.weight": "bigram.embed.weight",
    "bigram.proj.weight": "bigram.proj.weight",
    "bigram.scale": "bigram.scale",
    "ve_shared.embed.weight": "values.embed.weight",
    "ve_shared.proj.weight": "values.proj.weight",
    "ve_shared.scale": "values.scale",
    "ve_layer_scales.k": "values.block_scales.k.weight",
    "parallel_post_lambdas": "lanes.post_lambdas",
    "parallel_resid_lambdas": "lanes.resid_lambdas",
    "lane_merge": "lanes.merge",
    "repeat_mlp.k.fc.weight": "extra_mlps.k.fc.weight",
    "repeat_mlp.k.proj.weight": "extra_mlps.k.proj.weight",
    "mtp_heads.k.weight": "objective.heads.k.weight",
    "vocab_bias": "tok_emb.vocab_bias",
    "embed_proj.weight": "tok_emb.up.weight",
    "embed_proj_rev.weight": "tok_emb.down.weight",
}
BLOCK_NAMES = {
    **{name: name for name in ("attn_scale", "mlp_scale", "resid_mix", "attn.q_gain", "mlp.fc.weight")},
    **{f"attn.{name}.weight": f"attn.{name}.weight" for name in ("c_q", "c_k", "c_v", "proj", "c_qkv")},
    **{"mlp.proj.weight": "mlp.proj.weight", "mlp.gate.weight": "mlp.gate.weight"},
    "attn.attn_gate_w": "attn.gate.weight",
    "attn.attn_gate_proj.weight": "attn.gate.weight",
}
# Bank -> the matrices of a layer that it holds, one run of layers after the other.
BANKS = {
    "qo_bank": ("attn.c_q.weight", "attn.proj.weight"),
    "kv_bank": ("attn.c_k.weight", "attn.c_v.weight"),
    "mlp_up_bank": ("mlp.fc.weight",),
    "mlp_down_bank": ("mlp.proj.weight",),
}
FAMILIES = ("flat", "banked")


class Piece(NamedTuple):
    """ours[ours_row] = theirs[theirs_row]; None = the whole tensor."""

    theirs: str
    theirs_row: int | None
    ours: str
    ours_row: int | None = None


def pieces_of(shapes: Shapes) -> list[Piece]:
    """Where every tensor of a script's state belongs; tensors without elements have no home.

    Raises:
        UnsupportedNetwork: a tensor that golf has no part for.
    """
    found: list[Piece] = []
    for name in shapes:
        if 0 in tuple(shapes[name]):
            continue
        if name in BANKS:
            found += bank_pieces(name, int(shapes[name][0]))
            continue
        block = re.match(r"^blocks\.(\d+)\.(.+)$", name)
        found.append(block_piece(name, int(block[1]), block[2], shapes) if block else root_piece(name, shapes))
    return found


def bank_pieces(bank: str, rows: int) -> list[Piece]:
    parts = BANKS[bank]
    layers = rows // len(parts)
    return [Piece(bank, row, f"blocks.{row % layers}.{parts[row // layers]}") for row in range(layers * len(parts))]


def block_piece(name: str, block: int, local: str, shapes: Shapes) -> Piece:
    """A tensor of one block."""
    if local in BLOCK_NAMES:
        return Piece(name, None, f"blocks.{block}.{BLOCK_NAMES[local]}")
    if re.fullmatch(r"attn\.\w*qkv\w*\.weight", local):
        return Piece(name, None, f"blocks.{block}.attn.c_qkv.weight")
    if re.fullmatch(r"attn\.(vr_\w+|value_residual\w*|v_(mix|lambda)\w*)", local):
        return Piece(name, None, "values.weights", block)
    raise UnsupportedNetwork(f"unknown parameter {name} {list(shapes[name])}")


def root_piece(name: str, shapes: Shapes) -> Piece:
    """A tensor outside the blocks: by its name or, where scripts differ, by its shape."""
    number = re.search(r"\.(\d+)(?=\.|$)", name)
    general = name if number is None else name[: number.start()] + ".k" + name[number.end() :]
    if general in ROOT_NAMES:
        ours = ROOT_NAMES[general]
        return Piece(name, None, ours if number is None else ours.replace(".k", f".{number[1]}"))
    ours = by_shape(name, shapes)
    if ours is None:
        raise UnsupportedNetwork(f"unknown parameter {name} {list(shapes[name])}")
    return Piece(name, None, ours)


def by_shape(name: str, shapes: Shapes) -> str | None:
    """Ours for the tensors whose names differ between scripts, None if there is no such part."""
    shape = tuple(shapes[name])
    vocab_size, columns = shapes["tok_emb.weight"]
    width = width_of(shapes)
    if "bigram" in name:
        if prod(shape) == 1:
            return "bigram.scale"
        table = len(shape) == 2 and (re.search(r"emb|table", name.rpartition("bigram")[2]) or shape[0] != width)
        return "bigram.embed.weight" if table else "bigram.proj.weight" if shape[0] == width else None
    if prod(shape) == 1 and re.search(r"lane|merge|parallel", name):
        return "lanes.merge"
    if columns != width and shape in ((width, columns), (columns, width)):
        return "tok_emb.up.weight" if shape[0] == width else "tok_emb.down.weight"
    return "tok_emb.vocab_bias" if shape == (vocab_size,) and "bias" in name else None


def width_of(shapes: Shapes) -> int:
    """D, from the scales of a block where the embedding is factored."""
    scale = shapes.get("blocks.0.attn_scale")
    return int(scale[0] if scale is not None else shapes["tok_emb.weight"][1])


def from_upstream(state: Mapping[str, Any], expected: Shapes, pieces: Iterable[Piece] | None = None) -> dict[str, Any]:
    """A script's state under golf's names.

    Args:
        expected: golf's names and shapes. pieces: the correspondence, if it is known already.
    Raises:
        UserError: a tensor that is missing, left over, or of another shape.
        UnsupportedNetwork: a tensor that golf has no part for.
    """
    known = list(pieces_of({name: tuple(t.shape) for name, t in state.items()}) if pieces is None else pieces)
    ours: dict[str, Any] = {}
    for piece in known:
        if piece.ours not in expected:
            raise UserError(f"tensor '{piece.theirs}' has no place in this network: leave it out, or change a setting")
        source = state[piece.theirs] if piece.theirs_row is None else state[piece.theirs][piece.theirs_row]
        wanted = tuple(expected[piece.ours])[0 if piece.ours_row is None else 1 :]
        if [n for n in source.shape if n != 1] != [n for n in wanted if n != 1]:  # scalars are [] or [1]
            row = "" if piece.theirs_row is None else f" row {piece.theirs_row}"
            raise UserError(f"tensor '{piece.theirs}'{row} is {list(source.shape)}; this network needs {list(wanted)}")
        if piece.ours_row is None:
            ours[piece.ours] = source.reshape(wanted)
        else:
            rows = ours.setdefault(piece.ours, source.new_zeros(tuple(expected[piece.ours])))
            rows[piece.ours_row] = source.reshape(wanted)
    for name in expected:
        if name not in ours:
            raise UserError(f"tensor '{upstream_name(name)}' is missing: take a complete state of this network")
    return ours


def back_to_upstream(ours: Mapping[str, Any], shapes: Shapes, pieces: Iterable[Piece]) -> dict[str, Any]:
    """Tensors by golf's names (values, or gradients that may be None) under a script's; None where all parts are."""
    found: dict[str, Any] = {}
    for piece in pieces:
        source = ours.get(piece.ours)
        if source is not None and piece.ours_row is not None:
            source = source[piece.ours_row]
        if piece.theirs_row is None:
            found[piece.theirs] = None if source is None else source.reshape(tuple(shapes[piece.theirs]))
        elif source is not None:
            if found.get(piece.theirs) is None:
                found[piece.theirs] = source.new_zeros(tuple(shapes[piece.theirs]))
            found[piece.theirs][piece.theirs_row] = source
        else:
            found.setdefault(piece.theirs, None)
    return found


def upstream_name(ours: str, gate: str = "attn_gate_w") -> str:
    """The name in a flat script. `gate`: what it calls the output gate's weight (16 April: attn_gate_proj.weight)."""
    number = re.search(r"\.(\d+)(?=\.)", ours)
    if ours.startswith("blocks."):
        return ours.removesuffix("gate.weight") + gate if ours.endswith(".attn.gate.weight") else ours
    general = ours if number is None else ours[: number.start()] + ".k" + ours[number.end() :]
    theirs = next((name for name, mine in ROOT_NAMES.items() if mine == general), ours)
    return theirs if number is None else theirs.replace(".k", f".{number[1]}")


def to_upstream(state: Mapping[str, Any], family: str = "flat", gate: str = "attn_gate_w") -> dict[str, Any]:
    """A golf state under the scripts' names: every matrix its own tensor ("flat"), or in banks ("banked").

    Raises:
        UserError: an unknown family, or layers that lack a matrix of a bank.
    """
    import torch

    if family not in FAMILIES:
        raise UserError(f"family={family} is not known: type one of {', '.join(FAMILIES)}")
    flat = {upstream_name(name, gate): tensor for name, tensor in state.items()}
    if family == "flat":
        return flat
    layers = sum(name.endswith(".mlp.proj.weight") for name in flat if name.startswith("blocks."))
    for bank, parts in BANKS.items():
        members = [f"blocks.{layer}.{part}" for part in parts for layer in range(layers)]
        missing = [name for name in members if name not in flat]
        if missing:
            raise UserError(f"tensor '{missing[0]}' is missing: {bank} needs it for each of {layers} layers")
        flat[bank] = torch.stack([flat.pop(name) for name in members])
    return flat
