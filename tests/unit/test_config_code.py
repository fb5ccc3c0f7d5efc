"""Config to Python and to shell, and back: expressions build the same object, overrides parse to the same value."""

from __future__ import annotations

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st

from golf.config.code import to_expression, to_override, to_shell
from golf.errors import UserError

NODE = {
    "_target_": "golf.optim.schedules.Schedules",
    "lr": {"_target_": "golf.optim.schedules.WarmdownFraction", "warmdown_fraction": 0.1 + 0.2, "floor": 1e-08},
    "momentum": {"_target_": "golf.optim.schedules.LinearRamp", "_partial_": True, "start": 0.85, "end": 0.95},
}


def evaluate(source, imports):
    scope = {}
    for module, name in imports:
        exec(f"from {module} import {name}", scope)
    return eval(source, scope)


def test_nodes_become_constructor_calls():
    source, imports = to_expression(NODE)
    assert imports == {
        ("golf.optim.schedules", "Schedules"),
        ("golf.optim.schedules", "WarmdownFraction"),
        ("golf.optim.schedules", "LinearRamp"),
        ("functools", "partial"),
    }
    assert "warmdown_fraction=0.30000000000000004" in source
    assert "partial(LinearRamp, start=0.85, end=0.95)" in source
    assert max(map(len, source.splitlines())) <= 100
    built = evaluate(source, imports)
    assert built.lr.warmdown_fraction == 0.1 + 0.2
    assert built.momentum(steps=3).steps == 3


def test_plain_values_and_positional_arguments():
    node = {
        "_target_": "builtins.dict",
        "_args_": [[["a", None]]],
        "b": [1, {"c": float("inf")}],
        "d": 'say "no"',
        "e": True,
    }
    source, imports = to_expression(node)
    assert imports == set()
    assert evaluate(source, imports) == {"a": None, "b": [1, {"c": float("inf")}], "d": 'say "no"', "e": True}


def test_class_methods_import_the_class():
    source, imports = to_expression({"_target_": "fractions.Fraction.from_float", "_args_": [0.5]})
    assert (source, imports) == ("Fraction.from_float(0.5)", {("fractions", "Fraction")})


def test_unknown_targets_and_name_clashes_are_refused():
    with pytest.raises(UserError, match="no_such_module"):
        to_expression({"_target_": "no_such_module.Thing"})
    with pytest.raises(UserError, match="names a module"):
        to_expression({"_target_": "golf.optim.schedules"})
    clash = [{"_target_": "json.loads"}, {"_target_": "pickle.loads"}]
    with pytest.raises(UserError, match="defined in json and in pickle"):
        to_expression(clash)


def parsed(override):
    return OverridesParser.create().parse_overrides([override])[0].value()


TEXT = st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=0x17F, exclude_characters="\x7f$"), max_size=20)
KEYS = st.text(alphabet="abz_09./*?|()[]{}:=, \\", min_size=1, max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(VALUES)
@example("runs/lr=0.1,wd=0.2")
@example("a'b\\'c\\")
@example("(x) {y} [z]: $w")
@example("null")
@example("1e-3")
@example("")
@example({r"blocks\.(0|1).*=x": "int6_rows"})
def test_overrides_round_trip_through_the_grammar(value):
    try:
        override = to_override("key", value)
    except UserError:  # a key that the grammar cannot write
        return
    assert _plain(parsed(override)) == value


def test_keys_that_the_grammar_cannot_write_are_refused():
    for key in ("1", "true", "a'b", " a"):
        with pytest.raises(UserError, match="use a YAML file"):
            to_override("key", {key: 1})


def _plain(value):
    """Text that was quoted inside lists and dicts compares as text."""
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return getattr(value, "text", value)


def test_shell_lines_survive_the_shell():
    line = to_shell({"run": "runs/lr=0.1,wd=0.2", "seed": 1, "data.folder": "my folder/it's"})
    overrides = shlex.split(line)
    assert [parsed(override) for override in overrides] == ["runs/lr=0.1,wd=0.2", 1, "my folder/it's"]
    assert to_shell(["optim.betas=[0.9,0.95]", "name=x"]) == "'optim.betas=[0.9,0.95]' name=x"
