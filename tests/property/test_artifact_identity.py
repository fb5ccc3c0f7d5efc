"""Whatever a state holds, packing and reading it gives its bits back; whatever a file suffers, reading it is safe."""

import os
import random
import subprocess
import sys
import time
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from golf.codec.artifact import artifact_bytes, read_artifact
from golf.codec.catalogue import CODECS, codec_named
from golf.errors import UserError
from golf.quant.formats import FORMAT_NAMES, format_named
from golf.quant.plan import QuantPlan
from golf.quant.rtn import QuantisedTensor, quantise_rows
from golf.quant.state import PlainTensor, QuantisedState, same_state
from golf.quant.ternary_packing import TernaryGroups

PACKED = {"base3": TernaryGroups(16, "base3"), "bitmask": TernaryGroups(16, "bitmask"), "smaller": TernaryGroups(16)}
SHAPES = st.sampled_from([(), (0,), (1,), (7,), (0, 3), (3, 0), (1, 1), (5, 9), (2, 3, 4), (33, 17)])
DTYPES = st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.uint8])
FILLS = st.sampled_from(["normal", "zeros", "denormal", "huge", "one row of zeros", "negative zero"])
TREATMENTS = st.sampled_from([*FORMAT_NAMES, *PACKED, "as_is", "float16"])
ROLES = st.sampled_from(["matrix", "embedding", "head", "scalar", "table", "gate"])


def filled(shape, dtype, fill, seed):
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    if fill == "zeros":
        tensor = torch.zeros(shape)
    elif fill == "denormal":
        tensor = tensor * 1e-42
    elif fill == "huge":
        tensor = tensor * 1000
    elif fill == "one row of zeros" and tensor.ndim and tensor.shape[0]:
        tensor[0] = 0
    elif fill == "negative zero":
        tensor = -torch.zeros(shape)
    return tensor.to(dtype) if dtype.is_floating_point else (tensor.abs() % 100).to(dtype)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    entries=st.lists(st.tuples(SHAPES, DTYPES, FILLS, ROLES), min_size=0, max_size=5),
    treatment=TREATMENTS,
    codec=st.sampled_from([codec.name for codec in CODECS]),
)
def test_pack_and_read_is_the_identity(tmp_path, entries, treatment, codec):
    state, roles = {}, {}
    for index, (shape, dtype, fill, role) in enumerate(entries):
        name = f"blocks.{index}.{'attn' if index % 2 else 'mlp'}.w"
        state[name], roles[name] = filled(shape, dtype, fill, index), role
    plan = QuantPlan(*[PACKED.get(treatment, treatment)] * 7, small_numel=0)
    quantised = plan.quantise(state, roles)
    blob, sizes = artifact_bytes(quantised, {"a": 1}, {}, codec_named(codec))
    assert sum(sizes.values()) == len(blob)
    path = tmp_path / "model.golf"
    path.write_bytes(blob)
    artifact = read_artifact(path)
    assert same_state(artifact.quantised.dequantise(), quantised.dequantise())
    if any(getattr(stored, "open", False) for stored in quantised.tensors.values()):
        return  # the packing was the packer's choice
    for name, stored in quantised.tensors.items():
        assert same_state(artifact.quantised.tensors[name].parts(), stored.parts())
        assert artifact.quantised.tensors[name].meta() == stored.meta()


@pytest.mark.parametrize("shape", [(), (0,), (1,), (7,), (0, 3), (3, 0), (1, 1), (5, 9), (2, 3, 4), (33, 17)])
@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_every_format_on_every_shape_and_fill(name, shape):
    """Parts and description rebuild the tensor; decoded values are finite, codes on the grid, zeros stay zeros."""
    fmt = format_named(name)
    for fill in ("normal", "zeros", "denormal", "huge", "one row of zeros", "negative zero"):
        weight = filled(shape, torch.float32, fill, 1)
        stored = quantise_rows(weight, fmt)
        again = QuantisedTensor.from_parts(stored.meta(), stored.parts())
        assert same_state({"w": again.dequantise()}, {"w": stored.dequantise()})
        decoded = stored.dequantise()
        assert decoded.shape == weight.shape
        assert torch.isfinite(decoded).all()
        assert (decoded[weight == 0] == 0).all()
        assert stored.scales.shape == fmt.scale_shape(weight.shape)
        if fmt.number == "integer" and weight.numel():
            assert fmt.code_min <= int(stored.codes.min()) <= int(stored.codes.max()) <= fmt.code_max
        if weight.numel():
            for bad in (torch.nan, torch.inf):
                spoiled = weight.clone()
                spoiled.view(-1)[-1] = bad
                with pytest.raises(UserError) as caught:
                    quantise_rows(spoiled, fmt)
                assert "\n" not in str(caught.value)


BYTES_OF_A_STATE = """
import hashlib, sys, torch
sys.path.insert(0, sys.argv[1])
torch.set_num_threads(int(sys.argv[2]))
from test_artifact_identity import determined
print(hashlib.sha256(b"".join(determined())).hexdigest())
"""


def determined():
    """Files of every quantiser that computes, in the fastest codec and in the one that predicts."""
    from golf.quant.factored import LowRankFactors
    from golf.quant.gptq import Gptq
    from golf.quant.lowrank import LowRankCorrection
    from golf.quant.trellis import TrellisQuantiser

    generator = torch.Generator().manual_seed(11)
    state = {f"blocks.{n}.mlp.fc.weight": torch.randn(96, 64, generator=generator) for n in range(3)}
    state |= {"blocks.0.attn.c_q.weight": torch.randn(64, 64, generator=generator)}
    inputs = torch.randn(300, 64, generator=generator).mul_(4).round_()  # so that their products are exact
    hessians = dict.fromkeys(state, inputs.T @ inputs)
    plans = [
        QuantPlan(Gptq(), small_numel=10, correction=LowRankCorrection(2, 1)),
        QuantPlan(TernaryGroups(16), small_numel=10, overrides={"attn": LowRankFactors(8)}),
        QuantPlan(TrellisQuantiser(4), small_numel=10),
    ]
    for plan in plans:
        quantised = plan.quantise(state, dict.fromkeys(state, "matrix"), hessians)
        for codec in ("zlib", "range"):
            yield artifact_bytes(quantised, {"a": 1}, {}, codec_named(codec))[0]


def test_files_do_not_depend_on_process_or_threads():
    command = [sys.executable, "-c", BYTES_OF_A_STATE, str(Path(__file__).parent)]
    environments = [{**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "2"} for seed in ("1", "2")]
    running = [
        subprocess.Popen([*command, threads], env=environment, stdout=subprocess.PIPE, text=True)
        for threads, environment in zip(("1", "2"), environments)
    ]
    hashes = {process.communicate(timeout=300)[0] for process in running}
    assert [process.returncode for process in running] == [0, 0]
    assert len(hashes) == 1


def test_every_bit_pattern_of_a_float_survives(tmp_path):
    patterns = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    tensors = {name: PlainTensor(patterns.view(dtype), name) for name, dtype in [("float16", torch.float16)]}
    tensors["bfloat16"] = PlainTensor(patterns.view(torch.bfloat16), "bfloat16")
    state = QuantisedState(tensors, dict.fromkeys(tensors, "other"))
    state.save(tmp_path / "state.golf")
    assert same_state(QuantisedState.load(tmp_path / "state.golf").dequantise(), state.dequantise())


@lru_cache
def sample_artifact(codec: str) -> bytes:
    generator = torch.Generator().manual_seed(5)
    state = {f"blocks.{layer}.mlp.fc.weight": torch.randn(24, 40, generator=generator) for layer in range(3)}
    state["tok_emb.weight"] = torch.randn(30, 24, generator=generator).bfloat16()
    state["skip_weights"] = torch.randn(3, 24, generator=generator)
    roles = dict.fromkeys(state, "matrix") | {"skip_weights": "scalar"}
    return artifact_bytes(QuantPlan(small_numel=100).quantise(state, roles), {"w": 1}, {}, codec_named(codec))[0]


def mutated(blob: bytes, chance: random.Random) -> bytes:
    data = bytearray(blob)
    kind = chance.randrange(7)
    if kind == 0:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    elif kind == 1:
        del data[chance.randrange(len(data)) :]
    elif kind == 2:
        start = chance.randrange(min(40, len(data)))
        data[start : start + 4] = chance.choice([b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\0"])
    elif kind == 3:
        for _ in range(chance.randrange(2, 50)):
            data[chance.randrange(len(data))] = chance.randrange(256)
    elif kind == 4:
        data += bytes(chance.randrange(256) for _ in range(chance.randrange(1, 20)))
    elif kind == 5:
        first, second = sorted(chance.randrange(len(data)) for _ in range(2))
        data = data[second:] + data[first:second] + data[:first]
    else:
        start = chance.randrange(len(data))
        del data[start : start + chance.randrange(1, 30)]
    return bytes(data)


@pytest.mark.parametrize("codec", [codec.name for codec in CODECS])
def test_mutated_artifacts_are_refused_cleanly_and_quickly(tmp_path, codec):
    blob = sample_artifact(codec)
    path = tmp_path / "model.golf"
    chance = random.Random(codec)
    for _ in range(80):
        damaged = mutated(blob, chance)
        if damaged == blob:
            continue
        path.write_bytes(damaged)
        started = time.monotonic()
        with pytest.raises(UserError) as caught:
            read_artifact(path)
        assert "\n" not in str(caught.value)
        assert time.monotonic() - started < 2
