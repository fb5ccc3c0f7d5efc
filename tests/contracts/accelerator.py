"""A simulated accelerator for machines without one: a device named `gpu` whose tensors are computed on the CPU.

It refuses what a real one refuses (an operator with operands of two devices, unless it is a copy or takes a number),
and counts what a real one waits for: values that the host reads. So a network that leaves a table on the CPU, an
optimizer that makes its state there, or a step that looks at a loss, shows on any laptop. Kernels, memory and speed
are not simulated. Torch knows one such device per process, for ever: use it in a process of its own.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

_setup_privateuseone_for_python_backend("gpu")
torch.__future__.set_overwrite_module_params_on_conversion(
    True
)  # else parameters of another class are swapped in place

aten = torch.ops.aten
GPU = torch.device("gpu", 0)
COPIES = {aten._to_copy.default, aten.copy_.default, aten.copy.default, aten._foreach_copy_.default}
INDEXING = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default}
READS = {aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default, aten.equal.default}


class Remote(torch.Tensor):
    """A tensor on the simulated device; `host` is where its values are."""

    host: torch.Tensor

    @staticmethod
    def __new__(cls, host: torch.Tensor) -> Remote:
        layout = {"strides": host.stride(), "storage_offset": host.storage_offset(), "dtype": host.dtype}
        return torch.Tensor._make_wrapper_subclass(cls, host.size(), device=GPU, **layout)

    def __init__(self, host: torch.Tensor):
        self.host = host

    def __repr__(self, **options: Any) -> str:
        return f"Remote({tuple(self.shape)}, {self.dtype})"

    @property
    def data(self) -> Any:
        return self.detach()

    @data.setter
    def data(self, value: Any) -> None:
        self.host = value.host

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func}: a tensor of the simulated device outside of `with Accelerator()`")


class Accelerator(TorchDispatchMode):
    """While it is entered, `device="gpu"` works. `reads` names the operators that waited for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []

    def __enter__(self) -> Any:
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device="gpu") is made on the CPU and copied
        let_banks_see_storage()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        torch._C._set_only_lift_cpu_tensors(False)
        super().__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        remote = [tensor for tensor in given if isinstance(tensor, Remote)]
        local = [tensor for tensor in given if not isinstance(tensor, Remote) and tensor.ndim > 0]
        self._refuse(func, args, remote, local)
        wanted = kwargs.get("device")
        if wanted is not None:
            kwargs["device"] = torch.device("cpu")
        kwargs.pop("pin_memory", None)
        if func is aten.copy_.default:
            lands = isinstance(args[0], Remote)
        else:
            lands = bool(remote) if wanted is None else torch.device(wanted).type == "gpu"
        if remote and (func in READS or not lands):
            self.reads.append(str(func))
        out = func(*tree_map(on_host, args), **tree_map(on_host, kwargs))
        if not lands:
            return out
        out = tree_map(lambda leaf: Remote(leaf) if isinstance(leaf, torch.Tensor) else leaf, out)
        return return_and_correct_aliasing(func, args, kwargs, out) if remote else out

    def _refuse(self, func: Any, args: Any, remote: list[Any], local: list[Any]) -> None:
        if not (remote and local) or func in COPIES:
            return
        if func not in INDEXING or not isinstance(args[0], Remote):  # tensors on a GPU take indices from the host
            shapes = [[tuple(tensor.shape) for tensor in found] for found in (remote, local)]
            raise RuntimeError(f"{func}: tensors on two devices: {shapes[0]} on gpu, {shapes[1]} on cpu")


def on_host(leaf: Any) -> Any:
    return leaf.host if isinstance(leaf, Remote) else leaf


def let_banks_see_storage() -> None:
    """Banks of parameters are found by the address of their storage, which only the values' own storage has."""
    import golf.optim.banks as banks

    real = banks.bank_of
    if hasattr(real, "real"):
        return

    def bank_of(tensors: Any) -> Any:
        if not isinstance(tensors[0], Remote):
            return real(tensors)
        found = real([tensor.host for tensor in tensors])
        return None if found is None else Remote(found)

    bank_of.real = real  # type: ignore[attr-defined]
    for module in list(sys.modules.values()):
        if getattr(module, "bank_of", None) is real:
            module.bank_of = bank_of  # type: ignore[attr-defined]
