"""Initial values. Modules draw their own default values when built (so the order of construction is part of the rule);
an initialiser then edits the finished model."""

import torch
from torch import nn

from golf.models.embedding.token import TokenEmbedding
from golf.models.layers import Linear


class BaselineInitialiser:
    """The challenge baseline: embedding ~ N(0, std²) drawn after all matrices, output projections zero, others as
    nn.Linear draws them (U(±1/sqrt(in))); matrices and tables rounded once to bfloat16 (the script casts the module).

    Args:
        embedding_std: 0.005; applies to tied tables only (an untied table keeps its N(0, 1) draw); None leaves both.
        round_to_bf16: reproduce the rounding of the initial values.
    """

    def __init__(self, embedding_std: float | None = 0.005, round_to_bf16: bool = True):
        self.embedding_std, self.round_to_bf16 = embedding_std, round_to_bf16

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> None:
        if self.embedding_std is not None and getattr(model, "lm_head", None) is None:
            for module in model.modules():
                if isinstance(module, TokenEmbedding):
                    module.weight.normal_(mean=0.0, std=self.embedding_std)
        for module in model.modules():
            if isinstance(module, Linear) and module.zero:
                module.weight.zero_()
        if self.round_to_bf16:
            for parameter in model.parameters():
                parameter.copy_(parameter.to(torch.bfloat16).to(parameter.dtype))
        for module in model.modules():
            table_dtype = getattr(module, "table_dtype", None)
            if isinstance(module, nn.Embedding) and table_dtype is not None:
                module.weight.data = module.weight.data.to(table_dtype)
