"""Networks of upstream artifacts: what the file does not say is asked for in one line, then the losses agree."""

import json
import sys
from pathlib import Path

import brotli
import pytest
import torch

from golf.config.build import build
from golf.errors import UserError
from golf.interop.upstream import build_upstream_model
from golf.interop.upstream_artifact import node_of_artifact
from golf.loading import open_upstream
from golf.rules.audit import audit
from golf.rules.profile import load_profile
from golf.rules.subject import open_subject
from golf.rules.upstream import told_of_upstream

sys.path.insert(0, str(Path(__file__).parent))
from ptz_files import saved

D, VOCAB, SETTINGS = 32, 48, {"num_heads": 4, "xsa_last_n": 1, "rope_dims": 4, "ln_scale": True, "embed_bits": 7}
TOLD = {"mlp_power": 2, "logit_softcap": 30.0, "rope_base": 10000.0, "compute_dtype": "float32"}
TOLD |= {"experiment": None, "settings": None}


def record_state(smear: bool = False) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"tok_emb.weight": (VOCAB, D), "skip_weights": (1, D)}
    for layer in range(2):
        block = {"attn.c_q.weight": (D, D), "attn.c_k.weight": (D // 2, D), "attn.c_v.weight": (D // 2, D)}
        block |= {"attn.proj.weight": (D, D), "attn.q_gain": (4,), "attn_scale": (D,), "mlp_scale": (D,)}
        block |= {"resid_mix": (2, D), "mlp.fc.weight": (2 * D, D), "mlp.proj.weight": (D, 2 * D)}
        shapes |= {f"blocks.{layer}.{name}": shape for name, shape in block.items()}
    if smear:
        shapes |= {"smear_gate.weight": (1, 12), "smear_lambda": (1,)}
    return {name: (torch.randn(shape, generator=generator) / 4).half() for name, shape in shapes.items()}


def record_file(path: Path, state: dict[str, torch.Tensor]) -> Path:
    document = {"w": state, "m": dict.fromkeys(state, "passthrough (float16)")}
    path.write_bytes(brotli.compress(saved(document), quality=3))
    return path


def losses(net: torch.nn.Module) -> torch.Tensor:
    tokens = torch.randint(2, VOCAB, (2, 33), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return net.eval()(tokens[:, :-1], tokens[:, 1:], reduction="none")


def test_settings_in_the_command_or_in_a_file_rebuild_the_network(tmp_path):
    path = record_file(tmp_path / "final_model.int6.ptz", record_state())
    settings = {key: value for key, value in SETTINGS.items() if key != "embed_bits"}
    expected = losses(build_upstream_model({k: v.float() for k, v in record_state().items()}, settings))
    (tmp_path / "settings.json").write_text(json.dumps({"model": SETTINGS}))
    for given in (SETTINGS, str(tmp_path / "settings.json")):
        net, identity = open_upstream(path, {**TOLD, "settings": given})
        assert identity == {}
        assert torch.equal(losses(net), expected)
    other = losses(open_upstream(path, {**TOLD, "settings": {**SETTINGS, "xsa_last_n": 0}})[0])
    assert not torch.allclose(other, expected)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({}, "does not say how its blocks are wired: type upstream.experiment=record/"),
        ({"settings": {**SETTINGS, "warp_drive": 9}}, "warp_drive=9"),
        ({"settings": "nowhere.json"}, "nowhere.json is not a JSON file"),
        ({"settings": SETTINGS, "experiment": "record/0405_sp8192_sdclip"}, "type one of them"),
        ({"experiment": "record/0405_sp8192_sdclip"}, "is missing|this network needs"),
    ],
)
def test_what_is_missing_is_said_in_one_line(told, message, tmp_path):
    path = record_file(tmp_path / "final_model.int6.ptz", record_state())
    with pytest.raises(UserError, match=message) as caught:
        open_upstream(path, {**TOLD, **told})
    assert "\n" not in str(caught.value)


def test_the_mask_of_a_smear_gate_has_to_be_told(tmp_path):
    path = record_file(tmp_path / "final_model.int6.ptz", record_state(smear=True))
    with pytest.raises(UserError, match=r"add smear: \{bos_mask: true\}"):
        open_upstream(path, {**TOLD, "settings": SETTINGS})
    net, _ = open_upstream(path, {**TOLD, "settings": {**SETTINGS, "smear": {"bos_mask": True}}})
    assert torch.isfinite(losses(net)).all()


def test_an_experiment_gives_its_own_network_for_the_vocabulary_of_the_file():
    told = {**TOLD, "experiment": "record/0405_sp8192_sdclip"}
    node = node_of_artifact(Path("x.ptz"), {"tok_emb.weight": (1024, 512)}, "record", told)
    with torch.device("meta"):
        net = build(node)
    assert net.state_dict()["tok_emb.weight"].shape == (1024, 512)
    assert node["compute_dtype"] == "float32"


def test_a_records_file_is_audited(tmp_path):
    """The referee watches it as it watches golf's own; what the file does not say is asked for."""
    path = record_file(tmp_path / "final_model.int6.ptz", record_state())
    rules = ("L1", "L2", "L3", "L5", "L6", "L7", "L13")
    told = open_subject(path, upstream=told_of_upstream([f"settings={json.dumps(SETTINGS)}"]))
    report = audit(told, load_profile("strict"), rules)
    assert {entry["outcome"] for entry in report["rules"]} == {"pass"}
    (untold,) = audit(open_subject(path), load_profile("strict"), ["L1"])["rules"]
    assert untold["outcome"] == "cannot tell"
    assert "type --upstream experiment=record/<its record>" in untold["reason"]
