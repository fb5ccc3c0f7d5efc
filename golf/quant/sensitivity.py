"""What quantisation does to each tensor: errors, clipping, entropy, and the loss when only this tensor is quantised.

    mse            mean (W - Ŵ)²                            relative: over the mean square of W
    hessian_error  tr((W - Ŵ) H (W - Ŵ)ᵀ)                   relative: over tr(W H Wᵀ), the output's mean square
    clipped        share of codes at the ends of the grid;  entropy_bits: order-0 entropy of the codes

Invariant: bytes here are an estimate (entropy of codes, scales as they are); the packed file says what they became.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from golf.quant.protocol import StoredTensor
from golf.quant.prune import integer_codes_of


@dataclass(frozen=True)
class TensorSensitivity:
    """One line of the table; None where a quantity does not exist (no codes, no Hessian)."""

    name: str
    kind: str
    elements: int
    mse: float
    relative_mse: float
    hessian_error: float | None
    relative_hessian_error: float | None
    clipped: float | None
    entropy_bits: float | None
    bytes: int
    payload_bytes: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def code_entropy(codes: Tensor) -> float:
    """Order-0 entropy of int8 codes, in bits per code."""
    counts = torch.bincount(codes.flatten().to(torch.int64) + 128, minlength=256).double()
    shares = counts[counts > 0] / max(codes.numel(), 1)
    return float(-(shares * shares.log2()).sum())


def tensor_sensitivity(
    name: str, weight: Tensor, stored: StoredTensor, hessian_CC: Tensor | None = None
) -> TensorSensitivity:
    """Everything about one tensor but its effect on the loss."""
    plain, decoded = weight.detach().float().cpu(), stored.dequantise().float()
    error = plain - decoded
    mse, power = (float(x.double().square().mean()) if x.numel() else 0.0 for x in (error, plain))
    weighted = relative = clipped = entropy = None
    if hessian_CC is not None and error.ndim == 2 and error.shape[1] == len(hessian_CC):
        H = hessian_CC.float().cpu()
        weighted, whole = (float((x @ H).mul_(x).double().sum()) for x in (error, plain))
        relative = weighted / whole if whole > 0 else math.nan
    base = integer_codes_of(stored)
    payload = sum(part.numel() * part.itemsize for part in stored.parts().values())
    estimate = payload
    if base is not None and base.codes.numel():
        ends = (base.codes == base.format.code_max) | (base.codes == base.format.code_min)
        clipped, entropy = float(ends.double().mean()), code_entropy(base.codes)
        estimate = payload - base.codes.numel() + math.ceil(entropy * base.codes.numel() / 8)
    relative_mse = mse / power if power > 0 else 0.0
    return TensorSensitivity(
        name, stored.kind, plain.numel(), mse, relative_mse, weighted, relative, clipped, entropy, estimate, payload
    )


def sensitivity_table(
    state: Mapping[str, Tensor], stored: Mapping[str, StoredTensor], hessians: Mapping[str, Tensor] | None = None
) -> list[TensorSensitivity]:
    """Every tensor that is not kept as it is, in the order of the state."""
    found = hessians or {}
    lines = [tensor_sensitivity(name, state[name], tensor, found.get(name)) for name, tensor in stored.items()]
    return [line for line in lines if line.kind != "plain" or line.mse > 0]


def loss_of_single_tensors(
    state: Mapping[str, Tensor],
    stored: Mapping[str, StoredTensor],
    scorer: Callable[[Mapping[str, Tensor]], float],
    names: list[str] | None = None,
) -> dict[str, float]:
    """What the score rises by when only one tensor is quantised, by name.

    Args:
        scorer: score (BPB, lower is better) of a whole state dict; it is called once more than there are names.
        names: which tensors; all that are not kept as they are if None.
    """
    chosen = names if names is not None else [line.name for line in sensitivity_table(state, stored)]
    base = scorer(state)
    return {name: scorer({**state, name: stored[name].dequantise()}) - base for name in chosen}
