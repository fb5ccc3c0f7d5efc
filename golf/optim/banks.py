"""Banks: matrices of one shape kept in one contiguous tensor [N, R, C], of which each parameter's data is a view.

A batched update then reads and writes one tensor, and nothing is stacked per step. A bank is only a layout of memory:
names, shapes, gradients and state dicts are those of the parameters. Parameters [n, R, C] count as n matrices.
Invariant: `bank_of` looks at the memory itself, so a move to another device or a replaced `data` is noticed.
Legend: N matrices of one shape, R rows, C columns.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def matrix_shape(tensor: Tensor) -> tuple[int, int]:
    """(R, C) of a matrix, or of each matrix of a stack."""
    return tensor.shape[-2], tensor.shape[-1]


def matrix_count(tensor: Tensor) -> int:
    """How many matrices a parameter holds: 1 for [R, C], n for [n, R, C]."""
    return 1 if tensor.dim() == 2 else tensor.shape[0]


def indices_by_shape(tensors: Sequence[Tensor]) -> list[list[int]]:
    """Indices of the tensors whose matrices have one shape (and dtype and device), in order of first appearance."""
    found: dict[object, list[int]] = {}
    for index, tensor in enumerate(tensors):
        found.setdefault((matrix_shape(tensor), tensor.dtype, tensor.device), []).append(index)
    return list(found.values())


def views_of_bank(bank_NRC: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Consecutive parts of a bank in the shapes of `tensors` (the bank may have more matrices: padding)."""
    views, first = [], 0
    for tensor in tensors:
        count = matrix_count(tensor)
        views.append(bank_NRC[first : first + count].view(tensor.shape))
        first += count
    return views


def stacked_as(tensors: Sequence[Tensor], dtype: torch.dtype, matrices: int = 0) -> Tensor:
    """The matrices of all tensors in one new [N, R, C] of `dtype`, with zero matrices up to `matrices`."""
    count = sum(matrix_count(tensor) for tensor in tensors)
    shape = (max(count, matrices), *matrix_shape(tensors[0]))
    bank_NRC = torch.empty(shape, dtype=dtype, device=tensors[0].device)
    bank_NRC[count:].zero_()
    torch._foreach_copy_(views_of_bank(bank_NRC, tensors), list(tensors))
    return bank_NRC


def bank_of(tensors: Sequence[Tensor]) -> Tensor | None:
    """The [N, R, C] tensor of which these are consecutive views; None where they are not (or not any more)."""
    first = tensors[0]
    rows, columns = matrix_shape(first)
    storage, offset = first.untyped_storage().data_ptr(), first.storage_offset()
    for tensor in tensors:
        fits = tensor.storage_offset() == offset and tensor.is_contiguous() and matrix_shape(tensor) == (rows, columns)
        if not fits or tensor.dtype != first.dtype or tensor.untyped_storage().data_ptr() != storage:
            return None
        offset += tensor.numel()
    count = (offset - first.storage_offset()) // (rows * columns)
    return first.detach().as_strided((count, rows, columns), (rows * columns, columns, 1), first.storage_offset())


@torch.no_grad()
def bank_parameters(params: Sequence[Tensor]) -> None:
    """Move the data of parameters into banks, one for each matrix shape; values stay; intact banks are left alone."""
    for indices in indices_by_shape(params):
        members = [params[i] for i in indices]
        if bank_of(members) is None:
            bank_NRC = stacked_as([p.detach() for p in members], members[0].dtype)
            for parameter, view in zip(members, views_of_bank(bank_NRC, members)):
                parameter.data = view
