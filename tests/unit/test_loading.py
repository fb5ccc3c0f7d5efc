"""golf.load opens runs and artifacts; init_from starts a run from their weights."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

import golf
from golf.errors import UserError
from golf.loading import load_state


def first_loss(run):
    return json.loads((run.path / "metrics.jsonl").read_text().splitlines()[0])["train/loss"]


def test_a_run_opens_with_tokenizer_and_config(text_run):
    net = golf.load(text_run.path)
    assert not net.training
    assert net.config["name"] == "smoke"
    assert net.tokenizer.decode(net.tokenizer.encode("hello")) == "hello"
    ids_BT = torch.tensor([net.tokenizer.encode("3 little birds")])
    assert net(ids_BT).shape == (1, 14, 260)


def test_an_artifact_opens_with_the_same_weights(smoke_run):
    packed, artifact = golf.load(smoke_run.path), golf.load(smoke_run.artifact("default"))
    assert artifact.config["_target_"] == "golf.models.gpt.GPT"
    assert artifact.tokenizer.kind == "synthetic"
    assert artifact.seq_len == packed.seq_len == 32
    for name, tensor in packed.state_dict().items():
        assert torch.equal(tensor, artifact.state_dict()[name]), name


def test_an_artifact_alone(smoke_run, text_run, tmp_path):
    alone = golf.load(shutil.copy(smoke_run.artifact("default"), tmp_path / "a.golf"))
    assert (alone.tokenizer, alone.seq_len) == (None, None)
    assert golf.load(shutil.copy(text_run.artifact("default"), tmp_path / "b.golf")).tokenizer.kind == "bytes"


def test_a_run_that_is_not_packed_gives_its_averaged_weights(tiny_run, tmp_path):
    run = tiny_run(tmp_path / "run", "through=average", "budget.max_steps=2")
    net = golf.load(run.path)
    averaged = load_file(run.path / "stages/average/weights.safetensors")
    assert all(torch.equal(tensor, averaged[name]) for name, tensor in net.state_dict().items())
    assert net.tokenizer.kind == "synthetic"


def test_nothing_to_load_is_one_line(smoke_run, tmp_path):
    for path, words in ((tmp_path, "is not a run folder"), (tmp_path / "none.golf", "none.golf")):
        with pytest.raises(UserError, match=words) as caught:
            golf.load(path)
        assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(UserError, match="type export= one of default"):
        golf.load(smoke_run.path, export="int6")


@pytest.mark.parametrize("source", ["run", "artifact", "checkpoint"])
def test_init_from_starts_with_those_weights(tiny_run, tmp_path, text_run, source):
    place = {
        "run": text_run.path,
        "artifact": text_run.artifact("default"),
        "checkpoint": next((text_run.path / "checkpoints").glob("step_*")),
    }[source]
    data = ("data=fineweb", f"data.folder={text_run.config['data']['folder']}", "tokenizer=bytes")
    warm = tiny_run(tmp_path / "warm", *data, f"init_from={place}", "budget.max_steps=2")
    assert first_loss(text_run) > 5.5
    assert first_loss(warm) < first_loss(text_run) - 1.0


def test_init_from_of_another_shape_or_nothing_is_one_line(tiny_run, tmp_path, text_run):
    with pytest.raises(UserError, match=r"do not fit this network .*tok_emb"):
        tiny_run(tmp_path / "a", f"init_from={text_run.path}")
    with pytest.raises(UserError, match="holds no weights: type a run folder"):
        tiny_run(tmp_path / "b", f"init_from={tmp_path / 'none'}")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "weights.safetensors").write_bytes(b"no")
    with pytest.raises(UserError, match="cannot be read"):
        load_state(tmp_path / "c")
