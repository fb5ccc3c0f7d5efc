"""Validation shards against their folder's manifest, and the tables that a scored run leaves."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from golf.config.build import build
from golf.data.dataset import PreparedData
from golf.data.manifest import describe_files, write_manifest
from golf.data.shards import write_shard
from golf.errors import UserError
from golf.evaluation.ledger import LedgerError
from golf.pipeline.run_folder import RunFolder
from golf.pipeline.scoring import score_network
from golf.pipeline.validation_split import (
    require_split_of_manifest,
    require_split_of_run,
    require_split_of_tokenizer,
)
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


def pinned(folder):
    paths = tuple(str(path) for path in sorted(folder.glob("fineweb_val_*.bin")))
    prepared = PreparedData(str(folder), (), paths, "")
    return prepared, prepared.identity()


def test_a_split_that_changed_since_the_run_is_refused(folder):
    """Official folders have no manifest of golf's: what the run wrote down is what there is to compare with."""
    prepared, identity = pinned(folder)
    require_split_of_run(prepared, identity)
    require_split_of_run(prepared, {})  # a run that has not begun
    write_shard(folder / NAMES[0], np.random.default_rng(0).integers(0, 64, 200)[::-1])
    with pytest.raises(UserError, match=r"000000.bin \(200 tokens, sha256 .* is not the validation split of the run"):
        require_split_of_run(prepared, identity)
    (folder / NAMES[0]).unlink()
    with pytest.raises(UserError, match=r"has fineweb_val_000001.bin, the run had fineweb_val_000000.bin, fine"):
        require_split_of_run(pinned(folder)[0], identity)


def test_a_run_refuses_a_split_that_changed_under_it(smoke_run, tmp_path):
    identity = smoke_run.data_identity()
    assert smoke_run.data(require_train=False).folder == identity["folder"]
    identity["val_sha256"] = dict.fromkeys(identity["val_sha256"], "0" * 64)
    (tmp_path / "data.json").write_text(json.dumps(identity))
    run = RunFolder(tmp_path, smoke_run.config)
    with pytest.raises(UserError, match="cut short, reordered or replaced") as raised:
        run.data(require_train=False)
    assert "\n" not in str(raised.value)


class Words:
    """A tokenizer whose encoding is its decoding, but for `shift`: that of another vocabulary of the same size."""

    kind, bos_id = "words", 1

    def __init__(self, shift):
        self.shift = shift

    def decode(self, ids):
        return " ".join(map(str, ids))

    def encode(self, text):
        return [2 + (int(word) - 2 + self.shift) % 62 for word in text.split()]


def test_shards_cut_with_another_tokenizer_of_the_same_size(folder):
    tokens = np.random.default_rng(0).integers(2, 64, 200)
    tokens[::20] = 1
    write_shard(folder / NAMES[0], tokens)
    prepared, _ = pinned(folder)
    require_split_of_tokenizer(prepared, Words(0))
    with pytest.raises(UserError, match=r"was cut with another tokenizer .*: 0 of 9 documents give"):
        require_split_of_tokenizer(prepared, Words(1))


def test_weights_that_are_no_numbers_are_named(smoke_run):
    """A diverged training ends in one line, and in no score."""
    torch.manual_seed(0)
    net = build(smoke_run.config["model"])
    with torch.no_grad():
        net.blocks[0].mlp.fc.weight[0, 0] = float("nan")
    said, prepared, node = [], smoke_run.data(require_train=False), smoke_run.config["eval"]
    with pytest.raises(LedgerError, match=r"has no score: target 1 .* nan.*blocks\.0\.mlp\.fc\.weight is not finite"):
        score_network(net.eval(), prepared, node, smoke_run.config["data"]["seq_len"], "cpu", said.append)
    assert said == []
