"""Test-time training: no learning before the score, nothing left over."""

import math

import numpy as np
import pytest
import torch

from golf.config.build import build
from golf.config.check import check
from golf.config.compose import compose
from golf.data.bytes import uniform_byte_table
from golf.errors import UserError
from golf.evaluation.adaptive import Adaptive
from golf.evaluation.document import DocumentIsolated
from golf.evaluation.ladder import Ladder
from golf.evaluation.protocol import evaluate
from golf.evaluation.sliding import Sliding
from golf.ttt.adapters import DocumentAdapters
from golf.ttt.lora import LoraTtt
from golf.ttt.phased import PhasedTtt
from golf.ttt.sgd import SgdTtt

VOCAB, LENGTH = 64, 16
PARTS = {
    "plain": [],
    "lanes": [
        "model/depth=loop",
        "model.depth.first=1",
        "model.depth.last=1",
        "model/lanes=parallel",
        "model.lanes.start=2",
    ],
    "gated": ["model/gate=sparse", "model.gate.inputs=12", "model/smear=input_gate", "model/xsa=exclusive"],
}
EVERYWHERE = ("q", "k", "v", "o", "mlp", "head")


def network(*overrides):
    config = compose(
        "train", ["experiment=smoke", "model.num_layers=3", "model.width=32", "model.num_heads=4", *overrides]
    )
    config["model"] |= {"vocab_size": VOCAB, "num_kv_heads": 2, "compute_dtype": "float32"}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = build(config["model"]).eval()
        for parameter in net.parameters():  # projections that start at zero would hide what is behind them
            parameter.data += 0.05 * torch.randn_like(parameter)
    return net


@pytest.fixture(scope="module")
def net():
    return network()


@pytest.fixture(scope="module")
def tokens():
    rng = np.random.default_rng(1)
    stream = (rng.integers(0, 4, 400) + 2 * (np.arange(400) % 7)).astype(np.uint16) + 2
    stream[[0, 60, 75, 170, 171, 300]] = 1
    return stream


def scored(net, tokens, method, tail="exact", stride=8, **options):
    return evaluate(net, tokens, uniform_byte_table(VOCAB), Adaptive(LENGTH, stride, tail, method), bos_id=1, **options)


def lora(**options):
    return LoraTtt(**{"targets": EVERYWHERE, "rank": 2, "chunk": 8, "batch_documents": 3, **options})


@pytest.mark.parametrize("parts", PARTS)
def test_zero_adapters_change_nothing(parts, tokens):
    net = network(*PARTS[parts])
    ids_BT = torch.from_numpy(tokens[:128].astype(np.int64)).view(4, 32)
    plain = net(ids_BT)
    for per_visit in (True, False):
        adapters = DocumentAdapters(net, EVERYWHERE, documents=4, rank=2, per_visit=per_visit)
        with adapters.installed():
            assert torch.equal(net(ids_BT), plain)  # bit for bit
        with torch.no_grad():
            for matrix in adapters.up.values():
                matrix.fill_(0.01)
        with adapters.installed():
            changed = net(ids_BT)
            changed.sum().backward()
        assert all(matrix.grad is not None and matrix.grad.any() for matrix in adapters.parameters())
        assert not torch.equal(changed, plain)
        assert torch.equal(net(ids_BT), plain)  # they are gone


def test_each_row_has_its_own_adapter(net, tokens):
    ids_BT = torch.from_numpy(tokens[:96].astype(np.int64)).view(3, 32)
    adapters = DocumentAdapters(net, EVERYWHERE, documents=3, rank=2)
    with torch.no_grad():
        for matrix in adapters.up.values():
            matrix[1].fill_(0.02)
        plain = net(ids_BT)
        with adapters.installed():
            together = net(ids_BT)
            adapters.rows = torch.tensor([1])
            alone = net(ids_BT[1:2])
    assert torch.equal(together[0], plain[0])
    assert torch.equal(together[2], plain[2])
    torch.testing.assert_close(together[1:2], alone)


def test_unknown_targets_are_refused(net):
    with pytest.raises(UserError, match=r"ttt\.targets has 'query': allowed are head, q"):
        DocumentAdapters(net, ("query",), 1, 1)


def test_fused_projections_have_adapters(tokens):
    net = network("model/attention=fused_qkv")
    adapters = DocumentAdapters(net, ("q", "v"), documents=1, rank=2)
    ids_BT = torch.from_numpy(tokens[:32].astype(np.int64))[None]
    with adapters.installed():
        net(ids_BT).sum().backward()
    assert adapters.up["q.0"].grad.any()


@pytest.mark.parametrize("method", [lora(learning_rate=0.0), lora(learning_rate=0.0, order="longest_first", chunk=5)])
def test_without_learning_lora_is_document_evaluation(net, tokens, method):
    result = scored(net, tokens, method)
    plain = evaluate(net, tokens, uniform_byte_table(VOCAB), DocumentIsolated(LENGTH, method.chunk), bos_id=1)
    assert result.coverage.complete
    np.testing.assert_allclose(result.ledger.nats_N, plain.ledger.nats_N, atol=1e-5)


def test_without_learning_sgd_is_sliding_evaluation(net, tokens):
    for tail in ("exact", "rescored", "rescored_whole"):
        result = scored(net, tokens, SgdTtt(chunk_tokens=48, learning_rate=0.0), tail)
        plain = evaluate(net, tokens, uniform_byte_table(VOCAB), Sliding(LENGTH, 8, tail))
        np.testing.assert_allclose(result.ledger.nats_N, plain.ledger.nats_N, atol=1e-5)
        assert result.coverage == plain.coverage


def test_further_steps_on_a_chunk_learn_more(net, tokens):
    """The first step uses the pass that scored; with rate zero nothing moves, however many there are."""
    one, three = (scored(net, tokens, lora(learning_rate=0.01, grad_steps=steps)) for steps in (1, 3))
    assert (one.ledger.nats_N[:8] == three.ledger.nats_N[:8]).all()  # a document's first chunk
    assert three.record["updates"] == 3 * one.record["updates"]
    assert three.record["read"] == one.record["read"]
    assert three.nats_per_token < one.nats_per_token


def test_losses_again_are_those_of_scored_targets_only(net, tokens):
    from golf.evaluation.ledger import LedgerError
    from golf.evaluation.protocol import Window
    from golf.evaluation.session import ScoringSession

    session = ScoringSession(net, tokens, bos_id=1)
    with pytest.raises(LedgerError, match="no score yet"):
        session.losses_again([Window(0, 8, 0)], 8, 0)
    with torch.no_grad():
        first = session.score_rows([Window(0, 8, 0)], 8, 0)
        assert torch.equal(session.losses_again([Window(0, 8, 0)], 8, 0), first)


@pytest.mark.parametrize("name", ["sgd", "lora", "phased"])
def test_learning_ends_in_time_for_the_rest(name, net, tokens, monkeypatch):
    """The clock says no at the fourth question: what is learned stays, and all of the rest is scored."""
    from golf.evaluation.phases import EvaluationClock

    plain = scored(net, tokens, METHODS[name]())
    over = iter([False] * 3)
    monkeypatch.setattr(EvaluationClock, "time_to_learn", lambda *asked: not next(over, True))
    evaluator = Adaptive(LENGTH, 8, "exact", METHODS[name](), limit_seconds=600.0, over_limit="shorten")
    result = evaluate(net, tokens, uniform_byte_table(VOCAB), evaluator, bos_id=1)
    assert result.coverage.complete
    assert 0 < result.record["learning_ended_at"] < result.coverage.scored
    assert 0 < result.record["updates"] < plain.record["updates"]
    assert plain.record["learning_ended_at"] is None


def test_the_record_counts_updates_outside_of_the_scores(net, tokens):
    class Late:
        by_document = False

        def run(self, session, seq_len, windows):
            with session.adapting():
                pass
            session.score([[window] for window in windows])
            with session.adapting():
                pass

    record = scored(net, tokens, Late()).record
    assert (record["updates_before_first_score"], record["updates_after_last_score"]) == (1, 1)
    record = scored(net, tokens, METHODS["sgd"]()).record
    assert (record["updates_before_first_score"], record["updates_after_last_score"]) == (0, 0)


def test_packed_weights_do_not_learn(tokens):
    net = network()
    net.tok_emb.weight = torch.nn.Parameter(net.tok_emb.weight.detach().char(), requires_grad=False)
    with pytest.raises(UserError, match=r"tok_emb\.weight is torch\.int8: open the file with golf\.load .* ttt=none"):
        scored(net, tokens, lora())
    with torch.inference_mode():
        loaded = network()
    with pytest.raises(UserError, match="needs dequantised weights"):
        scored(loaded, tokens, lora())


METHODS = {
    "sgd": lambda: SgdTtt(chunk_tokens=64, learning_rate=0.05, batch_sequences=2),
    "lora": lambda: lora(learning_rate=0.02),
    "phased": lambda: PhasedTtt(
        lora(learning_rate=0.02, order="longest_first", warm_start=True, batch_documents=2),
        SgdTtt(chunk_tokens=32, learning_rate=0.1, epochs=1, document_mask=True),
        documents=5,
        phases=2,
    ),
}


@pytest.mark.parametrize("name", METHODS)
def test_learning_helps_and_leaves_no_trace(name, net, tokens):
    before = {key: value.clone() for key, value in net.state_dict().items()}
    state = torch.random.get_rng_state()
    result = scored(net, tokens, METHODS[name]())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert net.head_adapter is None
    assert result.coverage.complete
    assert result.record["updates"] > 0
    assert result.record["read"]["validation_targets_learned"] > 0
    assert result.record["seconds"]["adapt"] > 0
    states = result.record["states"]  # which ones scored: network or adapters, by checksum, each time they had learned
    assert [states[0]["what"], states[-1]["what"]] == ["start", "end"]
    assert len({state["checksum"] for state in states[1:-1]}) == len(states) - 2 > 0
    assert states[0]["checksum"] == states[-1]["checksum"]  # the weights are put back
    assert [state["scored"] for state in states] == sorted(state["scored"] for state in states)
    plain = evaluate(net, tokens, uniform_byte_table(VOCAB), DocumentIsolated(LENGTH, 8), bos_id=1)
    if name == "sgd":
        plain = evaluate(net, tokens, uniform_byte_table(VOCAB), Sliding(LENGTH, 8))
    assert result.nats_per_token < plain.nats_per_token - 0.01


@pytest.mark.parametrize("name", METHODS)
def test_a_score_depends_on_nothing_behind_it(name, net, tokens):
    """Flip what follows a document's middle: no earlier score of the stream (of the document) moves by a bit."""
    changed = tokens.copy()
    place = 250  # in the document 171 … 300, whose length stays
    changed[place:300] = tokens[place:300][::-1]
    assert (changed[place] != tokens[place]).any()
    first, second = (scored(net, stream, METHODS[name]()).ledger.nats_N for stream in (tokens, changed))
    begin = 0 if name == "sgd" else 171  # other documents come later in another order
    np.testing.assert_array_equal(first[begin : place - 1], second[begin : place - 1])
    assert (first[place - 1 :] != second[place - 1 :]).any()


def test_sgd_rates_and_chunks():
    method = SgdTtt(chunk_tokens=32, learning_rate=0.4)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    rates = []
    for chunk in range(5):
        method.set_rate(optimizer, chunk, 5)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.2 * (1 + math.cos(math.pi * c / 4)) for c in range(5)])
    chunks = method.chunks(Sliding(LENGTH, 8).windows(101), 100)
    assert [chunk[0].start + chunk[0].first_scored for chunk in chunks] == [0, 32, 64, 96]
    assert sum(w.length - w.first_scored for chunk in chunks for w in chunk) == 100
    assert list(SgdTtt(epochs=2, batch_sequences=2).steps(3)) == [(0, 2), (2, 1), (0, 2), (2, 1)]


def test_frozen_blocks(net):
    for frozen, matrices_learn in (("blocks", False), ("vectors", True)):
        SgdTtt(freeze_blocks=1, frozen=frozen).optimizer(net)
        learns = {name: parameter.requires_grad for name, parameter in net.named_parameters()}
        assert learns["blocks.0.attn.c_q.weight"] is matrices_learn
        assert not learns["blocks.0.attn_scale"]
        assert learns["blocks.1.attn_scale"]
        assert learns["tok_emb.weight"]
    for parameter in net.parameters():
        parameter.requires_grad_(True)


def test_order_of_documents(net, tokens):
    from golf.evaluation.session import ScoringSession

    spans = ScoringSession(net, tokens, bos_id=1).documents()
    lengths = {
        order: [[span.length for span in batch] for batch in lora(order=order, batch_documents=4).batches(spans)]
        for order in ("stream", "shortest_first", "longest_first")
    }
    assert lengths["stream"] == [[61, 16, 96, 2], [130, 100]]
    assert lengths["shortest_first"] == [[2, 16, 61, 96], [100, 130]]
    assert lengths["longest_first"] == [[100, 130], [2, 16, 61, 96]]


def test_phases_take_the_shortest_of_what_is_scored():
    method = PhasedTtt(lora(order="longest_first"), SgdTtt(), documents=7, phases=2)
    assert method.boundaries(100) == [3, 7]
    assert method.boundaries(4) == [2, 4]
    assert method.shortest([["long"], ["b", "c"], ["a", "d"]], 3) == ["a", "d", "b"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Adaptive(), "type ttt=sgd"),
        (lambda: Adaptive(ttt={}), "type ttt=sgd"),
        (lambda: LoraTtt(order="random"), r"ttt\.order=random: allowed are shortest_first"),
        (lambda: LoraTtt(rank=0), r"ttt\.rank=0"),
        (lambda: LoraTtt(grad_steps=0), r"ttt\.grad_steps=0"),
        (lambda: Adaptive(ttt=lora(), over_limit="stop"), r"eval\.over_limit=stop: allowed are refuse, shorten"),
        (lambda: LoraTtt(chunk=64, context=32), r"type ttt\.context=64"),
        (lambda: SgdTtt(frozen="some"), r"ttt\.frozen=some: allowed are blocks, vectors"),
        (lambda: SgdTtt(epochs=0), r"ttt\.epochs=0"),
        (lambda: PhasedTtt(lora(), SgdTtt(), documents=1, phases=2), r"ttt\.phases=2"),
    ],
)
def test_refused_settings(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_sizes_that_do_not_fit_are_refused(net, tokens):
    with pytest.raises(UserError, match=r"type ttt\.chunk_tokens=16"):
        scored(net, tokens, SgdTtt(chunk_tokens=8))
    with pytest.raises(UserError, match=r"type ttt\.chunk=16"):
        scored(net, tokens, lora(chunk=17))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SgdTtt(chunk_tokens=8), r"type ttt\.chunk_tokens=16"),
        (lambda: lora(chunk=17), r"type ttt\.chunk=16"),
        (lambda: PhasedTtt(lora(chunk=17), SgdTtt(chunk_tokens=32)), r"type ttt\.lora\.chunk=16"),
        (lambda: PhasedTtt(lora(chunk=8), SgdTtt(chunk_tokens=8)), r"type ttt\.sgd\.chunk_tokens=16"),
    ],
)
def test_the_rungs_below_are_not_scored_for_a_method_that_does_not_fit(make, message):
    with pytest.raises(UserError, match=message):
        Ladder(stride=8, ttt=make()).evaluators(16)


def test_documents_have_no_stride():
    assert Adaptive(stride=64, ttt=lora()).evaluators(LENGTH)["ttt"].seq_len == LENGTH
    with pytest.raises(UserError, match=r"eval\.stride=64"):
        Adaptive(stride=64, ttt=SgdTtt(chunk_tokens=64)).evaluators(LENGTH)


def test_the_ladder_ends_with_the_method():
    assert list(Ladder(stride=8).evaluators(LENGTH)) == ["contiguous", "sliding"]
    assert list(Ladder(stride=8, ttt={}).evaluators(LENGTH)) == ["contiguous", "sliding"]
    assert list(Ladder(stride=8, ttt=lora()).evaluators(LENGTH)) == ["contiguous", "sliding", "ttt"]


@pytest.mark.parametrize("option", ["sgd", "lora", "lora_visits", "phased"])
def test_options_reach_the_evaluation(option):
    plan = build(compose("train", ["experiment=smoke", f"ttt={option}", "budget.evaluation_seconds=77"])["eval"])
    assert plan.evaluators(1024)["ttt"].method.by_document is (option != "sgd")
    assert plan.evaluators(1024)["ttt"].limit_seconds == 77
    assert "ttt" not in build(compose("export", ["run=x", "eval=ladder"])["eval"]).evaluators(1024)


def test_the_clock_of_another_scoring_is_that_of_the_run():
    from golf.pipeline.scoring import with_clock

    node = compose("evaluate", ["run=x", "ttt=sgd"])["eval"]
    assert node["limit_seconds"] is None
    assert with_clock(node, {"budget": {"evaluation_seconds": 600.0}})["limit_seconds"] == 600.0
    assert with_clock({**node, "limit_seconds": 0.0}, {"budget": {"evaluation_seconds": 600.0}})["limit_seconds"] == 0.0
    assert build(with_clock(node, {})).evaluators(1024)["ttt"].limit_seconds == 0.0


def test_a_method_that_nothing_would_use_is_refused():
    with pytest.raises(UserError, match=r"type eval=ladder, or ttt=none"):
        check(compose("train", ["experiment=smoke", "eval=sliding", "ttt=sgd"]))
    check(compose("train", ["experiment=smoke", "eval=adaptive", "ttt=sgd"]))
