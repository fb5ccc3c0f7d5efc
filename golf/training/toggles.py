"""What a network would compute without one of its techniques: the evidence that the technique does something.

A technique is a part of the network that can be put aside: a smear gate, an exclusive attention, the lanes … Its toggle
is a context in which the forward runs without it. Parts whose effect shows in moved parameters need no toggle.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor

ROOT_PARTS = ("bigram", "smear", "lanes")  # modules of the network that may be None
ATTENTION_PARTS = ("xsa", "gate", "values")  # parts of every block's attention that may be None


@contextmanager
def without(owners: list[Any], name: str) -> Iterator[None]:
    """The owners with one attribute set to None."""
    kept = [getattr(owner, name) for owner in owners]
    for owner in owners:
        setattr(owner, name, None)
    try:
        yield
    finally:
        for owner, value in zip(owners, kept):
            setattr(owner, name, value)


@contextmanager
def in_phase(net: Any, phase: int) -> Iterator[None]:
    """The network in another phase of its depth plan."""
    kept, net.phase = net.phase, phase
    try:
        yield
    finally:
        net.phase = kept


def toggles(net: Any) -> dict[str, AbstractContextManager[None]]:
    """Technique -> context without it, for what this network has."""
    found: dict[str, AbstractContextManager[None]] = {}
    for name in ROOT_PARTS:
        part = getattr(net, name, None)
        if part is not None:
            found[f"model.{name} ({type(part).__name__})"] = without([net], name)
    attentions = [block.attn for block in getattr(net, "blocks", []) if hasattr(block, "attn")]
    for name in ATTENTION_PARTS:
        owners = [attention for attention in attentions if getattr(attention, name, None) is not None]
        if owners:
            part = getattr(owners[0], name)
            kind = type(part[0] if isinstance(part, list) else part).__name__
            found[f"model.{name} ({kind})"] = without(owners, name)
    operated = [module for module in net.modules() if getattr(module, "op", None) is not None]
    permanent = [module for module in operated if not hasattr(module.op, "rounding")]
    if permanent:
        found[f"model.linear ({type(permanent[0].op).__name__})"] = without(permanent, "op")
    if net.phase > 0:
        found[f"model.depth (phase {net.phase})"] = in_phase(net, net.phase - 1)
    return found


@torch.no_grad()
def forward_differences(net: Any, ids_BT: Tensor) -> dict[str, float]:
    """Technique -> largest change of a logit when it is put aside, on these token ids [B, T]."""
    was_training = net.training
    net.eval()
    logits_BTV = net.eager(ids_BT)
    found = {}
    for name, context in toggles(net).items():
        with context:
            found[name] = float((net.eager(ids_BT) - logits_BTV).abs().max())
    net.train(was_training)
    return found
