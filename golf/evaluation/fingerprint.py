"""Which state scored a token: a hash of the weights, and a cheap checksum of weights that change while scoring.

The hash is the SHA-256 of every tensor's name, dtype, shape and bytes; it is taken once. The checksum hashes two sums
per tensor (of the values and of their magnitudes, float64): it shows that a state changed, and when, for the price of
reading it once. It is no proof against a forger, only a record.
"""

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor


def state_sha256(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Hash of named tensors, in their order."""
    found = hashlib.sha256()
    for name, tensor in tensors:
        plain = tensor.detach().to("cpu").contiguous()
        found.update(f"{name} {plain.dtype} {tuple(plain.shape)}".encode())
        found.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def state_checksum(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """First 16 hexadecimal digits of the hash of every tensor's sums."""
    names, sums = [], []
    for name, tensor in tensors:
        values = tensor.detach()
        names.append(name)
        sums += [values.sum(dtype=torch.float64), values.abs().sum(dtype=torch.float64)]
    numbers = torch.stack(sums).cpu().numpy().tobytes() if sums else b""
    return hashlib.sha256(" ".join(names).encode() + numbers).hexdigest()[:16]
