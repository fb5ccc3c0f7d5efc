"""Does the leaderboard's order hold at a small scale, and what is `frontier` worth against its parent there?

    golf data retokenise docs.jsonl --val val.jsonl --tokenizer fineweb_1024_bpe.model --out data/datasets/study_sp1024
    golf data retokenise docs.jsonl --val val.jsonl --tokenizer fineweb_8192_bpe.model --out data/datasets/study_sp8192
    golf data retokenise docs.jsonl --val val.jsonl --tokenizer <CaseOps>.model --out data/datasets/study_caseops
    python benchmarks/scale_study.py run --data data/datasets/study_ --width 256 --passes 0.25 --seeds 1 2 3
    python benchmarks/scale_study.py equal     # frontier again, with steps for the bytes of 27 April
    python benchmarks/scale_study.py table

`run` trains every recipe with every seed on the same documents, in the same order of preference: a seed of all
recipes before the next seed, so that a study that was stopped compares equals. Every recipe keeps its depth, layers'
settings, optimizer, quantiser and codec; what is small is width (head size stays 64), tokens per step, rows,
calibration and the number of steps. What counts steps is scaled with them (hardware.step_scale). `frontier` searches
its average on a span of what its first step read: all train on the same documents. A finished run is not repeated, a
killed one goes on. Contiguous and sliding scores are those of the whole validation split; with --ttt-documents the
recipes that adapt are scored once more, adapting, on its first documents. Nothing here is a leaderboard score.

`table` adds what is finished to the result file, which keeps runs that are no longer there (a study may take several
sittings), and says: BPB per rung, bytes, paired gains against each recipe's predecessor with 95 % intervals, and
Spearman's rank correlation with the published scores. Pairs are of one seed on the same hardware.
"""

import argparse
import datetime
import json
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

import torch

from golf.stats.gain import paired

ROOT = Path(__file__).resolve().parent.parent
RESULT = Path(__file__).parent / "results" / "scale_study.json"
RECIPES = {  # label: (experiment, suffix of its data folder); in the leaderboard's order
    "baseline": ("record/0317_baseline", "sp1024"),
    "march22": ("record/0322_ema_gptq_lite", "sp1024"),
    "april09": ("record/0409_loop35_parallel", "sp8192"),
    "april27": ("record/0427_lqer_sparse_gate_hp", "caseops"),
    "frontier": ("frontier", "caseops"),
}
ADAPTIVE = ("april09", "april27", "frontier")  # calibrate their quantisers, and adapt while they are scored
TTT = {"april09": "sgd", "april27": "phased", "frontier": "phased_in_order"}
HEADER_BYTES, TOKEN_BYTES = 1024, 2
EQUAL, AT_EQUAL_BYTES, PACKED_STAGES = "equal_bytes", ", equal bytes", ("quantised", "sliding")


def tokens_of(folder: Path) -> int:
    """Training tokens of a folder of shards."""
    return sum((path.stat().st_size - HEADER_BYTES) // TOKEN_BYTES for path in folder.glob("fineweb_train_*.bin"))


def overrides(label: str, seed: int, options: argparse.Namespace) -> list[str]:
    """The command line of one run. Steps follow from the recipe's own number of tokens for the same documents."""
    experiment, suffix = RECIPES[label]
    folder = Path(f"{options.data}{suffix}")
    steps = max(1, round(tokens_of(folder) * options.passes / options.tokens_per_step))
    heads = options.width // 64
    calibrated = label in ADAPTIVE
    return [
        f"experiment={experiment}",
        f"seed={seed}",
        f"data.folder={folder}",
        f"model.width={options.width}",
        f"model.num_heads={heads}",
        f"model.num_kv_heads={max(1, heads // 2)}",
        f"data.tokens_per_step={options.tokens_per_step}",
        f"data.seq_len={options.seq_len}",
        f"data.spans_per_step={options.spans}",
        "hardware=cpu",
        f"hardware.threads={options.threads}",
        f"hardware.step_scale={steps / 5000:.6f}",
        "budget=tokens",
        f"budget.max_tokens={steps * options.tokens_per_step}",
        "trainer.val_check_steps=0",
        "callbacks.warmup.steps=1",
        "eval=ladder",
        "eval.tail=exact",
        "eval.limit_seconds=0",
        f"eval.stride={options.seq_len // 2}",
        f"eval.max_documents={options.documents}",
        "ttt=none",
        "rules=none",
        "objective=sliding",
        *(["quant.calibration.batches=4", "quant.calibration.rows=16"] if calibrated else []),
        *(["average.batches=1"] if label == "frontier" else []),
        *options.override,
    ]


def run(options: argparse.Namespace) -> None:
    wanted = [(label, seed) for seed in options.seeds for label in options.recipes]
    for number, (label, seed) in enumerate(wanted, start=1):
        folder = options.out / f"{label}_seed{seed}"
        if finished(folder):
            adapt(label, folder, options)
            continue
        arguments = (
            [f"run={folder}"]
            if (folder / "checkpoints" / "latest").exists()
            else [*overrides(label, seed, options), f"hydra.run.dir={folder}"]
        )
        print(f"[{number}/{len(wanted)}] {label}, seed {seed}", flush=True)
        done = subprocess.run([sys.executable, "train.py", *arguments], cwd=ROOT, check=False)
        if done.returncode:
            print(f"scale study: {label}, seed {seed} ended with code {done.returncode}; the others go on", flush=True)
        else:
            adapt(label, folder, options)


def adapt(label: str, folder: Path, options: argparse.Namespace) -> None:
    """Score once more with the recipe's test-time training, on the first documents."""
    if label not in TTT or not options.ttt_documents or "ttt" in stages_of(folder):
        return
    shorter = [f"ttt.documents={options.ttt_documents // 2}"] if TTT[label].startswith("phased") else []
    command = [
        *(sys.executable, "evaluate.py", f"run={folder}", "eval=adaptive", f"ttt={TTT[label]}", *shorter),
        *(f"eval.max_documents={options.ttt_documents}", "eval.limit_seconds=0"),
    ]
    subprocess.run(command, cwd=ROOT, check=False)


def equal(options: argparse.Namespace) -> None:
    """Export `frontier` once more for every seed, with the steps at which its model is as large as 27 April's."""
    for ours in sorted(options.out.glob("frontier_seed*")):
        theirs = ours.with_name(ours.name.replace("frontier", "april27"))
        if not (finished(ours) and finished(theirs)):
            continue
        summary, wanted = (json.loads((each / "summary.json").read_text(encoding="utf-8")) for each in (ours, theirs))
        if EQUAL in summary["exports"]:
            continue
        command = [
            *(sys.executable, "export.py", f"run={ours}", f"export={EQUAL}", "submission=false"),
            *(f"budget.limit_bytes={wanted['artifact_bytes']}", "fit.margin_bytes=0", "fit.rungs=[clip]"),
            *("fit.widest_clip=3", "fit.narrowest_clip=0.3", "fit.score_tokens=0", *options.override),
        ]
        subprocess.run(command, cwd=ROOT, check=False)


def stages_of(folder: Path) -> list[str]:
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return [entry["stage"] for entry in entries(summary)]


def entries(summary: dict) -> list[dict]:
    """Rungs that a run was scored on, with what evaluate.py added and those of the export at equal bytes."""
    exports = summary.get("exports", {})
    added = [entry for export in exports.values() for entry in export.get("evaluations", [])]
    same = [entry for entry in exports.get(EQUAL, {}).get("ladder", []) if entry["stage"] in PACKED_STAGES]
    return [*summary["ladder"], *added, *({**entry, "stage": entry["stage"] + AT_EQUAL_BYTES} for entry in same)]


def finished(folder: Path) -> bool:
    summary = folder / "summary.json"
    return summary.exists() and any(
        entry["bpb"] is not None and entry["stage"] not in ("raw", "averaged")
        for entry in json.loads(summary.read_text(encoding="utf-8"))["ladder"]
    )


def published() -> dict[str, float]:
    """Published BPB of the recipes that have one, from their experiments."""
    from omegaconf import OmegaConf

    found = {}
    for label, (experiment, _) in RECIPES.items():
        known = OmegaConf.load(ROOT / "conf" / "experiment" / f"{experiment}.yaml").get("published")
        if known and known.get("bpb"):
            found[label] = float(known["bpb"])
    return found


def spearman(left: list[float], right: list[float]) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(left, right).statistic)


def table(options: argparse.Namespace) -> None:
    runs = known_runs(options.result)
    for folder in sorted(options.out.glob("*_seed*")):
        label, seed = folder.name.rsplit("_seed", 1)
        if label in RECIPES and finished(folder):
            row = row_of(folder, label)
            for other in runs.get(label, {}).values():
                if settings(other) != settings(row):
                    raise SystemExit(
                        f"scale study: {folder}: not the settings of {label} in {options.result}; type --result <file>"
                    )
            runs.setdefault(label, {})[seed] = row
    if not runs:
        raise SystemExit(f"scale study: nothing is finished in {options.out}: python benchmarks/scale_study.py run …")
    labels = [label for label in RECIPES if label in runs]
    runs = {label: dict(sorted(runs[label].items(), key=lambda item: int(item[0]))) for label in labels}
    stages = sorted({stage for seeds in runs.values() for row in seeds.values() for stage in row["bpb"]})
    gains = {}
    for new, old in zip(labels[1:], labels):
        both = [s for s in runs[new] if s in runs[old] and runs[new][s]["hardware"] == runs[old][s]["hardware"]]
        for stage in stages:
            gain = paired(
                *({s: runs[l][s]["bpb"][stage] for s in both if stage in runs[l][s]["bpb"]} for l in (new, old))
            )
            if gain:
                gains[f"{new} against {old}, {stage}"] = vars(gain)
    known = published()
    common = [label for label in labels if label in known]
    means = {label: {stage: value for stage in stages if (value := mean(runs[label], stage))} for label in labels}
    correlation = {
        stage: spearman([known[label] for label in common], [means[label][stage] for label in common])
        for stage in stages
        if len(common) > 2 and all(stage in means[label] for label in common)
    }
    result = {
        "what": "the leaderboard's recipes at a small scale: BPB on the first documents of the validation split",
        "command": "python benchmarks/scale_study.py run … (the overrides of each run are in `runs`)",
        "date": datetime.date.today().isoformat(),
        "published": known,
        "mean_bpb": means,
        "paired_gains_bpb": gains,
        "spearman_with_published": correlation,
        "runs": runs,
    }
    options.result.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    show(labels, stages, means, gains, correlation, runs)


def known_runs(result: Path) -> dict[str, dict[str, dict]]:
    """Label -> seed -> row, of an earlier sitting."""
    return json.loads(result.read_text(encoding="utf-8"))["runs"] if result.exists() else {}


def row_of(folder: Path, label: str) -> dict:
    """What the result keeps of a run."""
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    counted = ("parameters", "steps", "train_tokens", "train_seconds", "artifact_bytes", "code_bytes")
    bpb = {entry["stage"]: entry["bpb"] for entry in entries(summary) if entry["bpb"] is not None}
    if label == "april27":  # what the exports at equal bytes are compared with
        bpb |= {stage + AT_EQUAL_BYTES: bpb[stage] for stage in PACKED_STAGES if stage in bpb}
    return {
        "overrides": command_of(folder),
        "hardware": summary["hardware"],
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        **{key: summary[key] for key in counted},
        "bpb": bpb,
    }


def settings(row: dict) -> set[str]:
    """The overrides that seeds of one recipe share."""
    return {text for text in shlex.split(row["overrides"]) if not text.startswith("seed=")}


def mean(rows: dict[str, dict], stage: str) -> float | None:
    values = [row["bpb"][stage] for row in rows.values() if stage in row["bpb"]]
    return sum(values) / len(values) if values else None


def command_of(folder: Path) -> str:
    """Overrides of a run without the places of its data and its folder."""
    from omegaconf import OmegaConf

    listed = [str(item) for item in OmegaConf.load(folder / "overrides.yaml")]
    return shlex.join(item for item in listed if not item.startswith(("data.folder=", "hydra.")))


def show(labels: list[str], stages: list[str], means: dict, gains: dict, correlation: dict, runs: dict) -> None:
    print(f"{'':10}" + "".join(f"{stage:>24}" for stage in stages) + f"{'artifact bytes':>18}{'seeds':>7}")
    for label in labels:
        cells = "".join(f"{means[label][s]:>24.5f}" if s in means[label] else f"{'-':>24}" for s in stages)
        sizes = [row["artifact_bytes"] for row in runs[label].values() if row["artifact_bytes"]]
        print(f"{label:10}{cells}{sum(sizes) // max(1, len(sizes)):>18,}{len(runs[label]):>7}")
    print()
    for name, gain in gains.items():
        print(f"{name:45} {gain['gain']:+.5f}  [{gain['low']:+.5f}, {gain['high']:+.5f}]  p = {gain['p']:.4f}")
    for stage, value in correlation.items():
        print(f"rank correlation with the published scores, {stage}: {value:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    runner = commands.add_parser("run", help="train what is missing")
    runner.add_argument(
        "--data", required=True, help="the folders of shards without their suffix (sp1024, sp8192, caseops)"
    )
    runner.add_argument("--width", type=int, default=256)
    runner.add_argument("--passes", type=float, default=0.25, help="share of the training documents; 2 = two passes")
    runner.add_argument("--tokens-per-step", type=int, default=32768)
    runner.add_argument("--seq-len", type=int, default=1024)
    runner.add_argument("--spans", type=int, default=4, help="forward passes per step")
    runner.add_argument("--documents", type=int, default=0, help="validation documents that are scored; 0 = all")
    runner.add_argument("--ttt-documents", type=int, default=0, help="of them with test-time training; 0 = without")
    runner.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    runner.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    runner.add_argument("--recipes", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    runner.add_argument("--override", nargs="*", default=[], help="further overrides of every run")
    same = commands.add_parser("equal", help="frontier at the bytes of 27 April")
    same.add_argument("--override", nargs="*", default=[], help="further overrides of every export")
    reader = commands.add_parser("table", help="what is finished")
    reader.add_argument("--result", type=Path, default=RESULT)
    for command in (runner, same, reader):
        command.add_argument("--out", type=Path, default=ROOT / "runs" / "scale_study")
    options = parser.parse_args()
    options.out = options.out.resolve()
    if options.command == "run" and options.width % 64:
        parser.error(f"--width {options.width}: a multiple of 64, the size of a head")
    {"run": run, "equal": equal, "table": table}[options.command](options)


if __name__ == "__main__":
    main()
