"""Forecast of the artifact against the published size, for every record experiment, from the configuration alone.

    python benchmarks/size_forecast.py      (about ten minutes on one core; writes results/size_forecast.json)

The published bytes include the record's own code (15 to 100 kB), the forecast is of the artifact alone; where golf's
experiment stands in for a record's quantiser or codec (its YAML says so), the two differ for that reason too. Not a
blind test: that Muon's momentum sets the deviation of weights (golf/size/prior.py) was learned from these records;
the constant in that rule is from golf's demo.
"""

import datetime
import json
import platform
import statistics
from pathlib import Path

import torch

from golf.size.plan import composed, plan_of

ROOT = Path(__file__).resolve().parents[1]


def forecast(name: str) -> dict:
    """One record: bytes forecast and published, and the difference in percent."""
    config, option = composed([f"experiment=record/{name}", "hardware=h100x8"])
    config["hardware"]["threads"] = 1
    plan = plan_of(config, option, None)
    artifact, published = plan["artifact_bytes"], plan["published_bytes"]
    percent = round(100 * (artifact / published - 1), 2)
    return {"codec": plan["codec"], "forecast": artifact, "published": published, "percent": percent}


def summarised(found: dict[str, dict]) -> dict:
    errors = sorted(abs(row["percent"]) for row in found.values())
    return {
        "what": "artifact forecast before training against published artifact + code, without past runs",
        "command": "python benchmarks/size_forecast.py",
        "date": datetime.date.today().isoformat(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "median_absolute_percent": statistics.median(errors),
        "largest_absolute_percent": errors[-1],
        "within_one_percent": sum(error <= 1 for error in errors),
        "records": found,
    }


def main() -> None:
    torch.set_num_threads(1)
    found = {}
    for path in sorted((ROOT / "conf" / "experiment" / "record").glob("*.yaml")):
        found[path.stem] = forecast(path.stem)
        print(path.stem, found[path.stem], flush=True)
    result = ROOT / "benchmarks" / "results" / "size_forecast.json"
    result.write_text(json.dumps(summarised(found), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
