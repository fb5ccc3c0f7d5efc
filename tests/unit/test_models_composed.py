"""Embedding with additions inside the whole model: order of the parts, names, causality, unchanged baseline draws."""

from functools import partial

import pytest
import torch
from torch import nn

from golf.errors import UserError
from golf.models.attention.grouped_query import GroupedQueryAttention
from golf.models.attention.sdpa import Sdpa
from golf.models.bigram.hashed import BigramHash
from golf.models.depth import unet_depth
from golf.models.embedding.token import TokenEmbedding
from golf.models.gpt import GPT
from golf.models.initialise import BaselineInitialiser
from golf.models.layers import rms_norm
from golf.models.mlp.leaky_relu_power import LeakyReluPower
from golf.models.mlp.relu_power import ReluPower
from golf.models.residual.x0_mix import X0MixBlock
from golf.models.roles import roles_of
from golf.models.rope import Rope
from golf.models.skips import PlainSkips
from golf.models.smear.channel import SmearGate
from golf.models.softcap import TanhSoftcap
from golf.models.values.embedding import ValueEmbedding

BIGRAM = partial(BigramHash, buckets=32, columns=8)


def network(embedding=TokenEmbedding, **changes) -> GPT:
    torch.manual_seed(3)
    parts = {
        "attention": GroupedQueryAttention,
        "mlp": ReluPower,
        "residual": X0MixBlock,
        "rope": Rope,
        "depth": unet_depth,
        "skips": PlainSkips,
        "softcap": TanhSoftcap(),
        "backend": Sdpa(),
        "initialise": BaselineInitialiser(),
        "compute_dtype": "float32",
    }
    return GPT(50, 2, 32, 2, 1, 2, embedding=embedding, **(parts | changes))


@pytest.fixture
def composed() -> GPT:
    model = network(bigram=BIGRAM, smear=SmearGate)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model


def test_bigram_before_the_norm_and_smear_after_it(composed):
    ids_BT = torch.randint(0, 50, (2, 9))
    found = []
    composed.blocks[0].register_forward_pre_hook(lambda module, arguments: found.append(arguments))
    composed.hidden(ids_BT)
    (x_BTD, context) = found[0]
    summed = composed.tok_emb.weight[ids_BT] + composed.bigram(ids_BT)
    expected = composed.smear(rms_norm(summed), ids_BT)
    torch.testing.assert_close(x_BTD, expected)
    torch.testing.assert_close(context.x0_BTD, expected)


def test_the_model_stays_causal(composed):
    ids_BT = torch.randint(0, 50, (1, 12), generator=torch.Generator().manual_seed(0))
    changed = ids_BT.clone()
    changed[0, 7] = (changed[0, 7] + 1) % 50
    with torch.no_grad():
        before, after = composed(ids_BT), composed(changed)
    torch.testing.assert_close(before[:, :7], after[:, :7], rtol=0, atol=0)
    assert not torch.allclose(before[:, 7], after[:, 7])
    assert not torch.allclose(before[:, 8], after[:, 8])


def test_names_and_roles(composed):
    roles = roles_of(composed)
    assert roles["tok_emb.weight"] == "embedding"
    assert roles["bigram.embed.weight"] == "table"
    assert roles["bigram.proj.weight"] == "matrix"
    assert roles["bigram.scale"] == "scalar"
    assert roles["smear.gate"] == "gate"


def test_an_addition_that_draws_nothing_leaves_the_other_weights_as_they_are():
    plain, smeared = network().state_dict(), network(smear=SmearGate).state_dict()
    assert set(smeared) - set(plain) == {"smear.gate"}
    assert all(torch.equal(value, smeared[name]) for name, value in plain.items())


def test_table_is_stored_as_asked():
    model = network(partial(TokenEmbedding, table_dtype="bfloat16"), bigram=partial(BIGRAM, table_dtype="bfloat16"))
    assert model.tok_emb.weight.dtype == model.bigram.embed.weight.dtype == torch.bfloat16
    assert model.bigram.proj.weight.dtype == torch.float32
    model(torch.zeros(1, 4, dtype=torch.int64), torch.ones(1, 4, dtype=torch.int64)).backward()


@pytest.mark.parametrize("slope", [0.0, 0.5])
def test_leaky_relu_power_formula(slope):
    torch.manual_seed(0)
    mlp = LeakyReluPower(width=8, hidden=20, slope=slope)
    torch.nn.init.normal_(mlp.proj.weight)
    x_D = torch.randn(8)
    h_F = mlp.fc.weight @ x_D
    expected = mlp.proj.weight @ torch.where(h_F > 0, h_F, slope * h_F) ** 2
    torch.testing.assert_close(mlp(x_D[None, None])[0, 0], expected)


def test_an_attention_that_mixes_in_no_values_is_refused_where_there_are_some():
    class Identity(nn.Module):
        def __init__(self, **sizes):
            super().__init__()

        def forward(self, x_BTD, context, state=None):
            return x_BTD, state

    network(attention=Identity)
    with pytest.raises(UserError, match="type model/values=none"):
        network(attention=Identity, values=ValueEmbedding)
