"""Value residual (arXiv:2410.17897): later blocks mix in the values of the first one.

"mixed" (a switch of the record of 23 March 2026): v <- a v_first + b v, both learned per block, 1/2 at the start;
"gated" (25 March): v <- v + sigmoid(a) v_first, a = 0 at the start. Both were off in the submitted runs.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from golf.errors import UserError
from golf.models.context import Context


class ValueResidual(nn.Module):
    """mix(v [B, T, K E], context) -> v. `form`: "mixed" or "gated"; `num_blocks`: blocks with weights of their own."""

    roles: ClassVar[dict[str, str]] = {"weights": "scalar"}

    def __init__(self, vocab_size: int, kv_width: int, form: str = "mixed", num_blocks: int = 16):
        super().__init__()
        if form not in ("mixed", "gated"):
            raise UserError(f"model.values.form={form} is not known: type model.values.form=mixed or gated")
        self.form = form
        start = torch.full((num_blocks, 2), 0.5) if form == "mixed" else torch.zeros(num_blocks, 1)
        self.weights = nn.Parameter(start)

    def mix(self, v_BTC: Tensor, context: Context) -> Tensor:
        notes = {} if context.shared is None else context.shared
        if "first_values" not in notes:
            notes["first_values"] = v_BTC
            return v_BTC
        if context.block >= len(self.weights):
            raise UserError(f"model.values.num_blocks={len(self.weights)}: type {context.blocks}, the number of blocks")
        w = self.weights[context.block].to(v_BTC.dtype)
        if self.form == "mixed":
            return w[0] * notes["first_values"] + w[1] * v_BTC
        return v_BTC + torch.sigmoid(w[0]) * notes["first_values"]
