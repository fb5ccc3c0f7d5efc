"""The CPU preset: bfloat16 where the processor has it, compiled where it can be, threads within all limits."""

import os
import stat
import sys

import pytest

from golf.training import hardware


@pytest.fixture
def processor(monkeypatch):
    """processor(**capabilities): pretend to be a processor with these."""

    def pretend(**capabilities):
        monkeypatch.setattr(hardware, "_processor_capabilities", lambda: capabilities)

    return pretend


@pytest.fixture
def fake_compiler(monkeypatch, tmp_path):
    """A compiler and Python headers that exist; nothing of them is ever run."""
    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\nexit 1\n")
    compiler.chmod(compiler.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "Python.h").touch()
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setattr(hardware.sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setattr(hardware, "_developer_tools_installed", lambda: True)
    return tmp_path


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"amx_bf16": True, "avx512_bf16": True}, "bfloat16"),
        ({"avx512_bf16": True, "amx_bf16": False}, "bfloat16"),
        ({"bf16": True, "neon": True}, "bfloat16"),
        ({"avx2": True, "avx512_f": True, "avx512_bf16": False}, "float32"),
        ({}, "float32"),
    ],
)
def test_dtype_follows_the_processor(processor, fake_compiler, capabilities, expected):
    processor(**capabilities)
    preset = hardware.cpu_preset()
    assert (preset["compute_dtype"], preset["compile"]) == (expected, True)
    assert "reason" not in preset


def test_without_a_compiler_training_is_eager_and_says_why(processor, monkeypatch):
    processor(avx2=True)
    monkeypatch.setenv("CXX", "no-such-compiler")
    preset = hardware.cpu_preset()
    assert preset["compile"] is False
    assert "no-such-compiler" in preset["reason"]
    assert "\n" not in preset["reason"]


def test_without_python_headers_training_is_eager(fake_compiler):
    assert hardware.compiler_available()
    (fake_compiler / "Python.h").unlink()
    assert "Python.h" in hardware.compiler_problem()


def test_threads_stay_within_affinity_and_physical_cores(processor):
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    processor(num_physical_cores=10_000)
    assert 1 <= hardware.usable_cpu_threads() <= cores
    processor(num_physical_cores=1)
    assert hardware.usable_cpu_threads() == 1
    processor()
    assert hardware.usable_cpu_threads() >= 1


@pytest.mark.parametrize(("text", "expected"), [("150000 100000", 2), ("50000 100000", 1), ("max 100000", 64)])
def test_threads_stay_within_the_containers_quota(processor, monkeypatch, text, expected):
    processor(num_physical_cores=64)
    monkeypatch.setattr(hardware.os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    monkeypatch.setattr(hardware.Path, "read_text", lambda path: text)
    assert hardware.usable_cpu_threads() == expected


def test_without_proc_and_cgroups(processor, monkeypatch):
    def absent(path):
        raise FileNotFoundError(path)

    processor()
    monkeypatch.setattr(hardware.Path, "read_text", absent)
    monkeypatch.delattr(hardware.os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(hardware.os, "cpu_count", lambda: 3)
    assert hardware.usable_cpu_threads() == 3


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS is asked whether its compiler is more than a placeholder")
def test_the_real_processor_is_asked_without_starting_anything(monkeypatch):
    monkeypatch.setattr(hardware.subprocess, "run", None)
    preset = hardware.cpu_preset()
    assert preset["compute_dtype"] in ("bfloat16", "float32")
    assert preset["threads"] >= 1
