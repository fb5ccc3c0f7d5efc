"""What every option must do, whoever wrote it: these tests find options in conf/, so a new YAML is covered at once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from tiny import options, tiny, tiny_data

from golf.clock import BudgetClock
from golf.config.build import build
from golf.loop import seed_everything, train
from golf.models.roles import roles_of


def model_of(*overrides: str) -> Any:
    seed_everything(0)
    net = build(tiny(list(overrides))["model"])
    with torch.no_grad():  # no projection stays zero: a part that contributes nothing would pass any test of its effect
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape).to(parameter.dtype))
    return net


@pytest.mark.parametrize("option", [name for name in options("experiment") if name != "none"])
def test_experiment_trains_two_steps_in_a_tiny_variant(option: str, tmp_path: Path) -> None:
    config = tiny([f"experiment={option}"])
    torch.set_num_threads(1)
    seed_everything(config["seed"])
    data = build(tiny_data(tmp_path))
    prepared = data.prepare(say=lambda line: None)
    net = build(config["model"])
    before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    optimizer = build(config["optim"])(net)
    average = build(config["average"]) if "_target_" in config["average"] else None
    stream = data.stream(prepared, 64)
    losses: list[float] = []
    train(
        net,
        optimizer,
        stream,
        build(config["schedule"]),
        BudgetClock(stream.tokens_per_step, max_steps=2),
        torch.device("cpu"),
        average=average,
        on_step=lambda step, loss: losses.append(float(loss)),
    )
    assert len(losses) == 2
    assert all(0 < loss < 100 for loss in losses)
    moved = [name for name, parameter in net.named_parameters() if not torch.equal(parameter, before[name])]
    # Parts behind a projection that starts at zero get their first gradient only after the projection has moved.
    assert len(moved) == len(before)


@pytest.mark.parametrize("option", [name for name in options("schedule") if name != "none"])
def test_schedule_option_ends_lower_than_it_starts(option: str) -> None:
    from golf.progress import Progress

    schedules = build(tiny([f"schedule={option}"])["schedule"])
    steps = 2000
    values = [schedules.values(Progress(step, 0.0, step, max_steps=steps))["lr"] for step in range(0, steps, 50)]
    assert max(values) <= 1.0
    assert min(values) >= 0.0
    assert values[-1] < max(values)


@pytest.mark.parametrize("option", options("optim"))
def test_optimizer_option_honours_the_closure(option: str) -> None:
    net = model_of()
    optimizer = build(tiny([f"optim={option}"])["optim"])(net)
    ids_BT = torch.randint(2, 64, (2, 9))
    before = [parameter.detach().clone() for parameter in net.parameters()]

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = net(ids_BT[:, :-1], ids_BT[:, 1:])
        loss.backward()
        return loss

    with torch.no_grad():  # as Lightning may call it
        loss = optimizer.step(closure)
    assert loss is not None
    assert all(not torch.equal(a, b) for a, b in zip(before, net.parameters()))


# Every quantisation with a byte codec and with the one that sees tensors, every codec with a plain and a mixed plan.
PAIRS = sorted(
    {(quant, codec) for quant in options("quant") for codec in ("zlib", "range")}
    | {(quant, codec) for codec in options("codec") for quant in ("int8_rows", "int6_lqer", "tcq_8")}
)


@pytest.mark.parametrize(("quant", "codec"), PAIRS)
def test_every_quantisation_and_codec_pack_and_read_back(quant: str, codec: str, tmp_path: Path) -> None:
    from golf.codec.artifact import pack, read_artifact
    from golf.quant.state import same_state

    config = tiny([f"quant={quant}", f"codec={codec}"])
    net = model_of()
    quantised = build(config["quant"]).quantise(net.state_dict(), roles_of(net))
    path = tmp_path / "model.golf"
    sizes = pack(path, quantised, config["model"], {"kind": "none"}, build(config["codec"]))
    assert sum(sizes.values()) == path.stat().st_size
    assert same_state(read_artifact(path).quantised.dequantise(), quantised.dequantise())
