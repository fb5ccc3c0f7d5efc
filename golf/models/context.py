"""What a part of a block may know besides its input: one value handed through the network, so that parts are
interchangeable. Python numbers in it are constants of a compiled graph; what varies at run time is a tensor.

Where only some positions are scored, the last visit is asked for these only (`positions_BS`): keys and values are those
of all positions, everything else is cut with `wanted`. A class whose forward does so says `restrictable = True` itself;
if any part of the last visit does not say so, the network computes all positions (`GPT.restricted_visit`).
"""

from typing import Any, NamedTuple

from torch import Tensor


class Context(NamedTuple):
    """Per-forward and per-visit facts. B batch, T time, D width, R rotary width / 2, S boundaries or scored positions.

    cos_TR, sin_TR: rotary tables; ids_BT: token ids; x0_BTD: normalised embedding (the first block's input).
    cu_seqlens_S: int32 starts of the documents in one flat row (B = 1), padded with T; None = no boundaries.
    max_seqlen: longest document segment that `cu_seqlens_S` may contain, 0 = unknown.
    block: index of the block visited; layer, mlp_layer: whose attention and MLP matrices it multiplies with.
    visit: position in the depth plan, of `depth` visits; blocks: number of blocks.
    quantise: linear maps with a fake quantiser use it in this forward; softness: slope of soft rounding, 0-D.
    values: what is mixed into attention's values, None = nothing: mix(v [B, T, K E], context) -> v.
    shared: notes of this forward pass, from earlier visits to later ones (values of the first block …).
    positions_BS: int64, the positions whose output is wanted; None = all.
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
    values: Any = None
    shared: dict[str, Any] | None = None
    positions_BS: Tensor | None = None

    def wanted(self, x_BTD: Tensor) -> Tensor:
        """[B, T, D] -> the wanted positions of it."""
        return x_BTD if self.positions_BS is None else at_positions(x_BTD, self.positions_BS)

    def behind_cut(self) -> "Context":
        """For a part that is given the wanted positions and nothing else."""
        if self.positions_BS is None:
            return self
        return self._replace(ids_BT=self.ids_BT.gather(1, self.positions_BS), x0_BTD=self.wanted(self.x0_BTD))


def at_positions(x_BTD: Tensor, positions_BS: Tensor) -> Tensor:
    """[B, T, D] -> [B, S, D]: row b at positions_BS[b]."""
    return x_BTD.gather(1, positions_BS[:, :, None].expand(-1, -1, x_BTD.shape[-1]))
