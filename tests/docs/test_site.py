"""The documentation site builds without a warning, asks nobody's server for anything, and its commands are composed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from documents import REPOSITORY

DOCS = REPOSITORY / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs", reason="needs the extra docs")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_is_built_and_in_the_navigation(site: Path) -> None:
    built = {path.stem for path in site.glob("*.html")} - {"404"}
    assert built == {path.stem for path in DOCS.glob("*.md")}
    text = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r"([\w-]+)\.md$", text, re.MULTILINE))
    assert listed == {path.stem for path in DOCS.glob("*.md")}


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    for page in site.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe)[^>]+src=\"?(https?:[^\"\s>]+)", text)
        loaded += re.findall(r"<link[^>]+rel=\"?(?:stylesheet|preconnect)\"?[^>]*href=\"?(https?:[^\"\s>]+)", text)
        assert not loaded, f"{page.name} loads {loaded}"


def test_messages_of_troubleshooting_are_golfs() -> None:
    """Every message that the page explains is still in the code."""
    code = "\n".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "golf").rglob("*.py"))
    joined = re.sub(r"\"\s*\n\s*f?\"", "", code)
    page = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    messages = re.findall(r"^`(.+)`\n:   ", page, re.MULTILINE)
    assert len(messages) > 20
    for message in messages:
        assert message in joined, message


def test_every_group_is_in_the_reference() -> None:
    page = (DOCS / "reference.md").read_text(encoding="utf-8")
    for path in (REPOSITORY / "conf").rglob("*.yaml"):
        name = path.relative_to(REPOSITORY / "conf").with_suffix("").as_posix()
        if "/" in name and not name.startswith("experiment/record") and not name.startswith("experiment/family"):
            group, _, option = name.rpartition("/")
            assert f"### {group}={option}\n" in page, name
