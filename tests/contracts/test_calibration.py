"""What calibration promises for every option of the model: a Hessian per matrix, text written step by step."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from model_options import RUNNABLE, config_of, network
from tiny import records, tiny

from golf.config.build import build
from golf.models.roles import roles_of
from golf.quant.hessian import collect_hessians
from golf.quant.self_generated import Place, generate_tokens, position_by_position, runs_position_by_position

# The projection that embeds is no linear map of its own: it is rounded without a Hessian. Objectives are not exported.
WITHOUT = {"tok_emb.up.weight"}


@pytest.mark.parametrize(("group", "option"), [pair for pair in RUNNABLE if pair != ("backend", "flex")])
def test_every_matrix_has_a_hessian_and_text_is_written_position_by_position(group: str, option: str) -> None:
    net = network(config_of(group, option)).eval()
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    assert runs_position_by_position(net)
    kept, again = (
        generate_tokens(net, 2, 16, 0.8, torch.Generator().manual_seed(1), remember) for remember in (True, False)
    )
    assert torch.equal(kept, again)
    hessians = collect_hessians(net, [kept])
    exported = set(roles_of(net)) - set(net.train_only_names()) - WITHOUT
    wanted = {name for name in exported if roles_of(net)[name] in ("matrix", "embedding", "head")}
    assert wanted <= set(hessians)
    shapes = dict(net.named_parameters())
    for name, hessian in hessians.items():
        assert hessian.shape == (shapes[name].shape[1],) * 2
        assert torch.equal(hessian, hessian.T) or torch.allclose(hessian, hessian.T)
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())
    assert "embed" not in vars(net)  # put back as it was


@pytest.mark.parametrize("record", ["0325", "0331", "0409_loop35"])
def test_cached_logits_are_those_of_whole_passes_in_whole_records(record: str) -> None:
    """A graph of March and one of April, all their parts together, in the last depth phase."""
    found = next(name for name in records() if name.startswith(record))
    net = build(tiny([f"experiment=record/{found}"], layers=None)["model"]).eval()
    net.phase = len(net.plan.phases) - 1
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(
                0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
            )
    tokens_BT = torch.randint(0, net.vocab_size, (2, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = net.logits(net.hidden(tokens_BT))
        place, rows = Place(12), []
        with position_by_position(net, place, tokens_BT):
            for place.start in range(12):
                rows.append(net.logits(net.hidden(tokens_BT[:, place.start : place.start + 1])))
    assert torch.allclose(torch.cat(rows, dim=1).float(), expected.float(), atol=2e-4)
