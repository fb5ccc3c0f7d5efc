"""Gradual magnitude pruning: the published schedule, zeros that stay, and what becomes of them after training."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from golf.config.build import build
from golf.config.compose import compose
from golf.errors import UserError
from golf.models.roles import roles_of
from golf.optim.averaging import Ema
from golf.progress import Progress
from golf.quant.formats import FORMAT_NAMES, format_named
from golf.quant.gradual_pruning import GradualPruning, zero_smallest
from golf.quant.rtn import quantise_rows


class Toy(nn.Module):
    """A matrix, a stack of two matrices and a gain."""

    roles: ClassVar = {"matrix": "matrix", "bank": "matrix", "gain": "scalar"}

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.matrix = nn.Parameter(torch.randn(6, 10, generator=generator))
        self.bank = nn.Parameter(torch.randn(2, 5, 8, generator=generator) * torch.tensor([1.0, 100.0])[:, None, None])
        self.gain = nn.Parameter(torch.zeros(7))


def trained(net, pruning, steps, first=0, last=40, average=None):
    """Steps with random gradients, which would move every zero."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    pruning.attach(net, optimizer)
    for step in range(first, first + steps):
        generator = torch.Generator().manual_seed(step)
        for parameter in net.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        pruning.set_progress(Progress(step, max_steps=last))
        optimizer.step()
        if average is not None:
            average.update(net, Progress(step + 1, max_steps=last))
    return net


def test_the_schedule_is_the_published_cubic():
    """s_t = s_f + (s_i - s_f) (1 - (t - t_0) / (n dt))^3 with s_i = 0, equation 1 of the paper."""
    pruning = GradualPruning(share=0.8, at=0.25, until=0.75)
    for step in range(0, 101, 5):
        t = min(max(step - 25, 0), 50)
        assert pruning.share_at(Progress(step, max_steps=100)) == pytest.approx(0.8 + (0 - 0.8) * (1 - t / 50) ** 3)


@pytest.mark.parametrize(("shape", "share"), [((7, 9), 0.5), ((3, 4, 6), 0.3), ((5, 5), 0.99), ((4, 4), 0.01)])
def test_the_smallest_of_each_matrix_are_zeroed(shape, share):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    found = weight.clone()
    zero_smallest(found, share)
    for before, after in zip(weight.view(-1, shape[-2] * shape[-1]).numpy(), found.view(-1, shape[-2] * shape[-1])):
        expected = before.copy()
        expected[np.argsort(np.abs(before))[: int(share * before.size)]] = 0.0
        assert np.array_equal(after.numpy(), expected)


def test_zeros_come_on_schedule_and_stay():
    pruning = GradualPruning(share=0.5, at=0.25, until=0.75, every_steps=4)
    net = trained(Toy(), pruning, 10)
    assert pruning.share_of_zeros(net.state_dict(), roles_of(net)) == 0.0
    net = trained(Toy(), pruning, 25)
    before = net.matrix == 0
    assert int(before.sum()) == int(pruning.share_at(Progress(24, max_steps=40)) * 60)
    net = trained(Toy(), pruning, 40)
    assert (net.matrix == 0)[before].all()
    assert [int((m == 0).sum()) for m in (net.matrix, net.bank[0], net.bank[1])] == [30, 20, 20]
    assert not (net.gain == 0).any()


def test_resumed_training_prunes_alike():
    whole = trained(Toy(), GradualPruning(every_steps=4), 40)
    for stop in (3, 13, 21, 39):
        first = trained(Toy(), GradualPruning(every_steps=4), stop)
        second = Toy()
        second.load_state_dict(first.state_dict())
        trained(second, GradualPruning(every_steps=4), 40 - stop, stop)
        assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), second.parameters()))


def test_an_average_gets_its_zeros_back():
    pruning, average = GradualPruning(every_steps=4), Ema(0.9)
    net = trained(Toy(), pruning, 40, average=average)
    plain = average.average(net)
    kept = pruning.keep_zeros(net, plain)
    assert int((plain["matrix"] == 0).sum()) < 30
    assert torch.equal(kept["matrix"] == 0, net.matrix == 0)
    assert torch.equal(kept["matrix"][net.matrix != 0], plain["matrix"][net.matrix != 0])
    assert kept["gain"] is plain["gain"]


@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_zeros_survive_every_format(name):
    weight = torch.randn(6, 256, generator=torch.Generator().manual_seed(2))
    zero_smallest(weight, 0.5)
    decoded = quantise_rows(weight, format_named(name)).dequantise()
    assert (decoded[weight == 0] == 0).all()


def test_a_forecast_sees_the_zeros():
    from golf.codec.lzma_codec import LzmaCodec
    from golf.quant.plan import QuantPlan
    from golf.size.sample import forecast_artifact

    def bytes_of(pruning):
        state = {"blocks.0.mlp.fc.weight": torch.randn(256, 256, generator=torch.Generator().manual_seed(3))}
        roles = {"blocks.0.mlp.fc.weight": "matrix"}
        if pruning is not None:
            pruning.prune(state, roles)
        quantised = QuantPlan(matrix="int6_rows", small_numel=0).quantise(state, roles)
        return forecast_artifact(quantised, {}, {}, LzmaCodec()).total

    assert bytes_of(GradualPruning(share=0.8)) < 0.75 * bytes_of(GradualPruning(share=0.4)) < 0.75 * bytes_of(None)


def test_a_run_is_sparse_to_its_artifact_and_says_so(start_run, tmp_path):
    """Pruned in training, averaged, quantised, packed: the zeros are in the file, and liveness.json proves them."""
    from golf.app import run_pipeline
    from golf.codec.artifact import read_artifact

    run = start_run(
        tmp_path / "run",
        *(
            "sparsity=gradual",
            "sparsity.share=0.6",
            "sparsity.every_steps=1",
            "sparsity.until=0.5",
            "average=ema",
            "quant=int6_rows",
        ),
        *("quant.small_numel=500", "through=pack"),
    )
    run_pipeline(run)
    artifact = read_artifact(next(run.path.glob("artifact/*/model.golf")))
    weights = {n: w for n, w in artifact.quantised.dequantise().items() if ".mlp." in n or ".attn.c_" in n}
    matrices = [w for w in weights.values() if w.ndim == 2]
    assert matrices
    assert all((w == 0).float().mean() >= 0.59 for w in matrices)


def test_liveness_tells_a_sparse_run_from_one_that_ended_too_soon():
    from golf.training.callbacks.liveness import LivenessCallback

    found = []
    for steps in (40, 12):
        callback, pruning = LivenessCallback(), GradualPruning(every_steps=4)
        callback._initial = Toy().state_dict()
        session = SimpleNamespace(net=trained(Toy(), pruning, steps), sparsity=pruning, interrupted=0)
        found += callback._sparsity(session)
    assert [entry["alive"] for entry in found] == [True, False]
    assert found[0]["zeros"] == 0.5
    assert found[0]["zeros_at_start"] == 0.0


def test_the_exported_file_prunes():
    from golf.submission.flatten import flatten

    config = compose("train", ["experiment=smoke", "sparsity=gradual", "sparsity.share=0.3"])
    source = flatten(config, tokenizer_sha256="0" * 64)
    assert "class GradualPruning:" in source
    assert "0.3" in source.partition("class GradualPruning:")[2]
    assert "GradualPruning" not in flatten({**config, "sparsity": {}}, tokenizer_sha256="0" * 64)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("sparsity.share=1.5", "type sparsity.share=0.5"),
        ("sparsity.at=0", "type sparsity.at=0.2"),
        ("sparsity.until=0.1", "sparsity.until=0.8"),
        ("quant=tcq_8", "no zero in half of its states"),
    ],
)
def test_what_is_refused_before_training(override, said):
    from golf.config.command import require

    with pytest.raises(UserError, match=said):
        require("train", ["experiment=smoke", "sparsity=gradual", override])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"share": 0.0}, "sparsity.share"),
        ({"at": 0.9}, "sparsity.at"),
        ({"every_steps": 0}, "every_steps"),
        ({"names": "("}, "not a regular"),
    ],
)
def test_what_the_technique_itself_refuses(arguments, said):
    with pytest.raises(UserError, match=said):
        GradualPruning(**arguments)


def test_names_that_match_nothing_are_refused():
    with pytest.raises(UserError, match="matches no matrix"):
        GradualPruning(names="nothing").attach(Toy(), torch.optim.SGD(Toy().parameters()))
    assert json.dumps(build(compose("train", ["sparsity=gradual"])["sparsity"]).activation_fractions())
