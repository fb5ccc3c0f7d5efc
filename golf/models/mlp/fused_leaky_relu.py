"""`leaky_relu_power` with power 2 whose training step is fused in Triton: the activation costs no pass over memory.

Plain PyTorch (the base class) computes wherever the kernel cannot: evaluation, other devices, no Triton, linear maps
with an operation (quantisation-aware training, ternary …) or hooks. In bfloat16 the square is rounded once, not twice.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor

from golf.models.kernels.leaky_mlp import define_leaky_operators, fused_leaky_mlp
from golf.models.kernels.triton_text import kernel_devices, say_fall_back, triton_obstacle
from golf.models.mlp.leaky_relu_power import LeakyReluPower


class FusedLeakyRelu2(LeakyReluPower):
    """[B, T, D] -> [B, T, D] through `hidden` units; `slope` is for negatives."""

    restrictable: ClassVar[bool] = True

    def __init__(self, width: int, hidden: int, slope: float = 0.5):
        super().__init__(width, hidden, 2, slope)
        self.kernel_devices = kernel_devices()
        if self.kernel_devices:
            define_leaky_operators()

    def train(self, mode: bool = True) -> Any:
        """Going to train is when the device is known: say once what computes if the kernel cannot."""
        device = self.fc.weight.device.type if self.fc.weight is not None else "meta"
        if mode and device != "meta":
            has_op = self.fc.op is not None or self.proj.op is not None
            obstacle = "the linear maps are quantised or ternary" if has_op else triton_obstacle(device)
            if obstacle:
                say_fall_back("model/mlp=leaky_relu2_fused", obstacle, "plain PyTorch (model/mlp=leaky_relu2)")
        return super().train(mode)

    def forward(self, x_BTD: Tensor, context: Any = None) -> Tensor:
        able = all(linear.op is None and not linear._forward_hooks for linear in (self.fc, self.proj))
        if not (able and self.training and torch.is_grad_enabled() and x_BTD.device.type in self.kernel_devices):
            return super().forward(x_BTD, context)
        fc_FD, proj_DF = (linear.matrix(context).to(x_BTD.dtype) for linear in (self.fc, self.proj))
        return fused_leaky_mlp(x_BTD.flatten(0, -2), fc_FD, proj_DF, self.slope).view(x_BTD.shape)
