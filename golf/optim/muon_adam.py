"""The field's optimizer: Muon for matrices, Adam for embedding, head and everything that is not a matrix.

Defaults are the challenge baseline's (17 March 2026): tied embedding 0.05, matrices 0.04, scalars 0.04, head 0.008.
"""

from torch import nn

from golf.optim.adam import AdamRule
from golf.optim.composite import Composite
from golf.optim.groups import ParameterGroup, route_parameters
from golf.optim.muon import MuonRule


def muon_adam(
    model: nn.Module,
    matrix_lr: float = 0.04,
    embedding_lr: float = 0.05,
    head_lr: float = 0.008,
    scalar_lr: float = 0.04,
    momentum: float = 0.95,
    newton_schulz_steps: int = 5,
    newton_schulz_dtype: str = "bfloat16",
    betas: tuple[float, float] = (0.9, 0.95),
    eps: float = 1e-8,
    matrix_weight_decay: float = 0.0,
    embedding_weight_decay: float = 0.0,
    scalar_weight_decay: float = 0.0,
    clip_norm: float = 0.0,
) -> Composite:
    """Build the composite optimizer for a model whose parameters declare roles.

    Args:
        *_lr: base learning rates (times the schedule's multiplier). *_weight_decay: decoupled, per unit learning rate.
        momentum: Muon's, where no schedule sets it. clip_norm: global gradient norm limit, 0 = off.
    """
    beta1, beta2 = betas
    adam = {"rule": "adam", "betas": (beta1, beta2), "eps": eps}
    groups = [
        ParameterGroup(
            "embedding", lr=embedding_lr, roles=("embedding", "table"), weight_decay=embedding_weight_decay, **adam
        ),
        ParameterGroup("head", lr=head_lr, roles=("head",), **adam),
        ParameterGroup("matrix", rule="muon", lr=matrix_lr, roles=("matrix",), weight_decay=matrix_weight_decay),
        ParameterGroup("scalar", lr=scalar_lr, roles=("scalar", "gate"), weight_decay=scalar_weight_decay, **adam),
    ]
    rules = {"muon": MuonRule(newton_schulz_steps, newton_schulz_dtype), "adam": AdamRule()}
    return Composite(route_parameters(model, groups), rules, momentum=momentum, clip_norm=clip_norm)
