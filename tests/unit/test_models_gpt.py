"""The language model: shapes, causality, finite gradients, losses against explicit formulas, roles, sizes."""

import pytest
import torch

from golf.errors import UserError
from golf.models.attention.causal import causal_attention, written_out_attention
from golf.models.attention.grouped_query import GroupedQueryAttention
from golf.models.attention.sdpa import Sdpa
from golf.models.depth import plain_depth, unet_depth
from golf.models.embedding.token import TokenEmbedding
from golf.models.gpt import GPT
from golf.models.initialise import BaselineInitialiser
from golf.models.layers import rms_norm
from golf.models.mlp.relu_power import ReluPower
from golf.models.residual.pre_norm import PreNormBlock
from golf.models.residual.x0_mix import X0MixBlock
from golf.models.roles import ROLES, roles_of
from golf.models.rope import Rope, rotate
from golf.models.skips import PlainSkips
from golf.models.softcap import TanhSoftcap

TINY = {"vocab_size": 61, "num_layers": 3, "width": 32, "num_heads": 4, "num_kv_heads": 2, "mlp_mult": 2}
BASELINE = {"vocab_size": 1024, "num_layers": 9, "width": 512, "num_heads": 8, "num_kv_heads": 4, "mlp_mult": 2}


def build_gpt(sizes=TINY, residual=X0MixBlock, depth=unet_depth, **changes) -> GPT:
    torch.manual_seed(0)
    parts = {"embedding": TokenEmbedding, "attention": GroupedQueryAttention, "mlp": ReluPower, "rope": Rope}
    other = {"residual": residual, "depth": depth, "skips": PlainSkips, "softcap": TanhSoftcap(), "backend": Sdpa()}
    other |= {"initialise": BaselineInitialiser(), "compute_dtype": "float32"}
    return GPT(**{**sizes, **parts, **other, **changes})


def awake(model: GPT) -> GPT:
    """The same model with every parameter away from its initial zeros and ones."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def tokens(rows=2, length=12, vocab_size=61):
    ids = torch.randint(0, vocab_size, (rows, length + 1), generator=torch.Generator().manual_seed(2))
    return ids[:, :-1].contiguous(), ids[:, 1:].contiguous()


VARIANTS = {
    "baseline": {},
    "pre-norm, no skips": {"residual": PreNormBlock, "depth": plain_depth},
    "untied": {"tie_embeddings": False},
    "bfloat16": {"compute_dtype": "bfloat16"},
    "all heads": {"sizes": {**TINY, "num_kv_heads": 4}},
    "one layer": {"sizes": {**TINY, "num_layers": 1}},
    "mlp 2.6": {"sizes": {**TINY, "mlp_mult": 2.6}},
}


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_shapes_losses_and_gradients(variant):
    model = awake(build_gpt(**variant))
    inputs_BT, targets_BT = tokens()
    logits_BTV = model(inputs_BT)
    assert (logits_BTV.shape, logits_BTV.dtype) == ((2, 12, 61), torch.float32)
    assert logits_BTV.abs().max() < model.softcap.cap
    nll_BT = model(inputs_BT, targets_BT, reduction="none")
    expected_BT = -logits_BTV.log_softmax(-1).gather(-1, targets_BT[..., None])[..., 0]
    tolerance = 1e-5 if model.compute_dtype == torch.float32 else 1e-2
    torch.testing.assert_close(nll_BT, expected_BT, atol=tolerance, rtol=0)
    loss = model(inputs_BT, targets_BT)
    torch.testing.assert_close(loss, nll_BT.mean(), atol=tolerance, rtol=0)
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_first_loss_is_that_of_a_uniform_guess():
    inputs_BT, targets_BT = tokens(rows=8, length=64)
    assert abs(build_gpt()(inputs_BT, targets_BT).item() - torch.tensor(61.0).log().item()) < 0.01


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_no_position_sees_a_later_token(variant):
    model = awake(build_gpt(**variant)).eval()
    inputs_BT, _ = tokens(rows=1)
    with torch.no_grad():
        before = model(inputs_BT)
        for position in (3, 11):
            changed = inputs_BT.clone()
            changed[0, position] = (changed[0, position] + 1) % 61
            after = model(changed)
            torch.testing.assert_close(after[:, :position], before[:, :position], atol=1e-6, rtol=0)
            assert (after[:, position] != before[:, position]).any()


def test_suffix_losses_are_a_slice_of_all_losses():
    model = awake(build_gpt())
    inputs_BT, targets_BT = tokens()
    whole_BT = model(inputs_BT, targets_BT, reduction="none")
    for first_scored in (0, 5, 11):
        suffix = model.nll_suffix(inputs_BT, targets_BT, first_scored)
        torch.testing.assert_close(suffix, whole_BT[:, first_scored:], atol=1e-5, rtol=0)


def test_roles_are_complete_and_known():
    model = build_gpt(tie_embeddings=False)
    roles = roles_of(model)
    assert set(roles) == {name for name, _ in model.named_parameters()}
    assert set(roles.values()) <= set(ROLES)
    assert roles["blocks.0.attn.c_q.weight"] == roles["blocks.2.mlp.proj.weight"] == "matrix"
    assert (roles["tok_emb.weight"], roles["lm_head.weight"], roles["skips.weights"]) == ("embedding", "head", "scalar")


def test_a_parameter_without_a_role_is_named():
    model = build_gpt()
    model.blocks[0].extra = torch.nn.Parameter(torch.zeros(3))
    with pytest.raises(UserError, match=r"'blocks\.0\.extra' has no role"):
        roles_of(model)


def test_the_baseline_has_17_059_912_parameters():
    with torch.device("meta"):
        model = build_gpt(BASELINE)
    assert sum(parameter.numel() for parameter in model.parameters()) == 17_059_912


@pytest.mark.parametrize(
    ("sizes", "message"),
    [({"num_heads": 5}, "num_heads=5 must divide"), ({"num_kv_heads": 3}, "num_kv_heads=3 must divide")],
)
def test_impossible_heads_are_refused(sizes, message):
    with pytest.raises(UserError, match=message):
        build_gpt({**TINY, **sizes})


# -- parts ------------------------------------------------------------------------------------------------------------
def test_attention_equals_explicit_loops():
    torch.manual_seed(0)
    B, H, K, T, E = 2, 4, 2, 5, 6
    q, k, v = torch.randn(B, H, T, E), torch.randn(B, K, T, E), torch.randn(B, K, T, E)
    found = causal_attention(q, k, v)
    for b in range(B):
        for h in range(H):
            for t in range(T):
                kv = h * K // H
                weights = (k[b, kv, : t + 1] @ q[b, h, t] / E**0.5).softmax(0)
                torch.testing.assert_close(found[b, h, t], weights @ v[b, kv, : t + 1])


@pytest.mark.parametrize(("heads", "kv_heads", "length"), [(4, 2, 8), (4, 4, 64), (6, 1, 12)])
def test_written_out_attention_is_the_fused_one(heads, kv_heads, length):
    torch.manual_seed(0)
    shapes = [(2, length, n, 16) for n in (heads, kv_heads, kv_heads)]
    q, k, v = (torch.randn(shape).transpose(1, 2).requires_grad_() for shape in shapes)
    fused, written = causal_attention(q, k, v), written_out_attention(q, k, v)
    torch.testing.assert_close(written, fused, atol=1e-5, rtol=1e-5)
    upstream = torch.randn_like(fused)
    for mine, reference in zip(
        torch.autograd.grad(written, (q, k, v), upstream), torch.autograd.grad(fused, (q, k, v), upstream)
    ):
        torch.testing.assert_close(mine, reference, atol=1e-5, rtol=1e-5)


def test_written_out_attention_survives_large_scores():
    q = k = 60.0 * torch.eye(8)[None, None]
    written = written_out_attention(q, k, torch.ones(1, 1, 8, 8))
    torch.testing.assert_close(written, torch.ones(1, 1, 8, 8))


@pytest.mark.parametrize("length", [8, 6, 600])
def test_bfloat16_attention_in_training_is_close_to_float32(length):
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, heads, length, 32) for heads in (4, 2, 2))
    found = causal_attention(q.bfloat16().requires_grad_(), k.bfloat16(), v.bfloat16())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), causal_attention(q, k, v), atol=3e-2, rtol=3e-2)


def test_rope_turns_pairs_and_depends_on_distance_only():
    cos_TE2, sin_TE2 = Rope(head_width=8)(16, torch.float32)
    a, b = torch.randn(8), torch.randn(8)
    turned_a = rotate(a.expand(1, 1, 16, 8), cos_TE2, sin_TE2)[0, 0]
    turned_b = rotate(b.expand(1, 1, 16, 8), cos_TE2, sin_TE2)[0, 0]
    torch.testing.assert_close(turned_a.norm(dim=-1), a.norm().expand(16))
    torch.testing.assert_close(turned_a[3] @ turned_b[1], turned_a[12] @ turned_b[10], atol=1e-5, rtol=1e-4)


def test_rms_norm_keeps_the_dtype_and_has_unit_scale():
    x = 7.0 * torch.randn(4, 512, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(rms_norm(x).square().mean(-1), torch.ones(4))
    assert rms_norm(x.bfloat16()).dtype == torch.bfloat16
    assert rms_norm(torch.zeros(2, 8)).eq(0).all()


def test_unet_plan_of_nine_layers():
    (phase,) = unet_depth(9).phases
    visits = phase.visits
    assert [visit.push for visit in visits] == [True] * 4 + [False] * 5
    assert [visit.pop for visit in visits] == [None] * 4 + [0, 1, 2, 3, None]
