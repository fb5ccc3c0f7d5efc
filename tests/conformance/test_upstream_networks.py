"""Networks of records that have no vectors here: what shapes, settings and structure say of them, and their names."""

import pytest
import torch

from golf.config.build import build
from golf.errors import UserError
from golf.interop.upstream import UnsupportedNetwork, build_upstream_model, upstream_model_node
from golf.interop.upstream_names import back_to_upstream, from_upstream, pieces_of, to_upstream

D, H, K, V, F = 32, 4, 2, 64, 64
LEAKY = {"kind": "leaky_relu_squared", "negative_slope": 0.5}
ROTARY = {"rope_dims": 4, "train_seq_len": 2048}
APRIL = {"ln_scale": True, "xsa_last_n": 11, "rope_dims": 4, "skip_gates_enabled": True}
VALUES = {
    "ve_shared.embed.weight": [V, 8],
    "ve_shared.proj.weight": [D // 2, 8],
    "ve_shared.scale": [],
    "ve_layer_scales.0": [1],
    "ve_layer_scales.1": [1],
}


def block_shapes(layers, banked=False, fused=False):
    found = {}
    for i in range(layers):
        matrices = {"attn.proj.weight": [D, D], "mlp.fc.weight": [F, D], "mlp.proj.weight": [D, F]}
        projections = {"attn.c_q.weight": [D, D], "attn.c_k.weight": [D // 2, D], "attn.c_v.weight": [D // 2, D]}
        matrices |= {"attn.c_qkv.weight": [2 * D, D]} if fused else projections
        scales = {"attn.q_gain": [H], "attn_scale": [D], "mlp_scale": [D], "resid_mix": [2, D]}
        found |= {f"blocks.{i}.{name}": shape for name, shape in ({} if banked else matrices).items()}
        found |= {f"blocks.{i}.{name}": shape for name, shape in scales.items()}
    if banked:
        found |= {"qo_bank": [2 * layers, D, D], "kv_bank": [2 * layers, D // 2, D]}
        found |= {"mlp_up_bank": [layers, F, D], "mlp_down_bank": [layers, D, F]}
    return found


def shapes_of(layers, rows=None, gates=True, banked=False, **further):
    skips = {"skip_weights": [layers // 2 if rows is None else rows, D]}
    skips |= {"skip_gates": skips["skip_weights"]} if gates else {}
    return {"tok_emb.weight": [V, D], **skips, **block_shapes(layers, banked)} | further


def random_state(shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: 0.3 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def orders(model):
    return [[visit.block for visit in phase.visits] for phase in model.plan.phases]


def built(shapes, settings, structure=None):
    """The network, run once in every phase."""
    model = build_upstream_model(random_state(shapes), settings, structure or {"mlp_activation": LEAKY})
    ids_BT = torch.randint(0, V, (1, 12), generator=torch.Generator().manual_seed(1))
    for phase in range(len(model.plan.phases)):
        model.phase = phase
        assert model(ids_BT).isfinite().all()
    return model


ONCE_MORE = [0, 1, 2, 3, 4, 5, 4, 5, 6, 7, 8, 9, 10]
PLAIN = list(range(11))


def test_repeats_with_the_skip_rows_of_the_plain_network():
    """3 April: the sixth skip uses the last of five rows again."""
    settings = {**APRIL, "recur_layers": "4,5", "recur_start_step": 3000, "ve_layers": "9,10"}
    structure = {"mlp_activation": LEAKY, "rotary": ROTARY, "recurrent_v2p": ONCE_MORE, "xsa_layers": PLAIN}
    model = built(shapes_of(11, rows=5, **VALUES), settings, structure)
    assert orders(model) == [PLAIN, ONCE_MORE]
    assert [v.pop for v in model.plan.phases[1].visits if v.pop is not None] == [0, 1, 2, 3, 4, 4]
    assert model.values.blocks == [9, 10]


@pytest.mark.parametrize(
    ("rows", "settings", "skips", "pops"),
    [
        (5, {"recur_layers_str": "4,5", "parallel_start_layer": 7}, "lost", [0, 1, 2, 3, 4]),
        (7, {"num_loops": 2, "loop_start": 4, "loop_end": 5, "parallel_residual_start": 7}, "first", list(range(7))),
    ],
)
@pytest.mark.parametrize("name", ["lane_merge", "lanes_mix"])
def test_decoupled_lanes_are_known_by_their_one_parameter(rows, settings, skips, pops, name):
    """4 April: five skip rows, skips into parted lanes are lost; 8 April: all rows, skips go to the first lane."""
    model = built(shapes_of(11, rows=rows, **{name: []}), {**APRIL, **settings})
    assert type(model.lanes).__name__ == "DecoupledLanes"
    assert (model.lanes.start, model.lanes.skips) == (7, skips)
    assert [v.pop for v in model.plan.phases[-1].visits if v.pop is not None] == pops


def test_two_phases_of_a_loop():
    """6 April: once more first, then twice more; GPT-J's blocks from layer 7."""
    settings = {**APRIL, "num_loops": 2, "loop_start": 4, "loop_end": 5, "parallel_residual_start": 7}
    first = {"encoder_indices": ONCE_MORE[:6], "decoder_indices": ONCE_MORE[6:]}
    model = built(shapes_of(11, rows=7), settings, {"mlp_activation": LEAKY, "phase1": first})
    assert orders(model) == [PLAIN, ONCE_MORE, [0, 1, 2, 3, 4, 5, 4, 5, 4, 5, 6, 7, 8, 9, 10]]
    assert [block.parallel for block in model.blocks] == [False] * 7 + [True] * 4


def test_visits_that_no_setting_explains_are_taken_from_the_list():
    visits = {"recurrent_encoder_indices": [0, 2, 0], "recurrent_decoder_indices": [1, 2, 1]}
    model = built(shapes_of(3, rows=3), {"num_loops": 1}, {"mlp_activation": LEAKY, **visits})
    assert orders(model) == [[0, 1, 2], [0, 2, 0, 1, 2, 1]]


def test_variant_a_of_bigram_and_smear():
    """19 March: the table has no scale, and the gate comes before the norm."""
    tables = {"bigram_hash.table.weight": [40, 8], "bigram_hash.proj.weight": [D, 8], "smear.gate": [D]}
    model = built(shapes_of(3, gates=False, **tables), {}, {"mlp_activation": {"kind": "relu_squared"}})
    assert (type(model.bigram).__name__, type(model.smear).__name__) == ("AddedBigram", "EarlySmearGate")


def test_the_ternary_network():
    """24 March: factored embedding, fused queries, keys and values, YaRN, polynomial softcap, z-loss."""
    inv_freq = [5000 ** -(j / 4) / (1 + min(max((j / 4 - 0.25) / 0.75, 0), 1)) for j in range(4)]
    shapes = {"tok_emb.weight": [V, 10], "up.weight": [D, 10], "down.weight": [10, D], "vocab_bias": [V]}
    shapes |= {"skip_weights": [2, D], **block_shapes(4, fused=True)}
    settings = {"rope_base": 5000.0, "group_size": 16, "softcap_type": "poly", "logit_softcap": 10.0}
    model = built(shapes, settings, {"rotary": {"train_seq_len": 1024, "inv_freq": inv_freq}})
    assert torch.allclose(model.rope.inv_freq, torch.tensor(inv_freq))
    assert model.blocks[0].attn.proj.op.norm_input
    assert not model.blocks[0].mlp.fc.op.norm_input
    assert (type(model.softcap).__name__, model.objective.weight) == ("PolynomialSoftcap", 1e-4)


def test_gates_and_the_leaking_smear():
    """16 April: a gate between 0 and 2; the smear gate is masked only where the structure says so."""
    gates = {f"blocks.{i}.attn.attn_gate_proj.weight": [H, 12] for i in range(4)}
    lanes = {"parallel_post_lambdas": [4, 2, 2], "parallel_resid_lambdas": [4, 2]}
    smear = {"smear_gate.weight": [1, 12], "smear_lambda": [1]}
    shapes = shapes_of(4, banked=True, **gates, **lanes, **smear)
    model = built(shapes, {"parallel_start_layer": 3, "rope_yarn": False}, {"smear": {"bos_mask": False}})
    assert model.blocks[0].attn.gate.factor == 2.0
    assert (type(model.lanes).__name__, model.lanes.start) == ("ParallelLanes", 3)
    assert not model.smear.mask_document_start
    with pytest.raises(UnsupportedNetwork, match="masked at document starts"):
        upstream_model_node(shapes, {})


@pytest.mark.parametrize("banked", [False, True])
def test_names_go_both_ways(banked):
    further = {"mtp_heads.0.weight": [V, D], **{f"blocks.{i}.attn.attn_gate_w": [H, D] for i in range(3)}, **VALUES}
    shapes = shapes_of(3, banked=banked, **further)
    state = random_state(shapes)
    model = build_upstream_model(state, {"ve_layers": [1, 2]}, {"mlp_activation": LEAKY})
    ours, family = model.state_dict(), "banked" if banked else "flat"
    theirs = to_upstream(ours, family)
    assert theirs.keys() == state.keys()
    assert all(torch.equal(theirs[name], state[name]) for name in state)
    other = to_upstream(ours, "flat" if banked else "banked")
    expected = {name: tuple(tensor.shape) for name, tensor in ours.items()}
    assert all(torch.equal(tensor, ours[name]) for name, tensor in from_upstream(other, expected).items())
    back = back_to_upstream(ours, shapes, pieces_of(shapes))
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_wrong_states_are_one_line_errors():
    shapes = shapes_of(2)
    state, settings = random_state(shapes), {}
    expected = {k: tuple(v.shape) for k, v in build_upstream_model(state, settings).state_dict().items()}
    with pytest.raises(UserError, match=r"tensor 'blocks\.1\.attn\.c_v\.weight' is missing"):
        from_upstream({k: v for k, v in state.items() if k != "blocks.1.attn.c_v.weight"}, expected)
    with pytest.raises(UserError, match=r"tensor 'smear\.gate' has no place"):
        from_upstream({**state, "smear.gate": torch.zeros(D)}, expected)
    with pytest.raises(UserError, match=r"'skip_gates' is \[1, 31\]; this network needs \[1, 32\]"):
        from_upstream({**state, "skip_gates": torch.zeros(1, 31)}, expected)
    with pytest.raises(UnsupportedNetwork, match=r"unknown parameter warp\.drive"):
        from_upstream({**state, "warp.drive": torch.zeros(3)}, expected)
    with pytest.raises(UserError, match="family=banks is not known"):
        to_upstream(state, "banks")
    with pytest.raises(UserError, match=r"'blocks\.0\.mlp\.fc\.weight' is missing"):
        to_upstream({k: v for k, v in state.items() if k != "blocks.0.mlp.fc.weight"}, "banked")


@pytest.mark.parametrize(
    ("shapes", "settings", "structure", "reason"),
    [
        (shapes_of(2), {"parallel_final_lane": "a"}, {}, "final lane"),
        (shapes_of(2, **VALUES), {"ve_layers": "1"}, {}, r"2 scales for ve_layers=\[1\]"),
        (shapes_of(3), {"recur_layers": "0,2"}, {}, r"repeated layers \[0, 2\]"),
        (shapes_of(3), {"num_loops": 2, "loop_start": 1, "loop_end": 3}, {}, "looped layers"),
        (shapes_of(2), {}, {"phase1": [0, 1, 0]}, "phase1 without a recurrence"),
        (shapes_of(2), {"rope_yarn": True}, {}, "YaRN of the April scripts"),
    ],
)
def test_what_stays_unsupported_says_why(shapes, settings, structure, reason):
    with pytest.raises(UnsupportedNetwork, match=reason):
        upstream_model_node(shapes, settings, structure)


def test_nodes_are_buildable_configs():
    node = upstream_model_node(shapes_of(2, banked=True), {}, {"mlp_activation": "leaky_relu(x, 0.25)**2"})
    assert build(node).blocks[0].mlp.slope == 0.25
