"""The queue of documents: every piece once, whoever dies, and the losses of one process on any number of them."""

import multiprocessing
import os
import signal

import numpy as np
import pytest
import torch

from golf.config.build import build
from golf.config.compose import compose
from golf.data.bytes import uniform_byte_table
from golf.errors import LimitExceeded
from golf.evaluation.adaptive import Adaptive
from golf.evaluation.breakdown import Breakdown
from golf.evaluation.ledger import LedgerError
from golf.evaluation.phases import EvaluationClock
from golf.evaluation.protocol import evaluate
from golf.evaluation.queue import WorkQueue
from golf.evaluation.session import ScoringSession
from golf.ttt.lora import LoraTtt
from golf.ttt.phased import PhasedTtt
from golf.ttt.sgd import SgdTtt

VOCAB, LENGTH = 64, 16
FORK = multiprocessing.get_context("fork")


def stream():
    rng = np.random.default_rng(1)
    tokens = (rng.integers(0, 4, 300) + 2 * (np.arange(300) % 7)).astype(np.uint16) + 2
    tokens[[0, 50, 61, 130, 210, 280]] = 1
    return tokens


def network():
    overrides = ["experiment=smoke", "model.num_layers=1", "model.width=32", "model.num_heads=4"]
    config = compose("train", overrides)["model"] | {"vocab_size": VOCAB, "compute_dtype": "float32"}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = build(config | {"num_kv_heads": 2}).eval()
        for parameter in net.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    return net


def methods():
    options = {"targets": ("q", "head"), "rank": 2, "chunk": 8, "batch_documents": 1, "learning_rate": 0.02}
    lora = LoraTtt(**options, order="longest_first")
    sgd = SgdTtt(32, 0.1, 1, document_mask=True)
    return {"lora": lora, "phased": PhasedTtt(lora, sgd, documents=4, phases=2)}


@pytest.fixture(scope="module")
def net():
    return network()


def scored(net, method, queue=None):
    torch.set_num_threads(1)
    tokens, table = stream(), uniform_byte_table(VOCAB)
    breakdown = Breakdown(tokens, table, LENGTH, 1)
    evaluator = Adaptive(LENGTH, 8, ttt=method)
    found = evaluate(net, tokens, table, evaluator, "cpu", 64, bos_id=1, breakdown=breakdown, queue=queue)
    return np.array(found.ledger.nats_N), found.coverage.complete, breakdown.context.sums


def work(net, name, folder, worker, dies, begins, results):
    """One of three processes. The one that `dies` does so in the middle of its first piece; the others begin to look
    for work when it has that piece: on a busy machine they might leave it none."""
    method = methods()[name]
    queue = WorkQueue(folder, worker, 3)
    lora = getattr(method, "lora", method)
    score_batch = lora.score_batch
    if dies:
        lora.score_batch = lambda *arguments: (begins.set(), score_batch(*arguments))
        lora.step = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
    else:
        assert begins.wait(60)
    results.put((worker, scored(net, method, queue), queue.taken_over))


@pytest.mark.parametrize("name", ["lora", "phased"])
def test_a_death_costs_nothing_but_time(name, net, tmp_path):
    one, complete, sums = scored(net, methods()[name])
    assert complete
    begins, results = FORK.Event(), FORK.Queue()
    ranks = [
        FORK.Process(target=work, args=(net, name, tmp_path, worker, dies, begins, results))
        for worker, dies in enumerate((False, True, False))
    ]
    for process in ranks:
        process.start()
    found = [results.get(timeout=60) for _ in range(2)]
    for process in ranks:
        process.join(30)
    assert [process.exitcode for process in ranks] == [0, -signal.SIGKILL, 0]
    assert {worker for worker, _, _ in found} == {0, 2}
    assert sum(taken for _, _, taken in found) == 1  # what the dead process was at
    for _, (nats_N, whole, context_sums), _ in found:
        assert whole
        np.testing.assert_array_equal(nats_N, one)
        np.testing.assert_allclose(context_sums, sums, rtol=1e-12)


def test_no_piece_is_claimed_twice_and_none_is_lost(tmp_path):
    first, second = WorkQueue(tmp_path, 0, 2), WorkQueue(tmp_path, 1, 2)
    names = ["a", "b", "c"]
    waits = []

    def let_go():
        waits.append(1)
        hands.close()  # as the kernel does it for a process that has died

    hands = first.claims(names, lambda: None)
    assert next(hands) == 0
    own = second.claims(names, let_go)
    assert next(own) == 1
    second.finish("b")
    assert next(own) == 2
    second.finish("c")
    assert next(own) == 0
    assert (waits, second.taken_over) == ([1], 1)
    second.finish("a")
    assert next(own, None) is None


def test_losses_of_another_process_are_final_too(net, tmp_path):
    queue, other = WorkQueue(tmp_path, 0, 2), WorkQueue(tmp_path, 1, 2)
    session = ScoringSession(net, stream(), bos_id=1, by_document=True, queue=queue)
    other.publish("piece-0", [(1, np.ones(8), np.arange(8)), (51, np.ones(4), np.arange(4))])
    assert [number for number, _ in session.deal(["x"])] == []
    assert session.ledger.times_N.sum() == 12
    session.ledger.require_scored(51, 54)
    with pytest.raises(LedgerError, match="already scored"):
        session.ledger.record(51, np.ones(1))


def test_who_waits_looks_at_the_clock(net, tmp_path):
    hands = WorkQueue(tmp_path, 1, 2).claims(["piece-0"], lambda: None)
    next(hands)
    now = iter(range(1000))
    clock = EvaluationClock(5.0, now=lambda: float(next(now)))
    session = ScoringSession(net, stream(), bos_id=1, by_document=True, queue=WorkQueue(tmp_path, 0, 2), clock=clock)
    with clock.phase("score"), pytest.raises(LimitExceeded, match=r"limit_seconds=5"):
        list(session.deal(["x"]))


def test_progress_counts_what_the_living_do(tmp_path):
    one, two = WorkQueue(tmp_path, 0, 2), WorkQueue(tmp_path, 1, 2)
    two.published = 30.0
    two.elsewhere(37.0)
    assert one.elsewhere(0.0) == 37.0
    os.close(two._life)  # it dies, and what it was at is lost
    one._looked = 0.0
    assert one.elsewhere(0.0) == 30.0
    assert [queue.agree("enough", answer) for queue, answer in ((one, True), (two, False))] == [True, True]


def test_the_work_of_documents_is_known_beforehand(net, monkeypatch):
    seen = []
    monkeypatch.setattr(ScoringSession, "note_state", lambda session, *given: seen.append(session))
    for chunk, context in ((8, 16), (5, 16), (16, 16), (3, 10)):
        scored(net, LoraTtt(targets=("head",), rank=1, chunk=chunk, context=context, batch_documents=2))
        assert seen[-1].worked == seen[-1]._work > 0
