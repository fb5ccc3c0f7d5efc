"""The synthetic source: closed form, oracle and counts agree; reference scores are what their formulas say."""

import math
from pathlib import Path

import numpy as np
import pytest

from golf.data.bytes import uniform_byte_table
from golf.data.reference import bigram_bpb, bigram_nll, unigram_bpb, unigram_nll
from golf.data.shards import Shards
from golf.data.synthetic import SyntheticSource, make_markov_chain
from golf.errors import UserError

SIZES = {
    "vocab_size": 36,
    "branches": 3,
    "document_tokens": 20.0,
    "tokens_per_step": 64,
    "seq_len": 8,
    "spans_per_step": 2,
}


@pytest.fixture
def source(tmp_path: Path) -> SyntheticSource:
    return SyntheticSource(str(tmp_path), train_tokens=200_000, val_tokens=150_000, shard_tokens=90_000, **SIZES)


def dense_transitions(source: SyntheticSource) -> np.ndarray:
    chain = source.chain()
    matrix = np.zeros((36, 36))
    for row in [1, *range(4, 36)]:
        q = 0.0 if row == 1 else chain.bos_probability
        matrix[row, 1] += q
        for successor, probability in zip(chain.successors[row], chain.probabilities[row]):
            matrix[row, successor] += (1 - q) * probability
    return matrix


def test_the_closed_form_is_the_entropy_rate_of_the_dense_chain(source: SyntheticSource) -> None:
    matrix = dense_transitions(source)
    stationary = source.chain().stationary()
    assert np.abs(stationary @ matrix - stationary).max() < 1e-12
    assert stationary.sum() == pytest.approx(1.0, abs=1e-12)
    logs = np.log(np.where(matrix > 0, matrix, 1.0))
    rate = -(stationary[:, None] * matrix * logs).sum()
    assert source.chain().nats_per_token() == pytest.approx(rate, abs=1e-12)
    assert source.expected_bpb() == pytest.approx(rate / math.log(2) / (2 * (1 - stationary[1])), abs=1e-12)


def test_tokens_come_from_the_chain_through_the_ordinary_path(source: SyntheticSource) -> None:
    prepared = source.prepare()
    assert len(prepared.train_paths) == 3
    tokens = prepared.validation_tokens(36)
    matrix = dense_transitions(source)
    nll = source.oracle_nll(tokens[:-1], tokens[1:])
    assert np.allclose(nll, -np.log(matrix[tokens[:-1], tokens[1:]]), atol=1e-12)
    table = prepared.tokenizer(36).byte_table()
    bpb = nll.sum() / math.log(2) / table.count_stream(tokens).sum()
    assert bpb == pytest.approx(source.expected_bpb(), rel=0.01)
    frequency = np.bincount(tokens, minlength=36) / len(tokens)
    assert np.abs(frequency - source.chain().stationary()).max() < 0.01
    train = Shards(prepared.train_paths).read_all()
    assert bigram_bpb(train, tokens, table) == pytest.approx(bpb, rel=0.01)
    assert unigram_bpb(train, tokens, table) > 1.5 * bpb
    assert source.prepare() == prepared


def test_impossible_steps_are_infinite_and_settings_are_checked(source: SyntheticSource, tmp_path: Path) -> None:
    assert np.isinf(source.oracle_nll(np.array([1]), np.array([1])))[0]
    assert source.oracle_nll(np.array([5]), np.array([1]))[0] == pytest.approx(math.log(20))
    with pytest.raises(UserError, match=r"data\.branches=9 needs 1 to 4"):
        make_markov_chain(8, 9, 20.0, 0)
    with pytest.raises(UserError, match=r"data\.document_tokens=1"):
        make_markov_chain(8, 2, 1, 0)
    with pytest.raises(UserError, match=r"type tokenizer\.path=auto"):
        SyntheticSource(tokenizer="bytes")
    with pytest.raises(UserError, match="shorter than one window"):
        SyntheticSource(str(tmp_path), train_tokens=100, val_tokens=8, **SIZES).prepare()


def test_reference_scores_by_hand() -> None:
    train, val = np.array([0, 1, 0, 1, 0, 2], dtype=np.uint16), np.array([0, 1, 2], dtype=np.uint16)
    unigram = np.array([4, 3, 2, 1]) / 10
    assert np.allclose(unigram_nll(train, val, 4), -np.log(unigram[[1, 2]]))
    after_0 = (2 + 2 * unigram[1]) / (3 + 2)
    after_1 = (0 + 1 * unigram[2]) / (2 + 1)
    assert np.allclose(bigram_nll(train, val, 4), -np.log([after_0, after_1]))
    table = uniform_byte_table(4, 2)
    assert bigram_bpb(train, val, table) == pytest.approx(-math.log2(after_0 * after_1) / 4)
    every = np.array([(0, target) for target in range(4)], dtype=np.uint16)
    assert np.exp(-np.concatenate([bigram_nll(train, pair, 4) for pair in every])).sum() == pytest.approx(1.0)
