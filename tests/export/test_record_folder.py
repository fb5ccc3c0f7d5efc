"""The record folder: derived from three seeds, agrees with itself and the runs, and is refused where it must be."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from golf.errors import LimitExceeded, UserError
from golf.files import sha256_of
from golf.pipeline.run_folder import RunFolder, open_run_folder
from golf.rules.facts import facts_from_log
from golf.submission.record import claim_errors, require_settings, write_record

ROOT = Path(__file__).parents[2]
SMALL = ("experiment=smoke", "budget.max_steps=3", "eval.max_tokens=0", "data.val_tokens=2000", "hardware=cpu")
AUTHOR = {"author": "Ada", "github_id": "ada", "other_code": True}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("record")
    command = [sys.executable, str(ROOT / "train.py"), *SMALL, "hardware.compile=false", f"data.folder={folder}/data"]
    done = subprocess.run([*command, f"hydra.run.dir={folder}/runs/1"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return folder / "runs" / "1"


@pytest.fixture
def seeds(trained, tmp_path) -> list[RunFolder]:
    """The trained run and two copies of it with other seeds and other scores."""
    found = []
    for index, seed in enumerate((1337, 7, 42)):
        folder = tmp_path / "runs" / str(seed)
        shutil.copytree(trained, folder)
        config, summary = (
            yaml.safe_load((folder / "config.yaml").read_text()),
            json.loads((folder / "summary.json").read_text()),
        )
        config["seed"] = summary["seed"] = seed
        for entry in summary["exports"]["default"]["ladder"]:
            entry["bpb"] += 0.01 * index
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        (folder / "summary.json").write_text(json.dumps(summary))
        found.append(open_run_folder(folder))
    return found


def write(run: RunFolder, **settings) -> Path:
    return write_record(run, "default", run.config, AUTHOR | settings)


def test_everything_is_there_and_agrees(seeds):
    folder = write(seeds[0], blurb="A test.")
    logs = ["train_seed1337.log", "train_seed42.log", "train_seed7.log"]
    assert sorted(path.name for path in folder.iterdir()) == [
        *("README.md", "SHA256SUMS", "final_model.golf", "requirements.txt", "resolved_config.yaml", "run.sh"),
        *("submission.json", "train_gpt.py"),
        *logs,
    ]
    claims = json.loads((folder / "submission.json").read_text())
    assert claim_errors(claims) == []
    assert claims["seeds"] == [1337, 7, 42]
    results = claims["seed_results"]
    assert claims["val_bpb"] == pytest.approx(statistics.fmean(result["val_bpb"] for result in results.values()))
    assert claims["val_bpb_std"] == pytest.approx(0.01)
    assert claims["bytes_code"] == (folder / "train_gpt.py").stat().st_size
    assert claims["bytes_total"] == claims["bytes_code"] + (folder / "final_model.golf").stat().st_size
    assert claims["track"] == "non_record"
    assert claims["compliance"]["official_validation_split"] is False
    for name in logs:
        facts = facts_from_log((folder / name).read_text(), name)
        result = results[str(facts.seed)]
        assert facts.final.bpb == pytest.approx(result["val_bpb"], abs=1e-8)
        assert facts.total_bytes == result["bytes_total"]
        assert facts.train_seconds == pytest.approx(result["train_time_s"], abs=1e-3)
        assert facts.eval_seconds == pytest.approx(result["eval_time_s"], abs=1e-3)
    page = (folder / "README.md").read_text()
    assert f"**{claims['val_bpb']:.5f} BPB** ± 0.01000" in page
    assert "not the challenge's official split" in page
    assert "A test." in page
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split()
        assert sha256_of(folder / name) == digest
    assert {line.partition("==")[0] for line in (folder / "requirements.txt").read_text().split()} >= {"torch", "numpy"}
    assert "SEED=7 python train_gpt.py" in (folder / "run.sh").read_text()


def test_the_referee_finds_nothing_that_disagrees(seeds):
    from golf.rules.audit import audit
    from golf.rules.profile import load_profile
    from golf.rules.subject import submission_subject

    names = ["L20", "L21", "L32", "L33", "H1"]
    found = audit(submission_subject(write(seeds[0])), load_profile("strict"), names)["rules"]
    assert {rule["id"]: rule["outcome"] for rule in found} == dict.fromkeys(names, "pass")


def test_nothing_is_overwritten(seeds):
    write(seeds[0])
    with pytest.raises(UserError, match="exists and is kept"):
        write(seeds[0])


def test_a_record_needs_an_author(seeds):
    with pytest.raises(UserError, match=r"type record\.author="):
        require_settings(seeds[0], "default", {"author": None})


def test_other_code_is_named_and_recorded(seeds):
    run = seeds[0]
    (run.path / "source.tar.zst").write_bytes(_without_one_file((run.path / "source.tar.zst").read_bytes()))
    with pytest.raises(UserError, match=r"trained with other code than this: golf/loop\.py"):
        write(run, other_code=False)
    claims = json.loads((write(run) / "submission.json").read_text())
    assert "golf/loop.py" in claims["golf"]["code_differs_from_the_runs"]
    assert claims["seeds"] == [1337], "the others ran another source"


def _without_one_file(snapshot: bytes) -> bytes:
    import io
    import tarfile

    import zstandard

    content = zstandard.ZstdDecompressor().stream_reader(snapshot).read()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(content)) as old, tarfile.open(fileobj=buffer, mode="w") as new:
        for entry in old.getmembers():
            if entry.name != "golf/loop.py":
                new.addfile(entry, old.extractfile(entry))
    return zstandard.ZstdCompressor().compress(buffer.getvalue())


def _edit(run: RunFolder, change) -> None:
    summary = json.loads((run.path / "summary.json").read_text())
    change(summary)
    (run.path / "summary.json").write_text(json.dumps(summary))


def _partly_scored(summary) -> None:
    summary["exports"]["default"]["ladder"][-1]["coverage"]["complete"] = False


@pytest.mark.parametrize(
    ("change", "settings", "words"),
    [
        (_partly_scored, {}, "every validation token"),
        (lambda s: s["exports"].pop("default"), {}, "has no export 'default'"),
        (lambda s: s["exports"]["default"].update(ladder=s["ladder"][:1]), {}, "is not finished"),
        (lambda s: s, {"track": "10min_16mb"}, "not 8 x H100"),
        (lambda s: s, {"track": "fastest"}, "allowed are 10min_16mb, non_record, unlimited"),
    ],
)
def test_what_is_refused(seeds, change, settings, words):
    _edit(seeds[0], change)
    with pytest.raises(UserError, match=words):
        write(seeds[0], **settings)
    assert not (seeds[0].path / "submission" / "default" / "record").exists()


def test_too_large_names_the_classes(seeds):
    run = RunFolder(seeds[0].path, {**seeds[0].config, "budget": {**seeds[0].config["budget"], "limit_bytes": 1000}})
    with pytest.raises(LimitExceeded, match=r"over the limit of 1,000 \(embedding .*, code .*fit\.margin_bytes=0"):
        write(run)


def test_seeds_of_other_configurations_are_refused(seeds):
    other = yaml.safe_load((seeds[1].path / "config.yaml").read_text())
    other["optim"]["matrix_lr"] = 0.5
    (seeds[1].path / "config.yaml").write_text(yaml.safe_dump(other))
    with pytest.raises(UserError, match=r"optim\.matrix_lr"):
        write(seeds[0], runs=[str(seeds[1].path)])
