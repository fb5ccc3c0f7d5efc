"""Forecasts of sizes: exact without compression, close with it, named routes, past runs, and `golf plan`."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from importlib import import_module
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from golf.cli import main as golf
from golf.codec.artifact import artifact_bytes, bytes_by_class, pack
from golf.codec.brotli_codec import BrotliCodec
from golf.codec.lzma_codec import LzmaCodec
from golf.codec.none_codec import NoCodec
from golf.codec.size import finer_class, shared_out
from golf.codec.zlib_codec import ZlibCodec
from golf.codec.zstd_codec import ZstdCodec
from golf.errors import LimitExceeded, UserError
from golf.models.roles import roles_of
from golf.quant.plan import QuantPlan
from golf.size.library import measured_rates, read_library
from golf.size.plan import class_totals, composed, network_of, plan_of
from golf.size.sample import forecast_artifact
from golf.size.shipped_code import code_bytes, likely_tokenizer
from golf.size.speed import step_seconds, training_forecast

NETWORK, TOKENIZER = {"_target_": "golf.models.gpt.GPT", "width": 128}, {"kind": "bytes", "vocab_size": 256}
SMALL = ("experiment=demo", "hardware=cpu", "hardware.threads=1", "model.width=64")


class ZlibParts(ZlibCodec):
    """A codec that sees tensors, as golf's entropy coder does (which takes a minute for this)."""

    def encode_parts(self, group, tensors):
        assert tuple(tuple(tensor.shape) for tensor in tensors) == group.shapes
        return b"".join(self.encode(tensor.contiguous().numpy().tobytes()) for tensor in tensors)


def real_codes(layers: int = 4, width: int = 160):
    """Quantised weights with what trained ones have: other deviations per row, heavy tails, rows alike."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(1)
    state, roles = {}, {}
    for name, rows in [("tok_emb.weight", 512), *((f"blocks.{n}.attn.c_q.weight", width) for n in range(layers))]:
        drawn = torch.randn(rows, width, generator=generator)
        state[name] = drawn * torch.linspace(0.02, 0.2, rows)[:, None] * (1 + drawn.abs() / 4)
        roles[name] = "embedding" if "emb" in name else "matrix"
    for n in range(layers):
        state[f"blocks.{n}.mlp.fc.weight"] = torch.randn(4 * width, width, generator=generator) * 0.05
        state[f"blocks.{n}.attn_scale"] = torch.ones(width)
        roles |= {f"blocks.{n}.mlp.fc.weight": "matrix", f"blocks.{n}.attn_scale": "scalar"}
    return QuantPlan(matrix="int6_deviation_rows", small_numel=1000).quantise(state, roles)


@pytest.mark.parametrize("codec", [NoCodec(), ZlibCodec(), LzmaCodec(), ZstdCodec(), BrotliCodec(level=5), ZlibParts()])
def test_forecast_of_finished_codes_is_their_size(codec):
    quantised = real_codes()
    blob, sizes = artifact_bytes(quantised, NETWORK, TOKENIZER, codec)
    whole = forecast_artifact(quantised, NETWORK, TOKENIZER, codec)
    part = forecast_artifact(quantised, NETWORK, TOKENIZER, codec, sample_bytes=40_000)
    assert sum(section.raw_bytes for section in whole.sections) == quantised.payload_bytes()
    assert abs(whole.total / len(blob) - 1) < 0.01
    assert abs(part.total / len(blob) - 1) < 0.03
    assert part.total == sum(part.sizes.values())
    assert part.sizes.keys() == sizes.keys()
    if codec.name == "none":
        assert (whole.total, whole.sizes) == (part.total, part.sizes) == (len(blob), sizes)


@given(st.integers(0, 10**8), st.lists(st.floats(0, 1e9), min_size=1, max_size=9))
@settings(max_examples=100, deadline=None)
def test_shares_are_whole_and_add_up(total, weights):
    shares = shared_out(total, weights)
    assert sum(shares) == total
    assert all(share >= 0 for share in shares)


def test_classes_add_up_to_the_file(tmp_path):
    path = tmp_path / "model.golf"
    sizes = pack(path, real_codes(), NETWORK, TOKENIZER, ZlibCodec())
    assert sizes == bytes_by_class(path)
    assert sum(sizes.values()) == path.stat().st_size
    assert {"embedding", "attention_q", "mlp_in", "scalars", "scales", "metadata"} == set(sizes)
    names = {"c_k": "attention_k", "c_v": "attention_v", "proj": "attention_o", "c_qkv": "attention_qkv"}
    assert {part: finer_class(f"blocks.3.attn.{part}.weight", "attention") for part in names} == names
    assert finer_class("blocks.3.mlp.proj.weight", "mlp") == "mlp_out"
    assert finer_class("anything", "mlp") == "mlp"


# Facts of published runs: bytes of the int8 state dict before compression, which do not depend on the weights.
@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["experiment=baseline"], 17_178_912),
        (["experiment=baseline", "model.num_layers=10"], 19_030_336),
        (["experiment=baseline", "model.num_layers=10", "quant=int8_fp16_embedding"], 19_552_576),
        (["experiment=baseline", "quant=int8_fp16_embedding", "model.mlp_mult=1.9375"], 17_405_664),
        (["experiment=baseline", "quant=int8_fp16_embedding", "model.mlp_mult=3"], 22_428_960),
        (
            ["experiment=baseline", "model.num_layers=10", "quant=int8_fp16_embedding", "model.mlp_mult=2.625"],
            22_835_776,
        ),
    ],
)
def test_int8_payload_bytes_of_published_runs(overrides, expected):
    config, _ = composed(overrides)
    net = network_of(config)
    from golf.config.build import build

    lines = build(config["quant"]).table(net.state_dict(), roles_of(net))
    assert sum(line.payload_bytes for line in lines) == expected


def test_plan_adds_up_and_names_its_sources(tmp_path):
    config, option = composed(SMALL)
    plan = plan_of(config, option, tmp_path)
    assert sum(plan["bytes_by_class"].values()) == plan["total_bytes"] == plan["artifact_bytes"] + plan["code_bytes"]
    classes = {name: size for name, size in plan["bytes_by_class"].items() if name not in ("code", "metadata")}
    assert sum(class_totals(plan["tensors"]).values()) == sum(classes.values())
    assert set(class_totals(plan["tensors"])) == set(classes)
    assert sum(line["raw_bytes"] for line in plan["tensors"]) == plan["payload_bytes"]
    assert plan["sources"] == ["Gaussian weights"]
    assert (plan["training"]["steps"], plan["training"]["seconds"]) == (900, None)
    assert plan == plan_of(config, option, tmp_path)


def test_plan_command(capsys):
    assert golf(["plan", *SMALL, "--no-library", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert golf(["plan", *SMALL, "--no-library", f"budget.limit_bytes={plan['total_bytes'] - 500}"]) == 3
    shown = capsys.readouterr()
    assert "OVER THE LIMIT BY 49" in shown.out  # the limit is in the code, with a digit less now
    assert "over the limit of" in shown.err
    assert len(shown.err.splitlines()) == 1
    assert all(len(line) <= 100 for line in shown.out.splitlines())
    for wrong in (["--fast"], ["experiment=demoo"], ["--price", "-1"]):
        assert golf(["plan", *wrong]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_tensor_without_a_route_is_named():
    config, option = composed(SMALL)
    with pytest.raises(UserError, match="'no_such_tensor' matches no tensor"):
        plan_of({**config, "quant": {**config["quant"], "overrides": {"no_such_tensor": "float16"}}}, option, None)
    with pytest.raises(UserError, match=r"no role for tensor 'b' \(1 in all\)"):
        QuantPlan().table({"a": torch.zeros(2), "b": torch.zeros(2)}, {"a": "scalar"})


def test_past_runs_refine_sizes_and_speed(smoke_run):
    root = smoke_run.path.parent.parent
    library = [run for run in read_library(root) if run.name.endswith("smoke/first")]
    assert len(library) == 1
    (run,) = library
    assert run.sections
    assert run.parameters > 0
    config = smoke_run.config
    plan = plan_of({**config, "name": "again"}, "cpu", root)
    packed = json.loads((smoke_run.path / "summary.json").read_text())
    assert plan["sources"] == ["run smoke/first"]
    assert abs(plan["artifact_bytes"] / packed["artifact_bytes"] - 1) < 0.02
    assert plan["training"]["source"] == "run smoke/first"
    assert math.isclose(plan["training"]["seconds"] / plan["training"]["steps"], 1e-3 * plan["training"]["step_ms"])
    far = measured_rates([replace(run, parameters=run.parameters * 100)], "zlib", run.parameters, run.tokens)
    group = forecast_artifact(real_codes(), NETWORK, TOKENIZER, ZlibCodec()).sections[0].group
    assert far(group) is None
    (smoke_run.path.parent / "broken").mkdir(exist_ok=True)
    (smoke_run.path.parent / "broken" / "summary.json").write_text("{")
    assert len([r for r in read_library(root) if r.name.startswith("smoke")]) == 1


def test_published_speeds_are_labelled():
    config, option = composed(["experiment=record/0405_sp8192_sdclip", "hardware=h100x8"])
    seconds, source = step_seconds(config, option, 3.1e8, [], None)
    assert seconds == pytest.approx(0.1179, abs=1e-4)
    assert source.startswith("published")
    found = training_forecast(config, option, (seconds, source))
    assert found.steps == 4989
    assert found.cost == pytest.approx(588 / 3600 * 20, rel=1e-2)
    own, source = step_seconds({**config, "published": None}, option, 3.1e8, [], None)
    assert own == pytest.approx(seconds, rel=0.3)
    assert source.startswith("published")
    assert step_seconds(config, "mac", 3.1e8, [], None) == (None, "unknown: no past run on this hardware")
    assert training_forecast(config, "mac", (None, "unknown")).steps is None


def test_a_forecast_of_diverged_weights_does_not_end_a_training(monkeypatch):
    from golf.training.callbacks import size

    said = []
    monkeypatch.setattr(size, "exported_state", lambda net, state: {"w": torch.full((4, 4), torch.nan)})
    monkeypatch.setattr(size, "roles_of", lambda net: {"w": "matrix"})
    session = SimpleNamespace(net=torch.nn.Linear(2, 2), average=None, step=7, say=said.append)
    session.flush_metrics = lambda: None
    callback = size.SizeForecastCallback(every_steps=1)
    callback._plan = QuantPlan()
    callback._log(session, SimpleNamespace(loggers=[]))
    assert "no forecast at step 7" in said[0]
    assert "NaN or infinite" in said[0]


@pytest.mark.parametrize("wrong", [{"every_steps": -1}, {"sample_bytes": 0}])
def test_wrong_options_of_the_callback(wrong):
    from golf.training.callbacks.size import SizeForecastCallback

    with pytest.raises(UserError, match=r"callbacks\.size_forecast"):
        SizeForecastCallback(**wrong)


def test_forecast_during_training_is_logged(tiny_run, tmp_path):
    folder = tmp_path / "sized"
    sizes = ("callbacks=size_forecast", "callbacks.size_forecast.every_steps=2", "budget.limit_bytes=1000")
    with pytest.raises(LimitExceeded):
        tiny_run(folder, "through=pack", *sizes)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    found = [line for line in lines if "size/artifact_bytes" in line]
    assert [line["step"] for line in found] == [2, 4]
    whole = ("size/artifact_bytes", "size/of_limit")
    parts = [size for name, size in found[-1].items() if name.startswith("size/") and name not in whole]
    assert sum(parts) == found[-1]["size/artifact_bytes"]
    summary = json.loads((folder / "stages" / "pack" / "manifest.json").read_text())["result"]
    assert abs(found[-1]["size/artifact_bytes"] - summary["artifact_bytes"]) < 100  # the tokenizer's identity differs
    assert (folder / "log.txt").read_text().count("size: the weights of step") == 1


def test_planned_code_is_that_of_the_export(smoke_run, monkeypatch):
    """Within one per cent: the prepared data's folder and the hash are all that is not known before."""
    real = smoke_run.code("default").stat().st_size
    assert abs(code_bytes(smoke_run.config) / real - 1) < 0.01
    monkeypatch.setattr("golf.submission.flatten.packed", lambda text: text.encode()[:1234])  # it costs seconds
    assert code_bytes({**smoke_run.config, "code": "packed"}) == 1234
    with pytest.raises(UserError, match="code=zipped is not known"):
        code_bytes({**smoke_run.config, "code": "zipped"})


def test_the_tokenizer_that_an_export_will_open_follows_from_names_where_there_is_no_data():
    data = {"_target_": "golf.data.fineweb.FinewebShards", "tokenizer": "auto", "folder": "no/fineweb10B_sp1024"}
    assert likely_tokenizer(data) == "golf.data.tokenizer_kinds.SentencePieceTokenizer"
    assert likely_tokenizer({**data, "tokenizer": "bytes"}) == "golf.data.tokenizer_kinds.PureByteTokenizer"
    assert likely_tokenizer({**data, "folder": "no/fineweb10B_sp8192_caseops"}) == "golf.data.caseops.CaseOpsTokenizer"
    assert likely_tokenizer({**data, "tokenizer": "no/gpt2.tiktoken"}) == "golf.data.byte_bpe.ByteBpeTokenizer"
    names = {likely_tokenizer({**data, "folder": f"no/fineweb10B_{name}"}) for name in ("byte260", "sp1024", "gpt2")}
    assert all(hasattr(import_module(name.rpartition(".")[0]), name.rpartition(".")[2]) for name in names)
    assert len(names) == 3
