"""Initial values. Modules draw their own default values when built (so the order of construction is part of the rule);
an initialiser then edits the finished model. All end with the same two steps: output projections are zero, and values
are rounded once to bfloat16, because the public scripts cast the whole module before they restore float32."""

from typing import Any

import torch
from torch import nn

from golf.models.bigram.hashed import HashTable
from golf.models.embedding.token import TokenEmbedding
from golf.models.layers import Linear


def draw_embedding(model: Any, std: float | None) -> None:
    """Redraw a tied table as N(0, std²); an untied one keeps its N(0, 1) draw."""
    if std is not None and getattr(model, "lm_head", None) is None:
        model.tok_emb.weight.normal_(mean=0.0, std=std)


def round_to_bfloat16(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.copy_(parameter.to(torch.bfloat16))


def finish(model: nn.Module) -> None:
    """Output projections become zero, and tables get the dtype they asked for."""
    for module in model.modules():
        if isinstance(module, Linear) and module.zero and module.weight is not None:
            module.weight.zero_()
        if isinstance(module, TokenEmbedding | HashTable):
            module.weight.data = module.weight.data.to(module.table_dtype)


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
    def __call__(self, model: Any) -> None:
        self.draw(model)
        if self.round_to_bf16:
            round_to_bfloat16(model)
        finish(model)

    def draw(self, model: Any) -> None:
        """New values, in the order of the rule."""
        draw_embedding(model, self.embedding_std)


class OrthogonalInitialiser(BaselineInitialiser):
    """Matrices orthogonal with gain 1 where both sides are at least `smallest_side` (records from 19 March 2026).

    Args:
        projection_gain: factor on the projections of added embeddings (bigram): 1/sqrt(2 L) in the records of 20 to 22
            March, 1 later. Only they have it: the projections of the blocks are zero.
        smallest_side: see above; smaller matrices keep their default draw.
        replay: draw as scripts with banks do, which construct no block matrix: the generator is set back to before
            construction and draws N(0, 1) of the embedding's shape first.
    """

    def __init__(
        self,
        embedding_std: float | None = 0.005,
        round_to_bf16: bool = True,
        projection_gain: float = 1.0,
        smallest_side: int = 64,
        replay: bool = False,
    ):
        self.embedding_std, self.round_to_bf16 = embedding_std, round_to_bf16
        self.projection_gain, self.smallest_side, self.replay = projection_gain, smallest_side, replay

    def before_construction(self) -> None:
        if self.replay:
            self.first_rng_state = torch.get_rng_state()

    def draw(self, model: Any) -> None:
        if self.replay:
            torch.set_rng_state(self.first_rng_state)
            torch.randn(model.tok_emb.weight.shape)
        draw_embedding(model, self.embedding_std)
        for name, module in model.named_modules():
            if not isinstance(module, Linear) or module.zero or module.weight is None:
                continue
            if module.roles["weight"] == "matrix" and min(module.weight.shape) >= self.smallest_side:
                nn.init.orthogonal_(module.weight)
                if not name.startswith(("blocks.", "extra_mlps.", "values.")):
                    module.weight.mul_(self.projection_gain)


class OvertoneInitialiser(BaselineInitialiser):
    """Spectral embedding and depth-dependent x0 mixing (record of 19 March 2026, "overtone").

    The embedding's singular values become S_1 k^(-power), k = 1, 2, …; the mixing of block i starts at
    m0 = sigmoid(phase (i/(L-1) - 1/2)) and m1 = 1 - m0.

    Args:
        power: 1/2 in the record. phase: 3 in the record.
    """

    def __init__(
        self,
        embedding_std: float | None = 0.005,
        round_to_bf16: bool = True,
        power: float = 0.5,
        phase: float = 3.0,
    ):
        super().__init__(embedding_std, round_to_bf16)
        self.power, self.phase = power, phase

    def draw(self, model: Any) -> None:
        super().draw(model)
        table = model.tok_emb.weight
        table.copy_(overtone_spectrum(table, self.power))
        last = max(len(model.blocks) - 1, 1)
        for index, block in enumerate(model.blocks):
            share = torch.sigmoid(torch.tensor(self.phase * (index / last - 0.5)))
            block.resid_mix[0].fill_(share)
            block.resid_mix[1].fill_(1.0 - share)


def overtone_spectrum(table_VD: torch.Tensor, power: float = 0.5) -> torch.Tensor:
    """The same singular vectors with the singular values S_1 k^(-power)."""
    U, S, Vt = torch.linalg.svd(table_VD.float(), full_matrices=False)
    harmonics = torch.arange(1, S.shape[0] + 1, dtype=S.dtype, device=S.device) ** -power
    return (U * (S[0] * harmonics)) @ Vt


class NormalInitialiser(BaselineInitialiser):
    """Block matrices ~ N(0, std²), output projections zero, the embedding as in the baseline (24 March 2026, 0.02)."""

    def __init__(self, embedding_std: float | None = 0.005, round_to_bf16: bool = True, std: float = 0.02):
        super().__init__(embedding_std, round_to_bf16)
        self.std = std

    def draw(self, model: Any) -> None:
        draw_embedding(model, self.embedding_std)
        for name, module in model.named_modules():
            if isinstance(module, Linear) and not module.zero and module.weight is not None and "blocks." in name:
                module.weight.normal_(mean=0.0, std=self.std)
