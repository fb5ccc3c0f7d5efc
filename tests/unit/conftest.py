"""Small real runs: synthetic tokens, a few steps, in this process, through the same functions as train.py."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
TINY = ("experiment=smoke", "budget.max_steps=4", "eval.max_tokens=512", "hardware=cpu", "hardware.compile=false")
SMALL_DATA = ("data.train_tokens=60000", "data.val_tokens=4000", "hardware.threads=1")


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def start_run(data_folder):
    """start_run(folder, *overrides) composes, checks and creates a run that has not begun."""

    def start(folder, *overrides):
        from golf.config.command import require
        from golf.config.compose import compose
        from golf.pipeline.run_folder import create_run_folder
        from golf.training.resolve import resolve_config

        small = () if "data=fineweb" in overrides else (*SMALL_DATA[:2], f"data.folder={data_folder}")
        texts = [*TINY, *small, SMALL_DATA[2], *overrides]
        require("train", texts)
        return create_run_folder(Path(folder), resolve_config(compose("train", texts)), texts)

    return start


@pytest.fixture(scope="session")
def tiny_run(start_run):
    """tiny_run(folder, *overrides) goes through training (`through=train` unless said otherwise)."""

    def call(folder, *overrides):
        from golf.app import run_pipeline

        run = start_run(folder, "through=train", *overrides)
        run_pipeline(run)
        return run

    return call


@pytest.fixture(scope="session")
def smoke_run(tiny_run, tmp_path_factory):
    """One trained, packed and verified run, shared by all tests that only read it (or add exports to it)."""
    return tiny_run(tmp_path_factory.mktemp("runs") / "smoke" / "first", "through=verify")


@pytest.fixture(scope="session")
def text_run(tiny_run, tmp_path_factory):
    """A packed run on text as bytes: it has seen one sentence until it knows it."""
    from golf.data.dataset import write_text_dataset
    from golf.data.tokenizer_kinds import PureByteTokenizer, pure_byte_description

    folder = tmp_path_factory.mktemp("text")
    (folder / "tokenizer.json").write_bytes(pure_byte_description())
    texts = {"train": [f"{n} little birds sat on the wall. " * 3 for n in range(60)], "val": ["The end of it. " * 40]}
    write_text_dataset(folder, texts, PureByteTokenizer(), {"name": "birds"})
    flags = ("data=fineweb", f"data.folder={folder}", "tokenizer=bytes", "data.seq_len=32", "data.tokens_per_step=512")
    flags = (*flags, "budget.max_steps=60", "trainer.log_every_steps=20")
    return tiny_run(tmp_path_factory.mktemp("runs") / "text" / "first", "through=pack", *flags)


def arguments(data_folder, overrides, tiny):
    flags = [text for text in overrides if text.startswith("-")]
    values = [text for text in overrides if not text.startswith("-")]
    return [*flags, *([*TINY, *SMALL_DATA, f"data.folder={data_folder}"] if tiny else []), *values]


@pytest.fixture
def script(data_folder, tmp_path):
    """script("train", *overrides) runs a script of the repository in an empty folder, as a user would."""

    def call(name, *overrides, tiny=True, **environment):
        command = [sys.executable, str(REPOSITORY / f"{name}.py"), *arguments(data_folder, overrides, tiny)]
        variables = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
        variables |= {"OMP_NUM_THREADS": "1", "NETRC": os.devnull, **environment}
        return subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)

    return call


@pytest.fixture
def script_here(data_folder, tmp_path, monkeypatch, capsys):
    """The same in this process, which saves the seconds of importing torch and lightning."""

    def call(name, *overrides, tiny=True):
        from golf.config.entry import run_script
        from golf.config.sweep_table import SweepTable

        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(SweepTable, "exit_code", 0)
        given = arguments(data_folder, overrides, tiny)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *given])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            run_script(name, f"golf.app:{name}")
        said = capsys.readouterr()
        return subprocess.CompletedProcess(given, ended.value.code, said.out, said.err)

    return call


@pytest.fixture(autouse=True)
def _one_thread():
    """Tests of this folder that use torch do so with one thread."""
    torch = sys.modules.get("torch")
    if torch is not None:
        with contextlib.suppress(RuntimeError):
            torch.set_num_threads(1)
