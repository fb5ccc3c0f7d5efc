"""Searched averages: the minimum is found, weights come back untouched, and both loops decide the same."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from golf.config.compose import compose
from golf.errors import UserError
from golf.loop import FORWARD_SHARE, settle_average, settling_steps
from golf.optim.average_search import PLACES, AverageSearch, lowest_place
from golf.optim.averaging import Ema
from golf.pipeline.run_folder import create_run_folder
from golf.pipeline.train import train_run
from golf.progress import Progress
from golf.training.resolve import resolve_config


class Walker(nn.Module):
    """Weights whose path is given."""

    def __init__(self, size=40):
        super().__init__()
        self.w, self.table = nn.Parameter(torch.zeros(size)), nn.Parameter(torch.zeros(size, dtype=torch.bfloat16))


def walked(search, steps=60, seed=0):
    """A model at the end of a random walk with a drift, and its search, which has seen every step."""
    model, generator = Walker(), torch.Generator().manual_seed(seed)
    search.start(model)
    for step in range(1, steps + 1):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += (torch.randn(parameter.shape, generator=generator) * 0.1 + 0.05).to(parameter.dtype)
        search.update(model, Progress(step, max_steps=steps))
    return model


def bowl(model, target, shape=None):
    """Loss by number of batches: square distance of `w` from the target, in directions that weigh differently."""
    seen = []

    def loss(batches):
        seen.append(batches)
        away = model.w.detach() - target
        return float((away * away if shape is None else away * away * shape).sum())

    return loss, seen


def test_the_minimum_along_both_averages_is_found_whatever_the_angle_between_them():
    search = AverageSearch(batches=2)
    model = walked(search)
    slow, fast = model.w.detach() - search.slow.shadow["w"], model.w.detach() - search.shadow["w"]
    assert abs(float(torch.cosine_similarity(slow, fast, dim=0))) > 0.3
    loss, seen = bowl(model, model.w.detach() - 0.3 * slow + 1.7 * fast)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    told = search.settle(model, loss)
    assert search.steps["slow"] == pytest.approx(-0.3, abs=1e-3)
    assert search.steps["fast"] == pytest.approx(1.7, abs=1e-3)
    assert told.startswith("average: weights -0.30 x (weights - slow) +1.70 x (weights - fast): training loss 0.0000")
    assert seen == [2] * 7
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])
    found = search.average(model)
    torch.testing.assert_close(found["w"], model.w - 0.3 * slow + 1.7 * fast, atol=5e-3, rtol=0)
    assert found["table"].dtype == torch.bfloat16


def test_what_is_found_is_never_worse_than_the_last_weights_or_the_fast_average():
    moved = 0
    for seed in range(5):
        search = AverageSearch(decay=0.8, batches=1)
        model = walked(search, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        shape = torch.rand(40, generator=generator)
        loss, _ = bowl(model, torch.randn(40, generator=generator) * 3, shape)
        last, weights = loss(1), model.w.detach().clone()
        search.settle(model, loss)
        with torch.no_grad():
            model.w.copy_(search.shadow["w"])
            fast = loss(1)
            model.w.copy_(weights)
            model.w.copy_(search.average(model)["w"])
        assert loss(1) <= min(last, fast) + 1e-6
        moved += search.steps != {"slow": 0.0, "fast": 0.0}
    assert moved
    untouched = AverageSearch()
    assert torch.equal(untouched.average(model)["w"], model.w)


def test_the_clock_keeps_time_for_the_losses():
    class Stream:
        def micro_steps(self, world):
            return 8 // world

    assert settling_steps(AverageSearch(batches=4), Stream(), 1) == 7 * 4 * FORWARD_SHARE / 8
    assert settling_steps(AverageSearch(batches=4), Stream(), 8) == 7 * 4 * FORWARD_SHARE
    assert settling_steps(Ema(), Stream(), 1) == settling_steps(None, Stream(), 1) == 0.0


def test_a_loss_that_is_no_number_moves_nothing():
    search = AverageSearch(batches=1)
    model = walked(search)
    search.settle(model, lambda batches: math.nan)
    assert search.steps == {"slow": 0.0, "fast": 0.0}
    assert torch.equal(search.average(model)["w"], model.w)


def quadratic(slope_b, bend_b, slope_a, bend_a, cross):
    return {(b, a): 5 + slope_b * b + bend_b * b * b + slope_a * a + bend_a * a * a + cross * a * b for b, a in PLACES}


@pytest.mark.parametrize(
    "coefficients",
    [
        (0.3, 0.5, -1.0, 0.4, 0.1),  # a bowl
        (1.0, 0.2, -5.0, 0.3, 0.0),  # lowest outside
        (0.3, 0.5, -1.0, 0.4, 1.5),  # a saddle
        (0.1, -0.5, 0.2, -0.4, 0.3),  # a hill
        (0.0, 0.0, 1.0, 0.0, 0.0),  # a slope
    ],
)
def test_the_lowest_place_of_a_quadratic(coefficients):
    """Against all places of a fine grid."""
    b, a = lowest_place(quadratic(*coefficients), 3.0)
    assert -1 <= b <= 0.5
    assert -1 <= a <= 3

    def height(b, a):
        slope_b, bend_b, slope_a, bend_a, cross = coefficients
        return slope_b * b + bend_b * b * b + slope_a * a + bend_a * a * a + cross * a * b

    grid = min(height(-1 + i / 100, -1 + j / 50) for i in range(151) for j in range(201))
    assert grid - 1e-3 < height(b, a) <= grid + 1e-9


def test_resumes_where_it_was():
    whole, first, second = (AverageSearch(decay=0.9) for _ in range(3))
    model = walked(whole)
    halfway = walked(first, steps=60)
    second.load_state_dict(first.state_dict())
    whole.settle(model, bowl(model, torch.full((40,), 5.0))[0])
    second.settle(halfway, bowl(halfway, torch.full((40,), 5.0))[0])
    assert second.steps == whole.steps != {"slow": 0.0, "fast": 0.0}
    third = AverageSearch(decay=0.9)
    third.load_state_dict(second.state_dict())
    assert third.steps == whole.steps
    assert torch.equal(third.average(model)["w"], whole.average(model)["w"])


def test_an_average_of_five_methods_is_enough():
    """What has nothing to decide needs no word about it."""

    class Last:
        def start(self, model): ...

        def update(self, model, progress, lr_multiplier=1.0): ...

    stream = SimpleNamespace(micro_steps=lambda world: 1)
    assert settling_steps(Last(), stream, 1) == 0.0
    assert settle_average(Last(), None, stream, None, 0, 1, lambda batch: batch) == ""


def test_losses_are_those_of_the_first_batches(monkeypatch):
    """No document is read for the search that training has not read; the last ones would speak for the last weights."""
    read = []

    class Stream:
        def batch(self, micro, rank, world):
            read.append((micro, rank, world))
            return micro

    class Decides:
        def settle(self, model, loss):
            return f"{loss(1)} {loss(3)}"

    monkeypatch.setattr("golf.loop.to_device", lambda batch, device: batch)
    monkeypatch.setattr("golf.loop.training_loss", lambda model, batch, stream: torch.tensor(float(batch)))
    assert settle_average(Decides(), None, Stream(), None, 0, 1, lambda batch: batch + 10) == "10.0 11.0"
    assert [micro for micro, *_ in read] == [0, 0, 1, 2]


@pytest.mark.parametrize("options", [{"batches": 0}, {"farthest": 0.0}, {"slow_fraction": 0.06}])
def test_bad_options(options):
    with pytest.raises(UserError, match=r"type average\.batches=4"):
        AverageSearch(**options)


def test_a_run_says_what_it_found_and_an_exported_loop_finds_the_same(tmp_path, capsys):
    """The reference loop and the Lightning path end in the same weights, search included."""
    from safetensors.torch import load_file

    from golf.clock import BudgetClock
    from golf.config.build import build
    from golf.data.dataset import open_folder
    from golf.loop import deterministic_on_cpu, seed_everything, train

    texts = [
        *("experiment=smoke", "average=search", "hardware=cpu", "hardware.compile=false", "hardware.threads=1"),
        *("budget.max_steps=12", "data.train_tokens=20000", "data.val_tokens=2000", "data.tokens_per_step=128"),
        *("data.spans_per_step=2", "eval.max_tokens=128", "callbacks.warmup.steps=0"),
        f"data.folder={tmp_path / 'data'}",
    ]
    run = create_run_folder(tmp_path / "run", resolve_config(compose("train", texts)), texts)
    train_run(run, run.path / "stages" / "train")
    assert "average: weights " in capsys.readouterr().out
    config, device = run.config, torch.device("cpu")
    deterministic_on_cpu(device)
    seed_everything(config["seed"])
    net, average = build(config["model"]), build(config["average"])
    pinned = run.data_identity()
    stream = build(config["data"]).stream(open_folder(pinned["folder"], pinned["tokenizer"], True), net.vocab_size)
    clock = BudgetClock(stream.tokens_per_step, max_steps=12)
    optimizer = build(config["optim"])(net)
    train(net, optimizer, stream, build(config["schedule"]), clock, device, average)
    assert any(average.steps.values())
    written = load_file(run.path / "stages" / "train" / "average.safetensors")
    for name, tensor in average.average(net).items():
        assert torch.equal(written[name], tensor), name
