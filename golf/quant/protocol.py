"""Extension points of quantisation: what a stored tensor must be able to do, and what an algorithm must.

Plain rounding, GPTQ, low-rank corrections and ternary weights all meet the rest of golf through these two protocols:
the plan routes a tensor to a `Quantiser`, the quantiser returns a `StoredTensor`, the container stores its parts.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Protocol

from torch import Tensor


class StoredTensor(Protocol):
    """One tensor of the network as the artifact holds it.

    `kind` names the class in files; `parts` are the raw tensors to store (codes, scales, factors …); `meta` is plain
    data that, with the parts, rebuilds the object. Invariant: from_parts(meta(), parts()) dequantises to the same bits.
    """

    kind: ClassVar[str]

    def parts(self) -> dict[str, Tensor]: ...

    def meta(self) -> dict[str, Any]: ...

    @classmethod
    def from_parts(cls, meta: Mapping[str, Any], parts: Mapping[str, Tensor]) -> "StoredTensor": ...

    def dequantise(self) -> Tensor: ...


# What makes a stored tensor of its meta and its parts.
Reader = Callable[[Mapping[str, Any], Mapping[str, Tensor]], StoredTensor]


def readers_of(kinds: Iterable[type[StoredTensor]]) -> dict[str, Reader]:
    """How stored tensors of some classes are read, by the names that files have for them."""
    return {kind.kind: kind.from_parts for kind in kinds}


class Quantiser(Protocol):
    """An algorithm that turns a weight into a stored tensor.

    `calibration` is whatever the calibration stage collected for this tensor (a Hessian, activations), or None.
    """

    def convert(self, name: str, weight: Tensor, calibration: Any = None) -> StoredTensor: ...

    def payload_bytes(self, shape: tuple[int, ...]) -> int: ...
