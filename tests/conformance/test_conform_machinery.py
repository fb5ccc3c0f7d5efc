"""`golf conform` on vectors made here: by an implementation of the baseline with plain tensor operations that shares
no code with golf, at several shapes; and on broken, foreign and missing vectors."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from golf.errors import UserError
from golf.interop.conform import main
from golf.interop.conform_weights import generate_tokens, generate_weights

SHAPES = {
    "baseline_like": {"layers": 4, "width": 64, "heads": 4, "kv_heads": 2, "hidden": 128, "vocab": 96},
    "odd": {
        "layers": 3,
        "width": 48,
        "heads": 6,
        "kv_heads": 2,
        "hidden": 120,
        "vocab": 80,
        "base": 500.0,
        "softcap": 12.0,
    },
    "untied": {"layers": 5, "width": 32, "heads": 2, "kv_heads": 2, "hidden": 96, "vocab": 64, "tied": False},
    "one_layer": {"layers": 1, "width": 32, "heads": 1, "kv_heads": 1, "hidden": 32, "vocab": 50},
}


def tensor_rule(shape):
    """Names, shapes, means and standard deviations in sorted order."""
    width, heads, hidden = shape["width"], shape["heads"], shape["hidden"]
    kv_width = width // heads * shape["kv_heads"]
    rule = {"tok_emb.weight": ([shape["vocab"], width], 0.0, 0.3)}
    rule["skip_weights"] = ([min(shape["layers"] // 2, (shape["layers"] + 1) // 2), width], 1.0, 0.1)
    if not shape.get("tied", True):
        rule["lm_head.weight"] = ([shape["vocab"], width], 0.0, 0.2)
    for i in range(shape["layers"]):
        block = {
            "attn.c_q.weight": ([width, width], 0.0, width**-0.5),
            "attn.c_k.weight": ([kv_width, width], 0.0, width**-0.5),
            "attn.c_v.weight": ([kv_width, width], 0.0, width**-0.5),
            "attn.proj.weight": ([width, width], 0.0, width**-0.5),
            "attn.q_gain": ([heads], 1.5, 0.1),
            "attn_scale": ([width], 1.0, 0.1),
            "mlp_scale": ([width], 1.0, 0.1),
            "resid_mix": ([2, width], [1.0, 0.0], 0.1),
            "mlp.fc.weight": ([hidden, width], 0.0, width**-0.5),
            "mlp.proj.weight": ([width, hidden], 0.0, hidden**-0.5),
        }
        rule |= {f"blocks.{i}.{name}": value for name, value in block.items()}
    return [{"name": n, "shape": s, "mean": m, "std": d} for n, (s, m, d) in sorted(rule.items())]


def rms(x):
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1.1920929e-07)


def rope(x, frequencies):
    angles = torch.arange(x.shape[1], dtype=torch.float32)[:, None] * frequencies[None]
    cos, sin = torch.cos(angles)[None, :, None], torch.sin(angles)[None, :, None]
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos + b * sin, -a * sin + b * cos], -1)


def plain_baseline(p, shape, ids, frequencies):
    """Logits and final hidden states with explicit softmax attention, head by head."""
    heads, kv_heads = shape["heads"], shape["kv_heads"]
    head_width, (batch, length) = shape["width"] // heads, ids.shape
    mask = torch.full((length, length), -math.inf).triu(1)
    x = x0 = rms(p["tok_emb.weight"][ids])
    stack, half = [], shape["layers"] // 2
    for i in range(shape["layers"]):
        if i >= half and stack:
            x = x + p["skip_weights"][i - half] * stack.pop()
        w = {name: p[f"blocks.{i}.{name}"] for name in ("resid_mix", "attn_scale", "mlp_scale", "attn.q_gain")}
        x = w["resid_mix"][0] * x + w["resid_mix"][1] * x0
        n = rms(x)
        q = (n @ p[f"blocks.{i}.attn.c_q.weight"].T).view(batch, length, heads, head_width)
        k = (n @ p[f"blocks.{i}.attn.c_k.weight"].T).view(batch, length, kv_heads, head_width)
        v = (n @ p[f"blocks.{i}.attn.c_v.weight"].T).view(batch, length, kv_heads, head_width)
        q, k = rope(rms(q), frequencies) * w["attn.q_gain"][:, None], rope(rms(k), frequencies)
        outputs = []
        for h in range(heads):
            group = h * kv_heads // heads
            scores = q[:, :, h] @ k[:, :, group].transpose(1, 2) / math.sqrt(head_width) + mask
            outputs.append(torch.softmax(scores, -1) @ v[:, :, group])
        x = x + w["attn_scale"] * (torch.cat(outputs, -1) @ p[f"blocks.{i}.attn.proj.weight"].T)
        hidden = torch.clamp(rms(x) @ p[f"blocks.{i}.mlp.fc.weight"].T, min=0) ** 2
        x = x + w["mlp_scale"] * (hidden @ p[f"blocks.{i}.mlp.proj.weight"].T)
        if i < half:
            stack.append(x)
    z, cap = rms(x), shape.get("softcap", 30.0)
    return cap * torch.tanh(z @ p.get("lm_head.weight", p["tok_emb.weight"]).T / cap), z


def write_model_folder(folder, shape, seed=7, **spec_changes):
    """A model folder as `golf conform` expects it."""
    rule = tensor_rule(shape)
    params = {n: t.requires_grad_() for n, t in generate_weights(seed, rule)}
    head_width = shape["width"] // shape["heads"]
    base = shape.get("base", 10000.0)
    exact = 1.0 / base ** (torch.arange(0, head_width, 2, dtype=torch.float32) / head_width)
    cases = {
        "main": {"B": 2, "T": 24, "token_seed": 1, "bos_positions": [0, 5, 6], "positions": [[0, 0], [1, 23], [0, 7]]},
        "long": {"B": 1, "T": 50, "token_seed": 2, "bos_positions": [0], "positions": [[0, 49]]},
        "bf16_rope_freqs": {"B": 2, "T": 24, "token_seed": 1, "bos_positions": [0], "positions": []},
    }
    tensors, grads = {}, {}
    for name, case in cases.items():
        tokens = generate_tokens(case["token_seed"], shape["vocab"], case["B"], case["T"], case["bos_positions"])
        frequencies = exact.bfloat16().float() if name == "bf16_rope_freqs" else exact
        logits, hidden = plain_baseline(params, shape, tokens[:, :-1], frequencies)
        nll = torch.logsumexp(logits, -1) - logits.gather(-1, tokens[:, 1:, None])[..., 0]
        case["mean_loss"] = float(nll.detach().mean())
        gradients = torch.autograd.grad(nll.mean(), list(params.values()), allow_unused=True)
        grads[name] = {n: {"l2": 0.0 if g is None else float(g.norm())} for n, g in zip(params, gradients)}
        tensors[f"{name}.nll"], tensors[f"{name}.tokens"] = nll.detach(), tokens.int()
        for quantity, value in (("logits", logits), ("hidden", hidden)):
            if case["positions"]:
                rows, columns = zip(*case["positions"])
                tensors[f"{name}.{quantity}"] = value.detach()[list(rows), list(columns)].contiguous()
    settings = {
        "logit_softcap": shape.get("softcap", 30.0),
        "rope_base": base,
        "tie_embeddings": shape.get("tied", True),
    }
    spec = {
        "weights": {"seed": seed, "tensors": rule},
        "vocab": shape["vocab"],
        "hyperparameters": {"matrix_lr": 0.04, "num_heads": shape["heads"]},
        "model_kwargs": {**settings, "num_heads": shape["heads"], "num_kv_heads": shape["kv_heads"]},
        "structure": {"xsa_layers": [], "rotary": {"rope_dims": None, "train_seq_len": None}},
        "cases": cases,
    }
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text(json.dumps({**spec, **spec_changes}))
    (folder / "grads.json").write_text(json.dumps(grads))
    save_file(tensors, str(folder / "vectors.safetensors"))
    return folder


def run_json(capsys, *arguments):
    code = main([*map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)["results"]


@pytest.mark.parametrize("name", SHAPES)
def test_other_shapes_of_the_architecture_pass(name, tmp_path, capsys):
    folder = write_model_folder(tmp_path / "any name at all", SHAPES[name], seed=len(name))
    code, results = run_json(capsys, folder)
    assert [r for r in results if r["status"] != "pass"] == []
    assert code == 0
    assert {r["case"] for r in results} == {"main", "long", "bf16_rope_freqs"}
    quantities = {r["quantity"] for r in results if r["case"] == "main"}
    assert quantities == {"mean_loss", "nll", "logits", "hidden", "gradient_l2_relative"}
    assert max(r["error"] for r in results) < 1e-4
    assert set(results[0]) == {"vector", "case", "quantity", "error", "tolerance", "status", "detail"}


def test_wrong_numbers_fail(tmp_path, capsys):
    folder = write_model_folder(tmp_path / "m", SHAPES["odd"])
    spec = json.loads((folder / "spec.json").read_text())
    spec["model_kwargs"]["rope_base"] = 600.0
    (folder / "spec.json").write_text(json.dumps(spec))
    code, results = run_json(capsys, folder / "spec.json")
    assert code == 4
    assert {r["quantity"] for r in results if r["status"] == "fail"} >= {"nll", "logits", "hidden"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"structure": {"xsa_layers": [1]}}, "exclusive self-attention (XSA) in layers [1] of 1"),
        ({"structure": {"rotary": {"rope_dims": 4, "inv_freq": [1.0, 0.5]}}}, "rotary frequencies [1.0, 0.5]"),
        ({"model_kwargs": {"flux_capacitor": 3}}, "unknown model setting flux_capacitor"),
        ({"model_kwargs": {"gated_attention": True}}, "head gate with a bias (gated_attention=True)"),
        ({"hyperparameters": {"dtg_enabled": True}}, "per-token depth gate"),
        ({"structure": {"mlp_activation": {"kind": "maxout"}}}, "MLP activation maxout"),
        ({"structure": {"recurrent_v2p": [0, 1, 0]}}, "visits [0, 1, 0] of 1 layers"),
    ],
)
def test_foreign_features_are_unsupported_with_the_reason(change, reason, tmp_path, capsys):
    folder = write_model_folder(tmp_path / "m", SHAPES["one_layer"], **change)
    code, results = run_json(capsys, tmp_path)
    assert code == 4
    assert {r["status"] for r in results} == {"unsupported"}
    assert all(reason in r["detail"] for r in results), results
    assert folder.name == results[0]["vector"]


def test_foreign_parameters_are_named(tmp_path, capsys):
    folder = write_model_folder(tmp_path / "m", SHAPES["one_layer"])
    spec = json.loads((folder / "spec.json").read_text())
    spec["weights"]["tensors"].append({"name": "warp.drive", "shape": [32], "mean": 0.0, "std": 1.0})
    (folder / "spec.json").write_text(json.dumps(spec))
    _, results = run_json(capsys, folder)
    assert "unknown parameter warp.drive [32]" in results[0]["detail"]


def test_a_setting_that_changes_the_function_fails(tmp_path, capsys):
    """The vectors are of a network without it: believed, built and found to differ."""
    for number, structure in enumerate(({"xsa_layers": [3]}, {"rotary": {"rope_dims": 4, "train_seq_len": None}})):
        folder = write_model_folder(tmp_path / str(number), SHAPES["baseline_like"], structure=structure)
        code, results = run_json(capsys, folder)
        assert code == 4
        assert {r["status"] for r in results if r["quantity"] == "nll"} == {"fail"}


def test_mlp_power_is_read_from_the_activation(tmp_path, capsys):
    structure = {"mlp_activation": {"kind": "relu_power", "power": 3}}
    folder = write_model_folder(tmp_path / "m", SHAPES["baseline_like"], structure=structure)
    code, results = run_json(capsys, folder)
    assert code == 4  # the vectors are of power 2
    assert {r["status"] for r in results if r["quantity"] == "nll"} == {"fail"}


def test_a_broken_vector_fails_alone(tmp_path, capsys):
    write_model_folder(tmp_path / "a", SHAPES["one_layer"])
    (write_model_folder(tmp_path / "b", SHAPES["one_layer"]) / "vectors.safetensors").write_bytes(b"nonsense")
    code, results = run_json(capsys, tmp_path)
    assert code == 4
    assert {r["status"] for r in results if r["vector"] == "a"} == {"pass"}
    assert [r["status"] for r in results if r["vector"] == "b"] == ["fail"]


def test_missing_and_empty_paths_are_one_line_errors(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        main([str(tmp_path / "nothing")])
    with pytest.raises(UserError, match="no conformance vector"):
        main([str(tmp_path)])
    with pytest.raises(UserError, match="--data"):
        main([str(tmp_path), "--data", str(tmp_path / "nothing")])
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        main([str(tmp_path / "x.json")])


def test_table_ends_with_totals(tmp_path, capsys):
    code = main([str(write_model_folder(tmp_path / "m", SHAPES["one_layer"]))])
    lines = capsys.readouterr().out.splitlines()
    assert code == 0
    assert lines[0].split() == ["vector", "case", "quantity", "error", "tolerance", "status"]
    assert lines[-1].endswith("pass, 0 fail, 0 unsupported")


def test_single_component_files(tmp_path, capsys):
    content = {
        "sliding": [
            {
                "script": "2026-04-05",
                "n_tokens": 10,
                "seq_len": 4,
                "stride": 2,
                "world": 1,
                "window_starts_by_rank": [[0, 2, 4, 6]],
                "scored_target_ranges_inclusive": [[1, 4], [5, 6], [7, 8], [9, 9]],
                "total_scored": 9,
                "targets_scored_more_than_once": 0,
                "targets_never_scored": [],
            }
        ],
        "val_truncation": [{"tokens_in_file": 1000, "seq_len": 64, "tokens_kept": 961}],
        "lr": [
            {
                "tag": "steps",
                "settings": {"warmdown_iters": 10, "iterations": 20},
                "max_wallclock_ms": None,
                "values": [[0, 0.0, None, 1.0], [15, 0.0, None, 0.5]],
            }
        ],
    }
    (tmp_path / "windows.json").write_text(json.dumps(content))
    code, results = run_json(capsys, tmp_path / "windows.json")
    assert code == 0
    assert len(results) == 3
    content["lr"][0]["values"][1][3] = 0.4
    content["sliding"][0]["total_scored"] = 10
    (tmp_path / "windows.json").write_text(json.dumps(content))
    code, results = run_json(capsys, tmp_path / "windows.json")
    assert code == 4
    assert [r["status"] for r in results] == ["fail", "fail", "pass"]


def test_tokenizers_that_are_not_at_hand_are_unsupported(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("GOLF_DATA", raising=False)
    content = {"tokenizers": {"sp": {"sha256": "0" * 64, "vocab": 4, "sequences": []}}}
    (tmp_path / "bytes.json").write_text(json.dumps(content))
    save_file({"sp.base_bytes": torch.zeros(4, dtype=torch.int16)}, str(tmp_path / "bytes.safetensors"))
    code, results = run_json(capsys, tmp_path / "bytes.json")
    assert code == 4
    assert "no tokenizer with sha256 000000000000" in results[0]["detail"]
    assert "GOLF_DATA" in results[0]["detail"]


def test_weight_rule():
    rule = [
        {"name": "a", "shape": [], "mean": 2.0, "std": 0.0},
        {"name": "b", "shape": [2, 3], "mean": [1.0, 0.0], "std": 0.5},
    ]
    weights = dict(generate_weights(3, rule))
    draws = np.random.default_rng(3).standard_normal(7, dtype=np.float32)
    assert float(weights["a"]) == 2.0  # its draw is consumed all the same
    expected = np.float32(0.5) * draws[1:].reshape(2, 3) + np.array([[1.0], [0.0]], np.float32)
    assert np.array_equal(weights["b"].numpy(), expected)
