"""Every command of the documentation is composed, executed, or known to exist; the worked example works as printed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from documents import REPOSITORY, blocks, commands

from golf import cli
from golf.config.command import check_command
from golf.config.compose import conf_dir
from golf.runs.command import parser as runs_parser

DOCUMENTS = (
    *("README.md", "CONTRIBUTING.md", "docs/reports.md", "docs/comparing.md", "docs/index.md", "docs/ladder.md"),
    *("docs/challenge.md", "docs/budgets.md", "docs/extend.md", "docs/troubleshooting.md", "docs/kernels.md"),
    "docs/export.md",
)
SCRIPTS = ("train.py", "export.py", "evaluate.py")
FOUND = [(name, words) for name in DOCUMENTS for words in commands(name)]
EXAMPLE = {
    re.match(r"# (\S+)", body)[1]: body.partition("\n")[2]
    for language in ("python", "yaml")
    for body in blocks("README.md", language)
    if re.match(r"# \S+/\S+\n", body)
}
EXECUTED = ("ls", "show", "check")


@pytest.fixture(scope="module")
def with_example(tmp_path_factory) -> Path:
    """A copy of the code with the README's two files in it."""
    folder = tmp_path_factory.mktemp("checkout")
    ignored = shutil.ignore_patterns("__pycache__")
    for part in ("golf", "conf"):
        shutil.copytree(REPOSITORY / part, folder / part, ignore=ignored)
    for script in SCRIPTS:
        shutil.copy(REPOSITORY / script, folder)
    for path, text in EXAMPLE.items():
        assert not (folder / path).exists(), f"{path} exists already: choose another example"
        (folder / path).write_text(text.lstrip("\n"), encoding="utf-8")
    return folder


def check_script(words: list[str]) -> None:
    name = Path(words[0]).stem
    flags = [word for word in words[1:] if word.startswith("-")]
    overrides = [word for word in words[1:] if not word.startswith("-")]
    if "-sc" in flags:
        assert overrides == ["install=bash"]
        return
    if name == "train" and overrides[0].startswith("run="):
        assert len(overrides) == 1
        return
    assert set(flags) <= {"-m", "--config-dir"}, words
    if "model/mlp=sine_squared" in overrides:
        return  # the worked example: test_two_files_make_a_technique executes it (docs/extend.md: test_extend_page.py)
    assert check_command(name, overrides, multirun="-m" in flags).errors == []


def check_golf(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    if words[0] in EXECUTED:
        assert cli.run(words) == 0, capsys.readouterr()
    else:
        assert words[0] in cli.MODULES
        assert words[0] in cli.available(), f"golf {words[0]} is documented but not there"
        if words[0] == "runs":
            table = len(words) == 1 or words[1].startswith("-")
            runs_parser().parse_args(["list", *words[1:]] if table else words[1:])


@pytest.mark.parametrize("words", [words for _, words in FOUND], ids=[f"{name}: {' '.join(w)}" for name, w in FOUND])
def test_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """No command is of a kind that this test does not know."""
    script = next((index for index, word in enumerate(words) if word in SCRIPTS), None)
    if words[0] in ("python", "torchrun") and script is not None:
        check_script(words[script:])
    elif words[0] == "golf":
        check_golf(words[1:], capsys)
    elif words[0] == "make":
        dry = ["make", "-n", "-B", *words[1:]]
        assert subprocess.run(dry, cwd=REPOSITORY, capture_output=True, check=False).returncode == 0
    elif words[0] == "eval":
        assert "train.py -sc install=bash" in words[1]
    elif words[0] in ("python", ".venv/bin/python", "pytest"):
        paths = [word for word in words[1:] if "/" in word]
        assert all((REPOSITORY / path.partition("::")[0]).exists() for path in paths), words
    else:
        assert words[0] in ("source", "git", "pre-commit", "cd"), f"a command no test looks at: {words}"


def test_two_files_make_a_technique(with_example: Path) -> None:
    """The README's example trains, packs, scores and exports, with nothing else touched."""
    assert sorted(Path(path).suffix for path in EXAMPLE) == [".py", ".yaml"]
    command = next(words for _, words in FOUND if "model/mlp=sine_squared" in words)
    quick = ["budget.max_steps=4", "eval.max_tokens=512", "data.train_tokens=60000", "data.val_tokens=4000"]
    done = subprocess.run(
        [sys.executable, *command[1:], *quick, "hardware=cpu", "hardware.compile=false", "hardware.threads=1"],
        cwd=with_example,
        env={**os.environ, "PYTHONPATH": str(with_example)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "sliding" in done.stdout
    [exported] = with_example.glob("runs/smoke/*/submission/default/train_gpt.py")
    assert "class SineSquared" in exported.read_text(encoding="utf-8")


def test_linked_files_exist() -> None:
    for name in (*DOCUMENTS, "CHANGELOG.md", "LOG.md"):
        for target in re.findall(r"\]\(([^)#]+)", (REPOSITORY / name).read_text(encoding="utf-8")):
            if not target.startswith("http") and target != "docs/images/report.png":
                assert ((REPOSITORY / name).parent / target).exists(), f"{name} links to {target}"


def test_folder_map_exists_and_names_every_group() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    table = text.partition("## Where things are")[2].partition("\n## ")[0]
    for cell in re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE):
        for number, path in enumerate(re.findall(r"`([^`]+)`", cell)):
            assert (REPOSITORY / path).exists() or (number and (REPOSITORY / "golf" / path).exists()), path
    groups = {path.name for path in conf_dir().iterdir() if path.is_dir()}
    assert groups <= set(re.search(r"every option as YAML: `([^`]+)`", table)[1].split())


def test_documents_do_not_name_a_machine() -> None:
    for path in [*REPOSITORY.glob("*.md"), REPOSITORY / "Makefile", REPOSITORY / "constraints.txt"]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"(?<![\w.])/(?:home|root|work|tmp|opt|Users)/", text), path
        assert not re.search(r"^\s*(?:--)?(?:extra-)?index-url|--find-links", text, re.MULTILINE), path
