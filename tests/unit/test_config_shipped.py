"""The YAML files that are shipped: their first lines compose, options are described, headers are in place."""

from __future__ import annotations

import re
import shlex

import pytest

from golf.config.catalogue import options
from golf.config.check import find
from golf.config.compose import Composer, conf_dir
from golf.config.undeclared import misplaced_package, undeclared

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
