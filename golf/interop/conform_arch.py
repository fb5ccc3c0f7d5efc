"""Conformance of small architecture pieces and of the overtone initialisation: golf's own modules on given inputs.

Each output tensor of the file is claimed by the first check whose pattern its name matches; the dated keys in names
(20260319 …) choose a variant. Indices are compared exactly, numbers to 1e-5.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F

from golf.interop.conform_result import Check, max_difference, measured, unsupported

TOLERANCE = 1e-5
Tensors = Mapping[str, torch.Tensor]


def load_with(module: Any, **weights: torch.Tensor) -> Any:
    """A module with the given values, by parameter name (dots as double underscores)."""
    values = {name.replace("__", "."): value for name, value in weights.items()}
    own = module.state_dict()
    module.load_state_dict({name: value.reshape(own[name].shape) for name, value in values.items()}, strict=True)
    return module.eval()


def context_of(ids_BT: torch.Tensor) -> Any:
    """What parts without positions need to know."""
    from golf.models.context import Context

    return Context(torch.empty(0), torch.empty(0), ids_BT, torch.empty(0), shared={})


def smear(match: re.Match[str], given: Tensors, cases: Mapping[str, Any]) -> torch.Tensor:
    """Per-channel gates A and B; without ids nothing is masked."""
    from golf.models.smear.channel import EarlySmearGate, SmearGate

    x_BTD = given["smear.x"]
    module = load_with((EarlySmearGate if match[1] == "A" else SmearGate)(x_BTD.shape[-1]), gate=given["smear.gate"])
    return module(x_BTD, torch.zeros(x_BTD.shape[:2], dtype=torch.long))


def late_smear(match: re.Match[str], given: Tensors, cases: Mapping[str, Any]) -> torch.Tensor:
    """The gate from the input, on raw embeddings."""
    from golf.models.smear.input_gate import InputSmearGate

    ids_BT, w = given["late_smear.ids"].long(), given["late_smear.w"]
    x_BTD = given["late_smear.table"][ids_BT]
    module = InputSmearGate(x_BTD.shape[-1], inputs=w.shape[-1], mask_document_start=match[1] == "bosfix")
    return load_with(module, weight=w, share=given["late_smear.lambda"])(x_BTD, ids_BT)


def hash_index(match: re.Match[str], given: Tensors, cases: Mapping[str, Any]) -> torch.Tensor:
    """Buckets of the hashes: a sum (19 March), xor of two or of three tokens."""
    from golf.models.bigram.added import bigram_sum_buckets
    from golf.models.bigram.hashed import bigram_buckets
    from golf.models.bigram.trigram import trigram_buckets

    date, buckets, kind = match[1], int(match[2]), match[3]
    function = trigram_buckets if kind else bigram_sum_buckets if date.startswith("20260319") else bigram_buckets
    return function(given["bigram.ids"].long(), buckets)


def bigram_module(match: re.Match[str], given: Tensors, cases: Mapping[str, Any]) -> torch.Tensor:
    from golf.models.bigram.hashed import BigramHash

    table, proj = given["bigram_module.param.embed.weight"], given["bigram_module.param.proj.weight"]
    module = BigramHash(proj.shape[0], buckets=table.shape[0], columns=table.shape[1])
    values = {"embed__weight": table, "proj__weight": proj, "scale": given["bigram_module.param.scale"]}
    return load_with(module, **values)(given["bigram.ids"].long())


def value_embedding(match: re.Match[str], given: Tensors, cases: Mapping[str, Any]) -> torch.Tensor:
    """What is added to values of zero, with the block's own factor at one."""
    from golf.models.values.embedding import ValueEmbedding

    table, proj = given["value_embedding.param.embed.weight"], given["value_embedding.param.proj.weight"]
    module = ValueEmbedding(table.shape[0], proj.shape[0], columns=table.shape[1], blocks=[0])
    values = {"embed__weight": table, "proj__weight": proj, "scale": given["value_embedding.param.scale"]}
    load_with(module, **values, block_scales__0__weight=torch.ones(1))
    ids_BT = given["bigram.ids"].long()
    return module.mix(torch.zeros(*ids_BT.shape, proj.shape[0]), context_of(ids_BT))


def exclusive(match: re.Match[str], given: Tensors, cases: Mapping[str, Any]) -> torch.Tensor:
    from golf.models.attention.xsa import ExclusiveSelfAttention

    y_BHTE, v_BKTE = (given[f"{match[1]}.{name}"].transpose(1, 2) for name in "yv")
    return ExclusiveSelfAttention()(y_BHTE, v_BKTE, context_of(torch.empty(0))).transpose(1, 2)


def applied_rope(match: re.Match[str], given: Tensors, cases: Mapping[str, Any]) -> torch.Tensor:
    from golf.models.rope import Rope, rotate

    x_BTHE = given["apply_rope.x"]
    rope = Rope(x_BTHE.shape[-1], dims=int(match[1]) if match[1] else None)
    return rotate(x_BTHE.transpose(1, 2), *rope(x_BTHE.shape[1], torch.float32)).transpose(1, 2)


def rope_table(match: re.Match[str], given: Tensors, cases: Mapping[str, Any]) -> torch.Tensor:
    """Rows of a cosine or sine table; the length is in the key, the rest in the arguments."""
    from golf.models.rope import Rope, YarnRope

    entry = next(entry for entry in cases["rope"] if entry["key"] == match[1])
    arguments, length = entry["args"], int(match[2])
    dims, base = arguments.get("rope_dims") or None, arguments.get("base", 10000.0)
    if arguments.get("rope_type") == "yarn" or arguments.get("yarn"):
        lengths = {"train_length": arguments["train_seq_len"], "target_length": arguments["yarn_max_len"]}
        rope: Any = YarnRope(arguments["dim"], base, dims, **lengths)
    else:
        rescaled = arguments.get("yarn") is not False  # scripts with the switch do not rescale where it is off
        rope = Rope(arguments["dim"], base, dims, arguments.get("train_seq_len") if rescaled else None)
    return rope(length, torch.float32)[match[3] == "sin"][entry["positions"]]


def attention(match: re.Match[str], given: Tensors, cases: Mapping[str, Any]) -> torch.Tensor:
    """Grouped-query attention with XSA and one of the gates, with and without document boundaries."""
    from golf.models.attention.grouped_query import GroupedQueryAttention
    from golf.models.attention.sdpa import Sdpa
    from golf.models.attention.xsa import ExclusiveSelfAttention
    from golf.models.context import Context
    from golf.models.rope import Rope

    facts, name, x_BTD = cases["attn"], match[1], given["attn.x"]
    width, heads = x_BTD.shape[-1], facts["heads"]
    gate = head_gate(name, given, width, heads)
    xsa = ExclusiveSelfAttention() if facts.get("xsa") else None
    module = GroupedQueryAttention(width, heads, facts["kv_heads"], Sdpa(), xsa=xsa, gate=gate)
    weights = {f"{ours}__weight": given[f"attn.w{t}"] for ours, t in (("c_q", "q"), ("c_k", "k"), ("c_v", "v"))}
    weights |= {} if gate is None else {"gate__weight": gate.weight.data}
    load_with(module, **weights, proj__weight=given["attn.wo"], q_gain=given[f"attn.{name}.param.q_gain"])
    rope = Rope(width // heads, facts.get("base", 10000.0), facts.get("rope_dims"))
    starts = torch.tensor(facts["cu_seqlens"], dtype=torch.int32) if match[2] else None
    cos_TR, sin_TR = rope(x_BTD.shape[1], torch.float32, starts is not None)
    return module(x_BTD, Context(cos_TR, sin_TR, torch.empty(0), x_BTD, starts))[0]


def head_gate(name: str, given: Tensors, width: int, heads: int) -> Any:
    """The gate that a case's parameters are of, None without."""
    from golf.models.gate.output_gate import HeadGate

    weight = next((given[n] for n in given if n.startswith(f"attn.{name}.param.attn_gate")), None)
    if weight is None:
        return None
    scale = re.search(r"sparse_gate_([\d.]+)", name)
    factor = 2.0 if "2sigmoid" in name else 1.0
    gate = HeadGate(width, heads, weight.shape[1], scale=float(scale[1]) if scale else 1.0, factor=factor)
    return load_with(gate, weight=weight)


def gated_skip(match: re.Match[str], given: Tensors, cases: Mapping[str, Any]) -> torch.Tensor:
    from golf.models.skips import GatedSkips

    x_BTD, skip_BTD, gate, weight = (given[f"gated_skip.{name}"] for name in ("x", "skip", "gate", "weight"))
    return load_with(GatedSkips(1, x_BTD.shape[-1]), weights=weight, gates=gate)(x_BTD, skip_BTD, 0)


def activation(match: re.Match[str], given: Tensors, cases: Mapping[str, Any]) -> torch.Tensor:
    """An MLP whose matrices are the identity."""
    from golf.models.mlp.leaky_relu_power import LeakyReluPower
    from golf.models.mlp.relu_power import ReluPower

    x = given["mlp_act.x"]
    eye = torch.eye(x.shape[-1])
    module = LeakyReluPower(*eye.shape, slope=float(match[2])) if match[2] else ReluPower(*eye.shape)
    return load_with(module, fc__weight=eye, proj__weight=eye)(x)


def softcapped(match: re.Match[str], given: Tensors, cases: Mapping[str, Any]) -> torch.Tensor:
    from golf.models.softcap import PolynomialSoftcap, TanhSoftcap

    softcap = (PolynomialSoftcap if match[1] == "poly" else TanhSoftcap)(float(match[2]))
    logits = softcap(given["softcap.logits_raw"])
    if match[3] == "logits":
        return logits
    return F.cross_entropy(logits, given["softcap.targets"].long(), reduction="none")


PIECES: tuple[tuple[str, Callable[..., torch.Tensor]], ...] = (
    (r"smear\.out_([AB])_\d{8}", smear),
    (r"late_smear\.out_(bosfix|no_bosfix)_\d{8}", late_smear),
    (r"bigram\.(\d{8}\w*)\.V(\d+)\.(tri(?:gram_))?index", hash_index),
    (r"bigram_module\.out", bigram_module),
    (r"value_embedding\.out", value_embedding),
    (r"(xsa\d*)\.out", exclusive),
    (r"apply_rope\.(?:full|partial(\d+))", applied_rope),
    (r"(rope\..+\.L(\d+))\.(cos|sin)", rope_table),
    (r"attn\.(.+)\.out(_varlen)?", attention),
    (r"gated_skip\.out", gated_skip),
    (r"mlp_act\.(relu2|leaky_relu_([\d.]+)_squared)", activation),
    (r"softcap\.(tanh|poly)(\d+)\.(nll|logits)", softcapped),
)
INPUTS = r".*\.(x|y|v|gate|skip|weight|ids|lambda|table|w|w[qkvo]|logits_raw|targets)|.*\.param\..*"


def check_arch(path: Path, data: Path | None) -> list[Check]:
    """Every output of the file, by the piece that it is of."""
    from safetensors.torch import load_file

    cases = json.loads(path.read_text(encoding="utf-8"))["cases"]
    given = load_file(str(path.with_suffix(".safetensors")))
    results: list[Check] = []
    for name in given:
        claims = [(re.fullmatch(pattern, name), piece) for pattern, piece in PIECES]
        match, piece = next(((m, p) for m, p in claims if m), (None, None))
        if match is None or piece is None:
            if not re.fullmatch(INPUTS, name):
                results.append(unsupported(path.stem, name, "out", "no piece of golf claims this output"))
            continue
        with torch.no_grad():
            ours = piece(match, given, cases)
        exact = not given[name].is_floating_point()
        error = max_difference(ours, given[name])
        results.append(measured(path.stem, name, "index" if exact else "out", error, 0 if exact else TOLERANCE))
    first = cases.get("smear_init_gate", {})
    return results + [check_smear_start(path.stem, name, value) for name, value in first.items()]


def check_smear_start(vector: str, name: str, expected: float) -> Check:
    """The initial gate of a per-channel smear."""
    from golf.models.smear.channel import EarlySmearGate, SmearGate

    gate = (EarlySmearGate if name.startswith("A") else SmearGate)(4).gate.detach()
    return measured(vector, f"smear_init_gate.{name}", "gate", float((gate - expected).abs().max()), 0)


def check_overtone(path: Path, data: Path | None) -> list[Check]:
    """The spectrum-shaped embedding and the mixing of every block, after `OvertoneInitialiser`."""
    from safetensors.torch import load_file

    from golf.models.initialise import OvertoneInitialiser

    given = load_file(str(path.with_suffix(".safetensors")))
    mixes = sorted((n for n in given if n.startswith("resid_mix.")), key=lambda n: int(n.rpartition(".")[2]))
    blocks = [SimpleNamespace(resid_mix=torch.zeros_like(given[name])) for name in mixes]
    table = given["tok_emb.before"].clone()
    model = SimpleNamespace(tok_emb=SimpleNamespace(weight=table), lm_head=None, blocks=blocks)
    OvertoneInitialiser(embedding_std=None).draw(model)
    found = {"tok_emb.after": table} | {name: block.resid_mix for name, block in zip(mixes, blocks)}
    return [
        measured(path.stem, name, "value", max_difference(value, given[name]), TOLERANCE)
        for name, value in found.items()
    ]
