"""`golf data verify`: each kind of wrong folder fails at its own check, saying what was expected and what was found."""

import json
from pathlib import Path

import numpy as np
import pytest

from golf.cli import main as golf
from golf.data.dataset import check_prepared, open_folder, write_text_dataset
from golf.data.sentencepiece_training import train_sentencepiece
from golf.data.shards import read_shard, write_shard
from golf.data.tokenizer import load_tokenizer
from golf.data_commands import official
from golf.data_commands.readings import count_block
from golf.data_commands.verify import Verification
from golf.errors import UserError

WORDS = ["the", "golf", "ball", "rolls", "over", "grass", "and", "stops", "near", "nine", "holes", "wind", "café"]
VAL, TRAIN = "fineweb_val_000000.bin", "fineweb_train_000000.bin"


def texts(seed: int, count: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, 60)) for _ in range(count)]


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, bytes]:
    return {"own": train_sentencepiece(texts(0, 60), 310), "other": train_sentencepiece(texts(0, 60)[::-1][:5], 310)}


@pytest.fixture
def folder(tmp_path: Path, models) -> Path:
    (tmp_path / "tokenizer.model").write_bytes(models["own"])
    documents = {"val": texts(1, 20), "train": texts(2, 50)}
    write_text_dataset(tmp_path, documents, load_tokenizer(folder=tmp_path), {"name": "words"}, shard_tokens=4000)
    return tmp_path


def findings(folder: Path, **options) -> dict[str, tuple[str, str]]:
    return {f.check: (f.status, f.detail) for f in Verification(folder, **options).findings()}


def without_manifest(folder: Path) -> Path:
    (folder / "manifest.json").unlink()
    return folder


def test_a_good_folder(folder, capsys) -> None:
    assert golf(["data", "verify", str(folder), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    status = {finding["check"]: finding["status"] for finding in report["findings"]}
    assert report["error"] == ""
    assert status.pop("split") == "not testable"
    assert set(status) == {"headers", "ids", "hashes", "tokenizer", "bytes", "disjoint"}
    assert set(status.values()) == {"passed"}
    expected = sum(len(text.encode()) for text in texts(1, 20))
    assert f"{expected:,} bytes" in findings(folder)["bytes"][1]


def test_a_failure_is_exit_4_and_one_line(folder, capsys) -> None:
    tokens = np.array(read_shard(folder / VAL))
    write_shard(folder / VAL, tokens[::-1])
    assert golf(["data", "verify", str(folder)]) == 4
    shown = capsys.readouterr()
    assert "failed       ids        validation does not begin with a BOS" in shown.out
    assert shown.err.count("\n") == 1


def test_a_reordered_or_cut_split_is_not_trained_on_either(folder) -> None:
    tokens = np.array(read_shard(folder / VAL))
    second = int(np.flatnonzero(tokens == 1)[1])
    prepared = open_folder(folder)
    for changed, words in (
        (np.roll(tokens, -second), r"is another split, or in another order: sha256 .*, expected"),
        (tokens[:-9], r"has \d+ bytes, the manifest says \d+"),
    ):
        write_shard(folder / VAL, changed)
        assert findings(folder)["hashes"][0] == "failed"
        with pytest.raises(UserError, match=words):
            check_prepared(prepared, 32)
    write_shard(folder / VAL, tokens)
    assert check_prepared(prepared, 32) is not None
    write_shard(folder / "fineweb_train_000009.bin", tokens[::-1])
    with pytest.raises(UserError, match=r"fineweb_train_000009\.bin is not one of the \d+ files of the manifest"):
        check_prepared(open_folder(folder), 32)


def test_shards_of_another_tokenizer_of_the_same_size(folder, models) -> None:
    (folder / "tokenizer.model").write_bytes(models["other"])
    assert "shards were made with" in findings(folder)["tokenizer"][1]
    status, detail = findings(without_manifest(folder))["tokenizer"]
    assert (status, detail.partition("; ")[2][:2]) == ("failed", "0 ")


def test_missing_shards_foreign_ids_and_overlaps(folder) -> None:
    without_manifest(folder)
    (folder / TRAIN).unlink()
    assert "train shards are not numbered 0, 1, 2" in str([f.detail for f in Verification(folder).findings()])
    for path in folder.glob("fineweb_train_*.bin"):
        path.unlink()
    assert findings(folder)["disjoint"] == ("not testable", "no training shards")
    tokens = np.array(read_shard(folder / VAL))
    write_shard(folder / TRAIN, [1, 5, 400])
    assert findings(folder)["ids"][1].endswith("holds id 400, the tokenizer has 310 ids")
    starts = np.flatnonzero(tokens == 1)
    write_shard(folder / TRAIN, tokens[starts[3] : starts[4]])
    assert findings(folder)["disjoint"][0] == "failed"


def test_the_official_split_by_its_numbers(folder, monkeypatch) -> None:
    tokenizer, tokens = load_tokenizer(folder=folder), np.array(read_shard(folder / VAL))
    counted = tokenizer.byte_table().count_stream(tokens)
    scored = (len(tokens) - 1) // 64 * 64
    values = {
        "SCORED_MULTIPLE": 64,
        "DOCUMENTS": 20,
        "SPLIT_BYTES": int(counted.sum()),
        "PREFIX_TOKENS": 500,
        "official_tokenizer": lambda *_: known,
    }
    for name, value in values.items():
        monkeypatch.setattr(f"golf.data_commands.verify.{name}", value)
    prefix = official.token_sha256(tokens[:500])
    known = official.OfficialTokenizer("sp310", "x", scored, int(counted[:scored].sum()), prefix)
    found = findings(folder, full=True)
    assert [found[check][0] for check in ("bytes", "split", "order")] == ["passed"] * 3
    known = official.OfficialTokenizer("sp310", "x", scored, int(counted[:scored].sum()) + 1, "0" * 64)
    found = findings(folder, full=True)
    assert [found[check][0] for check in ("bytes", "split", "order")] == ["failed", "passed", "failed"]
    assert "expected" in found["bytes"][1]
    monkeypatch.setattr("golf.data_commands.verify.DOCUMENTS", 50_000)
    assert findings(folder, full=True)["split"] == (
        "failed",
        "20 documents of the official 50,000: scores on them are no leaderboard scores",
    )


def test_counts_of_the_official_manifest(tmp_path, folder) -> None:
    place = tmp_path / "data" / "datasets" / "fineweb10B_sp310"
    place.mkdir(parents=True)
    for path in folder.glob("*.bin"):
        (place / path.name).write_bytes(path.read_bytes())
    (place / "tokenizer.model").write_bytes((folder / "tokenizer.model").read_bytes())
    stats = {"files_val": 1, "files_train": 99, "tokens_val": len(read_shard(place / VAL)), "docs_val": 20}
    for changed, status in ({}, "passed"), ({"docs_val": 31}, "failed"), ({"tokens_val": 5}, "failed"):
        entry = {"name": place.name, "stats": stats | changed}
        (tmp_path / "data" / "manifest.json").write_text(json.dumps({"datasets": [entry]}))
        assert findings(place)["manifest"][0] == status


def test_what_a_run_records_of_its_data(folder) -> None:
    from golf.data.manifest import sha256_of_file

    recorded = open_folder(folder).identity()
    assert recorded["manifest_sha256"] == sha256_of_file(folder / "manifest.json")
    assert recorded["val_sha256"] == {VAL: sha256_of_file(folder / VAL)}
    assert recorded["train_shards"] == len(list(folder.glob("fineweb_train_*")))
    (folder / "manifest.json").unlink()
    assert open_folder(folder).identity()["manifest_sha256"] is None


def test_blocks_count_as_the_whole(folder) -> None:
    from golf.data.shards import Shards, validation_shards

    stream, table = Shards(validation_shards(folder)), load_tokenizer(folder=folder).byte_table()
    whole = table.count_stream(stream.read_all())
    pieces = [count_block(table, stream, first, min(first + 7, 300)) for first in range(1, 300, 7)]
    assert np.concatenate(pieces).tolist() == whole[:299].tolist()


def test_byte_tokenizers_and_folders_that_are_none(tmp_path, capsys) -> None:
    from golf.data.tokenizer_kinds import PureByteTokenizer, pure_byte_description

    (tmp_path / "tokenizer.json").write_bytes(pure_byte_description())
    write_text_dataset(tmp_path, {"val": texts(1, 4), "train": texts(2, 9)}, PureByteTokenizer(), {"name": "bytes"})
    assert findings(tmp_path)["tokenizer"] == (
        "passed",
        "byte260; 3 of 3 documents give their ids again when decoded and encoded",
    )
    assert golf(["data", "verify", str(tmp_path / "nothing")]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert golf(["data", "verify", str(tmp_path), "--tokenizer", "absent.model"]) == 2
    assert golf(["data"]) == 2
    assert "golf data --help" in capsys.readouterr().err
