"""How long `golf doctor` takes: looking at a machine and at a run (at most 60 s), and the dry run of every stage.

    python benchmarks/doctor.py               (looking, three commands; exit 1 if one is over 60 s)
    python benchmarks/doctor.py --dry-run     (also the dry run of experiment=smoke and of experiment=baseline in small)

Wall and CPU seconds of the whole command, processes that it starts included, written to benchmarks/results/doctor.json.
"""

import argparse
import datetime
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

LIMIT_SECONDS = 60.0
LOOKING = {
    "machine": ["--no-dry-run"],
    "baseline": ["--no-dry-run", "experiment=baseline", "hardware=cpu"],
    "record": ["--no-dry-run", "experiment=record/0427_lqer_sparse_gate_hp", "hardware=cpu", "model/backend=sdpa"],
}
DRY_RUNS = {
    "smoke, full shape": ["--full", "experiment=smoke", "hardware=cpu"],
    "baseline, tiny": ["--tiny", "experiment=baseline", "hardware=cpu"],
}


def measured(arguments, folder):
    """Seconds of one command in an empty folder, and how many lines it gave by status."""
    command = [sys.executable, "-m", "golf.cli", "doctor", "--json", *arguments]
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, check=False, text=True, timeout=3600)
    seconds, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    checks = json.loads(done.stdout)["checks"]
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    count = {status: sum(line["status"] == status for line in checks) for status in ("ok", "warn", "fail")}
    return {"arguments": " ".join(arguments), "seconds": round(seconds, 1), "cpu_seconds": round(cpu, 1), **count}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true")
    arguments = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, words in (LOOKING | (DRY_RUNS if arguments.dry_run else {})).items():
            found[name] = measured(words, folder)
            print(f"{name}: {found[name]}", flush=True)
    slow = [name for name in LOOKING if found[name]["seconds"] > LIMIT_SECONDS]
    result = {
        "command": "python benchmarks/doctor.py" + " --dry-run" * arguments.dry_run,
        "date": datetime.date.today().isoformat(),
        "hardware": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "limit_seconds": LIMIT_SECONDS,
        "measured": found,
    }
    path = Path(__file__).parent / "results" / "doctor.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"over {LIMIT_SECONDS:.0f} s: {', '.join(slow)}" if slow else f"all within {LIMIT_SECONDS:.0f} s")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
