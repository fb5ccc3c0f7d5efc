"""Trellis-coded quantisation: codes against polynomials, search against brute force, distance to the bound."""

import itertools
import math

import pytest
import torch

from golf.codec.artifact import artifact_bytes, read_artifact
from golf.codec.catalogue import codec_named
from golf.errors import UserError
from golf.quant.formats import deviation_rows
from golf.quant.plan import QuantPlan
from golf.quant.rtn import quantise_rows
from golf.quant.state import QuantisedState, same_state
from golf.quant.trellis import TrellisQuantiser, TrellisTensor, trellis_values
from golf.quant.trellis_search import TrellisSearch, value_bits
from golf.quant.trellis_states import TRELLISES, next_states


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("trellis", "states"), [(name, states) for name in TRELLISES for states in TRELLISES[name]])
def test_every_path_satisfies_the_parity_check(trellis, states):
    h1, h0 = TRELLISES[trellis][states]
    memory = states.bit_length() - 1
    assert h0 & 1
    assert h0 >> memory == 1
    assert h1 & 1 == 0
    assert h1 >> memory == 0
    table = next_states(states, trellis)
    z1 = torch.randint(0, 2, (200,), generator=torch.Generator().manual_seed(states)).tolist()
    z0, state = [], 0
    for bit in z1:
        z0.append(int(state) & 1)
        state = table[state, bit]
    for n in range(memory, 200):
        assert sum((h1 >> i & 1) * z1[n - i] + (h0 >> i & 1) * z0[n - i] for i in range(memory + 1)) % 2 == 0
    assert sorted(table.reshape(-1).tolist()) == sorted(2 * list(range(states)))


@pytest.mark.parametrize("states", [4, 8])
def test_the_search_finds_the_best_path_of_all(states):
    x = gaussian(6, 6, seed=1) * 3
    bits = value_bits(torch.round(gaussian(100, 100) * 3))
    search = TrellisSearch(states, 0.4)
    found = search.rows(x, bits)
    values, costs = search.branches(x, bits)
    table = next_states(states)
    for row in range(6):
        best = (math.inf, [])
        for path in itertools.product((0, 1), repeat=6):
            state, cost, chosen = 0, 0.0, []
            for column, z1 in enumerate(path):
                subset = 2 * z1 + (state & 1)
                cost += float(costs[subset, column, row])
                chosen.append(int(values[subset, column, row]))
                state = int(table[state, z1])
            best = min(best, (cost, chosen))
        assert found[row].tolist() == best[1]


def test_values_are_a_walk_of_the_codes():
    stored = TrellisQuantiser(16).convert("w", gaussian(24, 96))
    values = trellis_values(stored.codes, 16, stored.trellis)
    table = next_states(16, "least_error")
    for row in (0, 23):
        state = 0
        for column in range(96):
            code = int(stored.codes[row, column])
            assert int(values[row, column]) == 2 * code + (int(state) & 1)
            state = table[state, code & 1]
    assert torch.equal(stored.dequantise(), values.float() * stored.scales.float()[:, None])


def bits_above_the_bound(weight, stored, bits_per_weight):
    error = float((stored.dequantise().double() - weight.double()).square().mean())
    return bits_per_weight - 0.5 * math.log2(float(weight.double().var()) / error)


def file_bits(stored, codec="range"):
    state = QuantisedState({"w": stored}, {"w": "other"})
    return 8 * len(artifact_bytes(state, {}, {}, codec_named(codec))[0])


def test_files_are_closer_to_the_bound_the_more_states():
    weight = gaussian(64, 1024)
    constant = file_bits(quantise_rows(torch.zeros(64, 1024), deviation_rows(6, 12.85)))
    gaps = {}
    for states in (0, 4, 8, 32):
        quantise = TrellisQuantiser(states, 12.85, 0.35).convert if states else None
        stored = quantise("w", weight) if quantise else quantise_rows(weight, deviation_rows(6, 12.85))
        gaps[states] = bits_above_the_bound(weight, stored, (file_bits(stored) - constant) / weight.numel())
    assert gaps[0] > 0.24
    assert gaps[4] < 0.11
    assert gaps[8] < gaps[4] - 0.005
    assert gaps[32] < gaps[8] - 0.008
    assert gaps[32] < gaps[0] - 0.19


@pytest.mark.parametrize("codec", ["none", "zlib", "range"])
def test_what_is_packed_is_what_is_read(tmp_path, codec):
    weights = {
        "a": gaussian(40, 64),
        "b": gaussian(40, 64, seed=2).bfloat16(),
        "c": gaussian(3, 20, 64),
        "d": torch.zeros(20, 64),
    }
    weights["e"] = gaussian(30, 50) * torch.tensor([1e-9, 1.0, 300.0]).repeat(10)[:, None]
    plan = QuantPlan(matrix=TrellisQuantiser(8), small_numel=100)
    quantised = plan.quantise(weights, dict.fromkeys(weights, "matrix"))
    path = tmp_path / "model.golf"
    path.write_bytes(artifact_bytes(quantised, {}, {}, codec_named(codec))[0])
    read = read_artifact(path).quantised
    assert same_state(read.dequantise(), quantised.dequantise())
    assert all(isinstance(stored, TrellisTensor) for stored in read.tensors.values())
    for name, weight in weights.items():
        error = (read.tensors[name].dequantise().float() - weight.float()).abs().mean()
        assert error <= 0.15 * weight.float().abs().mean() + 1e-4
    assert torch.equal(
        TrellisQuantiser(8).convert("a", weights["a"]).codes, TrellisQuantiser(8).convert("a", weights["a"]).codes
    )


def test_what_cannot_be_done_is_said():
    with pytest.raises(UserError, match="states=5 has no trellis: use one of 4, 8"):
        TrellisQuantiser(5)
    with pytest.raises(UserError, match="trellis=best is not known: type trellis=least_error"):
        TrellisQuantiser(8, trellis="best")
    with pytest.raises(UserError, match=r"type factor=12\.85"):
        TrellisQuantiser(8, factor=0)
    with pytest.raises(UserError, match="'v' has no rows"):
        TrellisQuantiser(8).convert("v", torch.zeros(9000))
    with pytest.raises(UserError, match="NaN"):
        TrellisQuantiser(8).convert("w", torch.full((4, 4), math.nan))
    stored = TrellisQuantiser(4).convert("w", gaussian(4, 8))
    for meta in (
        {},
        {"states": 5, "dtype": "float32", "trellis": "least_error"},
        {"states": True, "dtype": "float32", "trellis": "least_error"},
        {"states": 4, "dtype": "int8", "trellis": "least_error"},
        {"states": 4, "dtype": "float32", "trellis": "best"},
        {"states": 4, "dtype": "float32", "trellis": "least_error", "walk_rows": -8},
        {"states": 4, "dtype": "float32", "trellis": "least_error", "walk_rows": 8.0},
        {"states": 4, "dtype": "float32", "trellis": "least_error", "walk_rows": 1 << 20},
    ):
        with pytest.raises(ValueError, match=r"trellis|together|no such walk"):
            TrellisTensor.from_parts(meta, stored.parts())
    with pytest.raises(ValueError, match="together"):
        TrellisTensor.from_parts(stored.meta(), {"codes": stored.codes, "scales": stored.scales[:2]})
