"""Packed ternary codes: bytes worked out by hand, every length there and back, damaged bytes refused."""

from dataclasses import replace

import pytest
import torch

from golf.codec.artifact import artifact_bytes, read_artifact
from golf.codec.lzma_codec import LzmaCodec
from golf.codec.none_codec import NoCodec
from golf.codec.zlib_codec import ZlibCodec
from golf.errors import UserError
from golf.quant.formats import ternary_groups
from golf.quant.plan import QuantPlan
from golf.quant.rtn import quantise_rows
from golf.quant.state import QuantisedState, same_state
from golf.quant.ternary_packing import (
    TERNARY_PACKERS,
    PackedTernaryTensor,
    TernaryGroups,
    pack_ternary,
    unpack_base3,
    unpack_bitmask,
)
from golf.size.sample import forecast_artifact


@pytest.mark.parametrize(
    ("codes", "base3", "bitmask"),
    [
        ([], "", ""),
        ([-1], "00", "8000"),
        ([1], "02", "8080"),
        ([0, 0, 0, 0, 1], f"{1 + 3 + 9 + 27 + 2 * 81:02x}", "0880"),
        ([1, 1, 1, 1, 1, -1], "f200", "fcf8"),
    ],
)
def test_bytes_worked_out_by_hand(codes, base3, bitmask):
    for packing, expected in (("base3", base3), ("bitmask", bitmask)):
        assert bytes(TERNARY_PACKERS[packing][0](torch.tensor(codes, dtype=torch.int8)).numpy()).hex() == expected


@pytest.mark.parametrize("packing", TERNARY_PACKERS)
def test_every_length_comes_back(packing):
    pack, unpack = TERNARY_PACKERS[packing]
    generator = torch.Generator().manual_seed(0)
    for count in [*range(20), 255, 256, 1000]:
        for codes in (torch.randint(-1, 2, (count,), generator=generator).to(torch.int8), torch.zeros(count).char()):
            assert torch.equal(unpack(pack(codes), count), codes)


def test_damaged_bytes_are_refused():
    fine = torch.tensor([0, 1, 2], dtype=torch.uint8)
    for packed, count in ((fine, 16), (fine, 10), (torch.tensor([243], dtype=torch.uint8), 5), (fine.char(), 15)):
        with pytest.raises(ValueError, match="base 3"):
            unpack_base3(packed, count)
    with pytest.raises(ValueError, match="after the last"):
        unpack_base3(torch.tensor([242], dtype=torch.uint8), 3)
    for packed, count in (([255], 8), ([255, 1, 1], 8), ([1], 7), ([128, 64], 8), ([], 8)):
        with pytest.raises(ValueError, match="mask"):
            unpack_bitmask(torch.tensor(packed, dtype=torch.uint8), count)


@pytest.mark.parametrize("shape", [(24, 256), (7, 75), (3, 5, 40), (1, 1), (0, 8), (33,)])
@pytest.mark.parametrize("packing", ["base3", "bitmask"])
def test_a_packed_tensor_decodes_to_the_same_bits(shape, packing):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    plain = quantise_rows(weight, ternary_groups(16))
    packed = pack_ternary(plain, packing)
    again = PackedTernaryTensor.from_parts(packed.meta(), packed.parts())
    assert torch.equal(again.unpack().codes, plain.codes)
    assert same_state({"w": again.dequantise()}, {"w": plain.dequantise()})


@pytest.mark.parametrize("codec", [NoCodec(), LzmaCodec(), ZlibCodec()])
@pytest.mark.parametrize("power", [1, 9])
def test_the_packing_that_the_codec_makes_least_of_is_chosen(codec, power, tmp_path):
    """Real bytes of whole files: mostly zeros (power 9) are another matter than thirds."""
    weights = [torch.randn(64, 128, generator=torch.Generator().manual_seed(seed)) ** power for seed in range(3)]
    state = {f"blocks.{n}.mlp.fc.weight": weight for n, weight in enumerate(weights)}
    roles = dict.fromkeys(state, "matrix")

    def packed(packing):
        return QuantPlan(TernaryGroups(32, packing), small_numel=10).quantise(state, roles)

    fixed = {packing: len(artifact_bytes(packed(packing), {}, {}, codec)[0]) for packing in TERNARY_PACKERS}
    plain = QuantPlan("ternary_128", small_numel=10, overrides={".": TernaryGroups(32).format}).quantise(state, roles)
    chosen = packed("smaller")
    blob, sizes = artifact_bytes(chosen, {}, {}, codec)
    assert len(blob) == min(*fixed.values(), len(artifact_bytes(plain, {}, {}, codec)[0])) == sum(sizes.values())
    assert forecast_artifact(chosen, {}, {}, codec).total == len(blob)
    chosen.save(tmp_path / "state.golf")  # the choice is still open in what a later stage packs
    assert artifact_bytes(QuantisedState.load(tmp_path / "state.golf"), {}, {}, codec)[0] == blob
    (tmp_path / "model.golf").write_bytes(blob)
    found = read_artifact(tmp_path / "model.golf").quantised
    assert same_state(found.dequantise(), chosen.dequantise())
    assert not any(getattr(tensor, "open", False) for tensor in found.tensors.values())


def test_an_unknown_packing_is_refused():
    assert TernaryGroups(32, "base3").payload_bytes((64, 100)) == -(-64 * 128 // 5) + 2 * 64 * 4
    with pytest.raises(UserError, match="packing=base3"):
        TernaryGroups(128, "base4")


@pytest.mark.parametrize(
    "change",
    [
        {"packing": "base4"},
        {"open": 1},
        {"shape": [2**20, 2**20]},
        {"shape": [-1, 4]},
        {"shape": [64, 31]},
        {"shape": [1 << 30, 0]},
        {"format": {"bits": 2, "code_min": -1, "code_max": 1, "granularity": "group", "group_size": 2**40}},
    ],
)
def test_impossible_descriptions_are_refused(change):
    packed = TernaryGroups(16, "base3").convert("w", torch.randn(64, 64))
    with pytest.raises((ValueError, UserError), match=r"\w"):
        PackedTernaryTensor.from_parts({**packed.meta(), **change}, packed.parts())
    short = replace(packed, packed=packed.packed[:-1])
    with pytest.raises(ValueError, match="base 3"):
        PackedTernaryTensor.from_parts(short.meta(), short.parts())
