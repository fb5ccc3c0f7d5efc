"""Tiny networks and byte counts that the vectors of scores and of test-time training come with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

BOS_ID = 1
FIRST_MASKED_SMEAR = "2026-04-27"  # scripts with an input smear gate before have it unmasked


class Sidecar:
    """Bytes per token of the stream, from a file beside it."""

    def __init__(self, bytes_N: np.ndarray):
        self.bytes_N = bytes_N

    def bytes_of(self, begin: int, end: int) -> np.ndarray:
        return self.bytes_N[begin:end]


def described_network(model: Mapping[str, Any], script: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings and structure of a network, in the words that golf.interop.upstream reads."""
    renamed = {"softcap": "logit_softcap"}
    settings = {renamed.get(key, key): value for key, value in model.items() if key != "tensors"}
    structure: dict[str, Any] = {}
    leaky = re.fullmatch(r"leaky relu ([0-9.]+) squared", str(settings.get("activation", "")))
    if leaky:
        del settings["activation"]
        structure["mlp_activation"] = {"kind": "leaky_relu_squared", "negative_slope": float(leaky[1])}
    if settings.get("smear_gate_enabled"):
        structure["smear"] = {"bos_mask": script[:10] >= FIRST_MASKED_SMEAR}
    return settings, structure
