"""The YAML files that are shipped: their first lines compose, options are described, headers are in place."""

from __future__ import annotations

import re
import shlex

import pytest

from golf.config.catalogue import options
from golf.config.check import find
from golf.config.compose import Composer, conf_dir
from golf.config.undeclared import misplaced_package, undeclared
from golf.errors import UserError

FOUND = [option for items in options([conf_dir()]).values() for option in items]


@pytest.fixture(scope="module")
def composers():
    return {name: Composer(name) for name in ("train", "export", "evaluate")}


def test_package_headers():
    assert misplaced_package(conf_dir()) == []


@pytest.mark.parametrize("option", FOUND, ids=lambda option: f"{option.group}={option.name}")
def test_first_line_is_a_command_that_composes_and_checks(option, composers):
    assert option.description, f"{option.path}: the second comment line says what the option is"
    words = shlex.split(re.sub(r"<[^>]*>", "folder", option.command))
    assert words[0] == "python", f"{option.path}: the first comment line is a command"
    name = words[1].removesuffix(".py")
    overrides = [word for word in words[2:] if word != "-m"]
    overrides = [override.split(",")[0] if "-m" in words else override for override in overrides]
    composer = composers[name]
    config = composer.compose(overrides)
    assert find(config).errors == []
    assert undeclared(config, name, composer.folder) == []


def test_a_part_of_what_the_run_chose_cannot_be_set_alone(composers):
    """export.py starts from `as_run`: a key in it says so and what to choose."""
    said = r"quant is the run's own here, as a whole; type quant=<option> quant\.calibration"
    with pytest.raises(UserError, match=said):
        composers["export"].compose(["run=x", "quant.calibration.batches=2"])
    with pytest.raises(UserError, match=r"eval is the run's own here.*; type eval=\w+ eval\.stride=64"):
        composers["export"].compose(["run=x", "eval.stride=64"])
