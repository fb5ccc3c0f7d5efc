"""Upstream `.int8.ptz` files: read, written, compared, and refused when they are anything else."""

import hashlib
import io
import json
import os
import pickle
import zlib
from pathlib import Path

import pytest
import torch

from golf.errors import UserError
from golf.interop.ptz import compare_dequantised, read_ptz, write_ptz
from golf.quant.plan import QuantPlan
from golf.quant.state import QuantisedState, same_state


def quantised(small_numel: int = 600) -> QuantisedState:
    generator = torch.Generator().manual_seed(0)
    state = {
        "tok_emb.weight": torch.randn(64, 32, generator=generator).bfloat16(),
        "blocks.0.attn.c_q.weight": torch.randn(24, 32, generator=generator),
        "blocks.0.attn.c_k.weight": torch.randn(16, 32, generator=generator),
        "blocks.0.resid_mix": torch.randn(2, 32, generator=generator),
        "long_vector": torch.randn(700, generator=generator),
    }
    return QuantPlan(small_numel=small_numel).quantise(
        state, dict(zip(state, ["embedding", "matrix", "matrix", "scalar", "table"]))
    )


def tables(path) -> dict:
    return torch.load(io.BytesIO(zlib.decompress(path.read_bytes())), weights_only=True)


def pack_tables(path, document) -> None:
    buffer = io.BytesIO()
    torch.save(document, buffer)
    path.write_bytes(zlib.compress(buffer.getvalue()))


def test_the_layout_is_upstreams_and_the_round_trip_exact(tmp_path):
    path = tmp_path / "model.int8.ptz"
    assert write_ptz(path, quantised()) == path.stat().st_size
    document = tables(path)
    assert list(document) == [
        "__quant_format__",
        "quantized",
        "scales",
        "dtypes",
        "passthrough",
        "qmeta",
        "passthrough_orig_dtypes",
    ]
    assert document["__quant_format__"] == "int8_clean_per_row_v1"
    assert list(document["quantized"]) == ["tok_emb.weight", "blocks.0.attn.c_q.weight", "long_vector"]
    assert document["scales"]["tok_emb.weight"].dtype == torch.float16
    assert document["scales"]["long_vector"].dtype == torch.float32
    assert document["scales"]["long_vector"].shape == ()
    assert document["dtypes"]["tok_emb.weight"] == "bfloat16"
    assert document["qmeta"] == {
        name: {"scheme": "per_row", "axis": 0} for name in ("tok_emb.weight", "blocks.0.attn.c_q.weight")
    }
    assert document["passthrough_orig_dtypes"] == {"blocks.0.attn.c_k.weight": "float32"}
    again = read_ptz(path)
    assert same_state(again.dequantise(), quantised().dequantise())
    before = path.read_bytes()
    write_ptz(path, again)
    assert path.read_bytes() == before


def test_tables_that_upstream_omits_when_empty_are_omitted(tmp_path):
    path = tmp_path / "model.int8.ptz"
    write_ptz(path, quantised(small_numel=10_000))
    assert list(tables(path)) == [
        "__quant_format__",
        "quantized",
        "scales",
        "dtypes",
        "passthrough",
        "passthrough_orig_dtypes",
    ]
    assert same_state(read_ptz(path).dequantise(), quantised(10_000).dequantise())


def test_comparison_names_what_differs(tmp_path):
    path = tmp_path / "model.int8.ptz"
    write_ptz(path, quantised())
    facts = {
        name: {
            "shape": list(tensor.shape),
            "sha256_fp32_le": hashlib.sha256(tensor.float().numpy().astype("<f4").tobytes()).hexdigest(),
            "sum": float(tensor.double().sum()),
            "l2": float(tensor.double().norm()),
        }
        for name, tensor in quantised().dequantise().items()
    }
    assert compare_dequantised(path, facts) == []
    facts["long_vector"]["sha256_fp32_le"] = "0" * 64
    facts["tok_emb.weight"]["shape"] = [32, 64]
    facts["absent"] = facts.pop("blocks.0.resid_mix")
    problems = compare_dequantised(path, facts)
    assert [problem.split(":")[0] for problem in problems] == [
        "blocks.0.resid_mix",
        "tok_emb.weight",
        "long_vector",
        "absent",
    ]


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (os.mkdir, (self.marker,))


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path):
    path, marker = tmp_path / "evil.ptz", tmp_path / "executed"
    write_ptz(path, quantised())
    document = tables(path)
    for poisoned in ({**document, "qmeta": Evil(str(marker))}, Evil(str(marker))):
        pack_tables(path, poisoned)
        with pytest.raises(UserError, match="not run"):
            read_ptz(path)
        path.write_bytes(zlib.compress(pickle.dumps(poisoned)))
        with pytest.raises(UserError, match="does not hold a torch"):
            read_ptz(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "another compressor"),
        (b"\x28\xb5\x2f\xfd" + bytes(9), "zstd"),
        (b"PGRP" + bytes(9), "per-group"),
        (b"GOLF" + bytes(9), "artifact=<file>"),
        (b"x\xda" + bytes(9), "damaged or incomplete"),
        (zlib.compress(b"hello" * 10), "does not hold a torch.save file"),
        (zlib.compress((60).to_bytes(8, "little") + b'{"a":{"dtype":"F32"}}' + bytes(80)), "safetensors"),
        (zlib.compress(b"PK\x03\x04" + bytes(80)), "damaged or has more in it"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "other.ptz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_ptz(path)
    assert "\n" not in str(caught.value)


def without(document, *keys):
    return {key: value for key, value in document.items() if key not in keys}


@pytest.mark.parametrize(
    "change",
    [
        lambda d: without(d, "__quant_format__"),
        lambda d: {**d, "__quant_format__": "int8_other_v2"},
        lambda d: without(d, "scales"),
        lambda d: {**d, "surprise": {}},
        lambda d: {**d, "dtypes": []},
        lambda d: {**d, "dtypes": {**d["dtypes"], "tok_emb.weight": "int8"}},
        lambda d: {**d, "dtypes": without(d["dtypes"], "tok_emb.weight")},
        lambda d: {**d, "quantized": {**d["quantized"], "tok_emb.weight": torch.ones(64, 32)}},
        lambda d: {**d, "scales": {**d["scales"], "tok_emb.weight": torch.ones(63).half()}},
        lambda d: {**d, "scales": {**d["scales"], "tok_emb.weight": 0.5}},
        lambda d: {**d, "passthrough": {**d["passthrough"], "tok_emb.weight": torch.ones(1)}},
        lambda d: {**d, "passthrough": {**d["passthrough"], "x": "text"}},
        lambda d: {**d, "passthrough": {**d["passthrough"], "x": torch.ones(1).expand(10**9)}},
        lambda d: {**d, "passthrough": {**d["passthrough"], 3: torch.ones(1)}},
        lambda d: {**d, "passthrough_orig_dtypes": dict.fromkeys(d["passthrough"], "quaternion")},
        lambda d: {**d, "qmeta": {"a": {"b": {"c": {"d": {"e": {}}}}}}},
        lambda d: [d],
    ],
)
def test_inconsistent_tables_are_refused_in_one_line(tmp_path, change):
    path = tmp_path / "model.int8.ptz"
    write_ptz(path, quantised())
    pack_tables(path, change(tables(path)))
    with pytest.raises(UserError, match="is not an upstream") as caught:
        read_ptz(path)
    assert "\n" not in str(caught.value)


def test_every_truncation_is_refused(tmp_path):
    path = tmp_path / "model.int8.ptz"
    write_ptz(path, quantised())
    blob = path.read_bytes()
    for length in range(0, len(blob), 97):
        path.write_bytes(blob[:length])
        with pytest.raises(UserError):
            read_ptz(path)


@pytest.mark.skipif("GOLF_CONFORMANCE" not in os.environ, reason="GOLF_CONFORMANCE names no folder of vectors")
@pytest.mark.parametrize("name", ["baseline_tiny_trained.int8.ptz", "baseline_mid_random.int8.ptz"])
def test_published_artifacts(name, tmp_path):
    folder = Path(os.environ["GOLF_CONFORMANCE"]) / "training_ttt_interop"
    facts = json.loads((folder / "interop.json").read_text())["artifacts"][name]
    assert compare_dequantised(folder / name, facts["dequantised"]) == []
    write_ptz(tmp_path / name, read_ptz(folder / name))
    assert compare_dequantised(tmp_path / name, facts["dequantised"]) == []
