"""Forecasts of the artifact's size: before training for every record experiment, and during a short training.

    python benchmarks/size_forecast.py             (ten minutes on one core, then two short trainings)
    python benchmarks/size_forecast.py --records   (only the records)      --training   (only the trainings)

Writes results/size_forecast.json; a part that was not asked for stays as it was.

Records: the artifact forecast by `golf plan` from the configuration alone, against the published size. The published
bytes include the record's own code (15 to 100 kB), the forecast is of the artifact alone; where golf's experiment
stands in for a record's quantiser or codec (its YAML says so), the two differ for that reason too. Not a blind test:
that Muon's momentum sets the deviation of weights (golf/size/prior.py) was learned from these records; the constant in
that rule is from golf's demo.

Training: the demo's network, `golf plan` without past runs and with one (another seed, half as long), and
callbacks=size_forecast eight times, against the file that was packed in the end.
"""

import argparse
import datetime
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from golf.size.plan import composed, plan_of

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "size_forecast.json"
FORECASTS = 8
EXPERIMENT = ["experiment=demo", "hardware.compile=false", "hardware.threads=1"]
TRAININGS = {
    "int8_rows + zlib": [],
    "int6_deviation_rows + brotli": ["quant=int6_rows", "quant.matrix=int6_deviation_rows", "codec=brotli"],
}


def forecast(name: str) -> dict:
    """One record: bytes forecast and published, and the difference in percent."""
    config, option = composed([f"experiment=record/{name}", "hardware=h100x8"])
    config["hardware"]["threads"] = 1
    plan = plan_of(config, option, None)
    artifact, published = plan["artifact_bytes"], plan["published_bytes"]
    return {"codec": plan["codec"], "forecast": artifact, "published": published, "percent": off(artifact, published)}


def off(forecast_bytes: int, real_bytes: int) -> float:
    """How far a forecast is from the real size, in percent of it."""
    return round(100 * (forecast_bytes / real_bytes - 1), 2)


def records() -> dict:
    """Every record experiment, and how far off they are."""
    found = {}
    for path in sorted((ROOT / "conf" / "experiment" / "record").glob("*.yaml")):
        found[path.stem] = forecast(path.stem)
        print(path.stem, found[path.stem], flush=True)
    errors = sorted(abs(row["percent"]) for row in found.values())
    return {
        "what": "artifact forecast before training against published artifact + code, without past runs",
        **stamp("python benchmarks/size_forecast.py --records"),
        "median_absolute_percent": statistics.median(errors),
        "largest_absolute_percent": errors[-1],
        "within_one_percent": sum(error <= 1 for error in errors),
        "records": found,
    }


def training(overrides: list[str], tokens: int) -> dict:
    """A short run: the forecasts before and during it, and what was packed; before it, a past run half as long."""
    with tempfile.TemporaryDirectory() as temporary:
        library = Path(temporary) / "runs"
        trained(library / "demo" / "past", [*overrides, f"budget.max_tokens={tokens // 2}", "seed=1"])
        overrides = [*overrides, f"budget.max_tokens={tokens}"]
        config, option = composed([*EXPERIMENT, *overrides])
        alone, refined = (plan_of(config, option, runs)["artifact_bytes"] for runs in (None, library))
        steps = tokens // config["data"]["tokens_per_step"]
        callback = ["callbacks=size_forecast", f"callbacks.size_forecast.every_steps={steps // FORECASTS}"]
        run = library / "demo" / "run"
        trained(run, [*overrides, *callback])
        packed = json.loads((run / "summary.json").read_text())["artifact_bytes"]
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    during = [
        {"fraction": round(line["step"] / steps, 3), "forecast": size, "percent": off(size, packed)}
        for line in lines
        if (size := line.get("size/artifact_bytes"))
    ]
    return {
        "overrides": [*EXPERIMENT, *overrides],
        "before_training": {"forecast": alone, "percent": off(alone, packed)},
        "before_training_with_a_past_run_half_as_long": {"forecast": refined, "percent": off(refined, packed)},
        "during_training": during,
        "packed": packed,
    }


def trained(run: Path, overrides: list[str]) -> None:
    """Train and pack into a folder."""
    where = ["eval=none", "through=pack", "trainer.val_check_steps=0", f"hydra.run.dir={run}"]
    subprocess.run([sys.executable, "train.py", *EXPERIMENT, *overrides, *where], check=True, cwd=ROOT)


def stamp(command: str) -> dict:
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    return {"command": command, "date": datetime.date.today().isoformat(), "versions": versions}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", action="store_true")
    parser.add_argument("--training", action="store_true")
    parser.add_argument("--tokens", type=int, default=409_600, help="of the trainings")
    asked = parser.parse_args()
    both = asked.records == asked.training
    torch.set_num_threads(1)
    kept = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {}
    during = kept.pop("training", None)
    found = records() if both or asked.records else kept
    if both or asked.training:
        what = "forecasts before and during a short training of the demo's network against the packed artifact"
        runs = {name: training(overrides, asked.tokens) for name, overrides in TRAININGS.items()}
        during = {
            "what": what,
            **stamp(f"python benchmarks/size_forecast.py --training --tokens {asked.tokens}"),
            "runs": runs,
        }
    RESULT.write_text(json.dumps({**found, "training": during}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
