"""What a part of a block may know besides its input: one value handed through the network, so that parts are
interchangeable. Python numbers in it are constants of a compiled graph; what varies at run time is a tensor."""

from typing import Any, NamedTuple

from torch import Tensor


class Context(NamedTuple):
    """Per-forward and per-visit facts. B batch, T time, D width, R rotary width / 2, S boundaries.

    cos_TR, sin_TR: rotary tables; ids_BT: token ids; x0_BTD: normalised embedding (the first block's input).
    cu_seqlens_S: int32 starts of the documents in one flat row (B = 1), padded with T; None = no boundaries.
    max_seqlen: longest document segment that `cu_seqlens_S` may contain, 0 = unknown.
    block: index of the block visited; layer, mlp_layer: whose attention and MLP matrices it multiplies with.
    visit: position in the depth plan, of `depth` visits; blocks: number of blocks.
    quantise: linear maps with a fake quantiser use it in this forward; softness: slope of soft rounding, 0-D.
    shared: notes of this forward pass, from earlier visits to later ones (values of the first block …).
    """

    cos_TR: Tensor
    sin_TR: Tensor
    ids_BT: Tensor
    x0_BTD: Tensor
    cu_seqlens_S: Tensor | None = None
    max_seqlen: int = 0
    block: int = 0
    layer: int = 0
    mlp_layer: int = 0
    visit: int = 0
    depth: int = 1
    blocks: int = 1
    quantise: bool = False
    softness: Tensor | None = None
    shared: dict[str, Any] | None = None
