"""The reference training loop in plain PyTorch: what an exported file runs, and what the Lightning path must equal.

Invariant: with the same seed, data and settings this loop and the Lightning path give the same losses, bit for bit.
"""

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from golf.clock import BudgetClock
from golf.data.stream import Batch, TokenStream
from golf.optim.averaging import Averager
from golf.optim.communication import average_over_ranks
from golf.optim.composite import Composite
from golf.optim.schedules import Schedules

FORWARD_SHARE = 0.5  # of a micro-step's time: a third, and some room


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch; the model's initial weights are drawn from torch's CPU generator."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def deterministic_on_cpu(device: torch.device) -> None:
    """Same seed, same machine, same bytes: a compiled graph on several CPU threads would add in any order otherwise."""
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True)
        # Nothing reads uninitialised memory, and filling it costs time (a property that type checkers do not see).
        setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010


def average_gradients(model: nn.Module, optimizer: Composite, world: int) -> None:
    """Replace every gradient by its mean over ranks, but those that the optimizer averages itself."""
    reduced = optimizer.reduced_names
    grads = [p.grad for name, p in model.named_parameters() if p.grad is not None and name not in reduced]
    average_over_ranks(grads, world)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch on the device (asynchronously where the host memory is pinned)."""
    cu_seqlens = None if batch.cu_seqlens is None else batch.cu_seqlens.to(device, non_blocking=True)
    inputs_BT = batch.inputs_BT.to(device, non_blocking=True)
    return Batch(inputs_BT, batch.targets_BT.to(device, non_blocking=True), cu_seqlens)


def training_loss(model: Any, batch: Batch, stream: TokenStream) -> Tensor:
    """Mean loss of a batch that is on the device; packed rows go with their document boundaries."""
    return model(batch.inputs_BT, batch.targets_BT, "mean", batch.cu_seqlens, stream.max_seqlen or 0)


def run_step(
    model: Any,
    optimizer: Composite,
    stream: TokenStream,
    step: int,
    device: torch.device,
    rank: int,
    world: int,
    schedules: Schedules | None,
    rates: dict[str, Any],
) -> Tensor:
    """One optimizer step; returns its mean loss on the device (reading it synchronises: the caller's choice).

    A step consumes `stream.micro_steps(world)` micro-batches per rank; the loss of each is divided by their number.
    """
    accumulate, losses = stream.micro_steps(world), []
    for micro in range(accumulate):
        batch = stream.batch(step * accumulate + micro, rank, world)
        if schedules is not None:
            batch = schedules.resized(batch, rates)
        loss = training_loss(model, to_device(batch, device), stream)
        (loss / accumulate).backward()
        losses.append(loss.detach())
    if world > 1:
        average_gradients(model, optimizer, world)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return torch.stack(losses).mean()


def other_shapes(batch: Batch, schedules: Schedules) -> Iterator[Batch]:
    """The batch in every other shape that the run may meet: staged row lengths. (Any number of documents is one shape
    to the compiler, see `GPT.forward`.)"""
    for seq_len, share in schedules.shapes():
        resized = schedules.resized(batch, {"seq_len": seq_len, "batch_share": share})
        if resized.inputs_BT.shape != batch.inputs_BT.shape:
            yield resized


def warm_up(
    model: Any,
    optimizer: Composite,
    stream: TokenStream,
    steps: int,
    device: torch.device,
    rank: int = 0,
    world: int = 1,
    schedules: Schedules | None = None,
    qat: Any = None,
    keep_state: bool = False,
) -> None:
    """Run `steps` real training steps in every depth phase and forward of training, and every other shape once, which
    compiles all graphs, then put everything back.

    Restored: parameters, optimizer state, random generators, phase. The stream is a pure function of the step, so it is
    not. `keep_state` leaves the optimizer's state as the warm-up made it (what the banked records did unawares).
    """
    if steps <= 0:
        return
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    phase, quantise = model.phase, model.quantise
    forwards = qat.forwards() if qat is not None else (False,)
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        for graph in range(len(model.plan.phases)):
            for number in range(len(forwards)):
                model.phase, model.quantise = graph, forwards[number]
                for step in range(steps):
                    run_step(model, optimizer, stream, step, device, rank, world, schedules, {})
                if schedules is not None and schedules.resizes():
                    for batch in other_shapes(stream.batch(0, rank, world), schedules):
                        training_loss(model, to_device(batch, device), stream).backward()
                        optimizer.zero_grad(set_to_none=True)
    model.phase, model.quantise = phase, quantise
    model.load_state_dict(weights)
    if not keep_state:
        optimizer.state.clear()
    for group in optimizer.param_groups:
        group["step"] = 0


def settling_steps(average: Averager | None, stream: TokenStream, world: int) -> float:
    """Upper bound of the time that `settle_average` takes, in steps."""
    if average is None:
        return 0.0
    batches = getattr(average, "settle_batches", 0)
    return batches * FORWARD_SHARE / stream.micro_steps(world) if batches else 0.0


def settle_average(
    average: Averager,
    model: Any,
    stream: TokenStream,
    device: torch.device,
    rank: int,
    world: int,
    resized: Callable[[Batch], Batch],
) -> str:
    """After the last step, let an average that has something to decide do so, by losses on the first step's batches.

    Reading those again costs no documents, and they favour nobody: what they taught long ago is in the last weights and
    in every average of them alike. (The last batches would speak for the last weights.)
    """

    def loss(batches: int) -> float:
        losses = []
        for micro in range(batches):
            batch = to_device(resized(stream.batch(micro, rank, world)), device)
            # With a graph that nobody goes back through: without one, the network would be compiled once more.
            losses.append(training_loss(model, batch, stream).detach().float())
        mean = torch.stack(losses).mean()
        if world > 1:
            average_over_ranks([mean], world)
        return float(mean)

    settle = getattr(average, "settle", None)
    return "" if settle is None else settle(model, loss)


def train(
    model: Any,
    optimizer: Composite,
    stream: TokenStream,
    schedules: Schedules,
    clock: BudgetClock,
    device: torch.device,
    average: Averager | None = None,
    qat: Any = None,
    rank: int = 0,
    world: int = 1,
    first_step: int = 0,
    on_step: Callable[[int, Tensor], None] | None = None,
    validate: Callable[[int], bool] | None = None,
    validate_every: int = 0,
    sparsity: Any = None,
    say: Callable[[str], None] | None = None,
    last_step: int = -1,
) -> int:
    """Train until the clock says stop; returns the number of optimizer steps done.

    `on_step(step, loss)` gets the step's mean loss as a device tensor, see `run_step`.
    `validate(step)` says whether training is to end there; `say` gets what the average found when it settled.
    `last_step` ends it there, and nothing settles: for a look at the first losses.
    """
    step, rates = first_step, {}
    model.train()
    if average is not None:
        average.start(model)
    if sparsity is not None:
        sparsity.attach(model, optimizer)
    clock.start()
    while not clock.should_stop(step) and step != last_step:
        progress = clock.progress(step)
        rates = schedules.apply(progress, optimizer)
        model.set_progress(progress)
        if qat is not None:
            qat.set_progress(progress)
        if sparsity is not None:
            sparsity.set_progress(progress)
        loss = run_step(model, optimizer, stream, step, device, rank, world, schedules, rates)
        step += 1
        if average is not None:
            average.update(model, clock.progress(step), optimizer.lr_multiplier)
        if on_step is not None:
            on_step(step, loss)
        if validate is not None and validate_every and step % validate_every == 0:
            clock.pause()
            if validate(step):
                break
            model.train()
            clock.start()
    if average is not None and step != last_step:
        found = settle_average(
            average, model, stream, device, rank, world, lambda batch: schedules.resized(batch, rates)
        )
        if say is not None and found:
            say(found)
    clock.pause()
    return step
