"""The language model: embedding -> blocks in the order of a depth plan -> norm -> softcapped logits -> cross entropy.

Start reading here. Every part that people vary is passed in (a config group each), so this file stays the same when a
technique is added. The defaults of conf/model/gpt.yaml are those of the challenge's baseline (17 March 2026).

Legend: B batch, T time, D width, V vocabulary, S boundaries or scored positions.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from golf.errors import UserError
from golf.models.attention.documents import check_documents
from golf.models.context import Context, at_positions
from golf.models.depth import DepthPlan, Visit, skip_rows
from golf.models.layers import HeadLinear, rms_norm
from golf.models.rope import Rope
from golf.progress import Progress


class GPT(nn.Module):
    """Decoder-only transformer over token ids.

    Args:
        vocab_size, num_layers, width, num_heads, num_kv_heads: sizes; heads divide the width, kv heads the heads.
        mlp_mult: hidden units of the MLP as a multiple of the width (rounded to an integer; 2.6 is allowed).
        embedding, attention, mlp, residual, rope: factories, called with the sizes.
        depth: num_layers -> plan of visits. skips: factory of the skip connections, called if the plan has any.
        softcap: logits -> logits.
        initialise: edits the finished model in place; None = its values do not matter (see `exported.undrawn`).
        backend: computes attention from queries, keys and values; part of what `attention` is called with.
        bigram, smear, values, lanes, xsa, gate: factories of additions, None = without. The first two work on the
            embedding, `values`, `xsa` and `gate` inside attention, `lanes` on the residual stream of later layers.
        linear: puts operations on the linear maps of the finished model (ternary …), None = plain.
        weights: rearranges the weights of the initialised model (tied, low-rank …), None = every map has its own.
        objective: the training loss, None = mean cross entropy.
        tie_embeddings: use the embedding table as the output head.
        compute_dtype: dtype of activations; master weights stay float32.
    """

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
        depth: Callable[[int], DepthPlan],
        skips: Callable[..., nn.Module],
        softcap: Callable[[Tensor], Tensor],
        initialise: Callable[[Any], None] | None,
        backend: Callable[..., Tensor],
        bigram: Callable[..., nn.Module] | None = None,
        smear: Callable[..., nn.Module] | None = None,
        values: Callable[..., nn.Module] | None = None,
        lanes: Callable[..., nn.Module] | None = None,
        xsa: Callable[..., Tensor] | None = None,
        gate: Callable[..., nn.Module] | None = None,
        linear: Callable[[nn.Module], None] | None = None,
        weights: Callable[[Any], None] | None = None,
        objective: Callable[..., Any] | None = None,
        tie_embeddings: bool = True,
        compute_dtype: str = "bfloat16",
    ):
        super().__init__()
        self.vocab_size, self.width, self.num_layers = vocab_size, width, num_layers
        self.softcap = softcap
        self.compute_dtype = getattr(torch, compute_dtype)
        self.plan = depth(num_layers)
        self.phase = len(self.plan.phases) - 1
        # Read outside the compiled graph only: switching them chooses another graph.
        self.quantise, self.quantise_when_scoring, self.softness = False, False, None
        self._compiled: Any = None
        self._compiled_losses: Any = None
        self._compiled_whole_losses: Any = None
        self.head_adapter: Any = None  # final hidden states -> what test-time training adds to the logits
        if hasattr(initialise, "before_construction"):
            initialise.before_construction()  # type: ignore[attr-defined]
        # The order of construction is that of the random draws: every seeded run depends on it.
        self.tok_emb: Any = embedding(vocab_size=vocab_size, width=width)
        self.bigram = None if bigram is None else bigram(width=width)
        self.smear: Any = None if smear is None else smear(width=width)
        rows = skip_rows(self.plan.phases) if self.plan.rows is None else self.plan.rows
        self.skips: Any = skips(rows=rows, width=width) if rows else None
        kv_width = num_kv_heads * (width // num_heads)
        self.values = None if values is None else values(vocab_size=vocab_size, kv_width=kv_width)
        self.lanes: Any = None if lanes is None else lanes(num_layers=num_layers, width=width)
        hidden = round(mlp_mult * width)
        kernel = {} if backend is None else {"backend": backend}
        parts: dict[str, Any] = {**kernel, **({} if xsa is None else {"xsa": xsa})}
        self.blocks = nn.ModuleList()
        for block in range(self.plan.blocks):
            own = {} if gate is None else {"gate": gate(width=width, num_heads=num_heads)}
            attn = attention(width=width, num_heads=num_heads, num_kv_heads=num_kv_heads, **parts, **own)
            if self.values is not None and not hasattr(attn, "mixes_values"):
                raise UserError("this attention mixes in no values: type model/values=none or another model/attention")
            self.blocks.append(residual(width=width, attn=attn, mlp=mlp(width=width, hidden=hidden), block=block))
        extra_mlps = [mlp(width=width, hidden=hidden) for _ in self.plan.extra_mlps]
        self.extra_mlps: Any = nn.ModuleList(extra_mlps) if extra_mlps else None
        if self.plan.blocks > num_layers or self.plan.extra_mlps:
            borrow_matrices(self.blocks, extra_mlps, num_layers)
        self.rope = rope(head_width=width // num_heads)
        self.lm_head = None if tie_embeddings else HeadLinear(width, vocab_size, zero=True)
        self.objective: Any = None if objective is None else objective(width=width, vocab_size=vocab_size)
        if initialise is not None:
            initialise(self)
        for rearrange in (weights, linear):
            if rearrange is not None:
                rearrange(self)

    # -- progress: which graph training runs -------------------------------------------------------------------------
    @property
    def visits(self) -> tuple[Visit, ...]:
        """Visits of the current phase."""
        return self.plan.phases[self.phase].visits

    def set_progress(self, progress: Progress) -> None:
        """Choose the depth phase for a training step; untied repeats start as copies when theirs begins."""
        phase = self.plan.phase_at(progress)
        if phase > self.phase and self.plan.extra_mlps:
            self.copy_into_extra_mlps()
        self.phase = phase

    @torch.no_grad()
    def copy_into_extra_mlps(self) -> None:
        for layer, extra in zip(self.plan.extra_mlps, self.extra_mlps):
            own: Any = self.blocks[layer].mlp
            for target, source in zip(extra.parameters(), own.parameters()):
                target.copy_(source)

    def train_only_names(self) -> list[str]:
        """Parameters that only the training loss uses: they are not exported."""
        if self.objective is None:
            return []
        return [name for name, _ in self.named_parameters() if name.startswith("objective.")]

    # -- the network --------------------------------------------------------------------------------------------------
    def embed(self, ids_BT: Tensor) -> Tensor:
        """Token ids [B, T] -> normalised input of the first block [B, T, D] in the compute dtype."""
        table_BTD = self.tok_emb(ids_BT)
        x_BTD = (table_BTD if self.bigram is None else table_BTD + self.bigram(ids_BT)).to(self.compute_dtype)
        if self.smear is None:
            return rms_norm(x_BTD)
        return rms_norm(self.smear(x_BTD, ids_BT)) if self.smear.before_norm else self.smear(rms_norm(x_BTD), ids_BT)

    def hidden(
        self,
        ids_BT: Tensor,
        cu_seqlens_S: Tensor | None = None,
        max_seqlen: int = 0,
        phase: int | None = None,
        quantise: bool = False,
        memory: dict[int, Any] | None = None,
        positions_BS: Tensor | None = None,
    ) -> Tensor:
        """Token ids [B, T] -> normalised final hidden states [B, T, D]; with positions theirs only, [B, S, D].

        memory: per visit what attention remembers of the window before (read and replaced), see `nll_with_memory`.
        """
        x: Any = self.embed(ids_BT)
        cos_TR, sin_TR = self.rope(ids_BT.shape[1], self.compute_dtype, cu_seqlens_S is not None)
        x0_BTD, shared = x, {"memory": memory}
        skips: list[Tensor] = []
        in_lanes = False
        visits = self.plan.phases[self.phase if phase is None else phase].visits
        restricted = None if positions_BS is None else self.restricted_visit(visits)
        for index, visit in enumerate(visits):
            layer = visit.block if visit.layer is None else visit.layer
            mlp_layer = layer if visit.mlp_layer is None else visit.mlp_layer
            lanes = None if self.lanes is None or not self.lanes.covers(visit, layer) else self.lanes
            if lanes is not None:
                x, in_lanes = (x if in_lanes else (x, x)), True
            if visit.pop is not None:
                skip = skips.pop()
                x = self.skips(x, skip, visit.pop) if lanes is None else lanes.skip(x, skip, visit.pop, self.skips)
            here = Context(
                cos_TR,
                sin_TR,
                ids_BT,
                x0_BTD,
                cu_seqlens_S=cu_seqlens_S,
                max_seqlen=max_seqlen,
                block=visit.block,
                layer=layer,
                mlp_layer=mlp_layer,
                visit=index,
                depth=len(visits),
                blocks=self.plan.blocks,
                quantise=quantise,
                softness=self.softness,
                values=self.values,
                shared=shared,
                positions_BS=positions_BS if index == restricted else None,
            )
            block = self.blocks[visit.block]
            x = block(x, here) if lanes is None else lanes(x, block, here)
            if visit.push and lanes is None:
                skips.append(x)
        x = self.lanes.join(x) if self.lanes is not None and in_lanes else x
        return rms_norm(x if positions_BS is None or restricted is not None else at_positions(x, positions_BS))

    def restricted_visit(self, visits: tuple[Visit, ...]) -> int | None:
        """Index of the last visit, if it can be computed for some of the positions only; else None.

        Every part that would see cut activations must be of a class that says so itself: what is inherited does not
        count, as an overridden method may not know of the cut. A hook on the mixer sees all positions, its output not.
        """
        block: Any = self.blocks[visits[-1].block]
        attn = block.attn
        inside = (getattr(attn, "backend", None), getattr(attn, "xsa", None), getattr(attn, "gate", None))
        parts = [part for part in (block, attn, block.mlp, self.lanes, *inside) if part is not None]
        able = all("restrictable" in vars(type(part)) for part in parts)
        return len(visits) - 1 if able and not attn._forward_hooks else None

    def raw_logits(self, x_BTD: Tensor) -> Tensor:
        """Final hidden states [..., D] -> logits [..., V] before the softcap, in the compute dtype."""
        head = self.tok_emb.logits if self.lm_head is None else self.lm_head
        z = head(x_BTD)
        return z if self.head_adapter is None else z + self.head_adapter(x_BTD)

    def logits(self, x_BTD: Tensor) -> Tensor:
        """Final hidden states [..., D] -> softcapped logits [..., V] in float32."""
        return self.softcap(self.raw_logits(x_BTD).float())

    def graph(
        self,
        ids_BT: Tensor,
        targets_BT: Tensor | None = None,
        reduction: str = "mean",
        cu_seqlens_S: Tensor | None = None,
        max_seqlen: int = 0,
        phase: int = 0,
        quantise: bool = False,
    ) -> Tensor:
        """What is compiled: `forward` with everything that chooses the graph as an argument."""
        x_BTD = self.hidden(ids_BT, cu_seqlens_S, max_seqlen, phase, quantise)
        if targets_BT is not None and reduction == "mean" and self.objective is not None:
            return self.objective(self, x_BTD, targets_BT)
        logits_BTV = self.logits(x_BTD)
        if targets_BT is None:
            return logits_BTV
        nll = F.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten(), reduction=reduction)
        return nll.view_as(targets_BT) if reduction == "none" else nll

    def forward(
        self,
        ids_BT: Tensor,
        targets_BT: Tensor | None = None,
        reduction: str = "mean",
        cu_seqlens_S: Tensor | None = None,
        max_seqlen: int = 0,
    ) -> Tensor:
        """Logits [B, T, V] (float32); with targets the training loss ("mean") or the losses [B, T] ("none"), in nats.

        cu_seqlens_S, max_seqlen: document boundaries of one flat row, see `Context`.
        """
        # Only training is compiled: evaluation has other shapes.
        run = self._compiled if self._compiled and self.training else self.graph
        if cu_seqlens_S is not None:
            check_documents(cu_seqlens_S, ids_BT, max_seqlen)
            if run is self._compiled:  # one graph for any number of documents
                torch._dynamo.maybe_mark_dynamic(cu_seqlens_S, 0)
        return run(ids_BT, targets_BT, reduction, cu_seqlens_S, max_seqlen, self.phase, self.quantises())

    def eager(self, ids_BT: Tensor, targets_BT: Tensor | None = None, reduction: str = "mean") -> Tensor:
        """`forward` without its compiled graph (validation has other shapes than training)."""
        return self.graph(ids_BT, targets_BT, reduction, None, 0, self.phase, self.quantises())

    def compile(self, **options: Any) -> None:
        """Compile `graph` in place: one graph per phase and shape, and parameter names stay as they are."""
        self._compiled = torch.compile(self.graph, **options)

    def quantises(self) -> bool:
        """Whether a forward is fake-quantised now."""
        return bool(self.quantise and (self.training or self.quantise_when_scoring))

    def logits_at(
        self, ids_BT: Tensor, positions_BS: Tensor | None = None, phase: int | None = None, quantise: bool = False
    ) -> Tensor:
        """Logits [B, S, V] at some positions (None = all), all of the input being context."""
        return self.logits(self.hidden(ids_BT, phase=phase, quantise=quantise, positions_BS=positions_BS))

    def losses_graph(
        self, ids_BT: Tensor, targets_BT: Tensor, positions_BS: Tensor | None, phase: int, quantise: bool
    ) -> Tensor:
        """`nll_at` with everything that chooses the graph as an argument: this is what evaluation compiles."""
        logits_BSV = self.logits_at(ids_BT, positions_BS, phase, quantise)
        targets_BS = targets_BT if positions_BS is None else targets_BT.gather(1, positions_BS)
        return F.cross_entropy(logits_BSV.flatten(0, 1), targets_BS.flatten(), reduction="none").view_as(targets_BS)

    def compiled_losses(self) -> Any:
        """`losses_graph`, compiled once for all evaluations of this network."""
        if self._compiled_losses is None:
            self._compiled_losses = torch.compile(self.losses_graph, fullgraph=True, dynamic=False)
        return self._compiled_losses

    def whole_losses_graph(self, ids_BT: Tensor, targets_BT: Tensor, phase: int, quantise: bool) -> Tensor:
        """`losses_graph` of all positions."""
        return self.losses_graph(ids_BT, targets_BT, None, phase, quantise)

    def compiled_whole_losses(self) -> Any:
        """`whole_losses_graph`, compiled once for all evaluations of this network."""
        if self._compiled_whole_losses is None:
            self._compiled_whole_losses = torch.compile(self.whole_losses_graph, fullgraph=True, dynamic=False)
        return self._compiled_whole_losses

    def nll_at(self, ids_BT: Tensor, targets_BT: Tensor, positions_BS: Tensor | None = None) -> Tensor:
        """Loss per token in nats [B, S] at some positions (None = all); the whole input is context."""
        return self.losses_graph(ids_BT, targets_BT, positions_BS, self.phase, self.quantises())

    def nll_suffix(self, ids_BT: Tensor, targets_BT: Tensor, first_scored: int) -> Tensor:
        """Loss per token in nats [B, T - first_scored] of positions >= first_scored; the whole input is context."""
        B, T = ids_BT.shape
        positions_S = torch.arange(first_scored, T, device=ids_BT.device)
        return self.nll_at(ids_BT, targets_BT, positions_S.expand(B, -1) if first_scored else None)

    def nll_with_memory(
        self, ids_BT: Tensor, targets_BT: Tensor, memory: dict[int, Any] | None = None
    ) -> tuple[Tensor, dict[int, Any]]:
        """Losses [B, T] of consecutive windows of one stream, and the memory that the window after them begins with.

        memory: that of the windows before; None at the start of the stream. It stays empty without an attention that
        remembers (golf/models/attention/cross_sequence.py).
        """
        memory = dict(memory or {})
        logits_BTV = self.logits(self.hidden(ids_BT, quantise=self.quantises(), memory=memory))
        nll = F.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten(), reduction="none")
        return nll.view_as(targets_BT), memory


class LayerMatrix:
    """Source of a linear map's weight where visits say whose layer's matrices a block uses."""

    def __init__(self, matrices: list[Any], of_mlp: bool):
        self.matrices, self.of_mlp = matrices, of_mlp

    def __call__(self, context: Context) -> Tensor:
        return self.matrices[context.mlp_layer if self.of_mlp else context.layer].weight


def borrow_matrices(blocks: nn.ModuleList, extra_mlps: list[nn.Module], num_layers: int) -> None:
    """Let every linear map of the blocks take the matrix of the layer its visit names.

    Blocks from `num_layers` on have no matrices of their own; the extra MLPs follow the layers' in the count.
    """
    for part, extras in (("attn", []), ("mlp", extra_mlps)):
        owners = [getattr(block, part) for block in blocks][:num_layers] + extras
        for name, first in owners[0].named_modules():
            if not isinstance(first, nn.Linear):
                continue
            matrices = [owner.get_submodule(name) for owner in owners]
            for index, block in enumerate(blocks):
                linear: Any = getattr(block, part).get_submodule(name)
                linear.source = LayerMatrix(matrices, part == "mlp")
                if index >= num_layers:
                    linear.weight = None
