"""Plans: who is routed where, what it costs in bytes, and what is refused."""

from pathlib import Path

import pytest
import torch

from golf.config.build import build
from golf.config.compose import compose
from golf.errors import UserError
from golf.quant.formats import absmax_rows
from golf.quant.plan import QuantPlan
from golf.quant.state import PlainTensor, QuantisedState, same_state

OPTIONS = Path(__file__).parents[2] / "conf" / "quant"


def plan_from(option: str) -> QuantPlan:
    return build(compose("train", [f"quant={option}"])["quant"])


def baseline_shapes(layers: int = 9, width: int = 512, vocab: int = 1024, hidden: int = 1024) -> tuple[dict, dict]:
    """Names, shapes and roles of the official baseline, as meta tensors."""
    shapes = {"tok_emb.weight": (vocab, width), "skip_weights": (layers // 2, width)}
    roles = {"tok_emb.weight": "embedding", "skip_weights": "scalar"}
    heads, half = 8, width // 2
    for layer in range(layers):
        block = {
            "attn.c_q.weight": (width, width),
            "attn.c_k.weight": (half, width),
            "attn.c_v.weight": (half, width),
            "attn.proj.weight": (width, width),
            "attn.q_gain": (heads,),
            "mlp.fc.weight": (hidden, width),
            "mlp.proj.weight": (width, hidden),
            "attn_scale": (width,),
            "mlp_scale": (width,),
            "resid_mix": (2, width),
        }
        for name, shape in block.items():
            shapes[f"blocks.{layer}.{name}"] = shape
            roles[f"blocks.{layer}.{name}"] = "matrix" if name.endswith("weight") else "scalar"
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}, roles


@pytest.mark.parametrize(
    ("option", "layers", "hidden", "payload"),
    [
        ("int8_rows", 9, 1024, 17_178_912),
        ("int8_rows", 10, 1024, 19_030_336),
        ("int8_fp16_embedding", 10, 1024, 19_552_576),
        ("int8_fp16_embedding", 9, 992, 17_405_664),
        ("int8_fp16_embedding", 9, 1536, 22_428_960),
        ("int8_fp16_embedding", 10, 1344, 22_835_776),
    ],
)
def test_payload_bytes_of_the_published_models(option, layers, hidden, payload):
    state, roles = baseline_shapes(layers, hidden=hidden)
    table = plan_from(option).table(state, roles)
    if (layers, hidden) == (9, 1024):
        assert sum(tensor.numel() for tensor in state.values()) == 17_059_912
    assert sum(line.payload_bytes for line in table) == payload


def small_model() -> tuple[dict, dict]:
    generator = torch.Generator().manual_seed(0)
    state = {
        "tok_emb.weight": torch.randn(300, 256, generator=generator).bfloat16(),
        "blocks.0.attn.c_q.weight": torch.randn(256, 257, generator=generator),
        "blocks.0.attn.c_k.weight": torch.randn(256, 256, generator=generator),
        "blocks.0.attn.q_gain": torch.randn(4, generator=generator),
        "gate": torch.randn(12, 4, generator=generator),
        "steps": torch.tensor(7),
    }
    roles = dict(zip(state, ["embedding", "matrix", "matrix", "scalar", "gate", "table"]))
    return state, roles


@pytest.mark.parametrize(
    "option", sorted(path.stem for path in OPTIONS.glob("*.yaml") if "golf.quant.plan.QuantPlan" in path.read_text())
)
def test_every_option_quantises_and_its_table_tells_the_bytes(option, tmp_path):
    state, roles = small_model()
    state["blocks.0.mlp.fc.weight"], roles["blocks.0.mlp.fc.weight"] = torch.randn(260, 256), "matrix"
    plan = plan_from(option)
    quantised = plan.quantise(state, roles)
    table = plan.table(state, roles)
    corrected = [name for name, stored in quantised.tensors.items() if stored.kind == "corrected"]
    surprise = 0  # which tensors are corrected is known after quantisation; the table takes the largest for them
    if plan.correction is not None:
        assert len(corrected) == plan.correction.top
        surprise = sum(plan.correction.payload_bytes(state[name].shape) for name in corrected)
        surprise -= sum(plan.likely_corrections(state, roles, plan.routes(state, roles)).values())
    predicted = sum(line.payload_bytes for line in table) + surprise
    assert quantised.payload_bytes() == predicted
    back = quantised.dequantise()
    assert {name: tensor.dtype for name, tensor in back.items()} == {name: t.dtype for name, t in state.items()}
    assert torch.equal(back["steps"], state["steps"])
    quantised.save(tmp_path / "state.golf")
    again = QuantisedState.load(tmp_path / "state.golf")
    assert same_state(again.dequantise(), back)
    assert again.classes == quantised.classes


def test_the_plan_none_changes_nothing():
    state, roles = small_model()
    assert same_state(plan_from("none").quantise(state, roles).dequantise(), state)


def test_the_baseline_routes_by_size_then_role():
    state, roles = small_model()
    treatments = {line.name: line.treatment for line in QuantPlan().table(state, roles)}
    assert treatments == {
        "tok_emb.weight": "int8_rows",
        "blocks.0.attn.c_q.weight": "int8_rows",
        "blocks.0.attn.c_k.weight": "float16",
        "blocks.0.attn.q_gain": "float32",
        "gate": "float32",
        "steps": "as_is",
    }


def test_overrides_beat_size_and_role_in_their_order():
    state, roles = small_model()
    plan = QuantPlan(overrides={r"c_q": "float16", r"attn\.c_": "int6_rows"})
    treatments = {line.name: line.treatment for line in plan.table(state, roles)}
    assert treatments["blocks.0.attn.c_q.weight"] == "float16"
    assert treatments["blocks.0.attn.c_k.weight"] == "int6_rows"


def test_a_format_object_and_an_algorithm_are_treatments():
    class Doubler:
        def convert(self, name, weight, calibration=None):
            return PlainTensor(weight * calibration, "float32")

        def payload_bytes(self, shape):
            return 0

    state, roles = {"blocks.0.mlp.fc.weight": torch.ones(2, 2)}, {"blocks.0.mlp.fc.weight": "matrix"}
    plan = QuantPlan(matrix=Doubler(), small_numel=0)
    assert plan.quantise(state, roles, {"blocks.0.mlp.fc.weight": 2}).dequantise()["blocks.0.mlp.fc.weight"].sum() == 8
    assert plan.table(state, roles)[0].treatment == "Doubler"
    four = QuantPlan(matrix=absmax_rows(4), small_numel=0).quantise(state, roles)
    assert four.tensors["blocks.0.mlp.fc.weight"].format.bits == 4


def test_a_quantised_state_shares_no_memory_with_the_model():
    state = {"skip_weights": torch.ones(3)}
    quantised = QuantPlan().quantise(state, {"skip_weights": "scalar"})
    state["skip_weights"].fill_(5)
    assert quantised.dequantise()["skip_weights"].sum() == 3


def test_unrouted_unknown_and_unmatched_are_refused():
    state, roles = small_model()
    with pytest.raises(UserError, match=r"no role for tensor 'gate' \(1 in all\)"):
        QuantPlan().quantise(state, {name: role for name, role in roles.items() if name != "gate"})
    with pytest.raises(UserError, match="unknown role 'wheel'"):
        QuantPlan().quantise(state, {**roles, "gate": "wheel"})
    with pytest.raises(UserError, match="'lm_head' matches no tensor"):
        QuantPlan(overrides={"lm_head": "float16"}).quantise(state, roles)
    with pytest.raises(UserError, match=r"quant\.matrix=int9_rows is not known: use one of int8_rows"):
        QuantPlan(matrix="int9_rows")
    with pytest.raises(UserError, match="not a regular expression"):
        QuantPlan(overrides={"(": "float16"})


def test_values_that_cannot_be_stored_are_refused_by_name():
    name = "blocks.0.attn.c_q.weight"
    state, roles = small_model()
    state[name][0, 0] = float("nan")
    with pytest.raises(UserError, match=f"tensor '{name}' has 1 NaN or infinite values of 65,792"):
        QuantPlan().quantise(state, roles)
    state, roles = small_model()
    state["blocks.0.attn.c_k.weight"][0, 0] = 1e6
    with pytest.raises(UserError, match=r"magnitude of 1e\+06, too large for float16"):
        QuantPlan().quantise(state, roles)
    state, roles = small_model()
    state[name][0] = 3e38
    with pytest.raises(UserError, match=f"tensor '{name}': .*overflows"):
        QuantPlan().quantise(state, roles)
