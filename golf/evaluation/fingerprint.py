"""Which state scored a token: a hash of the weights, and a cheap checksum of weights that change while scoring.

The hash is the SHA-256 of every tensor's name, dtype, shape and bytes; it is taken once. The checksum hashes one sum
per tensor, of its bits as integers: it shows that a state changed, and when, for the price of reading it once. It is
no proof against a forger, only a record.
"""

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor

NOTED = 64  # states of one scoring that are all written down; from then on every so many
INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes of an element


def state_sha256(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Hash of named tensors, in their order."""
    found = hashlib.sha256()
    for name, tensor in tensors:
        plain = tensor.detach().to("cpu").contiguous()
        found.update(f"{name} {plain.dtype} {tuple(plain.shape)}".encode())
        found.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def state_checksum(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """First 16 hexadecimal digits of the hash of every tensor's sum of bits."""
    names, sums = [], []
    for name, tensor in tensors:
        bits = tensor.detach().reshape(-1).view(INTEGERS[tensor.element_size()])
        names.append(name)
        sums.append(bits.sum(dtype=bits.dtype).long())  # of the width that is read: nothing is converted
    numbers = torch.stack(sums).cpu().numpy().tobytes() if sums else b""
    return hashlib.sha256(" ".join(names).encode() + numbers).hexdigest()[:16]


def is_noted(number: int) -> bool:
    """Whether the state after piece of work `number` is written down: a record of a long split stays small."""
    return number < NOTED or number % NOTED == 0
