"""Leave one out: every part goes back to the parent's value alone, all of them together are the parent."""

from __future__ import annotations

import pytest

from golf.config.ablation import NOT_A_PART, expanded, parts, without_part
from golf.config.command import check_command
from golf.config.compose import Composer
from golf.errors import UserError
from golf.runs.diff import keys_that_differ

CHILD, PARENT = "record/0322_ema_gptq_lite", "record/0321_partial_rope_late_qat"
PATTERNS = "frontier", "record/0427_lqer_sparse_gate_hp"  # differ in plans whose keys have dots in them


@pytest.fixture(scope="module")
def composer():
    return Composer("train")


@pytest.fixture(scope="module", params=[(CHILD, PARENT), PATTERNS], ids=lambda names: names[0])
def pair(composer, request):
    child, parent = request.param
    own = composer.compose([f"experiment={child}", f"parent={parent}"])
    return own, composer.compose([f"experiment={parent}"])


def test_parts_are_the_groups_that_differ(pair):
    found = parts(*pair)
    assert "quant" in found
    assert {"model/values", "schedule"} <= set(found) or {"qat", "average"} <= set(found)
    assert not set(found) & set(NOT_A_PART)


def test_one_part_goes_back_and_nothing_else(pair):
    own, parent = pair
    for part, items in parts(own, parent).items():
        changed = without_part(own, parent, part)
        assert {item.key for item in keys_that_differ(own, changed)} == {item.key for item in items}
        assert part not in parts(changed, parent)


def test_all_parts_together_are_the_parent(pair):
    own, parent = pair
    changed = own
    for part in parts(own, parent):
        changed = without_part(changed, parent, part)
    assert not parts(changed, parent)


def test_a_mapping_that_the_parent_lacks_goes_away(composer):
    own = composer.compose(["experiment=demo", "parent=baseline", "ablate=data"])
    assert "sources" not in own["data"]
    assert own["data"]["_target_"].endswith("FinewebShards")


def test_the_sweep_tries_each_part(composer):
    overrides = ["sweep=ablate", f"experiment={CHILD}", f"parent={PARENT}", "seed=1,2"]
    found = expanded(composer, overrides)
    assert found[:-1] == overrides
    assert found[-1].startswith("ablate=null,")
    assert "model/values" in found[-1].split(",")
    assert expanded(composer, [*overrides, "ablate=quant"])[-1] == "ablate=quant"
    assert expanded(composer, ["experiment=demo"]) == ["experiment=demo"]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["sweep=ablate", "experiment=demo"], "names no parent; put parent:"),
        (["sweep=ablate", "experiment=demo,smoke"], "takes one experiment at a time"),
        (["sweep=ablate", "experiment=demo", "parent=demo"], "does not differ from its parent demo"),
    ],
)
def test_sweeps_that_cannot_be_made(composer, overrides, words):
    with pytest.raises(UserError, match=words):
        expanded(composer, overrides)


def test_a_part_that_is_none_is_refused_before_anything_runs():
    with pytest.raises(UserError, match=r"ablate=optm: not a difference from the parent baseline; nearest: optim"):
        check_command("train", ["experiment=demo", "parent=baseline", "ablate=optm"])
    with pytest.raises(UserError, match="type -m sweep=ablate"):
        check_command("train", ["experiment=demo", "parent=baseline", "ablate=all"])
