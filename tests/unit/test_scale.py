"""Hardware presets: the same tokens per step everywhere, step counts in proportion, and nothing forgotten."""

from __future__ import annotations

import importlib
import inspect
import json
import re

import pytest

from golf.config.check import find
from golf.config.compose import Composer, conf_dir
from golf.config.scaling import DECAYS, STEP_COUNTS, counted, rescaled, scaled_value
from golf.errors import UserError
from golf.training.resolve import spans_per_step

PRESETS = sorted(path.stem for path in (conf_dir() / "hardware").glob("*.yaml"))
FAMILIES = ["baseline", "seq2048", "layers11", "family/march", "family/march_11l", "family/april"]
RECORDS = [
    "record/0319_seq4096",
    "record/0329_loader_full_gptq",
    "record/0409_loop35_parallel",
    "record/0427_smear_lqer",
]
SMALL = ["demo", "smoke"]  # of their own size: one or two spans, so one or two devices
NOT_COUNTS = {  # arguments with "step" or "every" in their name that do not count optimizer steps
    "tokens_per_step", "spans_per_step", "newton_schulz_steps", "first_step_seconds", "grad_steps",
}  # fmt: skip
GROUPS = ("schedule", "average", "qat", "sparsity", "data/order", "model/depth")


@pytest.fixture(scope="module")
def composed():
    composer, known = Composer("train"), {}

    def compose(*overrides: str):
        if overrides not in known:
            known[overrides] = composer.compose(list(overrides))
        return known[overrides]

    return compose


def test_every_preset_of_the_issue_is_there():
    assert set(PRESETS) == {
        *("auto", "cpu", "mac", "gpu24g", "a100", "h100x1", "h100x1_80min", "h100x2", "h100x8"),
    }


@pytest.mark.parametrize("preset", PRESETS)
def test_the_head_of_a_preset_says_what_it_supports(preset, composed):
    head = (conf_dir() / "hardware" / f"{preset}.yaml").read_text().split("_target_")[0]
    supports = composed(f"hardware={preset}")["hardware"]["supports"]
    assert supports
    assert f"# Supports: {supports}.\n" in head


@pytest.mark.parametrize("experiment", [*FAMILIES, *RECORDS, *SMALL])
def test_tokens_per_optimizer_step_are_the_same_on_every_preset(experiment, composed):
    """devices × micro-steps × tokens of a micro-step is the global batch, within the memory of a device."""
    data = composed(f"experiment={experiment}")["data"]
    for preset in PRESETS:
        hardware = composed(f"hardware={preset}")["hardware"]
        if data["spans_per_step"] % hardware["devices"]:
            assert experiment in SMALL
            with pytest.raises(UserError, match="cannot share"):  # refused, never another batch
                spans_per_step(data, hardware)
            continue
        spans = spans_per_step(data, hardware)
        micro_steps, rest = divmod(spans, hardware["devices"])
        tokens, uneven = divmod(data["tokens_per_step"], spans)
        assert (rest, uneven) == (0, 0)
        assert hardware["devices"] * micro_steps * tokens == data["tokens_per_step"]
        assert not hardware["micro_batch_tokens"] or tokens <= hardware["micro_batch_tokens"]


def test_a_preset_changes_nothing_of_the_data(composed):
    """What the test above takes apart holds together: a preset's file reaches into `hardware` only."""
    reference = composed("experiment=baseline")["data"]
    for preset in PRESETS:
        assert composed("experiment=baseline", f"hardware={preset}")["data"] == reference


def test_values_that_count_steps_follow_the_steps(composed):
    """One H100 makes an eighth of the steps in the same time: an eighth of each count, the horizon too."""
    whole = composed("experiment=family/april", "hardware=h100x8", "schedule.lr.warmup_steps=400", "average=ema")
    eighth = composed("experiment=family/april", "hardware=h100x1", "average=ema")
    assert whole["hardware"]["step_scale"] == 1
    assert eighth["hardware"]["step_scale"] == 0.125
    assert (whole["schedule"]["momentum"]["steps"], eighth["schedule"]["momentum"]["steps"]) == (1500, 188)
    horizons = [1 / (1 - config["average"]["decay"]) for config in (whole, eighth)]
    assert horizons[1] == pytest.approx(horizons[0] / 8)
    assert eighth["budget"]["max_seconds"] == 600
    warmdown = [composed("experiment=baseline", f"hardware={preset}") for preset in ("h100x8", "h100x2", "h100x1")]
    assert [config["schedule"]["lr"]["warmdown_steps"] for config in warmdown] == [1200, 300, 150]


def test_eighty_minutes_of_one_h100_are_ten_of_eight(composed):
    """Same steps, tokens and step counts; every clock eight times as long, the seconds in reserve too."""
    record = "experiment=record/0329_loader_full_gptq"
    eight, one = composed(record, "hardware=h100x8"), composed(record, "hardware=h100x1_80min")
    assert one["hardware"]["step_scale"] == 1
    for group in ("schedule", "average", "data", "optim", "model", "qat"):
        assert one[group] == eight[group]
    clocks = ("max_seconds", "reserve_seconds", "evaluation_seconds")
    assert [one["budget"][name] for name in clocks] == [4800, 112, 4800]
    assert [eight["budget"][name] for name in clocks] == [600, 14, 600]
    assert one["eval"]["limit_seconds"] == 8 * eight["eval"]["limit_seconds"]
    speed = {name: config["hardware"]["relative_speed"] for name, config in (("eight", eight), ("one", one))}
    trained = [
        speed[name] * (config["budget"]["max_seconds"] - config["budget"]["reserve_seconds"])
        for name, config in (("eight", eight), ("one", one))
    ]
    assert trained[0] == trained[1]  # steps in proportion to speed and time: the same tokens


@pytest.mark.parametrize("budget", ["budget=steps", "budget=tokens"])
def test_where_steps_or_tokens_end_a_run_hardware_changes_no_count(budget, composed):
    one, eight = (composed("experiment=family/april", budget, f"hardware={name}") for name in ("h100x1", "h100x8"))
    assert one["hardware"]["step_scale"] == 1
    assert (one["schedule"], one["average"]) == (eight["schedule"], eight["average"])


def test_what_is_typed_stays_as_typed(composed):
    typed = composed("experiment=baseline", "hardware=h100x1", "schedule.lr.warmdown_steps=900")
    assert typed["schedule"]["lr"]["warmdown_steps"] == 900
    assert typed["schedule"]["momentum"]["steps"] == 62
    longer = composed("experiment=baseline", "hardware=h100x1", "budget.max_seconds=4800")
    assert (longer["hardware"]["step_scale"], longer["schedule"]["lr"]["warmdown_steps"]) == (1, 1200)
    assert (
        composed("experiment=baseline", "hardware=h100x1_80min", "budget.max_seconds=300")["budget"]["max_seconds"]
        == 300
    )
    off = composed("experiment=baseline", "hardware=h100x1", "hardware.step_scale=1")
    assert off["schedule"]["lr"]["warmdown_steps"] == 1200


def test_counts_stay_counts_and_decays_stay_decays():
    assert scaled_value(3, False, 0.001) == 1
    assert scaled_value(0.997, True, 0.0001) == 0.0
    assert scaled_value(0.997, True, 2.0) == pytest.approx(0.9985)


def test_a_decay_of_any_average_is_scaled(composed):
    """By group, so that an average from outside is scaled like golf's own."""
    for option in ("ema", "search"):
        found = composed("experiment=baseline", f"average={option}", "average.decay=0.99", "hardware.step_scale=0.5")
        assert found["average"]["decay"] == 0.99  # typed
    recipe = composed("experiment=record/0427_lqer_sparse_gate_hp", "hardware.step_scale=0.1", "average=search")
    assert recipe["average"]["decay"] == pytest.approx(1 - 0.0035 / 0.1)


def test_the_input_is_left_alone(composed):
    config = composed("experiment=baseline")
    before = json.dumps(config)
    rescaled({**config, "hardware": {**config["hardware"], "relative_speed": 0.5, "step_scale": None}})
    assert json.dumps(config) == before


def test_no_argument_that_counts_steps_is_forgotten():
    """Every `_target_` of the groups whose values follow the steps: such arguments are scaled, or are listed here."""
    from golf.config.catalogue import options

    targets, averages = set(), set()
    for group in GROUPS:
        for option in options([conf_dir()]).get(group, []):
            found = set(re.findall(r"_target_: (golf\.[\w.]+)", option.path.read_text()))
            targets |= found
            averages |= found if group in DECAYS else set()
    assert {"golf.optim.averaging.Ema", "golf.optim.schedules.LinearRamp"} <= targets
    for target in sorted(targets):
        module, _, name = target.rpartition(".")
        arguments = inspect.signature(getattr(importlib.import_module(module), name)).parameters
        counts = {a for a in arguments if re.search(r"step|every|^decay$", a)} - NOT_COUNTS
        decays = {"decay"} if target in averages else set()  # those are found by their group, whatever has them
        assert counts - decays == set(STEP_COUNTS.get(target, ())), target


def test_every_listed_argument_is_met_in_conf(composed):
    met = {node["_target_"] for name in ("family/april", "baseline") for _, node, _ in counted(
        composed(f"experiment={name}", "average=ema", "average.decay=0.99")
    )}  # fmt: skip
    assert {"golf.optim.averaging.Ema", "golf.optim.schedules.WarmdownSteps"} <= met


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            ["hardware.relative_speed=0"],
            "hardware.relative_speed=0 must be above 0; type hardware.relative_speed=0.125",
        ),
        (["hardware.time_scale=-1", "budget=steps"], "hardware.time_scale=-1 must be above 0"),
        (["hardware.step_scale=0"], "hardware.step_scale=0 must be above 0; type hardware.step_scale=1"),
        (["hardware.rank_timeout_seconds=0.1"], "must be at least 1, or 0 = wait for ever"),
        (["budget=speedrun", "budget.target_loss=-3"], "budget.target_loss=-3 must be above 0 nats per token"),
        (["budget=speedrun", "eval=none"], "eval=none looks at no validation loss; type eval=contiguous"),
        (["budget=speedrun", "budget.max_tokens=0"], "schedules need an end that comes anyway"),
        (["budget=speedrun", "budget.target_check_steps=0"], "budget.target_check_steps=0 must be at least 1"),
        (["budget=speedrun", "trainer.limit_val_batches=0"], "limit_val_batches=0 never validates"),
        (["budget=slowrun", "budget.unique_tokens=100"], "is less than one window of data.seq_len=1024 + 1"),
    ],
)
def test_wrong_input_is_one_line(overrides, line, composed):
    found = [text for text in find(composed(*overrides)).errors if line in text]
    assert len(found) == 1
    assert "\n" not in found[0]
