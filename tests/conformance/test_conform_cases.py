"""The further cases of model folders, on vectors made by plain tensor operations: fake quantisation in training mode,
auxiliary losses, null gradients; and how descriptions of them are read."""

import json

import pytest
import torch
from safetensors.torch import save_file
from test_conform_machinery import SHAPES, plain_baseline, run_json, tensor_rule

from golf.interop.conform_cases import copied_cases, fake_quant_format
from golf.interop.conform_weights import generate_tokens, generate_weights

SHAPE = SHAPES["baseline_like"]
CASE = {"B": 2, "T": 24, "token_seed": 1, "bos_positions": [0], "positions": [[0, 3], [1, 23]]}


def frequencies():
    head_width = SHAPE["width"] // SHAPE["heads"]
    return 1.0 / 10000.0 ** (torch.arange(0, head_width, 2, dtype=torch.float32) / head_width)


def fake_quantised(weight):
    """Six bits per row, clipped at a quantile of at least 1e-8, straight through (19 March)."""
    clip = torch.quantile(weight.detach().abs(), 0.9999984, dim=1, keepdim=True).clamp(min=1e-8)
    scale = clip / 31
    codes = torch.round(torch.minimum(torch.maximum(weight.detach(), -clip), clip) / scale).clamp(-31, 31)
    return weight + (codes * scale - weight).detach()


def write_folder(folder, rule, cases, tensors, grads, **further):
    spec = {"weights": {"seed": 3, "tensors": rule}, "vocab": SHAPE["vocab"], "cases": cases, **further}
    folder.mkdir()
    (folder / "spec.json").write_text(json.dumps(spec))
    (folder / "grads.json").write_text(json.dumps(grads))
    save_file(tensors, str(folder / "vectors.safetensors"))
    return folder


def run_case(name, rule, change, loss_of, folder, **further):
    """A folder with one case: `change` of the weights, and `loss_of`(logits, hidden, targets, params)."""
    params = {n: t.requires_grad_() for n, t in generate_weights(3, rule)}
    tokens = generate_tokens(1, SHAPE["vocab"], 2, 24, [0])
    logits, hidden = plain_baseline({n: change(n, t) for n, t in params.items()}, SHAPE, tokens[:, :-1], frequencies())
    nll = torch.logsumexp(logits, -1) - logits.gather(-1, tokens[:, 1:, None])[..., 0]
    loss = loss_of(nll, hidden, tokens[:, 1:], params)
    gradients = torch.autograd.grad(loss, list(params.values()), allow_unused=True)
    grads = {name: {n: None if g is None else {"l2": float(g.norm())} for n, g in zip(params, gradients)}}
    rows, columns = zip(*CASE["positions"])
    tensors = {f"{name}.nll": nll.detach(), f"{name}.logits": logits.detach()[list(rows), list(columns)].contiguous()}
    cases = {name: {**CASE, "mean_loss": float(loss.detach())}}
    return write_folder(folder, rule, cases, tensors, grads, **further)


def test_fake_quantisation_in_training_mode(tmp_path, capsys):
    def change(name, tensor):
        return fake_quantised(tensor) if name.startswith("blocks.") and name.endswith(".weight") else tensor

    described = {
        "bits": 6,
        "clip": "quantile 0.9999984 of |w| per row",
        "range": [-31, 31],
        "gradient": "straight through",
    }
    case = "train_mode_fake_quant"
    arguments = (case, tensor_rule(SHAPE), change, lambda nll, *_: nll.mean())
    folder = run_case(*arguments, tmp_path / "a", structure={"fake_quant": described})
    code, results = run_json(capsys, folder)
    assert code == 0, results
    assert {r["quantity"] for r in results} == {"nll", "logits", "mean_loss", "gradient_l2_relative"}
    code, results = run_json(capsys, run_case(*arguments, tmp_path / "b", structure={"fake_quant": {"bits": 6}}))
    assert "fail" in {r["status"] for r in results}  # another grid is told apart
    code, results = run_json(capsys, run_case(*arguments, tmp_path / "c"))
    assert [r["status"] for r in results] == ["unsupported"]
    assert "does not describe" in results[0]["detail"]


@pytest.mark.parametrize("case", ["training_objective", "main"])
def test_multi_token_prediction_is_part_of_the_objective_only(case, tmp_path, capsys):
    head = {"name": "mtp_heads.0.weight", "shape": [SHAPE["vocab"], SHAPE["width"]], "mean": 0.0, "std": 0.2}
    rule = sorted([*tensor_rule(SHAPE), head], key=lambda entry: entry["name"])

    def loss_of(nll, hidden, targets, params):
        if case == "main":
            return nll.mean()
        logits = 30 * torch.tanh(hidden[:, :-1] @ params["mtp_heads.0.weight"].T / 30)
        later = torch.logsumexp(logits, -1) - logits.gather(-1, targets[:, 1:, None])[..., 0]
        return nll.mean() + 0.3 * later.mean()

    settings = {"mtp_num_heads": 1, "mtp_loss_weight": 0.3}
    folder = run_case(case, rule, lambda _, t: t, loss_of, tmp_path / "m", model_kwargs=settings)
    grads = json.loads((folder / "grads.json").read_text())[case]
    assert (grads["mtp_heads.0.weight"] is None) == (case == "main")
    if case == "training_objective":  # the mean of the losses and the objective under names of their own
        spec = json.loads((folder / "spec.json").read_text())
        stored = spec["cases"][case]
        folder_b = tmp_path / "b"
        folder_b.mkdir()
        for name in ("grads.json", "vectors.safetensors"):
            (folder_b / name).write_bytes((folder / name).read_bytes())
        plain = run_case("main", rule, lambda _, t: t, lambda nll, *_: nll.mean(), tmp_path / "p")
        mean = json.loads((plain / "spec.json").read_text())["cases"]["main"]["mean_loss"]
        stored |= {"training_loss": stored["mean_loss"], "mean_loss": mean}
        (folder_b / "spec.json").write_text(json.dumps(spec))
        assert run_json(capsys, folder_b)[0] == 0
    code, results = run_json(capsys, folder)
    assert code == 0, results


def test_cases_with_copied_repeat_mlps_are_read_from_the_notes():
    note = "cases 'long' and 'bf16_rope_freqs' were run after the repeat MLPs had been overwritten: 'main' uses others"
    assert copied_cases(["nothing of it", note]) == ["long", "bf16_rope_freqs"]
    assert copied_cases(["repeat MLPs hold copies of the bank's"]) == ["long", "bf16_rope_freqs"]
    assert copied_cases(["FlashAttention was replaced"]) == []


@pytest.mark.parametrize(
    ("described", "bits", "facts"),
    [
        ("STE int6, quantile 0.9999984", 6, {"clip_quantile": 0.9999984, "code_min": -31}),
        ({"bits": 6, "clip": "max(absmax, 1/31)"}, 6, {"clip_floor": 1 / 31, "code_min": -31}),
        ("int6, scale = max(absmax/31, 1/31), codes -32..31", 6, {"scale_floor": 1 / 31, "code_min": -32}),
        ("int8 codes rounded to multiples of 4", 6, {"step": 4}),
        ("int8 rows by absmax", 8, {"code_max": 127}),
    ],
)
def test_grids_are_read_from_descriptions(described, bits, facts):
    fmt = fake_quant_format({"structure": {"fake_quant": described}})
    assert fmt.bits == bits
    assert {name: getattr(fmt, name) for name in facts} == facts
