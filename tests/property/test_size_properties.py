"""Bytes: the forecast of finished tensors is the size of their file, and the classes add up to it, for every codec."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from golf.codec.artifact import artifact_bytes, bytes_by_class
from golf.codec.brotli_codec import BrotliCodec
from golf.codec.catalogue import CODECS
from golf.codec.grouped_codec import GroupedBrotli, GroupedZpaq
from golf.codec.none_codec import NoCodec
from golf.codec.size import code_bits, finer_class
from golf.codec.zlib_codec import ZlibCodec
from golf.codec.zpaq_codec import ZpaqCodec
from golf.codec.zstd_codec import ZstdCodec
from golf.quant.lowrank import LowRankCorrection
from golf.quant.plan import QuantPlan
from golf.quant.rtn import quantise_rows
from golf.size.sample import forecast_artifact

NETWORK, TOKENIZER = {"_target_": "golf.models.gpt.GPT", "width": 64}, {"kind": "bytes", "vocab_size": 256}
SHAPES = {
    "tok_emb.weight": ("embedding", 96, 32),
    "bigram.embed.weight": ("table", 64, 16),
    "blocks.0.attn.c_q.weight": ("matrix", 32, 32),
    "blocks.0.attn.c_k.weight": ("matrix", 16, 32),
    "blocks.0.attn.c_v.weight": ("matrix", 16, 32),
    "blocks.0.attn.proj.weight": ("matrix", 32, 32),
    "blocks.0.mlp.fc.weight": ("matrix", 64, 32),
    "blocks.0.mlp.proj.weight": ("matrix", 32, 64),
}
CLASSES = {
    *("embedding", "tables", "attention_q", "attention_k", "attention_v", "attention_o", "mlp_in", "mlp_out"),
    *("scalars", "scales", "metadata"),
}
FAST = (NoCodec, ZlibCodec, ZstdCodec, BrotliCodec, GroupedBrotli)
SLOW = [kind for kind in CODECS if kind not in FAST]  # half a second to some seconds a file, however small
SETTINGS = {ZpaqCodec: {"level": 1}, GroupedZpaq: {"level": 1, "orders": ("columns",)}}


def quantised_network(treatment, corrected, layers, seed):
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(seed)
    state, roles = {}, {}
    for layer in range(layers):
        for name, (role, rows, columns) in SHAPES.items():
            own = name.replace("blocks.0", f"blocks.{layer}")
            state[own] = torch.randn(rows + seed % 3, columns, generator=generator) * (1 + seed % 5)
            roles[own] = role
        state[f"blocks.{layer}.attn_scale"] = torch.ones(32)
        roles[f"blocks.{layer}.attn_scale"] = "scalar"
    correction = LowRankCorrection(rank=2, top=3) if corrected else None
    plan = QuantPlan(matrix=treatment, small_numel=100, correction=correction)
    return plan.quantise(state, roles)


def check(codec, path, treatment, corrected, layers, seed, sample_bytes):
    quantised = quantised_network(treatment, corrected, layers, seed)
    blob, sizes = artifact_bytes(quantised, NETWORK, TOKENIZER, codec)
    found = forecast_artifact(quantised, NETWORK, TOKENIZER, codec, sample_bytes=sample_bytes)
    assert (found.total, found.sizes) == (len(blob), sizes)
    assert {section.source for section in found.sections} == {"exact"}
    assert sum(sizes.values()) == len(blob)
    assert set(sizes) == CLASSES | ({"corrections"} if corrected else set())
    assert all(size > 0 for size in sizes.values())
    path.write_bytes(blob)
    assert bytes_by_class(path) == sizes


@given(
    codec=st.sampled_from([kind() for kind in FAST]),
    treatment=st.sampled_from(["int6_rows", "int8_rows", "int5_groups", "ternary_64", "int4_rows"]),
    corrected=st.booleans(),
    layers=st.integers(1, 3),
    seed=st.integers(0, 50),
    sample_bytes=st.sampled_from([None, 1 << 18]),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_forecast_is_the_size_and_classes_add_up(codec, treatment, corrected, layers, seed, sample_bytes, tmp_path):
    check(codec, tmp_path / "model.golf", treatment, corrected, layers, seed, sample_bytes)


@pytest.mark.parametrize("codec", SLOW, ids=lambda kind: kind.name)
def test_forecast_is_the_size_with_slow_codecs(codec, tmp_path):
    check(codec(**SETTINGS.get(codec, {})), tmp_path / "model.golf", "int6_rows", True, 1, 3, None)


@given(bits=st.sampled_from(["int4_rows", "int6_rows"]), rows=st.integers(1, 40))
@settings(max_examples=10, deadline=None)
def test_uncompressed_bytes_of_a_class_are_its_tensors(bits, rows):
    """codec=none: nothing is shared but the codes of one section, in proportion to the bits of their formats."""
    state = {f"blocks.0.attn.{part}.weight": torch.randn(rows, 24) for part in ("c_q", "proj")}
    quantised = QuantPlan(matrix=bits, small_numel=0).quantise(state, dict.fromkeys(state, "matrix"))
    sizes = artifact_bytes(quantised, NETWORK, TOKENIZER, NoCodec())[1]
    assert sizes["attention_q"] == sizes["attention_o"] == rows * 24
    assert sizes["scales"] == sum(tensor.scales.numel() * 2 for tensor in quantised.tensors.values())
    stored = quantise_rows(state["blocks.0.attn.c_q.weight"], next(iter(quantised.tensors.values())).format)
    assert code_bits([stored.kind, stored.meta()], "codes", "int8") == int(bits[3])
    assert finer_class("blocks.0.attn.c_q.weight", "attention") == "attention_q"
