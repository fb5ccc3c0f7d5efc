"""What a block may know besides its input: one value handed through the network, so that mixers are interchangeable."""

from typing import NamedTuple

from torch import Tensor


class Context(NamedTuple):
    """Per-forward facts. B batch, T time, D width, E head width.

    cos_TE2, sin_TE2: rotary tables [T, E/2]; ids_BT: token ids; x0_BTD: normalised embedding (the first input);
    layer: index of the block's weights; visit: position in the depth plan; depth: visits in the plan.
    """

    cos_TE2: Tensor
    sin_TE2: Tensor
    ids_BT: Tensor
    x0_BTD: Tensor
    layer: int = 0
    visit: int = 0
    depth: int = 1
