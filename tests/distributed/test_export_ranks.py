"""Two gloo processes through train.py: calibration and solves are shared, and the bytes are those of one rank."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from test_ddp import start_two, warm  # noqa: F401

from golf.pipeline.export import export_run
from golf.pipeline.run_folder import open_run_folder

GPTQ = ("quant=int6_gptq", "quant.small_numel=500", "quant.calibration.rows=4", "data.spans_per_step=4")


@pytest.mark.parametrize("batches", [5, 1])  # five are no equal shares, one leaves a rank without any
def test_two_ranks_export_the_bytes_of_one(warm, batches):  # noqa: F811
    folder = warm.folder / f"shared_{batches}"
    options = (*GPTQ, f"quant.calibration.batches={batches}", "budget.max_steps=4", "through=quantise")
    for code, said in [rank.wait() for rank in start_two(warm, folder, *options)]:
        assert code == 0, said
    run = open_run_folder(folder)
    export_run(run, "alone", run.config, "quantise", submission=False)
    two, one = folder / "stages", run.export_root("alone") / "stages"
    shared, single = (json.loads((root / "calibrate/manifest.json").read_text())["result"] for root in (two, one))
    assert (shared["ranks"], single["ranks"]) == (2, 1)
    tokens = batches * 4 * run.config["data"]["seq_len"]
    assert shared["training_tokens_read"] == single["training_tokens_read"] >= tokens
    assert shared["on_training_clock"] is True
    assert shared["collected"] == single["collected"] > 4
    assert (two / "quantise/quantised.golf").read_bytes() == (one / "quantise/quantised.golf").read_bytes()
