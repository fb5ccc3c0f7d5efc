"""Validation shards against their folder's manifest, and the tables that a scored run leaves."""

from __future__ import annotations

import json

import numpy as np
import pytest

from golf.data.dataset import PreparedData
from golf.data.manifest import describe_files, write_manifest
from golf.data.shards import write_shard
from golf.errors import UserError
from golf.pipeline.validation_split import require_split_of_manifest
from golf.report.html import write_report

NAMES = ("fineweb_val_000000.bin", "fineweb_val_000001.bin")


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate(NAMES):
        write_shard(tmp_path / name, np.random.default_rng(number).integers(0, 64, 200))
    write_manifest(tmp_path, {"files": describe_files(tmp_path, dict.fromkeys(NAMES, 200))})
    return tmp_path


def check(folder):
    paths = tuple(str(path) for path in sorted(folder.glob("fineweb_val_*.bin")))
    require_split_of_manifest(PreparedData(str(folder), (), paths, ""))


def test_the_split_of_the_manifest_passes(folder):
    check(folder)
    (folder / "manifest.json").unlink()
    write_shard(folder / NAMES[0], np.zeros(5))
    check(folder)  # foreign shards have no manifest: there is nothing to compare


def test_truncated(folder):
    write_shard(folder / NAMES[1], np.random.default_rng(1).integers(0, 64, 200)[:150])
    with pytest.raises(UserError, match=r"has 150 tokens, its manifest says 200"):
        check(folder)


def test_reordered(folder):
    first, second = ((folder / name).read_bytes() for name in NAMES)
    (folder / NAMES[0]).write_bytes(second)
    (folder / NAMES[1]).write_bytes(first)
    with pytest.raises(UserError, match=r"fineweb_val_000000.bin holds other tokens \(or another order\).*sha256"):
        check(folder)


@pytest.mark.parametrize("missing", [True, False])
def test_shards_that_were_removed_or_added(folder, missing):
    if missing:
        (folder / NAMES[1]).unlink()
    else:
        write_shard(folder / "fineweb_val_000002.bin", np.zeros(5))
    with pytest.raises(UserError, match=r"its manifest has fineweb_val_000000.bin, fineweb_val_000001.bin, the folder"):
        check(folder)


def test_a_run_says_where_the_bits_went(smoke_run):
    """The tables of a rung add up to its score, and the report draws them."""
    ladder = {row["stage"]: row for row in json.loads((smoke_run.path / "summary.json").read_text())["ladder"]}
    table = json.loads((smoke_run.path / "stages" / "average" / "scores" / "raw.json").read_text())
    for rows in (table["context"], table["document_length"], table["shard"]):
        assert sum(row["bytes"] for row in rows) == ladder["raw"]["bytes"]
        assert sum(row["targets"] for row in rows) == ladder["raw"]["tokens"]
    page = write_report(smoke_run.path).read_text(encoding="utf-8")
    bits = page[page.index('<section id="bits">') :]
    assert "By context" in bits
    assert "By shard: raw" in bits
