"""`golf data retokenise`: order, BOS, shards, sidecars, restarts, disjoint splits, and what is no document."""

import gzip
import json
import lzma
import os
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import zstandard

from golf.cli import main as golf
from golf.data.dataset import check_prepared, open_folder
from golf.data.manifest import is_complete
from golf.data.sentencepiece_training import train_sentencepiece
from golf.data.shards import Shards, read_shard, train_shards, validation_shards
from golf.data.tokenizer import open_tokenizer
from golf.data_commands import retokenise as module
from golf.data_commands import sources
from golf.errors import UserError

VAL, TRAIN = "fineweb_val_000000.bin", "fineweb_train_000000.bin"
TEXTS = [f"Document {n}: the ball rolls {'over the grass ' * (n % 7)}é\n" for n in range(60)]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "small.model"
    path.write_bytes(train_sentencepiece(TEXTS, 320))
    return path


@pytest.fixture
def documents(tmp_path: Path, monkeypatch) -> Path:
    """The texts as JSON lines, read in batches of a few documents."""
    monkeypatch.setattr(sources, "BATCH_BYTES", 300)
    path = tmp_path / "docs_selected.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS), encoding="utf-8")
    return path


def make(documents: Path, model: Path | str, out: Path, *more: str) -> int:
    usual = ["--val-docs", "20", "--shard-tokens", "150", "--workers", "1"]
    return golf(["data", "retokenise", str(documents), "--tokenizer", str(model), "--out", str(out), *usual, *more])


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def expected_stream(model: Path, texts: list[str]) -> list[int]:
    tokenizer = open_tokenizer(model)
    return [token for text in texts for token in (1, *tokenizer.encode(text))]


def test_splits_shards_and_manifest(documents, model, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    assert make(documents, model, out) == 0
    assert Shards(validation_shards(out)).read_all().tolist() == expected_stream(model, TEXTS[:20])
    assert Shards(train_shards(out)).read_all().tolist() == expected_stream(model, TEXTS[20:])
    assert set(Shards(train_shards(out)).lengths[:-1]) == {150}
    manifest = json.loads((out / "manifest.json").read_text())
    assert is_complete(out)
    assert [manifest["splits"][split]["documents"] for split in ("val", "train")] == [20, 40]
    assert manifest["splits"]["val"]["exact"]
    assert manifest["splits"]["val"]["lost_bytes"] == 20, "the normaliser drops the newline at the end"
    assert check_prepared(open_folder(out), 32) is not None
    assert golf(["data", "verify", str(out)]) == 0
    before = content(out)
    assert make(documents, model, out) == 0
    assert content(out) == before
    assert "is complete already" in capsys.readouterr().out
    assert make(documents, "bytes", out) == 2
    assert "holds another dataset" in capsys.readouterr().err


def test_the_number_of_workers_does_not_matter(documents, model, tmp_path) -> None:
    assert make(documents, model, tmp_path / "one") == 0
    assert make(documents, model, tmp_path / "two", "--workers", "2") == 0
    one, two = content(tmp_path / "one"), content(tmp_path / "two")
    assert one.keys() == two.keys()
    assert [name for name in one if name != "manifest.json" and one[name] != two[name]] == []


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.xz", ".jsonl.zst", ".parquet"])
def test_every_format_gives_the_same_shards(suffix, documents, model, tmp_path, monkeypatch) -> None:
    other = tmp_path / f"docs{suffix}"
    raw = documents.read_bytes()
    if suffix == ".parquet":
        pyarrow = pytest.importorskip("pyarrow", reason="the extra golf[data] is not installed")
        parquet = pytest.importorskip("pyarrow.parquet", reason="the extra golf[data] is not installed")
        parquet.write_table(pyarrow.table({"text": TEXTS}), other, row_group_size=17)
        monkeypatch.setattr(sources, "PARQUET_ROWS", 5)
    else:
        pack = {".jsonl.gz": gzip.compress, ".jsonl.xz": lzma.compress, ".jsonl.zst": zstandard.compress}[suffix]
        other.write_bytes(pack(raw))
    assert make(documents, model, tmp_path / "plain") == 0
    with stopping_after(3):
        make(other, model, tmp_path / "other")
    assert make(other, model, tmp_path / "other") == 0
    shards = [{k: v for k, v in content(tmp_path / name).items() if k.endswith(".bin")} for name in ("plain", "other")]
    assert shards[0] == shards[1]


class Stopped(BaseException):
    """A process that ends at once."""


@contextmanager
def stopping_after(batches: int):
    """A run in here dies after this many batches; every other one has no checkpoint but those between splits."""
    left, take = [batches], module.Retokeniser._take

    def dying(self, *arguments):
        left[0] -= 1
        if left[0] < 0:
            raise Stopped
        return take(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.Retokeniser, "_take", dying)
        patch.setattr(module, "CHECKPOINT_SECONDS", 0.0 if batches % 2 else 1e9)
        with pytest.raises(Stopped):
            yield


@pytest.mark.parametrize("kind", ["plain", "caseops"])
def test_it_goes_on_wherever_it_was_stopped(kind, documents, model, tmp_path, capsys) -> None:
    if kind == "caseops":
        model = tmp_path / "caseops.model"
        train = ["data", "tokenizer", "train", str(documents), "--kind", "caseops", "--vocab-size", "320"]
        assert golf([*train, "--lossless", "--out", str(model)]) == 0
    assert make(documents, model, tmp_path / "whole") == 0
    whole = content(tmp_path / "whole")
    assert any("val_bytes" in name for name in whole) == (kind == "caseops")
    for batches in (0, 1, 7, 8, 11, 12):
        out = tmp_path / f"out{batches}"
        with stopping_after(batches):
            make(documents, model, out)
        part = next(iter(out.glob("*.part")), None)
        if part is not None:  # what was written after the last checkpoint
            with open(part, "ab") as file:
                file.write(b"\x07\x00" * 5)
        assert not is_complete(out)
        assert make(documents, model, out) == 0
        assert [name for name in whole if name != "manifest.json" and content(out)[name] != whole[name]] == []
    assert "going on after" in capsys.readouterr().out


def test_other_settings_do_not_go_on(documents, model, tmp_path, capsys) -> None:
    with stopping_after(5):
        make(documents, model, tmp_path / "out")
    assert make(documents, model, tmp_path / "out", "--shard-tokens", "99") == 2
    assert "was begun with another shard_tokens; type --restart" in capsys.readouterr().err
    assert make(documents, model, tmp_path / "out", "--shard-tokens", "99", "--restart") == 0


def test_an_overlap_is_an_error_unless_it_is_left_out(documents, model, tmp_path, capsys) -> None:
    with open(documents, "a", encoding="utf-8") as file:
        file.write(json.dumps({"text": f"  {TEXTS[3]}"}) + "\n")
        file.write(json.dumps({"text": "the very last one"}) + "\n")
    assert make(documents, model, tmp_path / "out") == 2
    assert "document 61: a training document that is also in validation; type --drop-overlap" in capsys.readouterr().err
    assert not is_complete(tmp_path / "out")
    assert make(documents, model, tmp_path / "out", "--drop-overlap") == 0
    stream = Shards(train_shards(tmp_path / "out")).read_all().tolist()
    assert stream == expected_stream(model, [*TEXTS[20:], "the very last one"])
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (manifest["disjoint"]["dropped"], manifest["splits"]["train"]["documents"]) == (1, 41)


def test_validation_of_its_own_and_a_limit_on_training(documents, model, tmp_path) -> None:
    val = tmp_path / "val.jsonl"
    val.write_text(json.dumps({"text": "Something else"}) + "\n")
    assert make(documents, model, tmp_path / "out", "--val", str(val), "--max-train-tokens", "400") == 0
    assert Shards(validation_shards(tmp_path / "out")).read_all().tolist() == expected_stream(model, ["Something else"])
    stream = Shards(train_shards(tmp_path / "out")).read_all().tolist()
    assert stream == expected_stream(model, TEXTS)[:400]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["splits"]["train"] == {"tokens": 400, "documents": stream.count(1)}


def test_bytes_and_gpt2_lose_nothing(documents, tmp_path) -> None:
    train = ["data", "tokenizer", "train", str(documents), "--kind", "gpt2", "--vocab-size", "300"]
    assert golf([*train, "--out", str(tmp_path / "gpt2.tiktoken")]) == 0
    for tokenizer in ("bytes", str(tmp_path / "gpt2.tiktoken")):
        out = tmp_path / Path(tokenizer).stem
        assert make(documents, tokenizer, out) == 0
        prepared = open_folder(out)
        manifest = json.loads((out / "manifest.json").read_text())["splits"]["val"]
        assert manifest["counted_bytes"] == sum(len(text.encode()) for text in TEXTS[:20])
        assert (manifest["lost_bytes"], manifest["changed_documents"], manifest["exact"]) == (0, 0, True)
        ids = prepared.validation_tokens()
        decoded = prepared.tokenizer().decode(ids[ids != prepared.tokenizer().bos_id].tolist())
        assert decoded == "".join(TEXTS[:20])


def test_what_is_no_document_is_named_by_its_place(documents, model, tmp_path, capsys) -> None:
    lines = documents.read_bytes().splitlines(keepends=True)
    faults = {
        b'{"text": "caf\xe9"}\n': "document 31: invalid UTF-8 at byte 13",
        b'{"text": "open\n': "document 31: not JSON",
        b'{"body": "x"}\n': "document 31: no key 'text' (it has body); type --field",
        b'{"text": 7}\n': "document 31: the text is '7', not a string",
        b'{"text": "\\ud800"}\n': "document 31: character 0 is half of a surrogate pair",
    }
    for number, (line, words) in enumerate(faults.items()):
        spoiled = tmp_path / f"spoiled{number}.jsonl"
        spoiled.write_bytes(b"".join([*lines[:30], line, *lines[31:]]))
        assert make(spoiled, model, tmp_path / f"out{number}") == 2
        error = capsys.readouterr().err.strip()
        assert words in error
        assert error.count("\n") == 0
        assert not is_complete(tmp_path / f"out{number}")


def test_wrong_requests_are_one_line(documents, model, tmp_path, capsys, monkeypatch) -> None:
    (tmp_path / "x.csv").write_text("a,b")
    (tmp_path / "broken.jsonl.xz").write_bytes(lzma.compress(documents.read_bytes())[:-40])
    (tmp_path / "none.jsonl").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    cases = [
        (documents, ["--val-docs", "61"], "there are 60 documents, fewer than --val-docs 61; type --val-docs 3"),
        (documents, ["--val-docs", "60"], "no document is left for training"),
        (tmp_path / "none.jsonl", [], "there is no document in"),
        (tmp_path / "absent.jsonl", [], "is not there; name .jsonl"),
        (tmp_path / "x.csv", [], "is of another kind; convert it"),
        (tmp_path / "broken.jsonl.xz", [], "is damaged"),
        (documents, ["--tokenizer", str(documents)], "is not a SentencePiece model"),
        (documents, ["--shard-tokens", "0"], "--shard-tokens 0 is not within 1"),
        (documents, ["--out", str(tmp_path / "full")], "holds mine.txt already; type --out"),
    ]
    for number, (path, more, words) in enumerate(cases):
        assert make(path, model, tmp_path / f"out{number}", *more) == 2, words
        error = capsys.readouterr().err.strip()
        assert words in error, error
        assert error.count("\n") == 0

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.ShardWriter, "append", full)
    assert make(documents, model, tmp_path / "no_space") == 2
    assert "no space left in" in capsys.readouterr().err


def test_a_vocabulary_that_shards_cannot_hold() -> None:
    class Large:
        vocab_size, bos_id = 70_000, 1

    from golf.data_commands.request import Request, check_request

    with pytest.raises(UserError, match="70,000 ids; shards hold ids up to 65,535"):
        check_request(Request(None, Path(), "large.model"), Large())


def test_a_disk_that_will_be_full_is_noticed_early(documents, model, tmp_path, capsys, monkeypatch) -> None:
    from golf.data_commands import space

    monkeypatch.setattr(module, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(space, "SPARE_BYTES", 0)
    free = [400]
    monkeypatch.setattr(space.shutil, "disk_usage", lambda _: SimpleNamespace(free=free[0]))
    assert make(documents, model, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "GB are free; make room" in error
    assert "--max-train-tokens" in error
    before = len(list((tmp_path / "out").glob("fineweb_train_*.bin")))
    free[0] = 1 << 40
    assert make(documents, model, tmp_path / "out") == 0
    assert before < len(train_shards(tmp_path / "out")) - 2
    assert make(documents, model, tmp_path / "whole") == 0
    assert [
        name
        for name, found in content(tmp_path / "whole").items()
        if name.endswith(".bin") and found != content(tmp_path / "out")[name]
    ] == []


def test_tokens_are_16_bit_and_little_endian(documents, model, tmp_path) -> None:
    assert make(documents, model, tmp_path / "out") == 0
    raw = (tmp_path / "out" / "fineweb_val_000000.bin").read_bytes()
    header = np.frombuffer(raw[:1024], dtype="<i4")
    assert header[:3].tolist() == [20240520, 1, (len(raw) - 1024) // 2]
    assert not header[3:].any()
    assert np.frombuffer(raw[1024:1026], dtype="<u2")[0] == 1


def test_real_documents_give_the_published_shards(tmp_path) -> None:
    data = os.environ.get("GOLF_DATA")
    if not data:
        pytest.skip("GOLF_DATA does not name a folder with real documents and their official shards")
    docs, place = Path(data, "docs"), Path(data, "datasets", "fineweb_mini_sp8192")
    command = ["data", "retokenise", str(docs / "train_fineweb.jsonl.xz"), "--out", str(tmp_path / "out")]
    command += ["--val", str(docs / "val_fineweb_official_prefix.jsonl"), "--max-train-tokens", "300000"]
    tokenizer = Path(data, "tokenizers", "fineweb_8192_bpe.model")
    assert golf([*command, "--tokenizer", str(tokenizer), "--workers", "1"]) == 0
    assert (tmp_path / "out" / VAL).read_bytes() == (place / VAL).read_bytes()
    ours, theirs = (np.asarray(read_shard(folder / TRAIN)) for folder in (tmp_path / "out", place))
    assert np.array_equal(ours, theirs[:300_000])
