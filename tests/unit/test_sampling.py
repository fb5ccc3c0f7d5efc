"""golf sample: text from a packed model, the same for the same seed, and one line for every wrong argument."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

import golf as package
from golf.cli import main as golf
from golf.errors import UserError
from golf.sampling import draw, generate, parse


@pytest.fixture
def artifact(text_run):
    return str(text_run.artifact("default"))


def test_text_from_an_artifact_and_from_its_run(artifact, text_run, capsys):
    settings = ["prompt=12 little", "tokens=20", "temperature=2"]
    assert golf(["sample", f"artifact={artifact}", *settings]) == 0
    text = capsys.readouterr().out
    assert text.startswith("12 little")
    assert len(text) > len("12 little\n")
    assert golf(["sample", f"run={text_run.path}", *settings]) == 0
    assert capsys.readouterr().out == text
    assert golf(["sample", f"run={text_run.path}", *settings, "seed=7"]) == 0
    assert capsys.readouterr().out != text


def test_json(artifact, capsys):
    assert golf(["sample", f"artifact={artifact}", "prompt=a", "tokens=5", "temperature=0", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["ids"]) <= 5
    assert (found["prompt"], found["temperature"], found["top_k"]) == ("a", 0.0, 40)


def test_greedy_is_the_likeliest_token_and_the_window_is_that_of_training(text_run):
    net = package.load(text_run.path)
    lengths = []
    net.tok_emb.register_forward_hook(lambda module, inputs, output: lengths.append(inputs[0].shape[1]))
    start = [net.tokenizer.bos_id, *net.tokenizer.encode("3 little birds sat on the")]
    ids = list(generate(net, start, tokens=12, temperature=0, window=net.seq_len))
    assert net.seq_len == 32
    assert max(lengths) == 32
    with torch.no_grad():
        assert ids[0] == int(net(torch.tensor([start]))[0, -1].argmax())


def test_a_document_may_end(text_run):
    net = package.load(text_run.path)
    with torch.no_grad():
        likeliest = int(net(torch.tensor([[net.tokenizer.bos_id]]))[0, -1].argmax())
    net.tokenizer.bos_id = likeliest
    assert list(generate(net, [1], tokens=5, temperature=0)) == []


def test_top_k_and_temperature():
    logits = torch.tensor([0.0, 3.0, 2.0, -1.0])
    seen = []
    assert draw(logits, 1.0, 2, lambda p: seen.append(p) or 1) == 1
    assert seen[0][[0, 3]].tolist() == [0.0, 0.0]
    draw(logits, 0.5, 0, lambda p: seen.append(p) or 1)
    assert seen[1].tolist() == pytest.approx((logits / 0.5).softmax(0).tolist())
    assert draw(logits, 0.0, 0, None) == 1


def test_a_model_outside_its_run_needs_its_tokenizer(smoke_run, tmp_path, capsys):
    alone = shutil.copy(smoke_run.artifact("default"), tmp_path / "model.golf")
    assert golf(["sample", f"artifact={alone}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "type tokenizer=<its file>" in line
    tokenizer = smoke_run.data().tokenizer_path
    assert golf(["sample", f"artifact={alone}", f"tokenizer={tokenizer}", "tokens=3"]) == 0
    assert capsys.readouterr().out.startswith("<")
    assert golf(["sample", f"artifact={alone}", "tokenizer=bytes"]) == 2
    assert "is not the model's" in capsys.readouterr().err


def test_a_synthetic_model_has_no_text(smoke_run, capsys):
    assert golf(["sample", f"run={smoke_run.path}", "prompt=hello"]) == 2
    assert "no text" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "nothing to sample from: type artifact="),
        (["run=a", "artifact=b"], "both set"),
        (["artifact=nowhere.golf"], "does not exist: type the path of a packed"),
        (["run=x", "temprature=1"], "nearest: temperature; type temperature=1"),
        (["run=x", "tokens=many"], "a whole number from 0 is expected; type tokens=100"),
        (["run=x", "top_k=-1"], "type top_k=40"),
        (["run=x", "temperature=nan"], "type temperature=0.8"),
        (["hello"], "arguments are key=value; type prompt="),
        (["."], "type run=."),
        (["run=x", "--fast"], "arguments are key=value"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, words):
    with pytest.raises(UserError) as caught:
        parse(arguments)
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_folder_that_is_no_run(tmp_path, capsys):
    assert golf(["sample", f"run={tmp_path}"]) == 2
    assert "is not a run folder" in capsys.readouterr().err


def test_help(capsys):
    assert golf(["sample", "--help"]) == 0
    assert "temperature" in capsys.readouterr().out
