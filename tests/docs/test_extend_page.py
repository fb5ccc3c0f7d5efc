"""docs/extend.md: its files, all of them at once, train, pack, score and end in an exported program that repeats it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from documents import REPOSITORY, blocks

from golf.submission.verify import verify_submission

FILES = {
    re.match(r"# (\S+)", body)[1]: body.partition("\n")[2]
    for language in ("python", "yaml")
    for body in blocks("docs/extend.md", language)
}
QUICK = [
    *("budget.max_steps=6", "hardware=cpu", "hardware.compile=false", "hardware.threads=1", "tokenizer.vocab_size=260"),
    *(
        "model.num_layers=2",
        "~eval.stride",
        "eval.max_tokens=2000",
        "name=extended",
        "data.tokens_per_step=1024",
        "data.seq_len=64",
    ),
]


def options() -> list[str]:
    """group=option of every YAML of the page."""
    found = [Path(name).relative_to("conf") for name in FILES if name.endswith(".yaml")]
    return [f"{path.parent.as_posix()}={path.stem}" for path in found if path.parent.name != "ttt"]


def write_files(folder: Path) -> None:
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def call(script: str, folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / script), *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


# An object that keeps nothing is written where it is called: its arithmetic stands for its name.
WRITTEN_WHERE_USED = {
    "SquareRootCooldown": r"math\.sqrt\(min\(max\(",
    "Bzip2Codec": r"bz2\.compress\(",
}


def test_all_extension_points_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(tmp_path)
    run = tmp_path / "run"
    own = ["--config-dir", str(tmp_path / "conf")]
    call("train.py", tmp_path, *own, "experiment=smoke", *options(), *QUICK, f"hydra.run.dir={run}")
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    assert [rung["stage"] for rung in summary["ladder"]][-1] == "half_overlap"
    code = (run / "submission" / "default" / "train_gpt.py").read_text(encoding="utf-8")
    written = "\n".join(text for name, text in FILES.items() if name.endswith(".py"))
    for name in re.findall(r"^(?:class|def) (\w+)", written, re.MULTILINE):
        if name not in ("CountingSource", "ScaleTtt"):
            assert re.search(WRITTEN_WHERE_USED.get(name, rf"\b{name}\b"), code), f"{name} is not in the exported file"
    monkeypatch.syspath_prepend(tmp_path)
    found = verify_submission(
        run / "submission" / "default" / "train_gpt.py", run / "artifact" / "default" / "model.golf", run, k=2
    )
    assert found["bit_equal"]
    adapted = call("evaluate.py", tmp_path, *own, f"run={run}", "eval=adaptive", "ttt=scales", "eval.max_tokens=512")
    assert re.search(r"ttt: [\d.]+ BPB", adapted), adapted


def test_every_example_has_both_files_and_a_command() -> None:
    classes = {path.removesuffix(".py") for path in FILES if path.endswith(".py")}
    targets = set()
    for path, text in FILES.items():
        if path.endswith(".yaml"):
            assert text.startswith("# python "), path
            targets |= {target.split(".")[0] for target in re.findall(r"_target_: (\S+)", text)}
    assert classes <= targets
