"""golf/loop.py and the Lightning path are one algorithm: bit-equal losses and weights on the CPU with one thread."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from golf.config.build import build
from golf.config.compose import compose
from golf.loop import train, warm_up
from golf.pipeline.run_folder import RunFolder, create_run_folder, silent
from golf.pipeline.train import train_run
from golf.training.checkpointing import read_checkpoint
from golf.training.module import GolfModule
from golf.training.resolve import resolve_config
from golf.training.session import Session, open_session

STEPS = 20
OVERRIDES = (
    *("experiment=smoke", "hardware=cpu", "hardware.compile=false", "hardware.threads=1", f"budget.max_steps={STEPS}"),
    *("data.train_tokens=60000", "data.val_tokens=4000", "data.tokens_per_step=256", "data.spans_per_step=4"),
    *("eval.max_tokens=512", "trainer.log_every_steps=1", "callbacks.checkpoint.every_steps=6"),
)
FLOAT32 = ("hardware.compute_dtype=float32", "data.spans_per_step=2")
LOOP = ("model/depth=loop", "model.num_layers=3", "model.depth.first=1", "model.depth.last=1")
RECURRENCE = (
    *("model/depth=mini_recurrence", "model.num_layers=3", "model.depth.repeated=[1,2]", "model.depth.start_step=6"),
    *("model.mlp_mult=1",),
)

SPARSE = ("sparsity=gradual", "sparsity.share=0.6", "sparsity.every_steps=3")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("parity")


def new_run(folder: Path, name: str, *overrides: str) -> RunFolder:
    texts = [*OVERRIDES, f"data.folder={folder / 'data'}", *overrides]
    return create_run_folder(folder / name, resolve_config(compose("train", texts)), texts)


def reference(run: RunFolder, warm_up_steps: int = 0, validate_every: int = 0) -> tuple[list[float], Session]:
    """The plain loop on a run's session; the loss of every step."""
    session = open_session(run.config, run.path, run.data(silent), silent, torch.device("cpu"))
    optimizer = session.optimizer = build(run.config["optim"])(session.net)
    losses: list[float] = []
    module = GolfModule(session)

    def validate(step: int) -> None:
        module.on_validation_epoch_start()
        module.eval()
        for index, windows in enumerate(validation_batches(session, module)):
            module.validation_step(windows, index)

    warm_up(session.net, optimizer, session.stream, warm_up_steps, session.device)
    session.step = train(
        session.net,
        optimizer,
        session.stream,
        session.schedules,
        session.clock,
        session.device,
        average=session.average,
        on_step=lambda step, loss: losses.append(float(loss)),
        validate=validate,
        validate_every=validate_every,
        sparsity=session.sparsity,
    )
    return losses, session


def validation_batches(session: Session, module: GolfModule) -> Any:
    from golf.training.datamodule import GolfDataModule

    return GolfDataModule(session, module).val_dataloader()


def lightning(run: RunFolder) -> tuple[list[float], dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The train stage; losses, final weights and averaged weights."""
    from safetensors.torch import load_file

    outputs, _, _ = train_run(run, run.path / "stages" / "train")
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    losses = [line["train/loss"] for line in lines if "train/loss" in line]
    weights, average = (load_file(path) for path in outputs)
    return losses, weights, average


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("float32", ["hardware.compute_dtype=float32"]),
        ("bfloat16", ["hardware.compute_dtype=bfloat16", "data.spans_per_step=2"]),
        ("loop_by_fraction", [*FLOAT32, *LOOP, "model.depth.passes=[2,3]", "model.depth.at=[0.25,0.5]"]),
        ("loop_by_step", [*FLOAT32, *LOOP, "model.depth.at=0", "model.depth.start_step=7"]),
        ("recurrence", [*FLOAT32, *RECURRENCE]),
        ("sparse", [*FLOAT32, *SPARSE]),
    ],
)
def test_the_two_paths_are_bit_equal(folder, name, overrides):
    """20 steps of several micro-batches, with EMA, checkpoints and validation in between."""
    overrides = [*overrides, "trainer.val_check_steps=5", "callbacks.warmup.steps=2"]
    losses, weights, average = lightning(new_run(folder, f"{name}_lightning", *overrides))
    expected, session = reference(new_run(folder, f"{name}_reference", *overrides), validate_every=5)
    assert len(losses) == STEPS
    assert losses == expected
    assert all(torch.equal(weights[key], value) for key, value in session.net.state_dict().items())
    own = session.averaged()
    assert own.keys() == average.keys()
    assert all(torch.equal(average[key], value) for key, value in own.items())
    assert any(not torch.equal(average[key], weights[key]) for key in average)


def test_warm_up_leaves_no_trace(folder):
    """Losses, weights, optimizer state and random generators are those of a run that was not warmed up."""
    overrides = ["hardware.compute_dtype=float32", "budget.max_steps=5"]
    cold, first = reference(new_run(folder, "cold", *overrides))
    drawn = torch.rand(3)
    warm, second = reference(new_run(folder, "warm", *overrides), warm_up_steps=2)
    assert cold == warm
    assert torch.equal(drawn, torch.rand(3))
    for a, b in zip(first.net.parameters(), second.net.parameters()):
        assert torch.equal(a, b)
        states = [session.optimizer.state[p] for session, p in ((first, a), (second, b))]
        assert states[0].keys() == states[1].keys()
        assert all(equal(states[0][key], states[1][key]) for key in states[0])
    losses = [
        lightning(new_run(folder, f"warmed_{steps}", *overrides, f"callbacks.warmup.steps={steps}"))[0]
        for steps in (0, 2)
    ]
    assert losses[0] == losses[1] == cold


@pytest.mark.parametrize("name", ["loop", "recurrence"])
def test_a_phase_begins_at_its_step(folder, name):
    """Before the switch a run is that of the plain plan; from its first step on it is not."""
    overrides = [*FLOAT32, "budget.max_steps=8"]
    late = [*overrides, *(RECURRENCE if name == "recurrence" else (*LOOP, "model.depth.at=0.75"))]
    never = [text.replace("start_step=6", "start_step=8").replace("at=0.75", "at=1.0") for text in late]
    losses, plain = (reference(new_run(folder, f"{name}_{i}", *texts))[0] for i, texts in enumerate((late, never)))
    assert losses[:6] == plain[:6]
    assert losses[6] != plain[6]


def test_repeats_begin_as_copies_once_whenever_a_run_is_resumed(folder):
    """Checkpoints before, at and after the switch: losses and weights of the run that was not interrupted."""
    overrides = [*FLOAT32, *RECURRENCE, "budget.max_steps=10", "callbacks.warmup.steps=1"]
    steps = ["callbacks.checkpoint.every_steps=1", "callbacks.checkpoint.keep=20"]
    whole = new_run(folder, "uninterrupted", *overrides, *steps)
    losses, weights, _ = lightning(whole)
    copied = "extra_mlps.0.fc.weight", "blocks.1.mlp.fc.weight"
    before, after = (read_checkpoint(whole.path / f"checkpoints/step_{n:08d}")["weights"] for n in (6, 7))
    assert not torch.equal(before[copied[0]], before[copied[1]])
    assert (after[copied[0]] - before[copied[1]]).abs().max() < (before[copied[0]] - before[copied[1]]).abs().max() / 2
    for step in (4, 6, 7):
        checkpoint = whole.path / f"checkpoints/step_{step:08d}"
        resumed = new_run(folder, f"resumed_{step}", *overrides, f"ckpt_path={checkpoint}")
        found, resumed_weights, _ = lightning(resumed)
        assert found == losses[step:]
        assert all(torch.equal(resumed_weights[name], value) for name, value in weights.items())


def equal(a: Any, b: Any) -> bool:
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


@pytest.mark.parametrize("devices", [1, 2, 4, 8])
def test_the_global_batch_does_not_depend_on_the_number_of_devices(folder, devices):
    """Accumulation makes up for missing devices: the same tokens in every step, from one device to eight."""
    texts = [*OVERRIDES, f"data.folder={folder / 'data'}", "data.spans_per_step=8", f"hardware.devices={devices}"]
    config = resolve_config(compose("train", texts))
    source = build(config["data"])
    stream = source.stream(source.prepare(say=silent), config["model"]["vocab_size"])
    micro_steps = stream.micro_steps(devices)
    assert micro_steps * devices == 8
    spans = [stream.batch(micro_steps + m, r, devices) for m in range(micro_steps) for r in range(devices)]
    alone = [stream.batch(8 + m) for m in range(8)]
    for a, b in zip(spans, alone):
        assert torch.equal(a.inputs_BT, b.inputs_BT)
        assert torch.equal(a.targets_BT, b.targets_BT)


def test_a_small_device_gets_more_spans_and_the_same_batch():
    from golf.training.resolve import spans_per_step

    data = {"spans_per_step": 8, "tokens_per_step": 524288, "seq_len": 1024}
    sizes = {micro: spans_per_step(data, {"devices": 1, "micro_batch_tokens": micro}) for micro in (0, 65536, 32768)}
    assert sizes == {0: 8, 65536: 8, 32768: 16}
