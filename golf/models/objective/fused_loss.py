"""Mean cross entropy whose softcap, softmax and gradient are two Triton kernels: no float32 logits are ever stored.

Plain PyTorch computes where Triton cannot. Evaluation never comes here: scores are computed from the plain losses.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from golf.errors import UserError
from golf.models.kernels.softcapped_loss import IGNORED, define_loss_operators, softcapped_losses
from golf.models.kernels.triton_text import kernel_devices, say_fall_back, triton_obstacle
from golf.models.softcap import NoSoftcap, TanhSoftcap


class FusedCrossEntropy(nn.Module):
    """loss(model, hidden [B, T, D], targets [B, T]) -> scalar in nats; for model/softcap=tanh and none."""

    def __init__(self, width: int, vocab_size: int):
        super().__init__()
        self.kernel_devices = kernel_devices()
        if self.kernel_devices:
            define_loss_operators()
        self.register_buffer("probe", torch.empty(0), persistent=False)  # on the device that the network is on

    def train(self, mode: bool = True) -> Any:
        """Going to train is when the device is known: say once what computes if the kernels cannot."""
        device = self.get_buffer("probe").device.type
        obstacle = triton_obstacle(device)
        if mode and obstacle and device != "meta":
            say_fall_back("model/objective=fused", obstacle, "plain PyTorch (model/objective=none)")
        return super().train(mode)

    def forward(self, model: Any, x_BTD: Tensor, targets_BT: Tensor) -> Tensor:
        if not isinstance(model.softcap, TanhSoftcap | NoSoftcap):
            raise UserError(
                "model/objective=fused knows model/softcap=tanh and none; type model/objective=chunked, which takes any"
            )
        targets_N = targets_BT.flatten()
        if x_BTD.device.type not in self.kernel_devices:
            return F.cross_entropy(model.logits(x_BTD).flatten(0, 1), targets_N)
        cap = model.softcap.cap if isinstance(model.softcap, TanhSoftcap) else 0.0
        losses_N = softcapped_losses(model.raw_logits(x_BTD).flatten(0, 1), targets_N, cap)
        return losses_N.sum() / (targets_N != IGNORED).sum()
