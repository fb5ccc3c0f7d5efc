"""Sharded Muon on two gloo ranks: the results of plain Muon on averaged gradients, and checkpoints of any world size.

In float32 all the way the two agree to 2e-6 after four steps: sums over ranks and batches of another size may round
differently. With gradients that travel as bfloat16 they agree to what its eight bits leave.
"""

from __future__ import annotations

import json
import multiprocessing
import socket
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from golf.loop import average_gradients
from golf.optim.communication import average_over_ranks
from golf.optim.muon_adam import muon_adam

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))

from warm import Warm

EXACT = {"newton_schulz_dtype": "float32", "reduce_dtype": "float32", "matrix_weight_decay": 0.1, "matrix_lr": 0.05}


class Toy(nn.Module):
    """Three matrices of one shape (padded to four), one of another, a stack, a gain; roles as models declare them."""

    roles = {**{f"m{i}": "matrix" for i in range(5)}, "table": "embedding", "gain": "scalar"}  # noqa: RUF012

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        for i, shape in enumerate([(6, 8), (6, 8), (6, 8), (8, 4), (3, 4, 4)]):
            setattr(self, f"m{i}", nn.Parameter(torch.randn(shape, generator=generator)))
        self.table = nn.Parameter(torch.randn(10, 4, generator=generator))
        self.gain = nn.Parameter(torch.ones(4))


def give_gradients(model, step, ranks, skip=()):
    """The mean of the gradients of these ranks; clipped per rank by `local_clip` where that is asked for."""
    for i, p in enumerate(model.parameters()):
        generators = [torch.Generator().manual_seed(1000 * step + 10 * i + rank) for rank in ranks]
        mean = sum(torch.randn(p.shape, generator=g) * (1 + rank) for g, rank in zip(generators, ranks)) / len(ranks)
        p.grad = None if i in skip else mean


def plain(steps, skips, first=0, state=None, weights=None, local_clip=0.0, **options):
    """One process that sees the averaged gradients."""
    model = Toy()
    if weights is not None:
        model.load_state_dict(weights)
    optimizer = muon_adam(model, **options)
    if state is not None:
        optimizer.load_state_dict(state)
    for step in range(first, first + steps):
        if local_clip:
            give_clipped_mean(model, step, local_clip, skips.get(step, ()))
        else:
            give_gradients(model, step, (0, 1), skips.get(step, ()))
        optimizer.step()
    return model, optimizer


def give_clipped_mean(model, step, limit, skip):
    halves = []
    for rank in (0, 1):
        give_gradients(model, step, (rank,), skip)
        nn.utils.clip_grad_norm_(model.parameters(), limit)
        halves.append([None if p.grad is None else p.grad.clone() for p in model.parameters()])
    for p, a, b in zip(model.parameters(), *halves):
        p.grad = None if a is None else (a + b) / 2


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def rank_main(rank, port, folder, steps, skips, first, state_file, options):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    model = Toy()
    optimizer = muon_adam(model, **options)
    if state_file:
        stored = torch.load(state_file, weights_only=True)
        model.load_state_dict(stored["weights"])
        optimizer.load_state_dict(stored["optimizer"])
    for step in range(first, first + steps):
        give_gradients(model, step, (rank,), skips.get(step, ()))
        average_gradients(model, optimizer, 2)
        optimizer.step()
    shards = [held["momentum_shard"].shape[0] for held in optimizer.state.values() if "momentum_shard" in held]
    state = {"weights": model.state_dict(), "optimizer": optimizer.state_dict(), "shards": shards}
    torch.save(state, folder / f"rank{rank}.pt")
    dist.destroy_process_group()


def two_ranks(folder, steps, skips=None, first=0, state_file=None, **options):
    port, context = free_port(), multiprocessing.get_context("fork")
    arguments = (port, folder, steps, skips or {}, first, state_file, options)
    ranks = [context.Process(target=rank_main, args=(rank, *arguments)) for rank in (0, 1)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(60)
        assert process.exitcode == 0
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]


def assert_near(found, model, atol=2e-6, rtol=2e-6):
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(found[name], tensor, atol=atol, rtol=rtol, msg=lambda m, n=name: f"{n}: {m}")


CASES = {
    "plain": {},
    "clipped": {"clip_norm": 0.3},
    "row": {"row_normalise": "row", "newton_schulz_coefficients": "polar_express", "clip_norm": 0.3},
    "after": {"weight_decay_placement": "after", "nesterov": False},
}


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_have_the_results_of_one(tmp_path, case):
    """Parameters without a gradient in some step included: one of a stack, a whole stack, and one of Adam's."""
    options, skips = {**EXACT, **CASES[case]}, {1: (1,), 2: (3, 4), 3: (5,)} if case == "plain" else {}
    ranks = two_ranks(tmp_path, 5, skips, sharded=True, **options)
    model, _ = plain(5, skips, **options)
    assert_near(ranks[0]["weights"], model)
    for name, tensor in ranks[0]["weights"].items():
        assert torch.equal(tensor, ranks[1]["weights"][name]), name
    assert sorted(ranks[0]["shards"]) == [1, 2, 2]


def test_gradients_in_bfloat16_are_near(tmp_path):
    options = {**EXACT, "momentum_dtype": "bfloat16", "reduce_dtype": "bfloat16"}
    ranks = two_ranks(tmp_path, 4, sharded=True, **options)
    model, _ = plain(4, {}, **options)
    assert_near(ranks[0]["weights"], model, atol=2e-2, rtol=2e-2)
    assert all(torch.equal(t, ranks[1]["weights"][n]) for n, t in ranks[0]["weights"].items())
    assert ranks[0]["optimizer"]["state"][1]["momentum_buffer"].dtype == torch.bfloat16


@pytest.mark.parametrize("sharded", [True, False])
def test_local_clipping_clips_each_rank_before_averaging(tmp_path, sharded):
    options = {**EXACT, "clip_norm": 0.5, "clip": "local"}
    ranks = two_ranks(tmp_path, 3, sharded=sharded, **options)
    model, _ = plain(3, {}, local_clip=0.5, **{**EXACT, "clip_norm": 0.0})
    assert_near(ranks[0]["weights"], model)
    global_clip, _ = plain(3, {}, **{**EXACT, "clip_norm": 0.5})
    assert (global_clip.table - model.table).abs().max() > 1e-4, "the two kinds of clipping differ here"


def test_unsharded_ranks_with_missing_gradients(tmp_path):
    skips = {0: (1, 6), 1: (3, 4), 2: (5,)}
    ranks = two_ranks(tmp_path, 4, skips, **EXACT)
    model, _ = plain(4, skips, **EXACT)
    assert_near(ranks[1]["weights"], model)


def test_a_checkpoint_does_not_know_how_many_ranks_wrote_it(tmp_path):
    """Two ranks, then one; one, then two: both as if nothing had happened. Every rank has the same whole state."""
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    after.mkdir()
    whole, _ = plain(4, {}, **EXACT)
    first, second = two_ranks(before, 2, sharded=True, **EXACT)
    states = [rank["optimizer"]["state"] for rank in (first, second)]
    for index, held in states[0].items():
        assert "momentum_shard" not in held
        for key, value in held.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(states[1][index][key])), (index, key)
    alone, _ = plain(2, {}, first=2, state=first["optimizer"], weights=first["weights"], **EXACT)
    assert_near(alone.state_dict(), whole)
    model, optimizer = plain(2, {}, **EXACT)
    torch.save({"weights": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "one.pt")
    ranks = two_ranks(after, 2, first=2, state_file=tmp_path / "one.pt", sharded=True, **EXACT)
    assert_near(ranks[0]["weights"], whole)
    resumed = two_ranks(after, 2, first=2, state_file=before / "rank0.pt", sharded=True, **EXACT)
    assert_near(resumed[1]["weights"], whole)


def test_means_over_two_ranks_have_the_bits_of_the_formula(tmp_path):
    """Large, small, empty, transposed and bfloat16 tensors, which travel together by dtype."""
    port, context = free_port(), multiprocessing.get_context("fork")
    ranks = [context.Process(target=means_main, args=(rank, port, tmp_path)) for rank in (0, 1)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(60)
        assert process.exitcode == 0
    given = [means_input(rank) for rank in (0, 1)]
    for rank in (0, 1):
        found = torch.load(tmp_path / f"means{rank}.pt", weights_only=True)
        for mean, a, b in zip(found, *given):
            assert torch.equal(mean, (a + b) / 2)


def means_input(rank):
    generator = torch.Generator().manual_seed(rank)
    shapes = [(300, 200), (3,), (0,), (200, 300), (40, 5), (1, 40_000)]
    tensors = [torch.randn(shape, generator=generator) for shape in shapes]
    tensors[3] = tensors[3].T  # not contiguous
    return [*tensors, torch.randn(7, generator=generator).bfloat16()]


def means_main(rank, port, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    tensors = means_input(rank)
    average_over_ranks(tensors, 2)
    torch.save(tensors, folder / f"means{rank}.pt")
    dist.destroy_process_group()


def test_on_one_rank_sharded_is_plain():
    a, _ = plain(3, {}, sharded=True, **EXACT)
    b, _ = plain(3, {}, **EXACT)
    assert all(torch.equal(t, b.state_dict()[n]) for n, t in a.state_dict().items())


def test_names_that_nobody_else_may_average():
    model = Toy()
    assert muon_adam(model).reduced_names == muon_adam(model, clip="local").reduced_names == frozenset()
    names = {name for name, _ in model.named_parameters()}
    assert muon_adam(model, sharded=True).reduced_names == names
    assert muon_adam(model, clip="local", clip_norm=1.0).reduced_names == names
    average_over_ranks([], 2)


def test_training_with_it_gives_the_losses_of_one_rank_and_resumes(tmp_path):
    """The real path: losses as on one rank, and a run that two ranks began goes on from its checkpoint."""
    from test_ddp import metrics, start_two

    warm = Warm(tmp_path)
    try:
        exact = ("optim.newton_schulz_dtype=float32", "optim.reduce_dtype=float32", "optim.sharded=true")
        options = (*exact, "through=train", "data.spans_per_step=4", "budget.max_steps=12", "optim.clip_norm=0.3")
        options += ("callbacks.checkpoint.every_steps=5", "trainer.log_every_steps=1")
        code, said = warm.train(tmp_path / "one", *options)
        assert code == 0, said
        ranks = start_two(warm, tmp_path / "two", *options)
        for code, said in [rank.wait() for rank in ranks]:
            assert code == 0, said
    finally:
        warm.close()
    one, two = metrics(tmp_path / "one"), metrics(tmp_path / "two")
    losses = [[line["train/loss"] for line in lines if "train/loss" in line] for lines in (one, two)]
    assert losses[0] == pytest.approx(losses[1], rel=2e-5)
    checkpoint = tmp_path / "two" / "checkpoints" / "step_00000010"
    state = torch.load(checkpoint / "state.pt", weights_only=True)["optimizer"]["state"]
    assert sum("momentum_buffer" in held for held in state.values()) > 0
    assert not any("momentum_shard" in held for held in state.values())
    assert json.loads((checkpoint / "meta.json").read_text())["step"] == 10
