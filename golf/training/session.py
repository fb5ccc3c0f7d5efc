"""Everything one training run is made of, built from the resolved config: what module, callbacks and stages share."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from golf.clock import InterruptibleClock
from golf.config.build import build
from golf.data.dataset import check_prepared
from golf.data.stream import TokenStream
from golf.errors import Interrupted, UserError
from golf.evaluation.split import require_network
from golf.loop import deterministic_on_cpu, seed_everything, settling_steps


@dataclass
class Meter:
    """Losses of micro-batches, kept on the device until somebody has to read them."""

    losses: list[Tensor] = field(default_factory=list)

    def add(self, loss: Tensor) -> None:
        self.losses.append(loss)

    def take_mean(self) -> Tensor | None:
        """Mean since the last call, still on the device; None if there was nothing."""
        if not self.losses:
            return None
        mean = torch.stack(self.losses).mean()
        self.losses.clear()
        return mean


@dataclass
class Session:
    """One run on one rank. `step` counts finished optimizer steps; `say` prints on rank 0 and into log.txt."""

    config: dict[str, Any]
    folder: Path
    net: Any
    stream: TokenStream
    schedules: Any
    clock: InterruptibleClock
    average: Any
    qat: Any
    sparsity: Any
    evaluation: Any
    validation_tokens: np.ndarray
    byte_table: Any
    device: torch.device
    say: Callable[[str], None]
    rank: int = 0
    world: int = 1
    optimizer: Any = None
    step: int = 0
    meter: Meter = field(default_factory=Meter)
    interrupted: int = 0
    restored: dict[str, Any] | None = None
    flush_metrics: Callable[[], None] = lambda: None  # before a checkpoint: what it has done is logged
    statistics: dict[str, Any] = field(default_factory=dict)
    validation: dict[str, Any] = field(default_factory=dict)
    rates: dict[str, Any] = field(default_factory=dict)  # the current step's scheduled shape of batches
    waiting: bool = False  # this rank has done its part of the step and needs the others'
    heartbeat: Any = None

    def averaged(self) -> dict[str, Tensor]:
        """The average of the weights, with the zeros that a sparse network has."""
        found = self.average.average(self.net)
        return found if self.sparsity is None else self.sparsity.keep_zeros(self.net, found)

    @property
    def accumulate(self) -> int:
        """Micro-steps per optimizer step on this many ranks."""
        return self.stream.micro_steps(self.world)

    def interrupt(self, signal_number: int) -> None:
        """Ask the run to stop at the next step boundary, after a checkpoint; a second request stops at once."""
        if self.interrupted:
            raise self.interruption()
        self.interrupted = signal_number
        self.clock.interrupt()

    def interruption(self) -> Interrupted:
        """What ends a run that was asked to stop."""
        number = self.interrupted or signal.SIGTERM
        name = signal.Signals(number).name
        return Interrupted(
            f"stopped by {name} after step {self.step}; go on with: python train.py run={self.folder}", number
        )


def open_session(
    config: dict[str, Any],
    folder: Path,
    prepared: Any,
    say: Callable[[str], None],
    device: torch.device,
    rank: int = 0,
    world: int = 1,
    share: Callable[[tuple[float, float]], tuple[float, float]] | None = None,
) -> Session:
    """Open the prepared data, seed, build the network and everything around it.

    Raises:
        UserError: whatever is wrong with data, tokenizer or sizes, in one line.
    """
    torch.set_num_threads(config["hardware"]["threads"])
    deterministic_on_cpu(device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.set_float32_matmul_precision("high")
    dataset = build(config["data"])
    vocab_size = config["model"]["vocab_size"]
    if rank == 0:
        check_prepared(prepared, dataset.seq_len, vocab_size)
    evaluation = build(config["eval"])
    tokens = prepared.validation_tokens(vocab_size)
    seed_everything(config["seed"])
    net = build(config["model"])
    for evaluator in evaluation.evaluators(dataset.seq_len).values():  # before hours of training, not after them
        require_network(evaluator, net)
    budget = build(config["budget"])
    unique = {"unique_tokens": budget.unique_tokens} if budget.unique_tokens else {}
    stream: Any = dataset.stream(prepared, vocab_size, **unique)
    if config["trainer"]["overfit_batches"]:
        stream = _Repeating(stream, config["trainer"]["overfit_batches"], world)
    synchronise = torch.cuda.synchronize if device.type == "cuda" else None
    average = build_optional(config["average"])
    clock = InterruptibleClock(
        stream.tokens_per_step,
        max_steps=1 if config["trainer"]["fast_dev_run"] else budget.max_steps,
        max_seconds=budget.max_seconds,
        max_tokens=budget.max_tokens,
        reserve_seconds=budget.reserve_seconds,
        reserve_steps=settling_steps(average, stream, world),
        synchronise=synchronise,
        share=share,
        per_rank=budget.per_rank_clock,
    )
    if not (clock.max_steps or clock.max_seconds or clock.max_tokens):
        say("no budget limits this run: it ends when a callback says so, or by Ctrl-C")
    return Session(
        config=config,
        folder=folder,
        net=net.to(device),
        stream=stream,
        schedules=build(config["schedule"]),
        clock=clock,
        average=average,
        qat=build_optional(config["qat"]),
        sparsity=build_optional(config.get("sparsity")),
        evaluation=evaluation,
        validation_tokens=tokens,
        byte_table=prepared.byte_counter(vocab_size),
        device=device,
        say=say,
        rank=rank,
        world=world,
    )


def build_optional(node: dict[str, Any] | None) -> Any:
    """Build a node, or None for the `none` option of a group (an empty node)."""
    return build(node) if node and "_target_" in node else None


class _Repeating:
    """The first `count` micro-batches of a stream again and again (debug=overfit)."""

    def __init__(self, stream: TokenStream, count: int, world: int):
        self.stream, self.count = stream, count
        if count < 1:
            raise UserError(f"trainer.overfit_batches={count}: type a number of micro-batches, 0 = off")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def batch(self, micro_step: int, rank: int = 0, world: int = 1) -> Any:
        return self.stream.batch(micro_step % self.count, rank, world)
