"""What every part of the model must do, whoever wrote it: options are found in conf/model/*/."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from model_options import MODEL_GROUPS, MODEL_OPTIONS, RUNNABLE, config_of, network, phases
from tiny import options, tiny

from golf.config.build import build
from golf.errors import UserError
from golf.models.roles import ROLES, roles_of

each_option = pytest.mark.parametrize(("group", "option"), RUNNABLE, ids=lambda value: value)
FORWARD_ONLY = [("backend", "flex")]  # no backward pass on CPUs


def test_every_group_is_part_of_the_model():
    assert set(MODEL_GROUPS) <= set(tiny([])["model"])
    assert len(MODEL_GROUPS) >= 19
    assert len(MODEL_OPTIONS) >= 55


@each_option
def test_no_position_sees_a_later_token(group: str, option: str) -> None:
    net = network(config_of(group, option)).eval()
    ids_BT = torch.randint(2, 64, (2, 12))
    changed_BT = ids_BT.clone()
    changed_BT[:, 7:] = (changed_BT[:, 7:] + 1) % 64
    for _ in phases(net):
        with torch.no_grad():
            before, after = net(ids_BT), net(changed_BT)
        assert torch.equal(before[:, :7], after[:, :7])
        assert not torch.equal(before[:, 7:], after[:, 7:])


@each_option
def test_roles_gradients_and_an_optimizer_group_for_each_parameter(group: str, option: str) -> None:
    """In the last phase every parameter that is trained has a finite gradient that is not zero."""
    config = config_of(group, option)
    net = network(config)
    ids_BT = torch.randint(2, 64, (2, 33))
    if (group, option) in FORWARD_ONLY:
        with pytest.raises(UserError, match="type model/backend=sdpa"):
            net(ids_BT)
        return
    net(ids_BT[:, :-1], ids_BT[:, 1:]).backward()
    trained = {name: parameter for name, parameter in net.named_parameters() if parameter.requires_grad}
    roles = roles_of(net)
    assert sorted(roles) == sorted(name for name, _ in net.named_parameters())
    assert set(roles.values()) <= set(ROLES)
    for name, parameter in trained.items():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name
    routed = [name for group_ in build(config["optim"])(net).param_groups for name in group_["names"]]
    assert sorted(routed) == sorted(trained)


@each_option
def test_same_seed_same_weights(group: str, option: str) -> None:
    states = [network(config_of(group, option), awake=False, seed=3).state_dict() for _ in range(2)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@each_option
def test_suffix_losses_are_those_of_the_whole(group: str, option: str) -> None:
    """What sliding evaluation uses; scores never contain what only training has (z-loss, further heads)."""
    net = network(config_of(group, option)).eval()
    ids_BT = torch.randint(2, 64, (2, 17))
    inputs_BT, targets_BT = ids_BT[:, :-1], ids_BT[:, 1:]
    with torch.no_grad():
        whole_BT = net(inputs_BT, targets_BT, reduction="none")
        expected_BT = -net(inputs_BT).log_softmax(-1).gather(-1, targets_BT[..., None])[..., 0]
        torch.testing.assert_close(whole_BT, expected_BT, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(net.nll_suffix(inputs_BT, targets_BT, 9), whole_BT[:, 9:], atol=1e-5, rtol=1e-5)


def test_fa3_says_what_to_type_where_it_is_absent() -> None:
    try:
        import flash_attn_interface  # type: ignore[import-not-found]  # noqa: F401
    except ImportError:
        with pytest.raises(UserError, match="type model/backend=sdpa"):
            network(config_of("backend", "fa3"))
    else:
        pytest.skip("FlashAttention-3 is installed")


@pytest.mark.parametrize("option", options("model/objective"))
@pytest.mark.parametrize("quant", ["int8_rows", "none"])
def test_export_leaves_out_what_only_training_has(option: str, quant: str, tmp_path: Path) -> None:
    """The artifact has no train-only tensor, describes a network without them, and scores like the trained one."""
    from golf.codec.artifact import pack, read_artifact
    from golf.loading import open_artifact
    from golf.models.exported import exported_network, exported_state, load_exported

    config = config_of("objective", option, f"quant={quant}")
    net = network(config).eval()
    left_out = set(net.train_only_names())
    assert left_out == {name for name, _ in net.named_parameters() if name.startswith("objective.")}
    assert bool(left_out) == (option == "multi_token")
    state = exported_state(net, net.state_dict())
    assert set(state) == set(net.state_dict()) - left_out
    quantised = build(config["quant"]).quantise(state, roles_of(net))
    path = tmp_path / "model.golf"
    pack(path, quantised, exported_network(config["model"]), {"kind": "none"}, build(config["codec"]))
    packed = read_artifact(path).quantised.dequantise()
    assert set(packed) == set(state)
    opened = open_artifact(path)[0].eval()
    load_exported(net, packed)
    ids_BT = torch.randint(2, 64, (2, 17))
    with torch.no_grad():
        scores = [model(ids_BT[:, :-1], ids_BT[:, 1:], reduction="none") for model in (opened, net)]
    assert torch.equal(*scores)
