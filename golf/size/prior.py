"""Weights that a network may have after training, before there are any: Gaussian, of a deviation that training implies.

Most formats do not care (their step is a share of a row's deviation or maximum); those with a floor do. A weight walks
at random: Muon's update has the mean square min(R, C) / (R C) · max(1, R/C), Adam's about one, times lr per step;
decay λ pulls back:

    σ² = σ₀² e^(-2 lr λ N) + κ u² lr² · (1 - e^(-2 lr λ N)) / (2 lr λ)     (N, if there is no decay)

κ is how far steps that agree carry. Muon's steps agree for as long as its momentum β lasts: κ = c (1 + β) / (1 - β).
c, and κ for Adam, were fitted to the deviations of golf's trained demo (four layers, 900 steps).
Invariant: the same arguments give the same weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

MUON_AGREEMENT, ADAM_KAPPA = 0.21, 0.35
GROUP_OF_ROLE = {"matrix": "matrix", "embedding": "embedding", "head": "head", "table": "table"}
FALLBACK_STEPS = 5_000  # about what ten minutes on the challenge's machine allow


def prior_weights(
    state: Mapping[str, Tensor], roles: Mapping[str, str], config: Mapping[str, Any], steps: int | None
) -> dict[str, Tensor]:
    """Gaussian weights for every tensor of a state dict (of meta tensors); what is no float is zero."""
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, tensor in state.items():
        if not tensor.dtype.is_floating_point:
            weights[name] = torch.zeros(tensor.shape, dtype=tensor.dtype)
            continue
        drawn = torch.randn(tensor.shape, generator=generator)
        deviation = trained_deviation(tuple(tensor.shape), roles[name], config, steps or FALLBACK_STEPS)
        weights[name] = drawn.mul_(deviation).to(tensor.dtype)
    return weights


def trained_deviation(shape: tuple[int, ...], role: str, config: Mapping[str, Any], steps: int) -> float:
    """The standard deviation to expect of a trained tensor."""
    optim = config.get("optim") or {}
    if len(shape) < 2 or role not in GROUP_OF_ROLE:
        return 1.0
    rows, columns = shape[-2:]
    lr = learning_rate(optim, role)
    decay = weight_decay(optim, role)
    if role == "matrix":
        momentum = final_momentum(config)
        start, kappa = (3 * columns) ** -0.5, MUON_AGREEMENT * (1 + momentum) / (1 - momentum)
        power = min(rows, columns) / (rows * columns) * max(1.0, rows / columns)
    else:
        start, kappa, power = embedding_deviation(config), ADAM_KAPPA, 1.0
    forgotten = math.exp(-2.0 * lr * decay * steps)
    walked = (1.0 - forgotten) / (2.0 * lr * decay) if lr * decay else float(steps)
    return math.sqrt(start**2 * forgotten + kappa * power * lr**2 * walked)


def learning_rate(optim: Mapping[str, Any], role: str) -> float:
    """The peak rate of a role's group."""
    own = optim.get(f"{role}_lr")
    return float(own if isinstance(own, int | float) else optim.get("embedding_lr") or optim.get("lr") or 0.02)


def weight_decay(optim: Mapping[str, Any], role: str) -> float:
    """The decoupled decay of a role's group."""
    own = optim.get(f"{role}_weight_decay")
    inherited = optim.get("embedding_weight_decay" if role != "matrix" else "weight_decay")
    return float(own if isinstance(own, int | float) else inherited or 0.0)


def final_momentum(config: Mapping[str, Any]) -> float:
    """Muon's momentum for most of training: where its schedule ends, else the optimizer's own."""
    scheduled = (config.get("schedule") or {}).get("momentum") or {}
    found = scheduled.get("end", (config.get("optim") or {}).get("momentum"))
    return min(float(found), 0.999) if isinstance(found, int | float) else 0.95


def embedding_deviation(config: Mapping[str, Any]) -> float:
    """Of the embedding at the start."""
    model = config.get("model") or {}
    initialise = model.get("initialise") or {}
    return float(initialise.get("embedding_std") or 0.02)
