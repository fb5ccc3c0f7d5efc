"""Token embedding with additions: a hashed bigram embedding before the first norm, a smear gate after it.

x = rms(E[ids] + bigram(ids));  x <- smear(x).  The order is that of the challenge's records of 20 to 25 March 2026.
Invariant: without additions it is the token embedding, and draws no other random numbers.
"""

from collections.abc import Callable

from torch import Tensor, nn

from golf.models.embedding.token import TokenEmbedding


class ComposedEmbedding(TokenEmbedding):
    """ids [B, T] -> [B, T, D] before the first norm; `after_norm` is what follows it; `logits` is the tied head.

    Args:
        bigram: factory called with width; the module maps ids [B, T] to [B, T, D]. None = without.
        smear: factory called with width; the module maps (x [B, T, D], ids [B, T]) to [B, T, D]. None = without.
    """

    def __init__(
        self,
        vocab_size: int,
        width: int,
        table_dtype: str = "float32",
        bigram: Callable[..., nn.Module] | None = None,
        smear: Callable[..., nn.Module] | None = None,
    ):
        super().__init__(vocab_size, width, table_dtype)
        self.bigram = bigram(width=width) if bigram is not None else None
        self.smear = smear(width=width) if smear is not None else None

    def forward(self, ids_BT: Tensor) -> Tensor:
        x_BTD = super().forward(ids_BT)
        return x_BTD if self.bigram is None else x_BTD + self.bigram(ids_BT)

    def after_norm(self, x_BTD: Tensor, ids_BT: Tensor) -> Tensor:
        return x_BTD if self.smear is None else self.smear(x_BTD, ids_BT)
