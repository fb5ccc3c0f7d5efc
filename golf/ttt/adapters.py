"""Low-rank adapters for a batch of documents: every document has its own, on the same network (LoRA, arXiv:2106.09685).

delta(x) = scale · (x Aᵀ) Bᵀ per document, A [r, in] ~ U(±1/sqrt(in)), B [out, r] = 0. It is added to the outputs of
q, k, v (linear maps), o (whole attention branch) and mlp (whole MLP), which read the branch's normalised input, and to
the head's logits before the softcap. One adapter per visit, or per block. They are forward hooks on the modules that
were trained, so nothing of the network can be missing; with B = 0 the losses are those without adapters, bit for bit.
Legend: B documents (rows of a batch), T time, r rank.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from golf.errors import UserError

ADAPTER_TARGETS = ("head", "q", "k", "v", "o", "mlp")
LINEAR_TARGETS = {"q": "c_q", "k": "c_k", "v": "c_v"}


def uniform_start(name: str, documents: int, rank: int, inputs: int, generator: torch.Generator) -> Tensor:
    """A [documents, r, in] ~ U(±1/sqrt(in))."""
    draws = torch.rand((documents, rank, inputs), generator=generator)
    return (2.0 * draws - 1.0) * inputs**-0.5


class DocumentAdapters:
    """Adapters for `documents` rows. `targets`: of ADAPTER_TARGETS; `per_visit`: else a block's visits share one.

    `draw(name, documents, rank, inputs, generator)` gives the initial A.
    """

    def __init__(
        self,
        model: Any,
        targets: Sequence[str],
        documents: int,
        rank: int,
        scale: float = 1.0,
        per_visit: bool = True,
        draw: Callable[..., Tensor] = uniform_start,
        generator: torch.Generator | None = None,
    ):
        self.model, self.documents, self.rank, self.scale, self.per_visit = model, documents, rank, scale, per_visit
        self.draw = draw
        self.generator = torch.Generator().manual_seed(0) if generator is None else generator
        self.rows: Tensor | None = None  # documents of the rows of the next forward; None = all, in order
        self.down: dict[str, nn.Parameter] = {}
        self.up: dict[str, nn.Parameter] = {}
        for name, inputs, outputs in self.sites(targets):
            self.down[name] = nn.Parameter(torch.empty(documents, rank, inputs, device=self.device))
            self.up[name] = nn.Parameter(torch.zeros(documents, outputs, rank, device=self.device))
        self.redraw()

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def sites(self, targets: Sequence[str]) -> list[tuple[str, int, int]]:
        """(name, inputs, outputs) of every adapter, target by target, in order of the visits.

        Raises:
            UserError: an unknown target, or a mixer without that linear map.
        """
        unknown = [target for target in targets if target not in ADAPTER_TARGETS]
        if unknown:
            raise UserError(f"ttt.targets has {unknown[0]!r}: allowed are {', '.join(ADAPTER_TARGETS)}")
        width, found = self.model.width, []
        for target in ADAPTER_TARGETS:
            if target not in targets:
                continue
            if target == "head":
                found.append(("head", width, self.model.vocab_size))
                continue
            slots: dict[int, int] = {}
            for index, visit in enumerate(self.model.visits):
                slots.setdefault(index if self.per_visit else visit.block, visit.block)
            for slot, block in slots.items():
                outputs = width if target in ("o", "mlp") else self._outputs(self.model.blocks[block].attn, target)
                found.append((f"{target}.{slot}", width, outputs))
        return found

    def _outputs(self, attn: Any, target: str) -> int:
        linear = getattr(attn, LINEAR_TARGETS[target], None)
        if linear is not None:
            return int(linear.out_features)
        if hasattr(attn, "c_qkv"):
            return int(attn.sizes["qkv".index(target)])
        raise UserError(
            f"{type(attn).__name__} has no linear map for ttt.targets={target}; type ttt.targets=[o,mlp,head]"
        )

    # -- state --------------------------------------------------------------------------------------------------------
    def parameters(self) -> list[nn.Parameter]:
        return [*self.down.values(), *self.up.values()]

    def named(self) -> list[tuple[str, Tensor]]:
        """All matrices by name, for checksums."""
        return [(f"{name}.{side}", m[name]) for side, m in (("A", self.down), ("B", self.up)) for name in m]

    @torch.no_grad()
    def redraw(self) -> None:
        """New A for every document, B = 0."""
        for name, matrix in self.down.items():
            matrix.copy_(self.draw(name, self.documents, self.rank, matrix.shape[-1], self.generator))
        self.zero()

    @torch.no_grad()
    def zero(self) -> None:
        """B = 0; A stays as the last documents left it ("warm")."""
        for matrix in self.up.values():
            matrix.zero_()

    def delta(self, name: str, x_BTD: Tensor) -> Tensor:
        """[B, T, in] -> [B, T, out]."""
        down, up = self.down[name], self.up[name]
        if self.rows is not None:
            down, up = down[self.rows], up[self.rows]
        z_BTO = torch.bmm(torch.bmm(x_BTD, down.to(x_BTD.dtype).mT), up.to(x_BTD.dtype).mT)
        return z_BTO if self.scale == 1.0 else z_BTO * self.scale

    # -- on the network -----------------------------------------------------------------------------------------------
    @contextmanager
    def installed(self) -> Iterator[None]:
        """The network computes with the adapters inside this block."""
        handles = []
        for block in self.model.blocks:
            for part, hook in self._hooks(block):
                handles.append(part.register_forward_hook(hook))
        self.model.head_adapter = self._head if "head" in self.down else None
        try:
            yield
        finally:
            self.model.head_adapter = None
            for handle in handles:
                handle.remove()

    def _head(self, x_BTD: Tensor) -> Tensor:
        return self.delta("head", x_BTD)

    def _slot(self, context: Any) -> int:
        return int(context.visit if self.per_visit else context.block)

    def _hooks(self, block: Any) -> list[tuple[Any, Callable[..., Any]]]:
        """Modules of a block and the hooks that add to what they return."""
        targets = {name.partition(".")[0] for name in self.down}
        attn, hooks = block.attn, []
        for target, name in LINEAR_TARGETS.items():
            if target in targets and hasattr(attn, name):
                hooks.append((getattr(attn, name), self._on_output(target)))
        if hasattr(attn, "c_qkv") and targets & set("qkv"):
            hooks.append((attn.c_qkv, self._on_fused(attn.sizes)))
        if "o" in targets:
            hooks.append((attn, self._on_output("o")))
        if "mlp" in targets:
            hooks.append((block.mlp, self._on_output("mlp")))
        return hooks

    def _on_output(self, target: str) -> Callable[..., Any]:
        def hook(module: Any, arguments: Any, output: Any) -> Any:
            name = f"{target}.{self._slot(arguments[1])}"
            if isinstance(output, tuple):
                return (output[0] + self.delta(name, arguments[0]), *output[1:])
            return output + self.delta(name, arguments[0])

        return hook

    def _on_fused(self, sizes: Sequence[int]) -> Callable[..., Any]:
        def hook(module: Any, arguments: Any, output: Tensor) -> Tensor:
            parts = []
            for target, part in zip("qkv", output.split(list(sizes), dim=-1)):
                name = f"{target}.{self._slot(arguments[1])}"
                parts.append(part + self.delta(name, arguments[0]) if name in self.down else part)
            return torch.cat(parts, dim=-1)

        return hook
