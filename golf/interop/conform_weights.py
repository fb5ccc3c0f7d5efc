"""The weights and tokens of conformance vectors, regenerated from their rules instead of being stored.

Weights: one numpy default_rng(seed) (PCG64); tensors in the listed order; x = standard_normal(numel, float32)
reshaped; value = float32(mean) + float32(std) * x in float32. A list of means holds one per index of the first axis.
Draws are consumed where std = 0 too.
Tokens: default_rng(token_seed).integers(2, vocab, size=(B, T + 1)), then 1 (BOS) at bos_positions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch


def generate_weights(seed: int, tensors: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and value of every listed tensor, in order."""
    generator = np.random.default_rng(seed)
    for entry in tensors:
        shape = tuple(entry["shape"])
        x = generator.standard_normal(math.prod(shape), dtype=np.float32).reshape(shape)
        mean = np.asarray(entry["mean"], dtype=np.float32)
        mean = mean.reshape(mean.shape + (1,) * (x.ndim - mean.ndim)) if mean.ndim else mean
        value = np.asarray(mean + np.float32(entry["std"]) * x, dtype=np.float32)
        yield entry["name"], torch.from_numpy(value)


def generate_tokens(token_seed: int, vocab: int, batch: int, length: int, bos_positions: Sequence[int]) -> torch.Tensor:
    """Token ids [B, T + 1]: inputs are [:, :-1], targets [:, 1:]."""
    tokens = np.random.default_rng(token_seed).integers(2, vocab, size=(batch, length + 1))
    tokens[:, list(bos_positions)] = 1
    return torch.from_numpy(tokens.astype(np.int64))
