"""What the cases of a model's conformance ask for besides a forward: a phase of the depth plan, rounded rotary
frequencies, copied repeat MLPs, fake-quantised weights. Each is put back when its case is over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F

from golf.interop.upstream_settings import UnsupportedNetwork, words_of

COPIED_CASES = ("long", "bf16_rope_freqs")  # after the recurrence was switched on as in the real run


def phase_of(model: Any, name: str, case: Mapping[str, Any]) -> int:
    """The phase of the depth plan a case runs in: the first without recurrence, the second for one repeat."""
    last = len(model.plan.phases) - 1
    if name.startswith("one_repeat"):
        if last < 2:
            raise UnsupportedNetwork("one_repeat without structure.phase1")
        return 1
    return 0 if case.get("recurrence") is False else last


@contextmanager
def rounded_frequencies(model: Any, name: str) -> Iterator[None]:
    """The stored rotary frequencies rounded to bfloat16, in the cases that say so."""
    exact = model.rope.inv_freq.clone()
    if name.startswith("bf16_rope_freqs"):
        model.rope.inv_freq.copy_(exact.to(torch.bfloat16).float())
    try:
        yield
    finally:
        model.rope.inv_freq.copy_(exact)


def copied_cases(notes: Sequence[str]) -> list[str]:
    """Cases that were run after the repeat MLPs had become copies: those that a note names, else none."""
    for note in notes:
        if "repeat" in note and re.search(r"overwritten|copied|copies|copy", note):
            return re.findall(r"'([^']+)'", note.partition(";")[0].partition(":")[0]) or list(COPIED_CASES)
    return []


@contextmanager
def repeat_mlps_copied(model: Any, name: str, notes: Sequence[str]) -> Iterator[None]:
    """The untied MLPs of repeats as copies of the MLPs they repeat."""
    if model.extra_mlps is None or name not in copied_cases(notes):
        yield
        return
    own = {key: value.clone() for key, value in model.extra_mlps.state_dict().items()}
    model.copy_into_extra_mlps()
    try:
        yield
    finally:
        model.extra_mlps.load_state_dict(own)


def fake_quant_format(spec: Mapping[str, Any]) -> Any:
    """The grid of a record that trains on one, from what `structure.fake_quant` says of it.

    Raises:
        UnsupportedNetwork: nothing is said, or nothing that names a grid of golf.
    """
    from golf.quant.training_formats import training_clip_floor_rows, training_format_named

    described = spec.get("structure", {}).get("fake_quant")
    words = words_of(described if described is not None else "")
    if not described:
        raise UnsupportedNetwork("fake quantisation that structure.fake_quant does not describe")
    bits = re.search(r"int ?([4-8])|\"bits\": ([4-8])", words)
    if re.search(r"quantile|percentile|0\.99999", words):
        return training_format_named("training_int6_quantile")
    if re.search(r"step[-_ :\"]*4|multiples? of 4|every fourth|\* ?4\b", words):
        return training_format_named("training_int6_step4")
    width = int(bits[1] or bits[2]) if bits else 6
    asymmetric = re.search(r"-32|-128", words)
    if re.search(r"clip[_ ]?floor|max\((row_?)?(abs|amax)[^/]*, ?1(\.0)?/31\)", words) and not asymmetric:
        return training_clip_floor_rows()
    if "floor" in words or "1/31" in words or "1/127" in words:
        return training_format_named(f"training_int{width}_floor_rows")
    return training_format_named(f"training_int{width}_rows")


class FakeQuantLinear:
    """y = x fake_quantise(W)ᵀ, in every forward."""

    def __init__(self, fmt: Any):
        self.fmt = fmt

    def __call__(self, x: torch.Tensor, weight: torch.Tensor, context: Any = None) -> torch.Tensor:
        from golf.quant.fake_quant import fake_quantise

        return F.linear(x, fake_quantise(weight, self.fmt).to(x.dtype))


@contextmanager
def fake_quantised(model: Any, name: str, spec: Mapping[str, Any]) -> Iterator[None]:
    """Training mode with the record's fake quantisation: all its linear maps, which banks are not."""
    from golf.models.layers import HeadLinear, Linear

    if not name.startswith("train_mode_fake_quant"):
        yield
        return
    operation = FakeQuantLinear(fake_quant_format(spec))
    banked = any(entry["name"].endswith("_bank") for entry in spec["weights"]["tensors"])
    linears = {name: module for name, module in model.named_modules() if isinstance(module, Linear)}
    for linear_name, linear in linears.items():
        heads = isinstance(linear, HeadLinear)
        linear.op = None if heads or (banked and linear_name.startswith("blocks.")) else operation
    model.train()
    try:
        yield
    finally:
        model.eval()
        for linear in linears.values():
            linear.op = None
