"""The range coder, its models and grouped streams: identity for every shape and filling, determinism, refusals."""

import hashlib
import os
import subprocess
import sys
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from math import prod

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from golf.codec.artifact import artifact_bytes
from golf.codec.catalogue import codec_named
from golf.codec.column_prediction import ColumnPredictor, prediction_matrix
from golf.codec.grouped_codec import GroupedBrotli, similar_rows
from golf.codec.parts import PartGroup, part_groups
from golf.codec.range_codec import FLOATS_MODE, RangeCodec
from golf.codec.range_weights import RUN_ROWS, lanes_of, row_weight
from golf.codec.rans import (
    PROBABILITY_ONE,
    RANS_LOW,
    RansDecoder,
    RansRecorder,
    rans_encode,
    stream_bytes,
)
from golf.codec.weight_model import AdaptiveTables, rough_exp2, rough_log2
from golf.errors import UserError
from golf.quant.plan import QuantPlan
from golf.quant.state import QuantisedState

SHAPES = ((), (0,), (1,), (7,), (0, 3), (3, 0), (1, 1), (8, 128), (37, 61), (3, 16, 32), (2, 0, 4), (520, 2), (2, 600))
FILLS = ("normal", "zeros", "zero rows", "extremes", "shared direction", "one value")
WALKS = tuple(("trellis", {"states": states, "walk_rows": rows}) for states, rows in ((4, 0), (64, 0), (32, 24)))
DTYPES = ("int8", "uint8", "float16", "bfloat16", "float32", "int64", "bool")


def codes(shape, fill, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator) * 5
    if fill == "zeros":
        x = x * 0
    elif fill == "zero rows" and len(shape) > 1:
        x[..., ::2, :] = 0
    elif fill == "extremes":
        x = torch.randint(-128, 128, shape, generator=generator).float()
    elif fill == "shared direction" and len(shape) == 2:
        x = x + torch.randn(shape[1], generator=generator) * 20
    elif fill == "one value":
        x = torch.full(shape, -128.0)
    return x.round().clamp(-128, 127)


def group_of(tensors, dtype, spec=("codes", {})):
    names = tuple(f"blocks.{index}.w" for index in range(len(tensors)))
    return PartGroup("mlp", "codes", dtype, names, tuple(tuple(t.shape) for t in tensors), (spec,) * len(tensors))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(SHAPES), st.sampled_from(FILLS)), max_size=4),
    st.sampled_from(DTYPES),
    st.sampled_from(["range", "grouped_brotli"]),
    st.sampled_from(
        [("codes", {}), *(("trellis", {"states": n, "walk_rows": r}) for n, r in ((4, 0), (64, 0), (32, 24)))]
    ),
)
def test_decode_parts_undoes_encode_parts(entries, dtype, name, spec):
    tensors = [codes(shape, fill, seed).to(getattr(torch, dtype)) for seed, (shape, fill) in enumerate(entries)]
    group = group_of(tensors, dtype, spec)
    codec = codec_named(name)
    packed = codec.encode_parts(group, tensors)
    assert codec.encode_parts(group, tensors) == packed
    found = codec.decode_parts(group, packed)
    assert len(found) == len(tensors)
    for left, right in zip(found, tensors):
        assert left.dtype == right.dtype
        assert torch.equal(left, right)


def test_every_bit_pattern_of_a_float_survives():
    patterns = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    scales = (torch.randn(3000, generator=torch.Generator().manual_seed(0)) * 0.1).exp() * 0.03
    for dtype in ("float16", "bfloat16"):
        near_zero = patterns[2**15 - 900 : 2**15 + 900].view(getattr(torch, dtype))
        for tensor in (patterns.view(getattr(torch, dtype)), near_zero, scales.to(getattr(torch, dtype))):
            group = group_of([tensor], dtype)
            packed = RangeCodec().encode_parts(group, [tensor])
            assert torch.equal(RangeCodec().decode_parts(group, packed)[0].view(torch.int16), tensor.view(torch.int16))
            if len(tensor) == 3000:
                assert packed[0] == FLOATS_MODE
                assert len(packed) < 0.65 * group.raw_bytes()


def test_any_frequencies_are_coded_at_their_entropy():
    chance = np.random.default_rng(0)
    frequency = np.array([1, 16 * 5, 16 * 60_000, 16 * 5_530 + 15], dtype=np.int64)
    cumulative = np.concatenate([[0], frequency.cumsum()])[None, :]
    symbols = chance.choice(4, size=(500, 40), p=frequency / frequency.sum())
    symbols[:4] = np.arange(4)[:, None]
    tables, recorder = np.zeros(40, dtype=np.int64), RansRecorder()
    for row in symbols:
        assert recorder.code(cumulative, tables, row) is row
    packed = rans_encode(recorder.steps, 40)
    decoder = RansDecoder(packed, 40)
    for row in symbols:
        assert (decoder.code(cumulative, tables, row * 0) == row).all()
    decoder.finish()
    ideal = np.log2(PROBABILITY_ONE / frequency[symbols]).sum() / 8
    assert abs(len(packed) - ideal) < 40 * 5 + 0.002 * ideal + 8
    with pytest.raises(UserError, match="truncated"):
        decoded_all(RansDecoder(packed[:-200], 40), cumulative, symbols)


def test_a_lane_costs_half_a_byte():
    """The states begin with the last symbols, so that many lanes take little room; what lies behind them is refused."""
    chance = np.random.default_rng(7)
    frequency = np.full(16, PROBABILITY_ONE // 16)
    cumulative = np.concatenate([[0], frequency.cumsum()])[None, :]
    symbols, sizes = chance.integers(16, size=8192), {}
    for lanes in (1, 9, 20, 500):
        steps, recorder = [symbols[i : i + lanes] for i in range(0, len(symbols), lanes)], RansRecorder()
        for step in steps:
            recorder.code(cumulative, np.zeros(len(step), dtype=np.int64), step)
        packed = rans_encode(recorder.steps, lanes)
        assert rans_encode(recorder.steps, lanes) == packed
        decoder = RansDecoder(packed, lanes)
        assert (np.concatenate(decoded_all(decoder, cumulative, steps)) == symbols).all()
        decoder.finish()
        sizes[lanes] = len(packed)
        if lanes >= 20:
            decoder.last.state[0] += 1
            with pytest.raises(UserError, match="its end differs"):
                decoder.finish()
    assert sizes[500] - len(symbols) / 2 < 500 * 0.75


def test_as_many_last_symbols_as_no_encoder_writes_are_refused():
    """They are decoded four at a time, and free ones would cost a damaged file nothing."""
    cumulative, lanes = np.array([[0, PROBABILITY_ONE, PROBABILITY_ONE]]), 50
    steps = [np.zeros(lanes, dtype=np.int64)] * 100
    for promised, words in ((10**6, "its end differs"), (1, "")):
        first = np.frombuffer(stream_bytes(promised, np.full(4, RANS_LOW), [], 3 * lanes), dtype=np.uint8)
        packed = stream_bytes(100 * lanes - 1, RANS_LOW + first.reshape(-1, 3) @ (1, 256, 65536), [])
        decoder = RansDecoder(packed, lanes)
        if words:
            with pytest.raises(UserError, match=words):
                decoded_all(decoder, cumulative, steps)
        else:
            assert not np.concatenate(decoded_all(decoder, cumulative, steps)).any()
            decoder.finish()


def decoded_all(decoder, cumulative, symbols):
    return [decoder.code(cumulative, np.zeros(len(row), dtype=np.int64), row) for row in symbols]


def test_tables_are_frequencies_whatever_they_have_seen():
    tables = AdaptiveTables(20)
    tables.update(np.full(90_000, 7), np.full(90_000, 3))
    for table in (tables, deepcopy(tables)):
        steps = np.diff(table.cumulative, axis=1)
        assert (steps[:, :41] >= 1).all()
        assert (table.cumulative[:, 41:] == PROBABILITY_ONE).all()
        assert (table.cumulative[:, 0] == 0).all()
        assert steps[7, 3] > 60_000 * 16


@pytest.mark.parametrize("together", [1, 4, 16])
def test_prediction_is_least_squares(together):
    chance = np.random.default_rng(1)
    rows = np.rint(chance.standard_normal((400, 44)) @ chance.standard_normal((44, 44)) * 4)
    weights = prediction_matrix(rows.T @ rows, 1e-6, together) / 4096
    for column in (1, 5, 18, 43):
        known = column - column % together
        expected = np.linalg.lstsq(rows[:, :known], rows[:, column], rcond=None)[0]
        assert np.abs(weights[column, :known] - expected).max(initial=0) < 2e-3
        assert not weights[column, known:].any()
    predictor = ColumnPredictor(44, together, 1, 1e9)
    predictor.learn(rows.T)
    centres = np.concatenate([predictor.centres(rows.T, column) for column in range(0, 44, together)])
    assert np.abs(centres - predictor.weights @ rows.T / 4096).max() < 1e-9
    assert np.abs(rows[:, 43] - centres[43]).mean() < 0.7 * np.abs(rows[:, 43]).mean()


def test_columns_that_repeat_each_other_have_a_prediction():
    """The moments are singular but for rounding: every weight is finite, and what is left to predict is nothing."""
    rows = np.random.default_rng(3).integers(-9, 10, size=(600, 40)).repeat(2, axis=1)
    rows[:, 7] = 0
    rows[:, 50] *= 400
    weights = prediction_matrix((rows.T @ rows).astype(np.float64), 1e-9, 1) / 4096
    assert np.isfinite(weights).all()
    assert np.abs(weights @ rows.T - rows.T)[[3, 21, 79]].max() < 0.1


def test_similar_rows_is_the_greedy_chain():
    matrix = np.array([[0, 0], [9, 9], [1, 0], [8, 9], [1, 1], [1, 1]], dtype=np.int8)
    assert similar_rows(matrix).tolist() == [0, 2, 4, 5, 3, 1]
    assert similar_rows(matrix[:0]).tolist() == []
    mixed = torch.randn(6, 64, generator=torch.Generator().manual_seed(3)).mul(20)[torch.arange(256) * 5 % 6].round()
    noisy = (mixed + torch.randn(256, 64, generator=torch.Generator().manual_seed(4))).to(torch.int8)
    group = group_of([noisy], "int8")
    plain, chained = GroupedBrotli(["plain"]), GroupedBrotli(["plain", "similar", "similar_columns"])
    assert len(chained.encode_parts(group, [noisy])) < 0.9 * len(plain.encode_parts(group, [noisy]))


def trained_like(rows=512, columns=128, seed=0):
    generator = torch.Generator().manual_seed(seed)
    spread = torch.exp(0.4 * torch.randn(columns, generator=generator))
    return torch.randn(rows, columns, generator=generator) * spread


def state_of(weights):
    plan = QuantPlan(matrix="int6_deviation_rows", embedding="int6_deviation_rows", small_numel=10)
    return plan.quantise(weights, {name: "embedding" if "emb" in name else "matrix" for name in weights})


def test_what_columns_and_directions_tell_is_not_paid_for():
    rows = trained_like(1024, 64)
    shared = rows + 2 * torch.randn(1024, 1, generator=torch.Generator().manual_seed(9)) * torch.linspace(-1, 1, 64)
    state = state_of({"blocks.0.mlp.fc.weight": trained_like(), "tok_emb.weight": shared})
    sizes = {name: artifact_bytes(state, {}, {}, codec_named(name))[1] for name in ("range", "brotli", "lzma")}
    for other in ("brotli", "lzma"):
        assert sizes["range"]["embedding"] < 0.93 * sizes[other]["embedding"]
        assert sum(sizes["range"].values()) < 0.97 * sum(sizes[other].values())


def digest():
    weights = {"blocks.0.mlp.fc.weight": trained_like(64, 64), "tok_emb.weight": trained_like(200, 32, 3)}
    return hashlib.sha256(artifact_bytes(state_of(weights), {}, {}, RangeCodec())[0]).hexdigest()


def test_the_bytes_are_the_same_in_another_process():
    here = os.path.dirname(__file__)
    program = "import sys; sys.path.insert(0, sys.argv[1]); import test_codec_range as t; print(t.digest())"
    environment = {**os.environ, "PYTHONHASHSEED": "77", "OMP_NUM_THREADS": "2", "NPY_DISABLE_CPU_FEATURES": "AVX512F"}
    command = [sys.executable, "-W", "ignore", "-c", program, here]
    other = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == digest()


def test_damaged_sections_are_refused_in_one_line():
    tensors = [codes((40, 32), "normal", 0), codes((8, 160), "normal", 1), codes((5,), "normal", 2)]
    tensors = [tensor.to(torch.int8) for tensor in tensors]
    group = group_of(tensors, "int8")
    for codec in (RangeCodec(), GroupedBrotli()):
        packed = codec.encode_parts(group, tensors)
        chance = np.random.default_rng(2)
        for _ in range(30):
            damaged = bytearray(packed)
            for _ in range(int(chance.integers(1, 4))):
                damaged[int(chance.integers(min(len(damaged), 60)))] ^= 1 << int(chance.integers(8))
            cut = bytes(damaged[: int(chance.integers(len(damaged)))]) if chance.random() < 0.5 else bytes(damaged)
            with suppress(UserError, ValueError, LookupError):
                found = codec.decode_parts(group, cut)
                assert [tuple(tensor.shape) for tensor in found] == list(group.shapes)


def test_settings_and_directories_out_of_range_are_refused():
    with pytest.raises(UserError, match=r"type codec\.predict_rows=2"):
        RangeCodec(predict_rows=-1)
    with pytest.raises(UserError, match=r"type codec\.orders=\[plain\]"):
        GroupedBrotli(["rows"])
    entries = [["w", "mlp", 0, [["codes", 0, [2, -1]]]]]
    directory = {"groups": [["mlp", "codes", "int8"]], "specs": [["codes", {}]], "tensors": entries}
    with pytest.raises(ValueError, match="shape of w"):
        part_groups(directory)
    assert prod(group_of([torch.zeros(3, 4)], "float32").shapes[0]) * 4 == 48
    assert isinstance(state_of({}), QuantisedState)


def coded_bytes(tensors, known=()):
    group = replace(group_of(tensors, "int8"), known=tuple(known))
    packed = RangeCodec().encode_parts(group, tensors)
    for left, right in zip(RangeCodec().decode_parts(group, packed), tensors):
        assert torch.equal(left, right)
    return len(packed)


def test_columns_begin_at_what_a_vector_of_the_file_tells():
    generator = torch.Generator().manual_seed(5)
    spread = torch.exp(0.6 * torch.randn(512, generator=generator))
    matrix = (2.4 * spread * torch.randn(32, 512, generator=generator)).round().clamp(-127, 127).to(torch.int8)
    noisy = (spread * torch.exp(0.05 * torch.randn(512, generator=generator))).to(torch.float16)
    others = [torch.randn(512, generator=generator).to(torch.float16) for _ in range(3)]
    alone = coded_bytes([matrix], others)
    assert coded_bytes([matrix], [*others, noisy]) < 0.985 * alone
    assert coded_bytes([matrix], [*others, torch.full((512,), torch.nan).to(torch.float16)]) < 1.002 * alone


def test_rows_whose_squares_add_up_to_a_known_sum_cost_less():
    generator = torch.Generator().manual_seed(6)
    free = torch.randn(1024, 64, generator=generator)
    known = free / free.std(dim=1, keepdim=True)
    free, known = ((2.41 * x).round().to(torch.int8) for x in (free, known))
    assert row_weight(known.numpy()) < 0 < row_weight(free.numpy())
    bits = (coded_bytes([free]) - coded_bytes([known])) * 8 / 1024
    assert bits > 1.0


def test_rough_logarithms_are_each_others_inverse():
    values = np.array([2.0**-20, 0.3, 1.0, 1.5, 7.0, 4096.0])
    assert np.abs(rough_log2(values) - np.log2(values)).max() < 0.09
    assert np.allclose(rough_exp2(rough_log2(values)), values, rtol=1e-12)


def test_an_older_range_file_is_named():
    group = group_of([codes((8, 128), "normal", 0).to(torch.int8)], "int8")
    for mode in range(11):
        with pytest.raises(UserError, match="older golf"):
            RangeCodec().decode_parts(group, bytes([mode]) + bytes(50))
        with pytest.raises(UserError, match="older golf"):
            RangeCodec().decode(bytes([mode]) + bytes(50))


def test_predictions_serve_rows_of_small_scales():
    """Rows that share directions in half of them, which a vector of the file tells from the rest."""
    generator = torch.Generator().manual_seed(8)
    scales = torch.where(torch.arange(2048) % 2 == 0, 0.02, 0.2)
    shared = torch.randn(2048, 8, generator=generator) @ torch.randn(8, 32, generator=generator)
    noise = 3 * torch.randn(2048, 32, generator=generator)
    rows = torch.where(scales[:, None] < 0.1, 6 * shared / 3 + noise / 3, 2 * noise).round().clamp(-127, 127)
    matrix = rows.to(torch.int8)
    assert coded_bytes([matrix], [scales.half()]) < 0.99 * coded_bytes([matrix])


@pytest.mark.parametrize("spec", [("codes", {}), ("trellis", {"states": 8, "trellis": "least_error", "walk_rows": 48})])
@pytest.mark.parametrize("shape", [(127, 61), (600, 517)])
def test_columns_predicted_several_together(shape, spec):
    """Neither runs of rows nor columns come out even, and half of the rows learn from each other only."""
    generator = torch.Generator().manual_seed(9)
    shared = torch.randn(shape[0], 6, generator=generator) @ torch.randn(6, shape[1], generator=generator)
    matrix = (3 * shared + torch.randn(shape, generator=generator)).round().clamp(-127, 127).to(torch.int8)
    scales = torch.where(torch.arange(shape[0]) % 2 == 0, 0.02, 0.2).half()
    group = replace(group_of([matrix], "int8", spec), known=(scales,))
    lanes, sizes = lanes_of([shape]), []
    for predict_rows in (0, 1):
        codec = RangeCodec(predict_rows=predict_rows)
        packed = codec.encode_parts(group, [matrix])
        assert torch.equal(codec.decode_parts(group, packed)[0], matrix)
        sizes.append(len(packed))
    assert lanes >= 2 * (shape[0] // RUN_ROWS)
    assert sizes[1] < 0.97 * sizes[0]


def test_a_vector_that_follows_an_earlier_one_costs_only_what_is_new():
    generator = torch.Generator().manual_seed(11)
    first = torch.randn(512, generator=generator) * 0.2 + 1.5
    follower = first + 1e-3 * torch.randn(512, generator=generator) - 1
    free = torch.randn(512, generator=generator) * 0.2
    near_zero = torch.cat([1e-6 * torch.randn(500, generator=generator), torch.tensor([0.0, -0.0, 6e-8]).repeat(4)])
    packed = {}
    for name, second in (("follower", follower), ("free", free)):
        tensors = [torch.stack([first, second]).half(), near_zero.half(), (free * 0 + 1e-7).half()]
        group = group_of(tensors, "float16")
        packed[name] = RangeCodec().encode_parts(group, tensors)
        assert packed[name][0] == FLOATS_MODE
        for left, right in zip(RangeCodec().decode_parts(group, packed[name]), tensors):
            assert torch.equal(left.view(torch.int16), right.view(torch.int16))
    assert len(packed["free"]) - len(packed["follower"]) > 512 * 6 / 8
