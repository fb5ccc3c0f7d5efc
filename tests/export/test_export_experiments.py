"""Every experiment in conf/ becomes one file that needs nothing of golf: it compiles, and it runs on its own."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import pytest

from golf.config.compose import Composer, conf_dir
from golf.errors import UserError, VerificationFailed
from golf.submission.flatten import as_shipped, flatten, specialise_anew, whole_program
from golf.submission.verify import hidden_packages, run_alone

EXPERIMENTS = sorted(
    path.relative_to(conf_dir() / "experiment").with_suffix("").as_posix()
    for path in (conf_dir() / "experiment").rglob("*.yaml")
    if path.parent.name != "record"  # test_export_in_small.py
)
HARDWARE = ["hardware=cpu", "hardware.threads=1", "hardware.compute_dtype=float32", "hardware.compile=false"]
MODEL_GROUPS = sorted(f"model/{path.name}" for path in (conf_dir() / "model").iterdir() if path.is_dir())
DATA_AND_MODEL = ["data/order", *MODEL_GROUPS]
EXPORTED_GROUPS = [*DATA_AND_MODEL, "optim", "schedule", "average", "qat", "quant", "codec", "eval", "budget"]
FEW = {"smoke", "baseline"}  # the others take seconds each: GOLF_FULL_GRID=1
FULL_GRID = [
    pytest.mark.slow,
    pytest.mark.skipif("GOLF_FULL_GRID" not in os.environ, reason="GOLF_FULL_GRID=1 runs it"),
]
GRID = [pytest.param(name, marks=[] if name in FEW else FULL_GRID) for name in EXPERIMENTS]
ALLOWED_IMPORTS = {"torch", "numpy", "sentencepiece", "zstandard", "brotli", "zpaq"}


@lru_cache(maxsize=1)
def composer() -> Composer:
    return Composer("train")


def composed(*overrides: str) -> dict:
    return composer().compose([*overrides, *HARDWARE])


@pytest.mark.parametrize("experiment", GRID)
def test_every_experiment_exports(experiment, tmp_path):
    config = composed(f"experiment={experiment}")
    text = flatten(config)
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
            foreign = {n.partition(".")[0] for n in names} - set(sys.stdlib_module_names)
            assert foreign <= ALLOWED_IMPORTS
    for private in (str(Path.cwd()), str(Path.home()), "/tmp/"):
        assert private not in text
    for form in ("readable", "packed"):
        code = tmp_path / f"{form}.py"
        code.write_bytes(as_shipped(text, form))
        assert "--eval-only" in run_alone(code, ["--help"])["output"]
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F,E9", str(tmp_path / "readable.py")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_same_configuration_gives_the_same_bytes(tmp_path):
    """In processes whose hashes differ, in both forms."""
    program = (
        "import hashlib; from golf.config.compose import compose; from golf.submission.flatten import *;"
        "text = flatten(compose('train', ['experiment=smoke', 'hardware=cpu']));"
        "print(hashlib.sha256(text.encode() + as_shipped(text, 'packed')).hexdigest())"
    )
    found = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "XDG_CACHE_HOME": str(tmp_path / seed)}
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        found.add(done.stdout)
    assert len(found) == 1


def test_an_unknown_form_is_refused():
    with pytest.raises(UserError, match="type code=readable or code=packed or code=whole"):
        as_shipped("", "tiny")


def test_every_option_of_what_is_exported_is_complete(tmp_path):
    """No undefined, unused or doubly defined name, whichever option is chosen."""
    for group in EXPORTED_GROUPS:
        for path in sorted((conf_dir() / group).glob("*.yaml")):
            if path.stem != "as_run":
                name = f"{group}-{path.stem}".replace("/", "-")
                override = f"{group}={path.stem}"
                text = whole_program(composed("experiment=smoke", override))
                (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    assert len(list(tmp_path.glob("*.py"))) > 30
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F,E9", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_whole_program_is_there_on_request():
    whole = flatten({**composed("experiment=smoke"), "code": "whole"})
    assert whole == whole_program(composed("experiment=smoke"))
    assert as_shipped(whole, "whole") == whole.encode()
    assert len(whole) > 2 * len(flatten(composed("experiment=smoke")))


def test_a_program_that_lacks_a_name_is_refused(monkeypatch):
    def forgetful(tree: ast.Module, keep_checks: object) -> ast.Module:
        tree.body = [node for node in tree.body if getattr(node, "name", "") != "Ledger"]
        return tree

    monkeypatch.setattr("golf.submission.flatten.specialised", forgetful)
    with pytest.raises(VerificationFailed, match=r"lacks Ledger: .* code=whole"):
        specialise_anew(whole_program(composed("experiment=smoke")))


def test_options_that_are_not_used_are_absent():
    text = flatten(composed("experiment=smoke"))
    # A class without state may be functions, or be written where it is used.
    for name in ("class Sliding", "class Ema", "def warmdown_fraction(", "zlib.compress(", "class Rope"):
        assert name in text
    for name in ("class Contiguous(Evaluator", "class Cosine", "class PreNormBlock", "class LzmaCodec", "SampleCorpus"):
        assert name not in text
    plain = flatten(composed("experiment=smoke", "average=none", "eval=contiguous", "codec=lzma", "schedule=cosine"))
    for name in ("class Ema", "class Sliding", "zlib.compress(", "warmdown_fraction"):
        assert name not in plain
    for name in ("cos(math.pi", "lzma.compress(", "def decode("):
        assert name in plain


def test_comments_docstrings_and_origins_stay():
    text = flatten(composed("experiment=smoke"))
    for module in ("golf.models.gpt", "golf.loop", "golf.script", "configuration"):
        assert f"- {module}\n" in text
    assert "# The order of construction is that of the random draws" in text
    assert '"""Decoder-only transformer over token ids.' in text
    assert text.count("from __future__ import annotations") == 1


def test_absolute_folders_stay_on_this_machine(tmp_path):
    text = flatten(composed("experiment=smoke", f"data.folder={tmp_path}/shards"))
    assert str(tmp_path) not in text
    assert 'os.environ.get("DATA_PATH") or "data/shards"' in text


def test_a_debugging_run_is_not_exported():
    with pytest.raises(UserError, match="overfit_batches"):
        flatten(composed("experiment=smoke", "trainer.overfit_batches=2"))


def test_targets_outside_the_core_are_named():
    config = composed("experiment=smoke")
    config["qat"] = {"_target_": "golf.report.tables.ladder_table"}
    with pytest.raises(UserError, match=r"golf\.report\.tables\.ladder_table is not part of golf's core"):
        flatten(config)


def test_the_interpreter_of_the_check_has_nothing_of_golf(tmp_path):
    assert {"golf", "lightning", "hydra", "omegaconf", "wandb", "rich", "safetensors"} <= hidden_packages()
    assert not {"torch", "numpy", "sentencepiece"} & hidden_packages()
    for package in ("golf", "lightning", "omegaconf"):
        code = tmp_path / "probe.py"
        code.write_text(f"import {package}\n")
        with pytest.raises(VerificationFailed, match=f"No module named '{package}'"):
            run_alone(code, [])
