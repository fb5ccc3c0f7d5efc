"""Cross-sequence attention: its formula, what it may see, and that batches and ranks do not change a loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from golf.config.build import build
from golf.config.compose import compose
from golf.errors import UserError
from golf.evaluation.protocol import evaluate
from golf.loop import seed_everything
from golf.models.gpt import GPT
from golf.pipeline.run_folder import silent
from golf.training.session import open_session

T = 8


class OneByte:
    """Every token is one byte."""

    def count(self, before: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        return np.ones(len(tokens), dtype=np.int32)


def network(*overrides: str, attention: str = "cross_sequence") -> GPT:
    sizes = ["model.num_layers=3", "model.width=32", "model.num_heads=4", "model.num_kv_heads=2", "model.vocab_size=64"]
    texts = [f"model/attention={attention}", *sizes, "model.compute_dtype=float32", *overrides]
    seed_everything(0)
    net = build(compose("train", texts)["model"])
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return net.eval()


def stream(windows: int = 6) -> torch.Tensor:
    return torch.randint(0, 64, (windows * T + 1,), generator=torch.Generator().manual_seed(1))


def rows(tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return tokens[:-1].view(-1, T), tokens[1:].view(-1, T)


@pytest.mark.parametrize("overrides", [(), ("model/rope=partial", "model.rope.dims=4", "model/xsa=exclusive")])
def test_one_visit_with_memory_is_attention_over_both_windows(overrides):
    """A single layer that attends everywhere: the second window sees what one window of double length would let it."""
    net = network("model.num_layers=1", *overrides)
    same = network("model.num_layers=1", *overrides, attention="grouped_query")
    inputs_BT, targets_BT = rows(stream(2))
    with torch.no_grad():
        nll_BT, _ = net.nll_with_memory(inputs_BT, targets_BT)
        whole_BT = same(inputs_BT.view(1, -1), targets_BT.reshape(1, -1), reduction="none")
    torch.testing.assert_close(nll_BT.view(1, -1), whole_BT, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("last_n", [1, 2, 3])
def test_batches_do_not_matter(last_n):
    net = network(f"model.attention.last_n={last_n}")
    inputs_BT, targets_BT = rows(stream())
    with torch.no_grad():
        at_once_BT, memory = net.nll_with_memory(inputs_BT, targets_BT)
        for sizes in ([1] * 6, [2, 3, 1]):
            found, carried = [], None
            for ids_BT, wanted_BT in zip(inputs_BT.split(sizes), targets_BT.split(sizes)):
                nll_BT, carried = net.nll_with_memory(ids_BT, wanted_BT, carried)
                found.append(nll_BT)
            torch.testing.assert_close(torch.cat(found), at_once_BT, atol=1e-5, rtol=1e-5)
    assert sorted(memory) == list(range(3 - last_n, 3))
    assert all(len(item.k_BKPE) == 1 for item in memory.values())


@pytest.mark.parametrize("last_n", [1, 2])
def test_it_sees_the_past_as_far_as_it_says_and_never_the_future(last_n):
    net = network(f"model.attention.last_n={last_n}")
    inputs_BT, targets_BT = rows(stream())
    changed_BT = inputs_BT.clone()
    changed_BT[2, 5] = (changed_BT[2, 5] + 1) % 64
    with torch.no_grad():
        before_BT, after_BT = (net.nll_with_memory(ids_BT, targets_BT)[0] for ids_BT in (inputs_BT, changed_BT))
    differs = (before_BT != after_BT).flatten()
    first = 2 * T + 5
    assert not differs[:first].any()
    assert differs[first]
    for window in range(6):
        assert bool((before_BT[window] != after_BT[window]).any()) == (2 <= window <= 2 + last_n)


def test_without_memory_it_is_grouped_query_attention():
    net, same = network(), network(attention="grouped_query")
    inputs_BT, targets_BT = rows(stream())
    with torch.no_grad():
        assert torch.equal(net(inputs_BT, targets_BT, "none"), same(inputs_BT, targets_BT, "none"))
        nll_BT, memory = same.nll_with_memory(inputs_BT, targets_BT)
        assert torch.equal(nll_BT, same(inputs_BT, targets_BT, "none"))
    assert memory == {}


def test_training_rows_see_the_row_before_without_gradients_into_it():
    net = network("model.attention.train=true", "model.attention.last_n=2").train()
    inputs_BT, targets_BT = rows(stream())
    with torch.no_grad():
        expected_BT, _ = net.nll_with_memory(inputs_BT, targets_BT)
    nll_BT = net(inputs_BT, targets_BT, reduction="none")
    torch.testing.assert_close(nll_BT, expected_BT, atol=1e-5, rtol=1e-5)
    outputs = []

    def keep(module, given, output) -> None:
        output.retain_grad()
        outputs.append(output)

    net.blocks[0].register_forward_hook(keep)
    net(inputs_BT, targets_BT, reduction="none")[3].sum().backward()
    assert outputs[0].grad[3].abs().max() > 0
    assert outputs[0].grad[[0, 1, 2, 4, 5]].abs().max() == 0


@pytest.mark.parametrize("last_n", [1, 2])
def test_the_evaluator_gives_the_same_losses_in_any_batches_and_on_any_ranks(last_n):
    net, tokens = network(f"model.attention.last_n={last_n}"), stream(7)
    plan = build(compose("train", ["eval=cross_sequence"])["eval"])
    evaluators = plan.evaluators(T)
    assert list(evaluators) == ["contiguous", "cross_sequence"]
    inputs_BT, targets_BT = rows(tokens)
    with torch.no_grad():
        expected_N = net.nll_with_memory(inputs_BT, targets_BT)[0].flatten().double().numpy()
    evaluator, array = evaluators["cross_sequence"], tokens.numpy()
    for batch_tokens in (T, 3 * T, 100 * T):
        found = evaluate(net, array, OneByte(), evaluator, "cpu", batch_tokens)
        assert found.coverage.complete
        assert np.abs(found.ledger.nats_N - expected_N).max() < 1e-5
    for world in (2, 3):
        parts = [evaluate(net, array, OneByte(), evaluator, "cpu", 2 * T, rank, world) for rank in range(world)]
        assert np.abs(sum(part.ledger.nats_N for part in parts) - expected_N).max() < 1e-5
        assert (sum(part.ledger.times_N for part in parts) == 1).all()
    plain = evaluate(net, array, OneByte(), evaluators["contiguous"], "cpu", 2 * T)
    assert np.abs(plain.ledger.nats_N[:T] - found.ledger.nats_N[:T]).max() < 1e-5
    assert plain.nats_per_token != found.nats_per_token


def test_what_is_wrong_is_said():
    evaluator = build(compose("train", ["eval=cross_sequence"])["eval"]).evaluators(T)["cross_sequence"]
    with pytest.raises(UserError, match="needs model/attention=cross_sequence; type eval=contiguous"):
        evaluate(network(attention="grouped_query"), stream().numpy(), OneByte(), evaluator)
    with pytest.raises(UserError, match="needs model/attention=cross_sequence; type eval=contiguous"):
        evaluator.require_network(network(attention="grouped_query"))
    evaluator.require_network(network())
    with pytest.raises(UserError, match=r"type model\.attention\.last_n=3"):
        network("model.attention.last_n=4")(torch.zeros(1, 4, dtype=torch.int64))
    with pytest.raises(UserError, match="type model/attention=grouped_query"):
        network("model.attention.last_n=0")


def test_an_evaluation_that_the_network_cannot_have_is_refused_before_training(start_run, tmp_path):
    run = start_run(tmp_path / "run")
    run.config["eval"] = compose("train", ["eval=cross_sequence"])["eval"]
    with pytest.raises(UserError, match="needs model/attention=cross_sequence; type eval=contiguous"):
        open_session(run.config, run.path, run.data(silent), silent, torch.device("cpu"))
