"""The field's optimizer: Muon for matrices, Adam for embedding, head and everything that is not a matrix.

Defaults are the challenge baseline's (17 March 2026): tied embedding 0.05, matrices 0.04, scalars 0.04, head 0.008.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import nn

from golf.optim.adam import AdamRule
from golf.optim.composite import Composite
from golf.optim.groups import ParameterGroup, route_parameters
from golf.optim.muon import MuonRule
from golf.optim.sharded_muon import ShardedMuonRule


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
    table_lr: float | None = None,
    gate_lr: float | None = None,
    head_weight_decay: float | None = None,
    table_weight_decay: float | None = None,
    gate_weight_decay: float | None = None,
    embedding_pattern: str | None = None,
    matrix_pattern: str | None = None,
    scalar_pattern: str | None = None,
    newton_schulz_coefficients: str | Sequence[Sequence[float]] = "classic",
    nesterov: bool = True,
    row_normalise: str = "none",
    weight_decay_placement: str = "before",
    momentum_dtype: str = "float32",
    square_first: bool | None = None,
    compiled: bool = False,
    sharded: bool = False,
    reduce_dtype: str = "bfloat16",
    clip: str = "global",
) -> Composite:
    """Build the composite optimizer for a model whose parameters declare roles.

    Args:
        *_lr: base learning rates (times the schedule's multiplier). *_weight_decay: decoupled, per unit learning rate.
            None: tables and head decay as the embedding does, tables learn as it does; gates follow the scalars.
        *_pattern: regex; parameters whose name it matches join that group, whatever their role.
        momentum: Muon's, where no schedule sets it. newton_schulz_* to compiled: see `MuonRule`.
        sharded: on several ranks, share Muon's work and momentum; gradients travel in reduce_dtype.
        clip_norm, clip: gradient norm limit, 0 = off; see `Composite`.
    """
    beta1, beta2 = betas
    groups = muon_adam_groups(
        lr={
            "embedding": embedding_lr,
            "table": table_lr,
            "head": head_lr,
            "matrix": matrix_lr,
            "scalar": scalar_lr,
            "gate": gate_lr,
        },
        weight_decay={
            "embedding": embedding_weight_decay,
            "table": table_weight_decay,
            "head": head_weight_decay,
            "matrix": matrix_weight_decay,
            "scalar": scalar_weight_decay,
            "gate": gate_weight_decay,
        },
        pattern={"embedding": embedding_pattern, "matrix": matrix_pattern, "scalar": scalar_pattern},
        betas=(beta1, beta2),
        eps=eps,
    )
    make_rule: Any = partial(ShardedMuonRule, reduce_dtype=reduce_dtype) if sharded else MuonRule
    rule = make_rule(
        newton_schulz_steps=newton_schulz_steps,
        newton_schulz_dtype=newton_schulz_dtype,
        nesterov=nesterov,
        newton_schulz_coefficients=newton_schulz_coefficients,
        row_normalise=row_normalise,
        weight_decay_placement=weight_decay_placement,
        momentum_dtype=momentum_dtype,
        square_first=square_first,
        compiled=compiled,
    )
    rules = {"muon": rule, "adam": AdamRule()}
    return Composite(route_parameters(model, groups), rules, momentum=momentum, clip_norm=clip_norm, clip=clip)


def muon_adam_groups(
    lr: dict[str, float | None],
    weight_decay: dict[str, float | None],
    pattern: dict[str, str | None],
    betas: tuple[float, float],
    eps: float,
) -> list[ParameterGroup]:
    """The groups of `muon_adam`, one for each role, with what None stands for filled in.

    Groups with equal settings become one, for fewer, larger updates: table and embedding, gate and scalar.
    """
    by_name: dict[str, ParameterGroup] = {}
    for name, leader in (
        *(("embedding", ""), ("table", "embedding"), ("head", "embedding")),
        *(("matrix", ""), ("scalar", ""), ("gate", "scalar")),
    ):
        own_lr, own_decay = lr[name], weight_decay[name]
        adam = {"rule": "adam", "beta1": betas[0], "beta2": betas[1], "eps": eps}
        rule: dict[str, Any] = {"rule": "muon"} if name == "matrix" else adam
        by_name[name] = ParameterGroup(
            name,
            lr=by_name[leader].lr if own_lr is None else own_lr,
            roles=(name,),
            pattern=pattern.get(name),
            weight_decay=by_name[leader].weight_decay if own_decay is None else own_decay,
            **rule,
        )
    for name, leader in (("table", "embedding"), ("gate", "scalar")):
        first, second = by_name[leader], by_name[name]
        if (first.lr, first.weight_decay) == (second.lr, second.weight_decay):
            by_name[leader] = first._replace(roles=first.roles + second.roles)
            del by_name[name]
    return list(by_name.values())
