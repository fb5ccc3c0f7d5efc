"""Which tensor is stored how: routes by regex, then size, then role, to a format, a float type or an algorithm.

The order, first match wins:
  1. integer and boolean tensors are kept as they are;
  2. `overrides`: regular expressions searched in the name, in the order given;
  3. at most `small_numel` elements: scalars and gates by their role, everything else by `small`;
  4. larger: by role (a scalar or gate that large is a matrix).
With the defaults this is the baseline's rule (2026-03-17). Whole-network techniques come on top: `mixed` gives matrices
another treatment by their sensitivity, `prune` zeroes weights before, `correction` mends the worst tensors after.
Invariant: every tensor has exactly one route, or it is an error.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor

from golf.codec.layout import STORED_DTYPES, torch_dtype
from golf.codec.sections import tensor_class
from golf.errors import UserError
from golf.quant.formats import FORMAT_NAMES, QuantFormat, format_named
from golf.quant.protocol import Quantiser, Reader, StoredTensor, readers_of
from golf.quant.rtn import KnownFormats, quantise_rows
from golf.quant.shared_work import results_of_jobs
from golf.quant.state import STORED_KINDS, PlainTensor, QuantisedState

KEPT_TYPES = ("as_is", "float16", "bfloat16", "float32")
PLAN_ROLES = ("matrix", "embedding", "head", "table", "gate", "scalar")

Treatment = str | QuantFormat | Quantiser


@dataclass(frozen=True)
class PlannedTensor:
    """One line of a plan: a tensor's route and its bytes before compression."""

    name: str
    role: str
    tensor_class: str
    shape: tuple[int, ...]
    treatment: str
    payload_bytes: int


def checked_treatment(key: str, treatment: Treatment) -> Treatment:
    """A format's name becomes the format; an unknown name is refused with the known ones."""
    if not isinstance(treatment, str) or treatment in KEPT_TYPES:
        return treatment
    if treatment not in FORMAT_NAMES:
        raise UserError(f"{key}={treatment} is not known: use one of {', '.join([*FORMAT_NAMES, *KEPT_TYPES])}")
    return format_named(treatment)


def treatment_name(treatment: Treatment) -> str:
    """How a plan's table shows a treatment."""
    if isinstance(treatment, str):
        return treatment
    for name in FORMAT_NAMES:
        if isinstance(treatment, QuantFormat) and format_named(name) == treatment:
            return name
    return f"int{treatment.bits}" if isinstance(treatment, QuantFormat) else type(treatment).__name__


def kept_dtype(name: str, dtype: torch.dtype, treatment: str) -> torch.dtype:
    """The stored dtype of a tensor that is kept as numbers."""
    kept = dtype if treatment == "as_is" else torch_dtype(treatment)
    if kept not in STORED_DTYPES.values():
        raise UserError(f"tensor '{name}' has dtype {dtype}, which no artifact holds: convert it to float32 first")
    return kept


class QuantPlan:
    """Routes tensors to treatments and carries them out.

    A treatment is a format's name (golf/quant/formats.py), one of `as_is`, `float16`, `bfloat16`, `float32`, a
    `QuantFormat`, or any object with `convert` and `payload_bytes` (golf/quant/protocol.py).

    Args:
        matrix, embedding, head, table: treatment of tensors with this role and more than `small_numel` elements.
        gate, scalar: treatment of tensors with this role and at most `small_numel` elements.
        small: treatment of the other tensors with at most `small_numel` elements.
        small_numel: where small ends.
        overrides: {regular expression: treatment}, stronger than role and size.
        prune: weight -> weight before quantisation (golf/quant/prune.py).
        mixed: chooses matrices for other treatments, by sensitivity (golf/quant/mixed.py, bit_allocation.py).
        correction: mends tensors after quantisation (golf/quant/lowrank.py).
        calibration: where the Hessians of algorithms that want them come from (golf/quant/calibrate.py).
    """

    def __init__(
        self,
        matrix: Treatment = "int8_rows",
        embedding: Treatment = "int8_rows",
        head: Treatment = "int8_rows",
        table: Treatment = "int8_rows",
        gate: Treatment = "float32",
        scalar: Treatment = "float32",
        small: Treatment = "float16",
        small_numel: int = 65_536,
        overrides: Mapping[str, Treatment] | None = None,
        prune: Any = None,
        mixed: Any = None,
        correction: Any = None,
        calibration: Any = None,
    ) -> None:
        self.by_role = {
            "matrix": checked_treatment("quant.matrix", matrix),
            "embedding": checked_treatment("quant.embedding", embedding),
            "head": checked_treatment("quant.head", head),
            "table": checked_treatment("quant.table", table),
            "gate": checked_treatment("quant.gate", gate),
            "scalar": checked_treatment("quant.scalar", scalar),
        }
        self.small = checked_treatment("quant.small", small)
        self.small_numel = small_numel
        self.overrides = []
        for pattern, treatment in (overrides or {}).items():
            try:
                compiled = re.compile(pattern)
            except re.error as error:
                raise UserError(
                    f"quant.overrides: '{pattern}' is not a regular expression ({error}): escape it"
                ) from error
            self.overrides.append((compiled, checked_treatment(f"quant.overrides.{pattern}", treatment)))
        self.prune, self.mixed, self.correction, self.calibration = prune, mixed, correction, calibration
        self.fine = [] if mixed is None else [checked_treatment("quant.mixed", grid) for grid in mixed.grids]

    def treatments(self) -> list[Treatment]:
        """Every treatment that a tensor may get."""
        overrides = [treatment for _, treatment in self.overrides]
        return [*self.by_role.values(), self.small, *overrides, *self.fine]

    def needs_calibration(self) -> bool:
        """Whether something in the plan works with Hessians."""
        return any(getattr(part, "wants_hessian", False) for part in [*self.treatments(), self.mixed])

    def leaves_packings_open(self) -> bool:
        """Whether a kind of stored tensor has `variants`, among which the packer chooses."""
        return any(hasattr(getattr(part, "stored_kind", None), "variants") for part in [*self.treatments(), self.mixed])

    def readers(self) -> dict[str, Reader]:
        """How the kinds of stored tensors that the plan makes are read from its artifacts."""
        treatments: list[Any] = [part for part in self.treatments() if not isinstance(part, str)]
        if self.correction is None and all(hasattr(part, "only_format") for part in treatments):
            formats = [part.only_format for part in treatments]
            return {"plain": PlainTensor.from_parts, "codes": KnownFormats(formats).read_codes}
        own = [getattr(part, "stored_kind", None) for part in [*treatments, self.correction]]
        return readers_of([*STORED_KINDS, *(kind for kind in own if kind is not None)])

    def route(self, name: str, tensor: Tensor, role: str) -> Treatment:
        """The treatment of one tensor (its values are not looked at; a meta tensor will do)."""
        if role not in PLAN_ROLES:
            raise UserError(f"tensor '{name}' has the unknown role '{role}': use one of {', '.join(PLAN_ROLES)}")
        if not tensor.dtype.is_floating_point:
            return "as_is"
        for pattern, treatment in self.overrides:
            if pattern.search(name):
                return treatment
        if tensor.numel() <= self.small_numel:
            return self.by_role[role] if role in ("gate", "scalar") else self.small
        return self.by_role["matrix" if role in ("gate", "scalar") else role]

    def routes(
        self, state: Mapping[str, Tensor], roles: Mapping[str, str], hessians: Mapping[str, Any] | None = None
    ) -> dict[str, Treatment]:
        """The treatment of every tensor. Without Hessians, `mixed` chooses among equals: as many, perhaps others.

        Raises:
            UserError: a tensor without a role, or an override whose regular expression matches no tensor.
        """
        unrouted = [name for name in state if name not in roles]
        if unrouted:
            raise UserError(
                f"no role for tensor '{unrouted[0]}' ({len(unrouted)} in all): declare it in its module's `roles` "
                f"as one of {', '.join(PLAN_ROLES)}"
            )
        for pattern, _ in self.overrides:
            if not any(pattern.search(name) for name in state):
                raise UserError(
                    f"quant.overrides: '{pattern.pattern}' matches no tensor; names are {', '.join(list(state)[:3])} …"
                )
        routes = {name: self.route(name, tensor, roles[name]) for name, tensor in state.items()}
        if self.mixed is not None:
            candidates = [name for name, treatment in routes.items() if treatment is self.by_role["matrix"]]
            assigned = self.mixed.assigned(self.fine, candidates, state, hessians or {})
            routes |= {name: self.fine[grid] for name, grid in assigned.items()}
        return routes

    def table(self, state: Mapping[str, Tensor], roles: Mapping[str, str]) -> list[PlannedTensor]:
        """Every tensor with its route and payload bytes, without quantising anything (meta tensors will do)."""
        lines = []
        routes = self.routes(state, roles)
        mended = self.likely_corrections(state, roles, routes)
        for name, treatment in routes.items():
            shape = tuple(state[name].shape)
            if isinstance(treatment, str):
                size = prod(shape) * kept_dtype(name, state[name].dtype, treatment).itemsize
            else:
                size = treatment.payload_bytes(shape) + mended.get(name, 0)
            class_name = tensor_class(name, roles[name])
            lines.append(PlannedTensor(name, roles[name], class_name, shape, treatment_name(treatment), size))
        return lines

    def correctable(self, names: Iterable[str], roles: Mapping[str, str], routes: Mapping[str, Treatment]) -> list[str]:
        """Tensors that a correction may mend: those with codes, gates and scalars left out."""
        return [n for n in names if not isinstance(routes[n], str) and roles[n] not in ("gate", "scalar")]

    def likely_corrections(
        self, state: Mapping[str, Tensor], roles: Mapping[str, str], routes: Mapping[str, Treatment]
    ) -> dict[str, int]:
        """Bytes of corrections, as if the largest matrices got them: which ones do is known after quantisation."""
        if not hasattr(self.correction, "payload_bytes"):
            return {}
        matrices = [name for name in self.correctable(state, roles, routes) if state[name].ndim == 2]
        largest = sorted(matrices, key=lambda name: -state[name].numel())[: self.correction.top]
        return {name: self.correction.payload_bytes(tuple(state[name].shape)) for name in largest}

    def quantise(
        self,
        state: Mapping[str, Tensor],
        roles: Mapping[str, str],
        calibration: Mapping[str, Any] | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> QuantisedState:
        """Carry out the plan, on all processor cores; the result does not depend on their number.

        Args:
            state: weights by name.
            roles: role of each name (golf.models.roles.roles_of).
            calibration: what was collected per tensor for algorithms that want it; plain rounding needs none.
            rank, world: of ranks that call this together with the same arguments. Each does its share of what takes
                time, and gets the whole result, which is that of one rank bit for bit.

        Raises:
            UserError: an unrouted tensor, a NaN or infinite value, a value too large for its stored type.
        """
        collected = calibration or {}
        routes = self.routes(state, roles, collected)
        weights = {name: self.prepared(name, tensor) for name, tensor in state.items()}
        stored: dict[str, StoredTensor] = {}
        notes: list[str] = []
        solving: list[tuple[list[str], Any]] = []  # on one core each
        searching: list[tuple[list[str], Any]] = []  # with all cores, one after the other
        for name, treatment in routes.items():
            if not hasattr(treatment, "convert_many"):
                stored[name] = store_tensor(name, weights[name], treatment, collected.get(name))
        for treatment, names in batches_of(routes, weights, collected):
            arguments = names, [weights[name] for name in names], [collected.get(name) for name in names]
            if hasattr(treatment, "solved"):
                solving.append((names, partial(treatment.solved, *arguments)))
            else:
                searching.append((names, partial(treatment.convert_many, *arguments)))
        on_cpu = all(getattr(found, "is_cpu", True) for found in collected.values())
        if solving:
            results = results_of_jobs([job for _, job in solving], rank, world, on_cpu)
            for (names, _), (found, said) in zip(solving, results):
                stored |= zip(names, found)
                notes += said
        if searching:
            for (names, _), found in zip(searching, results_of_jobs([job for _, job in searching], rank, world, False)):
                stored |= zip(names, found)
        if self.correction is not None:
            large = self.correctable(state, roles, routes)
            stored |= self.correction.apply(state, {name: stored[name] for name in large})
        classes = {name: tensor_class(name, roles[name]) for name in state}
        return QuantisedState({name: stored[name] for name in state}, classes, tuple(notes))

    def prepared(self, name: str, tensor: Tensor) -> Tensor:
        """A tensor as it is quantised.

        Raises:
            UserError: a NaN or infinite value.
        """
        tensor = tensor.detach()
        bad = int((~torch.isfinite(tensor)).sum())
        if bad:
            raise UserError(
                f"tensor '{name}' has {bad:,} NaN or infinite values of {tensor.numel():,}: training diverged; "
                "export an earlier checkpoint or lower the learning rate"
            )
        return tensor if self.prune is None else self.prune.apply(name, tensor)


def batches_of(
    routes: Mapping[str, Treatment], weights: Mapping[str, Tensor], calibration: Mapping[str, Any]
) -> list[tuple[Any, list[str]]]:
    """(treatment, names) of treatments that take many: matrices of one shape together.

    `treatment.together(shape, device)`, where there is such a method, says how many at a time.
    """
    groups: dict[Any, tuple[Any, list[str]]] = {}
    for name, treatment in routes.items():
        if hasattr(treatment, "convert_many"):
            groups.setdefault((id(treatment), tuple(weights[name].shape)), (treatment, []))[1].append(name)
    found = []
    for treatment, names in groups.values():
        size = len(names)
        if hasattr(treatment, "together"):
            device = getattr(calibration.get(names[0]), "device", None)
            size = treatment.together(tuple(weights[names[0]].shape), "cpu" if device is None else device.type)
        found += [(treatment, names[start : start + size]) for start in range(0, len(names), size)]
    return found


def store_tensor(name: str, tensor: Tensor, treatment: Treatment, calibration: Any) -> StoredTensor:
    """Apply one treatment to one tensor; the result is on the CPU and shares no memory with it."""
    if isinstance(treatment, str):
        kept = kept_dtype(name, tensor.dtype, treatment)
        values = tensor.to(kept).cpu().contiguous().clone()
        if kept.is_floating_point and not torch.isfinite(values).all():
            raise UserError(
                f"tensor '{name}' has a magnitude of {float(tensor.abs().max()):.4g}, too large for {treatment}: "
                f"type quant.overrides=\"{{'{name}': float32}}\""
            )
        return PlainTensor(values, str(tensor.dtype).removeprefix("torch."))
    if not isinstance(treatment, QuantFormat):
        return treatment.convert(name, tensor, calibration)
    try:
        return quantise_rows(tensor.cpu(), treatment)
    except UserError as error:
        raise UserError(f"tensor '{name}': {error}") from error
