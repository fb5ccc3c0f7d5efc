"""The language model: embedding -> blocks in the order of a depth plan -> norm -> softcapped logits -> cross entropy.

Start reading here. Every part that people vary (attention, MLP, residual block, depth plan, embedding, initialiser) is
passed in, so this file stays the same when a technique is added. The defaults of conf/model/gpt.yaml are those of the
challenge's baseline (17 March 2026).

Legend: B batch, T time, D width, V vocabulary, S skips.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from golf.models.context import Context
from golf.models.depth import Visit
from golf.models.layers import HeadLinear, rms_norm, softcap
from golf.models.rope import Rope


class GPT(nn.Module):
    """Decoder-only transformer over token ids.

    Args:
        vocab_size, num_layers, width, num_heads, num_kv_heads: sizes; heads divide the width, kv heads the heads.
        mlp_mult: hidden units of the MLP as a multiple of the width (rounded to an integer; 2.6 is allowed).
        embedding, attention, mlp, residual, rope: factories, called with the sizes. An embedding also offers
            after_norm(x [B, T, D], ids) -> [B, T, D] and, for a tied head, logits(x).
        depth: num_layers -> visits.
        initialise: edits the finished model in place.
        tie_embeddings: use the embedding table as the output head.
        logit_softcap: c in c·tanh(logits/c).
        compute_dtype: dtype of activations; master weights stay float32.
    """

    roles: ClassVar[dict[str, str]] = {"skip_weights": "scalar"}

    def __init__(
        self,
        vocab_size: int,
        num_layers: int,
        width: int,
        num_heads: int,
        num_kv_heads: int,
        mlp_mult: float,
        embedding: Callable[..., nn.Module],
        attention: Callable[..., nn.Module],
        mlp: Callable[..., nn.Module],
        residual: Callable[..., nn.Module],
        rope: Callable[..., Rope],
        depth: Callable[[int], tuple[Visit, ...]],
        initialise: Callable[[nn.Module], None],
        tie_embeddings: bool = True,
        logit_softcap: float = 30.0,
        compute_dtype: str = "bfloat16",
    ):
        super().__init__()
        self.vocab_size, self.width, self.num_layers = vocab_size, width, num_layers
        self.logit_softcap = logit_softcap
        self.compute_dtype = getattr(torch, compute_dtype)
        self.visits = depth(num_layers)
        num_skips = sum(visit.pop is not None for visit in self.visits)
        # The order of construction is the order of the random draws; changing it changes every seeded run.
        self.tok_emb: Any = embedding(vocab_size=vocab_size, width=width)
        self.skip_weights: Any = nn.Parameter(torch.ones(num_skips, width)) if num_skips else None
        hidden = round(mlp_mult * width)
        self.blocks = nn.ModuleList(
            residual(
                width=width,
                attn=attention(width=width, num_heads=num_heads, num_kv_heads=num_kv_heads),
                mlp=mlp(width=width, hidden=hidden),
            )
            for _ in range(num_layers)
        )
        self.rope = rope(head_width=width // num_heads)
        self.lm_head = None if tie_embeddings else HeadLinear(width, vocab_size, zero=True)
        initialise(self)

    def hidden(self, ids_BT: Tensor) -> Tensor:
        """Token ids [B, T] -> normalised final hidden states [B, T, D] in the compute dtype."""
        x_BTD = rms_norm(self.tok_emb(ids_BT).to(self.compute_dtype))
        x_BTD = self.tok_emb.after_norm(x_BTD, ids_BT)
        cos_TE2, sin_TE2 = self.rope(ids_BT.shape[1], self.compute_dtype)
        context = Context(cos_TE2, sin_TE2, ids_BT, x_BTD, depth=len(self.visits))
        skips: list[Tensor] = []
        for index, visit in enumerate(self.visits):
            if visit.pop is not None:
                x_BTD = x_BTD + self.skip_weights[visit.pop].to(x_BTD.dtype) * skips.pop()
            x_BTD = self.blocks[visit.block](x_BTD, context._replace(layer=visit.block, visit=index))
            if visit.push:
                skips.append(x_BTD)
        return rms_norm(x_BTD)

    def logits(self, x_BTD: Tensor) -> Tensor:
        """Final hidden states [..., D] -> softcapped logits [..., V] in float32."""
        head = self.tok_emb.logits if self.lm_head is None else self.lm_head
        return softcap(head(x_BTD).float(), self.logit_softcap)

    def forward(self, ids_BT: Tensor, targets_BT: Tensor | None = None, reduction: str = "mean") -> Tensor:
        """Logits [B, T, V] (float32); with targets the mean loss ("mean") or the losses [B, T] ("none"), in nats."""
        logits_BTV = self.logits(self.hidden(ids_BT))
        if targets_BT is None:
            return logits_BTV
        nll = F.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten(), reduction=reduction)
        return nll.view_as(targets_BT) if reduction == "none" else nll

    def nll_suffix(self, ids_BT: Tensor, targets_BT: Tensor, first_scored: int) -> Tensor:
        """Loss per token in nats [B, T - first_scored] of positions >= first_scored; the whole input is context."""
        logits_BSV = self.logits(self.hidden(ids_BT)[:, first_scored:])
        targets_BS = targets_BT[:, first_scored:]
        return F.cross_entropy(logits_BSV.flatten(0, 1), targets_BS.flatten(), reduction="none").view_as(targets_BS)
