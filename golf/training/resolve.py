"""From a composed config to the one that is written down and run: everything `auto` or derivable becomes a value."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from typing import Any

from golf.errors import UserError
from golf.training.device import resolve_hardware


def resolve_config(config: dict[str, Any], say: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Resolve hardware, compute dtype, the spans per step and a target's checks; the input is left alone.

    Raises:
        UserError: an accelerator that is not here, devices that cannot share the batch, another number of ranks.
    """
    found = copy.deepcopy(config)
    require_ranks(found["hardware"]["devices"])
    asked = found["hardware"]["compute_dtype"]
    found["hardware"] = resolve_hardware(found["hardware"], say)
    if found["model"]["compute_dtype"] == asked == "auto":
        found["model"]["compute_dtype"] = found["hardware"]["compute_dtype"]
    found["data"]["spans_per_step"] = spans_per_step(found["data"], found["hardware"])
    if found["budget"].get("target_loss") and not found["trainer"]["val_check_steps"]:
        found["trainer"]["val_check_steps"] = found["budget"]["target_check_steps"]
    return found


def require_ranks(devices: int) -> None:
    """Under torchrun, `hardware.devices` is the number of ranks on all nodes together.

    Raises:
        UserError: torchrun has started another number.
    """
    ranks = os.environ.get("WORLD_SIZE", "")
    if "LOCAL_RANK" in os.environ and ranks.isdigit() and int(ranks) != devices:
        raise UserError(
            f"hardware.devices={devices}, but torchrun has started {ranks} ranks (all nodes together): "
            f"type hardware.devices={ranks}"
        )


def spans_per_step(data: dict[str, Any], hardware: dict[str, Any]) -> int:
    """The configured spans, or more of them where one would be longer than the device's largest micro-batch.

    The global batch stays the same: more spans mean more accumulation, never another batch.
    """
    spans, tokens, largest = data["spans_per_step"], data["tokens_per_step"], hardware["micro_batch_tokens"]
    devices = hardware["devices"]
    if spans % devices:
        raise UserError(
            f"hardware.devices={devices} cannot share data.spans_per_step={spans} equally: "
            f"type hardware.devices= a divisor of {spans}, or data.spans_per_step= a multiple of {devices}"
        )
    if not largest or tokens // spans <= largest:
        return spans
    rows = tokens // data["seq_len"]
    for candidate in range(spans, rows + 1, spans):
        if tokens // candidate <= largest and rows % candidate == 0:
            return candidate
    raise UserError(
        f"hardware.micro_batch_tokens={largest} is less than one row of data.seq_len={data['seq_len']}: "
        f"type hardware.micro_batch_tokens={data['seq_len']} or more"
    )
