"""Exported files carry Triton kernels: whole, specialised and packed they train alone with the same losses."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "contracts"))
from tiny import tiny, tiny_data

from golf.config.build import build
from golf.submission.flatten import as_shipped, specialised_text, whole_program

NEEDS_TRITON = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed (pip install triton)"
)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[str]]:
    """The unspecialised program of a tiny fused network, and the options that name its data."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("kernels")
    config = tiny(["model/mlp=leaky_relu2_fused", "model/objective=fused", "budget=steps"], 2)
    config["data"] = tiny_data(folder / "shards")
    prepared = build(config["data"]).prepare(say=lambda line: None)
    return whole_program(config, str(prepared.folder)), ["--data", str(prepared.folder), "--steps", "2"]


def alone(text: str | bytes, path: Path, options: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a file without golf beside it (`run_alone` hides Triton, which is no part of PyTorch for CPUs)."""
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    command = [sys.executable, "-I", str(path), *options]
    return subprocess.run(command, cwd=path.parent, capture_output=True, text=True, timeout=200)


def losses(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    return re.findall(r"train_loss:(\S+)", done.stdout)


@NEEDS_TRITON
def test_every_form_trains_with_its_kernels(exported, tmp_path, monkeypatch) -> None:
    """In Triton's interpreter; kernels are compiled from text, which a packed file has like any other."""
    whole, options = exported
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    expected = losses(alone(whole, tmp_path / "whole.py", options))
    assert len(expected) == 2
    assert losses(alone(as_shipped(specialised_text(whole), "packed"), tmp_path / "packed.py", options)) == expected
    broken = alone(whole.replace("total = tl.dot(", "total = tl.no_such("), tmp_path / "broken.py", options)
    assert broken.returncode == 1
    assert "no_such" in broken.stderr


def test_without_kernels_the_file_trains_and_says_so(exported, tmp_path, monkeypatch) -> None:
    whole, options = exported
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    done = alone(whole, tmp_path / "fall_back.py", options)
    assert len(losses(done)) == 2
    said = [line for line in done.stderr.splitlines() if "computes instead" in line]
    assert len(said) == 2
