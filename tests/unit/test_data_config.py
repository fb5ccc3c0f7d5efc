"""The data and tokenizer options: their keys are constructor arguments, and their defaults are the same numbers."""

import inspect
from pathlib import Path

import pytest
import yaml
from hydra.utils import get_object

CONF = Path(__file__).parents[2] / "conf"
OPTIONS = sorted([*CONF.glob("data/*.yaml"), *CONF.glob("tokenizer/*.yaml")])
ORDERS = sorted(CONF.glob("data/order/*.yaml"))
STREAM_SIZES = {"shards", "tokens_per_step", "seq_len", "spans_per_step"}


@pytest.mark.parametrize("path", OPTIONS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_keys_are_arguments_and_defaults_agree(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# python train.py ")
    assert lines[1].startswith("# ")
    node = yaml.safe_load(path.read_text())
    if "_target_" not in node:
        node = yaml.safe_load((path.parent / f"{node['defaults'][0]}.yaml").read_text()) | {"sources": node["sources"]}
    parameters = inspect.signature(get_object(node.pop("_target_"))).parameters
    nested = node.pop("sources", {})
    if path.parent.name == "data":
        assert {"order": "sequential"} in node.pop("defaults", [{"order": "sequential"}])
        node.pop("order", None)
    assert set(node) <= set(parameters)
    if path.parent.name == "data":
        assert set(node) | {"sources", "order"} >= set(parameters), "every argument is visible in the YAML"
        for name, value in node.items():
            default = parameters[name].default
            assert value == default or str(value).startswith("${") or name == "offline_fallback", name
    for source in nested.values():
        inspect.signature(get_object(source.pop("_target_"))).bind(**source)


@pytest.mark.parametrize("path", ORDERS, ids=lambda path: path.stem)
def test_orders_show_every_argument_with_its_default(path: Path) -> None:
    node = yaml.safe_load(path.read_text())
    if "_target_" not in node:  # a named variant of another option
        base = yaml.safe_load((path.parent / f"{node['defaults'][0]}.yaml").read_text())
        assert set(node) - {"defaults"} <= set(base)
        return
    parameters = inspect.signature(get_object(node.pop("_target_"))).parameters
    assert node.pop("_partial_") is True
    assert set(node) == set(parameters) - STREAM_SIZES
    assert {name: parameters[name].default for name in node} == node
