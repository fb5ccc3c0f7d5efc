"""budget=speedrun and budget=slowrun as a user meets them: outcome in log, summary and `golf runs`; exact stop."""

from __future__ import annotations

import json

import pytest
from warm import Warm

from golf.cli import run as golf

SPEEDRUN = ("budget=speedrun", "budget.max_steps=0", "budget.max_tokens=7680", "through=train", "seed=7")


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    server = Warm(tmp_path_factory.mktemp("budgets"))
    yield server
    server.close()


def summary(folder) -> dict:
    return json.loads((folder / "summary.json").read_text())


def losses(folder) -> dict[int, float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["val/loss"] for line in lines if "val/loss" in line}


def test_a_speedrun_ends_at_the_first_validation_at_its_target(warm, capsys):
    """One run without reaching it shows the losses; another with one of them as target stops right there."""
    missed, reached = warm.folder / "missed", warm.folder / "reached"
    code, said = warm.train(missed, *SPEEDRUN, "budget.target_loss=0.5", "budget.target_check_steps=4")
    assert code == 0, said
    seen = losses(missed)
    assert sorted(seen) == [4, 8, 12, 16, 20, 24, 28, 30], "every four steps, and once at the end"
    assert f"target not reached: best validation loss {min(seen.values()):.4f}, wanted 0.5, when the budget" in said
    found = summary(missed)["target"]
    assert (found["reached"], found["checks"], found["best_loss"]) == (False, 8, min(seen.values()))
    assert found["validated_targets"] == 256

    target = (seen[12] + min(value for step, value in seen.items() if step < 12)) / 2
    expected = next(step for step, value in seen.items() if value <= target)
    code, said = warm.train(reached, *SPEEDRUN, f"budget.target_loss={target}", "budget.target_check_steps=4")
    assert code == 0, said
    assert f"target reached: validation loss {seen[expected]:.4f} <= " in said
    found = summary(reached)
    assert (found["steps"], found["target"]["step"]) == (expected, expected)
    assert found["target"]["tokens"] == expected * 256
    assert 0 < found["target"]["seconds"] <= found["train_seconds"]
    assert losses(reached) == {step: value for step, value in seen.items() if step <= expected}

    assert golf(["runs", "list", str(warm.folder)]) == 0
    table = capsys.readouterr().out
    assert "target 0.5 not reached (best " in table
    assert f"target {target:g} in " in table


def test_a_slowrun_repeats_the_first_tokens(warm):
    """The losses of a fixed set of tokens are those of a folder that ends there; too many tokens are one line."""
    run = warm.folder / "slow"
    options = ("budget=slowrun", "budget.max_steps=0", "budget.unique_tokens=1000", "through=train")
    code, said = warm.train(run, *options)
    assert code == 0, said
    found = summary(run)
    assert (found["unique_tokens"], found["train_tokens"], found["passes"]) == (1000, 10240, 10.24)
    code, said = warm.train(warm.folder / "much", *options[:2], "budget.unique_tokens=70000", "through=train")
    assert code == 2
    told = "budget.unique_tokens=70000: the training split has only 60000 tokens; type budget.unique_tokens=60000"
    assert said.splitlines()[-1].startswith(f"golf: {told}")
