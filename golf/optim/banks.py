"""Banks: matrices of one shape kept in one contiguous tensor [N, R, C], of which each parameter's data is a view.

A bank is only a layout of memory: names, shapes, gradients and state dicts are those of the parameters. Updates need
none: `stacked_as` gathers what travels between ranks as one message. Parameters [n, R, C] count as n matrices.
Invariant: `bank_of` looks at the memory itself, so a move to another device or a replaced `data` is noticed.
Legend: N matrices of one shape, R rows, C columns.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def matrix_count(tensor: Tensor) -> int:
    """How many matrices a parameter holds: 1 for [R, C], n for [n, R, C]."""
    return tensor.shape[:-2].numel()


def by_shape(tensors: Sequence[Any]) -> list[list[Any]]:
    """The tensors whose matrices have one shape (and dtype and device) together, in order of first appearance."""
    found: dict[object, list[Any]] = {}
    for tensor in tensors:
        found.setdefault((tensor.shape[-2:], tensor.dtype, tensor.device), []).append(tensor)
    return list(found.values())


def views_of_bank(bank_NRC: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Consecutive parts of a bank in the shapes of `tensors` (the bank may have more matrices: padding)."""
    counts = [matrix_count(tensor) for tensor in tensors]
    return [part.view(tensor.shape) for part, tensor in zip(bank_NRC[: sum(counts)].split(counts), tensors)]


def stacked_as(tensors: Sequence[Tensor], dtype: torch.dtype, matrices: int | None = None) -> Tensor:
    """The matrices of all tensors in one new [N, R, C] of `dtype`, with zero matrices up to `matrices`."""
    count = sum(matrix_count(tensor) for tensor in tensors)
    shape = (count if matrices is None else matrices, *tensors[0].shape[-2:])
    bank_NRC = torch.empty(shape, dtype=dtype, device=tensors[0].device)
    if matrices is not None:
        bank_NRC[count:].zero_()
    torch._foreach_copy_(views_of_bank(bank_NRC, tensors), list(tensors))
    return bank_NRC


def bank_of(tensors: Sequence[Tensor]) -> Tensor | None:
    """The [N, R, C] tensor of which these, of one shape, are consecutive views; None where they are not (any more)."""
    first, shape = tensors[0], tensors[0].shape[-2:]
    storage, offset = first.untyped_storage().data_ptr(), first.storage_offset()
    for tensor in tensors:
        place = tensor.untyped_storage().data_ptr(), tensor.storage_offset()
        if place != (storage, offset) or not tensor.is_contiguous():
            return None
        offset += tensor.numel()
    count = sum(matrix_count(tensor) for tensor in tensors)
    return first.detach().as_strided((count, *shape), (shape.numel(), shape[1], 1))


@torch.no_grad()
def banked(tensors: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """The bank of tensors of one shape, in which their data lies from now on; an intact one is left alone."""
    bank_NRC = bank_of(tensors)
    if bank_NRC is None or bank_NRC.dtype != dtype:
        bank_NRC = stacked_as(tensors, dtype)
        for tensor, view in zip(tensors, views_of_bank(bank_NRC, tensors)):
            tensor.data = view
    return bank_NRC


def bank_parameters(params: Sequence[Tensor]) -> None:
    """Move the data of parameters into banks, one for each matrix shape; values stay."""
    for members in by_shape(params):
        banked(members, members[0].dtype)
