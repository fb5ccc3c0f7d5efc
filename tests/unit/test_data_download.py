"""`golf data download` against a server that speaks the hub's protocol: layout, resuming, hashes, errors."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hub_server import COMMIT, HubServer

from golf.cli import main as golf
from golf.data.manifest import is_complete
from golf.data.sentencepiece_training import train_sentencepiece
from golf.data.shards import write_shard

pytest.importorskip("huggingface_hub", reason="the extra golf[data] is not installed")
REPO, DATASET = "someone/parameter-golf", "fineweb10B_sp300"
FIRST = f"datasets/datasets/{DATASET}/fineweb_train_000000.bin"


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, bytes]:
    """A repository with one dataset of one validation and three training shards."""
    folder, rng = tmp_path_factory.mktemp("remote"), np.random.default_rng(0)
    content = {"datasets/tokenizers/fineweb_300_bpe.model": train_sentencepiece(["the ball rolls over grass"] * 9, 285)}
    for name in ("fineweb_val_000000.bin", *(f"fineweb_train_{i:06d}.bin" for i in range(3))):
        write_shard(folder / name, np.concatenate([[1], rng.integers(4, 285, size=40_000)]))
        content[f"datasets/datasets/{DATASET}/{name}"] = (folder / name).read_bytes()
    entry = {
        "name": DATASET,
        "tokenizer_name": "sp_bpe_300",
        "path": f"datasets/{DATASET}",
        "stats": {"files_train": 3, "files_val": 1, "tokens_val": 40_001, "docs_val": 1},
    }
    tokenizer = {"name": "sp_bpe_300", "model_path": "tokenizers/fineweb_300_bpe.model"}
    manifest = {"version": "10B", "datasets": [entry], "tokenizers": [tokenizer]}
    return {**content, "datasets/manifest.json": json.dumps(manifest).encode()}


@pytest.fixture
def hub(files, monkeypatch):
    with HubServer(REPO, dict(files)) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        yield server


def download(folder: Path, *more: str, shards: int = 2) -> int:
    fixed = ["data", "download", "--variant", "sp300", "--repo", REPO, "--folder", str(folder)]
    return golf([*fixed, "--train-shards", str(shards), *more])


def test_the_official_layout_with_a_pin(hub, tmp_path, capsys) -> None:
    assert download(tmp_path) == 0
    folder = tmp_path / "datasets" / DATASET
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["fineweb_train_000000.bin", "fineweb_train_000001.bin", "fineweb_val_000000.bin", "manifest.json"]
    assert (tmp_path / "tokenizers" / "fineweb_300_bpe.model").is_file()
    pin = json.loads((folder / "manifest.json").read_text())
    assert (pin["repo"], pin["commit"], is_complete(folder)) == (REPO, COMMIT, True)
    assert golf(["data", "verify", str(folder)]) == 0
    assert "hashes     3 files as in manifest.json" in capsys.readouterr().out

    before = hub.requests[FIRST]
    assert download(tmp_path, shards=3) == 0  # more shards: what is there is checked and kept
    assert hub.requests[FIRST] == before
    assert len(json.loads((folder / "manifest.json").read_text())["files"]) == 4


def test_a_broken_connection_is_resumed_within_a_run_and_by_the_next(hub, tmp_path, capsys) -> None:
    hub.cut[FIRST] = 30_000
    assert download(tmp_path / "a") == 0
    assert len(hub.ranges[FIRST]) == 2
    assert max(hub.ranges[FIRST]) <= 30_000  # the client drops the block that was not whole
    assert (tmp_path / "a" / "datasets" / DATASET / "fineweb_train_000000.bin").read_bytes() == hub.files[FIRST]

    hub.ranges.clear()
    hub.cut[FIRST] = 30_000
    shutil.rmtree(tmp_path / "a" / "datasets")
    target = tmp_path / "a" / "datasets" / DATASET / "fineweb_train_000000.bin"
    target.parent.mkdir(parents=True)
    target.with_name(f"{target.name}.part").write_bytes(hub.files[FIRST][:20_000])  # what a killed process leaves
    hub.broken.add(FIRST)
    assert download(tmp_path / "a") == 2
    error = capsys.readouterr().err.strip()
    assert error.count("\n") == 0
    assert "type the command again" in error
    assert not target.exists()
    hub.broken.clear()
    hub.cut.clear()
    assert download(tmp_path / "a") == 0
    assert hub.ranges[FIRST] == [20_000]
    assert target.read_bytes() == hub.files[FIRST]


def test_wrong_content_is_deleted_and_never_looks_complete(hub, tmp_path, capsys) -> None:
    content = bytearray(hub.files[FIRST])
    content[5000] ^= 1
    hub.lies[FIRST] = bytes(content)
    assert download(tmp_path) == 4
    assert "expected hash" in capsys.readouterr().err
    folder = tmp_path / "datasets" / DATASET
    assert not list(folder.glob("fineweb_train_000000.bin*"))
    assert not (folder / "manifest.json").exists()


def test_a_pin_demands_its_content(hub, tmp_path, capsys) -> None:
    assert download(tmp_path / "first") == 0
    pin = tmp_path / "first" / "datasets" / DATASET / "manifest.json"
    assert download(tmp_path / "second", "--pin", str(pin)) == 0
    hub.files[FIRST] = hub.files[FIRST][:-2] + b"\x05\x00"  # the owner replaced a shard
    assert download(tmp_path / "third", "--pin", str(pin)) == 4
    assert "expected sha256" in capsys.readouterr().err
    assert not (tmp_path / "third" / "datasets").exists()
    assert download(tmp_path / "first") == 4  # a folder's own pin counts as well
    assert download(tmp_path / "first", "--update") == 0


def test_what_does_not_exist_is_said_in_one_line(hub, tmp_path, capsys) -> None:
    del hub.files[f"datasets/datasets/{DATASET}/fineweb_train_000001.bin"]
    common = ["data", "download", "--folder", str(tmp_path)]
    cases = {
        r"does not hold .*fineweb_train_000001.bin (404)": [*common, "--repo", REPO, "--variant", "sp300"],
        "--train-shards 9: fineweb10B_sp300 has 3": [
            *common,
            "--repo",
            REPO,
            "--variant",
            "sp300",
            "--train-shards",
            "9",
        ],
        "has sp300; type --variant": [*common, "--repo", REPO, "--variant", "sp1024"],
        "not published; known are sp1024": [*common, "--variant", "sp77"],
        "no such dataset": [*common, "--repo", "nobody/nothing"],
        "no such revision": [*common, "--repo", REPO, "--revision", "v9"],
        "has no other/manifest.json (404)": [*common, "--repo", REPO, "--root", "other"],
        "is no manifest.json of golf data download": [*common, "--repo", REPO, "--pin", str(tmp_path)],
    }
    for words, command in cases.items():
        if "--train-shards" not in command:
            command += ["--train-shards", "2"]
        assert golf(command) == 2, words
        error = capsys.readouterr().err.strip()
        assert error.count("\n") == 0, error
        assert words.partition(".*")[0] in error, error
        assert words.rpartition(".*")[2] in error, error


def test_no_space_is_noticed_before_anything_is_fetched(hub, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("golf.data_commands.download.shutil.disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 1000))
    assert download(tmp_path) == 2
    assert "GB to fetch, 0.00 GB free" in capsys.readouterr().err
    assert not hub.requests[FIRST]


def test_a_manifest_cannot_write_outside_of_the_folder(hub, tmp_path, capsys) -> None:
    manifest = json.loads(hub.files["datasets/manifest.json"])
    manifest["tokenizers"][0]["model_path"] = "../../escaped.model"
    hub.files["datasets/manifest.json"] = json.dumps(manifest).encode()
    assert download(tmp_path / "in") == 2
    assert "outside of its folder" in capsys.readouterr().err


def test_one_failure_stops_the_others(tmp_path) -> None:
    import threading

    from golf.data_commands.hub import StoppableFile
    from golf.errors import UserError

    stopped = threading.Event()
    with open(tmp_path / "x.part", "ab") as file:
        target = StoppableFile(file, stopped)
        target.write(b"abc")
        assert target.tell() == 3
        stopped.set()
        with pytest.raises(UserError, match="go on"):
            target.write(b"def")
    assert (tmp_path / "x.part").read_bytes() == b"abc"
