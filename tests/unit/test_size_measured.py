"""`plan.*`: a measured step time becomes steps, hours and dollars, and says what it rests on."""

from __future__ import annotations

import json

import pytest
from omegaconf import OmegaConf

from golf.errors import UserError
from golf.pipeline.run_folder import RUN_VERSION
from golf.size.measured import PlanSettings, measured_step, split_settings
from golf.size.show import training_text
from golf.size.speed import step_seconds, training_forecast

BUDGET = {"max_steps": 0, "max_tokens": 0, "max_seconds": 600.0, "reserve_seconds": 0.0, "evaluation_seconds": 600.0}
CONFIG = {
    "data": {"tokens_per_step": 524288},
    "hardware": {"devices": 8, "accelerator": "cuda", "time_scale": 1.0},
    "budget": BUDGET,
    "trainer": {"val_check_steps": 0},
    "model": {},
}


def run_folder(path, accelerator="cuda", devices=1, step_ms: float | None = 348.0):
    config = {"run_version": RUN_VERSION, "seed": 1, "data": {"tokens_per_step": 524288}}
    path.mkdir()
    OmegaConf.save({**config, "hardware": {"devices": devices, "accelerator": accelerator}}, path / "config.yaml")
    summary = {"step_ms_p50": step_ms, "hardware": "1 x NVIDIA H100", "train_tokens": 100, "flops": 100 * 2.0e8}
    (path / "summary.json").write_text(json.dumps(summary))
    return str(path)


def test_a_given_step_time_becomes_steps_hours_and_dollars():
    settings, rest = split_settings(["experiment=baseline", "plan.step_ms=43.5", "plan.price_per_gpu_hour=2"])
    assert rest == ["experiment=baseline"]
    step = measured_step(settings, CONFIG, "h100x8", 1e8)
    found = training_forecast(CONFIG, "h100x8", step, None, settings.price_per_gpu_hour).as_dict()
    assert (found["steps"], found["tokens"]) == (13793, 13793 * 524288)
    assert found["gpu_hours"] == pytest.approx(13793 * 0.0435 * 8 / 3600)
    assert found["cost"] == pytest.approx(2 * found["gpu_hours"])
    assert found["cost_with_evaluation"] == pytest.approx(found["cost"] + 2 * 8 / 6)
    lines = training_text({**found, "hardware": "h100x8"})
    assert lines[0].startswith("projection  13,793 steps, 7,231,504,384 tokens, 600 s (43.5 ms per step)")
    assert lines[1].strip() == "step time given: plan.step_ms=43.5"
    assert "$2.67 at $2 per GPU-hour (given)" in lines[2]


def test_a_run_gives_its_step_in_proportion_to_devices_and_work(tmp_path):
    settings = PlanSettings(run=run_folder(tmp_path / "one"))
    seconds, source = measured_step(settings, CONFIG, "h100x8", 4e8)
    assert seconds == pytest.approx(0.348 * 2 / 8)
    assert source.startswith("measured: 348.0 ms in run ")
    assert "times 2 for the FLOPs of the step" in source
    assert "times 1/8 for the devices as if they scaled perfectly" in source


def test_a_record_on_fewer_devices_has_its_own_steps_in_proportion():
    config = {**CONFIG, "published": {"steps": 4931}, "hardware": {**CONFIG["hardware"], "devices": 1}}
    seconds, source = step_seconds(config, "h100x1", 1e8, [], None)
    assert seconds == pytest.approx(8 * 600 / 4931)
    assert source == "published: this record's own steps, times 8/1 for the devices as if they scaled perfectly"


def test_a_speedrun_and_a_slowrun_are_named():
    budget = {**BUDGET, "max_tokens": 10**9, "target_loss": 3.28, "target_check_steps": 125, "unique_tokens": 10**8}
    ends = training_forecast({**CONFIG, "budget": budget}, "h100x8", (0.05, "given")).ends
    assert ends.startswith("ends sooner at validation loss 3.28, looked at every 125 steps")
    assert ends.endswith("trains on the first 100,000,000 tokens of the split: 10 passes")


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["plan.stepms=3"], "golf plan has no plan.stepms; nearest: step_ms"),
        (["plan.step_ms=fast"], "plan.step_ms=fast: a number above 0 is expected; type plan.step_ms=121.6"),
        (["plan.step_ms=0"], "a number above 0 is expected"),
        (["plan.step_ms=3", "plan.run=x"], "two sources of one step time"),
    ],
)
def test_wrong_settings_are_one_line(overrides, line):
    with pytest.raises(UserError) as error:
        split_settings(overrides)
    assert line in str(error.value)


def test_a_run_that_says_nothing_about_the_machine_is_refused(tmp_path):
    for path, words in (
        (run_folder(tmp_path / "cpu", accelerator="cpu"), "which says nothing about hardware=h100x8"),
        (run_folder(tmp_path / "none", step_ms=None), "has no step times"),
        (str(tmp_path / "nowhere"), "is not a run folder"),
    ):
        with pytest.raises(UserError, match=words):
            measured_step(PlanSettings(run=path), CONFIG, "h100x8", 1e8)
