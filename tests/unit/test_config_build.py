"""`build` and the resolvers."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from golf.config import resolvers
from golf.config.build import build
from golf.errors import UserError


def test_build_gives_plain_containers_and_takes_keywords():
    node = OmegaConf.create(
        {"_target_": "builtins.dict", "a": [1, {"_target_": "fractions.Fraction", "_args_": [1, 3]}]}
    )
    built = build(node, b=2)
    assert type(built["a"]) is list
    assert (built["a"][1].denominator, built["b"]) == (3, 2)
    assert build(None) is None


def test_a_refused_value_names_its_path():
    config = OmegaConf.create(
        {"optim": {"inner": {"_target_": "fractions.Fraction", "_args_": ["abc"]}, "_target_": "builtins.dict"}}
    )
    with pytest.raises(UserError, match=r"^optim\.inner: Invalid literal for Fraction: 'abc'$"):
        build(config.optim)
    with pytest.raises(UserError, match=r"^average: "):
        build({"_target_": "no_such_package.Thing"}, path="average")


def test_golf_errors_pass_and_bugs_keep_their_type():
    with pytest.raises(UserError, match="must be at least 1"):
        build({"_target_": "golf.data.stream.SequentialStream", "shards": None, "tokens_per_step": 0, "seq_len": 1})
    with pytest.raises(TypeError) as caught:
        build({"_target_": "fractions.Fraction", "numeratr": 1}, path="x")
    assert "while building x" in caught.value.__notes__[0]


def test_resolvers(monkeypatch):
    resolvers.register()
    resolvers.register()
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    config = OmegaConf.create(
        {"a": "${rank0:.hydra}", "b": "${mul:2,3}", "c": "${mul:2,0.5}", "d": "${run_id:}", "e": "${run_id:}"}
    )
    assert (config.a, config.b, config.c) == (".hydra", 6, 1.0)
    assert config.d == config.e
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("GOLF_RUN_ID", "pinned")
    assert OmegaConf.create({"a": "${rank0:.hydra}"}).a is None
    assert OmegaConf.create({"d": "${run_id:}"}).d == "pinned"
    assert resolvers.git()
