"""Errors of the model's parts, one line each, before anything is built."""

from __future__ import annotations

import pytest

from golf.config.compose import compose
from golf.config.model_checks import model_parts

GOOD = [
    [],
    ["model/depth=loop", "model.num_layers=11", "model/xsa=exclusive", "model.xsa.last_n=17"],
    ["model/depth=mini_recurrence", "model.num_layers=11", "model/values=embedding", "model/lanes=routed"],
    ["model/rope=partial", "model/residual=parallel"],
    ["model/attention=cross_sequence", "model.attention.train=true", "model.attention.last_n=9"],
]
BAD = [
    (
        ["model/xsa=exclusive", "model.xsa.last_n=12"],
        "the network has 9 visits; type model.xsa.last_n=9",
    ),
    (["model/depth=loop", "model.num_layers=5"], "model.depth loops over blocks 3 to 5"),
    (["model/depth=loop", "model.num_layers=11", "model.depth.at=1.5"], "model.depth.at=1.5 is no share"),
    (["model/depth=mini_recurrence", "model.num_layers=5"], "there is no block 5 in 5 layers"),
    (["model/depth=mini_recurrence", "model.num_layers=11", "budget=steps", "budget.max_steps=100"], "never reached"),
    (["model/values=embedding"], "model.values.blocks=[9, 10]: there is no block 9 among 9"),
    (["model/lanes=parallel", "model.num_layers=8"], "model.lanes.start=8"),
    (["model/rope=partial", "model.width=128", "model.rope.dims=32"], "model.rope.dims=32 must be even and at most 16"),
    (["model/attention=cross_sequence", "model.attention.last_n=10"], "type model.attention.last_n=9"),
    (
        ["model/attention=cross_sequence", "model.attention.train=true", "data/order=shuffled"],
        "type data/order=sequential",
    ),
    (["model.residual.attention_free=[20]"], "model.residual.attention_free=[20]"),
]


@pytest.mark.parametrize("overrides", GOOD, ids=str)
def test_parts_that_fit(overrides: list[str]) -> None:
    assert model_parts(compose("train", overrides)) == []


@pytest.mark.parametrize(("overrides", "text"), BAD, ids=str)
def test_parts_that_do_not_fit_are_one_line(overrides: list[str], text: str) -> None:
    lines = model_parts(compose("train", overrides))
    assert len(lines) == 1, lines
    assert text in lines[0]
    assert "type " in lines[0]
