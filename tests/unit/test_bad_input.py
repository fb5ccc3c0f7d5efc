"""What a user can get wrong ends in one line and exit code 2, through the entry points that the scripts call."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from golf.config.entry import guard
from golf.data.shards import SHARD_HEADER_BYTES, read_shard, write_shard


@pytest.fixture
def refused(capsys):
    """refused(work, *words): `work` ends with exit code 2 and one line on stderr that holds the words."""

    def check(work, *words):
        capsys.readouterr()
        assert guard(work) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1, lines
        assert lines[0].startswith("golf: ")
        for word in words:
            assert str(word) in lines[0], lines[0]

    return check


@pytest.fixture
def shards(start_run, tmp_path):
    """A dataset folder in the official layout, which a test may spoil."""
    prepared = start_run(tmp_path / "source").data()
    return Path(shutil.copytree(prepared.folder, tmp_path / "shards"))


@pytest.fixture
def train_on(start_run, shards, tmp_path):
    """Train on the folder `shards` as `data=fineweb`."""

    def call(*overrides):
        from golf.app import run_pipeline

        options = ("data=fineweb", f"data.folder={shards}", "through=train", *overrides)
        run_pipeline(start_run(tmp_path / "run", *options))

    return call


@pytest.fixture(scope="session")
def finished(tiny_run, tmp_path_factory):
    return tiny_run(tmp_path_factory.mktemp("finished") / "run").path


@pytest.fixture
def run_copy(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def one(shards: Path, split: str) -> Path:
    return sorted(shards.glob(f"fineweb_{split}_*.bin"))[0]


# -- data --------------------------------------------------------------------------------------------------------------
def test_the_copied_shards_are_good(train_on, tmp_path):
    train_on()
    assert (tmp_path / "run/stages/train/manifest.json").is_file()


def test_a_vocabulary_that_is_not_the_tokenizers(train_on, refused):
    refused(lambda: train_on("tokenizer.vocab_size=512"), "tokenizer.vocab_size=1024")


def test_a_folder_without_training_shards(train_on, refused, shards):
    one(shards, "train").unlink()
    refused(train_on, "no fineweb_train_*.bin", shards, "data.folder=")


def test_a_folder_that_does_not_exist(train_on, refused, shards):
    shards.rename(shards.with_name("other"))
    refused(train_on, f"dataset folder {shards} does not exist", "other")


def spoil(change):
    def call(path):
        content = bytearray(path.read_bytes())
        path.write_bytes(bytes(change(content)))

    return call


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (spoil(lambda content: content[:-100]), "asks for"),
        (spoil(lambda content: content[:40]), f"{SHARD_HEADER_BYTES}-byte header"),
        (spoil(lambda content: b"\0\0\0\0" + content[4:]), "not a token shard: magic 0"),
        (spoil(lambda content: content[:4] + b"\x07\0\0\0" + content[8:]), "has version 7; golf reads version 1"),
        (spoil(lambda content: content[:-2] + b"\xff\xff"), "holds token id 65535, outside the vocabulary of 1024"),
    ],
    ids=["short", "no header", "magic", "version", "ids"],
)
def test_a_spoiled_shard(train_on, refused, shards, split, change, words):
    change(one(shards, split))
    refused(train_on, one(shards, split), words)


def test_validation_shorter_than_one_window(train_on, refused, shards):
    write_shard(one(shards, "val"), np.full(20, 7))
    refused(train_on, "validation has 20 tokens, shorter than one window of 32 + 1", "data.seq_len=19")


def test_validation_that_is_part_of_training(train_on, refused, shards):
    shutil.copy(one(shards, "val"), shards / "fineweb_train_000009.bin")
    refused(train_on, "training shard", "is the validation shard", "data.folder=")


def test_validation_documents_inside_training(train_on, refused, shards):
    train, validation = read_shard(one(shards, "train")), read_shard(one(shards, "val"))
    write_shard(one(shards, "train"), np.concatenate([np.asarray(train), np.asarray(validation)]))
    refused(train_on, "training overlaps validation", "validation documents")


# -- run folders -------------------------------------------------------------------------------------------------------
def resume(run, *overrides):
    from golf.app import resume

    return resume(str(run), list(overrides))


def test_a_resume_with_another_config_names_the_differences(run_copy, refused):
    work = lambda: resume(run_copy, "seed=2", "optim.matrix_lr=0.5")  # noqa: E731
    refused(work, "seed: 1337 -> 2", "optim.matrix_lr: 0.04 -> 0.5", "leave the overrides out")


def test_a_resume_with_the_same_values_goes_on(run_copy):
    assert resume(run_copy, "seed=1337", "through=train") == 0


def test_a_resume_with_a_mistyped_key(run_copy, refused):
    refused(lambda: resume(run_copy, "sed=2"), "seed")


def test_a_run_folder_of_another_version(run_copy, refused):
    config = run_copy / "config.yaml"
    config.write_text(config.read_text().replace("run_version: 1", "run_version: 7"))
    refused(lambda: resume(run_copy), "has run version 7, this golf reads 1", "source.tar.zst")


@pytest.mark.parametrize("content", ["", "- a\n", "{not: yaml"])
def test_a_config_that_is_not_one(run_copy, refused, content):
    (run_copy / "config.yaml").write_text(content)
    refused(lambda: resume(run_copy), run_copy)


def test_a_folder_that_is_not_a_run(tmp_path, refused):
    refused(lambda: resume(tmp_path), "is not a run folder (no config.yaml)", "runs/<name>/<time>")


def test_a_new_run_in_the_folder_of_another(start_run, run_copy, refused):
    refused(lambda: start_run(run_copy), "already holds a run", f"python train.py run={run_copy}")


def test_a_checkpoint_of_another_version(start_run, run_copy, tmp_path, refused):
    (checkpoint,) = (run_copy / "checkpoints").glob("step_*")
    meta = checkpoint / "meta.json"
    meta.write_text(meta.read_text().replace('"version": 1', '"version": 9'))
    refused(lambda: go_on_from(start_run, tmp_path, checkpoint), "checkpoint version 9, this golf reads 1")


def test_a_damaged_checkpoint(start_run, run_copy, tmp_path, refused):
    (checkpoint,) = (run_copy / "checkpoints").glob("step_*")
    state = checkpoint / "state.pt"
    state.write_bytes(state.read_bytes()[:1000])
    refused(lambda: go_on_from(start_run, tmp_path, checkpoint), checkpoint, "is damaged", "the one before")


def go_on_from(start_run, tmp_path, checkpoint):
    from golf.app import run_pipeline

    run_pipeline(start_run(tmp_path / "next", f"ckpt_path={checkpoint}", "through=train"))


@pytest.mark.parametrize("key", ["ckpt_path", "init_from"])
def test_weights_that_are_not_there(start_run, tmp_path, refused, key):
    from golf.app import run_pipeline

    work = lambda: run_pipeline(start_run(tmp_path / "run", f"{key}={tmp_path}/nowhere", "through=train"))  # noqa: E731
    refused(work, f"{tmp_path}/nowhere", "type")


def test_weights_of_another_network(start_run, run_copy, tmp_path, refused):
    from golf.app import run_pipeline

    options = (f"init_from={run_copy}", "model.width=48", "through=train")
    refused(lambda: run_pipeline(start_run(tmp_path / "run", *options)), "do not fit this network", "of another shape")


# -- exports and scores ------------------------------------------------------------------------------------------------
def score(*overrides):
    from golf.app import evaluate
    from golf.config.compose import compose

    return evaluate(compose("evaluate", ["hardware=cpu", *overrides]))


@pytest.mark.parametrize(
    "content", [None, b"", b"GOLF", b"something else entirely, long enough to be read as the head of a file"]
)
def test_an_artifact_that_is_none(run_copy, refused, content):
    """The fresh process that opens it says why, and that is the one line."""
    artifact = run_copy / "artifact" / "default" / "model.golf"
    if content is not None:
        artifact.parent.mkdir(parents=True)
        artifact.write_bytes(content)
    refused(lambda: score(f"artifact={artifact}", "eval.stride=16"), artifact)


def test_a_run_without_exports(run_copy, refused):
    refused(lambda: score(f"run={run_copy}"), "has no packed export 'default'", "(none yet)")


def test_an_export_of_a_run_without_weights(start_run, tmp_path, refused):
    from golf.pipeline.export import export_run

    run = start_run(tmp_path / "run")
    work = lambda: export_run(run, "default", run.config, "pack")  # noqa: E731
    refused(work, "has no trained weights yet", f"python train.py run={run.path}")


# -- disks -------------------------------------------------------------------------------------------------------------
def test_a_path_that_cannot_be_a_folder(start_run, tmp_path, refused):
    (tmp_path / "file").write_text("")
    refused(lambda: start_run(tmp_path / "file" / "run"), "no permission to write", "hydra.run.dir=<folder>")


def test_an_error_of_the_disk_outside_of_any_stage(refused):
    def work():
        raise OSError(28, os.strerror(28), "somewhere/log.txt")

    refused(work, "cannot write somewhere/log.txt: no space left on the disk", "the last finished state is untouched")
