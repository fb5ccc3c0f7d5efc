"""Proof that an exported file is the run's own program: run in an interpreter that has nothing of golf.

Three checks: `--eval-only` on the packed artifact gives the run's scores to 1e-9; the artifact that the file writes
from the run's weights is the same to the byte; and the first k training losses are those of metrics.jsonl, bit for bit
on a CPU with one thread and no compiler. The interpreter is isolated (`python -I`) and finds no installed package but
torch, numpy, sentencepiece, the codec's, and what these require.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from golf.errors import UserError, VerificationFailed
from golf.submission.flatten import CODEC_PACKAGES

VISIBLE = ("torch", "numpy", "sentencepiece")
# What the file reads from its environment when it runs in earnest: a check takes the run's own values.
CHALLENGE_VARIABLES = ("DATA_PATH", "TOKENIZER_PATH", "SEED", "MAX_WALLCLOCK_SECONDS", "RUN_ID", "RANK", "WORLD_SIZE")
BPB_TOLERANCE = 1e-9
LOSS_TOLERANCE = 1e-3  # relative, where threads, compiled graphs, a GPU or a clock may change the last bits
_RUNNER = """
import importlib.machinery, runpy, sys
hidden, finders = set({hidden!r}), list(sys.meta_path)
class Visible:
    find_distributions = importlib.machinery.PathFinder.find_distributions
    @staticmethod
    def find_spec(name, path=None, target=None):
        if path is None and name in hidden:  # setuptools, which the compiler needs, brings copies of its own
            copies = [folder for folder in sys.path if folder.endswith("_vendor")]
            return importlib.machinery.PathFinder.find_spec(name, copies)
        found = (finder.find_spec(name, path, target) for finder in finders if hasattr(finder, "find_spec"))
        return next((spec for spec in found if spec is not None), None)
sys.meta_path[:] = [Visible]
sys.argv = {argv!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def verify_submission(code_path: Path, artifact_path: Path, run_folder: Path, k: int = 10) -> dict[str, Any]:
    """Check an exported file against its artifact and its run.

    Returns:
        {"bpb": {protocol: value}, "same_artifact": whether the bytes were compared, "steps": compared steps,
        "bit_equal": whether all their losses are}.

    Raises:
        VerificationFailed: another score, other bytes, another loss, or the file doesn't run on its own.
        UserError: not a finished run.
    """
    from golf.pipeline.run_folder import open_run_folder

    run = open_run_folder(run_folder)
    prepared = run.data()
    data = ["--data", str(Path(prepared.folder).resolve()), "--tokenizer", _tokenizer_argument(prepared.tokenizer_path)]
    scored = run_alone(code_path, ["--eval-only", str(Path(artifact_path).resolve()), *data])
    root = run.export_root(Path(artifact_path).parent.name)
    found: dict[str, Any] = {"bpb": compare_scores(code_path, scored["scores"], _ladder(root), run.config["hardware"])}
    found["same_artifact"] = compare_artifacts(code_path, Path(artifact_path), run, data)
    if not (run.config["init_from"] or run.config["ckpt_path"]):
        expected = first_losses(run.path, k)
        printed = run_alone(code_path, ["--steps", str(max(expected, default=1)), *data])["steps"]
        found |= compare_losses(code_path, {step["step"]: step["train_loss"] for step in printed}, expected, run.config)
    return found


def run_alone(code_path: Path, arguments: list[str], timeout_seconds: float = 3600.0) -> dict[str, Any]:
    """Run an exported file in the isolated interpreter, in an empty folder; returns the results it prints.

    Raises:
        VerificationFailed: it ends with an error.
    """
    code = str(Path(code_path).resolve())
    program = _RUNNER.format(hidden=sorted(hidden_packages()), argv=[code, *arguments, "--json"])
    with tempfile.TemporaryDirectory() as empty:
        done = subprocess.run(
            [sys.executable, "-I", "-c", program],
            cwd=empty,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            env={name: value for name, value in os.environ.items() if name not in CHALLENGE_VARIABLES},
        )
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        raise VerificationFailed(f"{code_path} alone ends with exit code {done.returncode} ({said}): do not ship it")
    lines = done.stdout.strip().splitlines()
    return json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {"output": done.stdout}


def compare_artifacts(code_path: Path, artifact_path: Path, run: Any, data: list[str]) -> bool:
    """Let the file pack the run's weights; False where calibration on other hardware may change the last bits.

    Raises:
        VerificationFailed: it writes other bytes.
    """
    import torch
    from safetensors.torch import load_file

    hardware, calibration = run.config["hardware"], (run.config["quant"] or {}).get("calibration")
    if calibration and (hardware["accelerator"] != "cpu" or hardware["threads"] != 1):
        return False
    with tempfile.TemporaryDirectory() as folder:
        weights, output = Path(folder) / "weights.pt", Path(folder) / "model.golf"
        torch.save(load_file(run.path / "stages" / "average" / "weights.safetensors"), weights)
        run_alone(code_path, ["--weights", str(weights), "--output", str(output), *data])
        if output.read_bytes() != artifact_path.read_bytes():
            raise VerificationFailed(f"{code_path} packs the run's weights into other bytes than {artifact_path}")
    return True


def hidden_packages() -> set[str]:
    """Top-level names of every installed package that an exported file may not need."""
    seen: set[str] = set()
    queue = [*VISIBLE, *CODEC_PACKAGES.values()]
    while queue:
        name = _canonical(queue.pop())
        if name in seen:
            continue
        try:
            required = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        seen.add(name)
        queue += [re.split(r"[ ;<>=!~\[(]", text, maxsplit=1)[0] for text in required if "extra ==" not in text]
    hidden = {"golf"}
    for top, packages in importlib.metadata.packages_distributions().items():
        if not seen & {_canonical(package) for package in packages}:
            hidden.add(top)
    return hidden


def compare_scores(
    code_path: Path, scores: list[dict[str, Any]], ladder: list[dict[str, Any]], hardware: dict[str, Any]
) -> dict[str, float]:
    """BPB by protocol; raises VerificationFailed at the first one that differs from the run's ladder."""
    tolerance = BPB_TOLERANCE if hardware["accelerator"] == "cpu" else LOSS_TOLERANCE
    protocols = {entry["protocol"].split()[0]: entry["protocol"] for entry in ladder}  # which begins with its name
    expected = {entry["protocol"]: entry["bpb"] for entry in ladder}
    found = {protocols.get(score["name"], score["name"]): score["bpb"] for score in scores}
    if found.keys() != expected.keys():
        raise VerificationFailed(f"{code_path} scores {sorted(found)}, the run scored {sorted(expected)}")
    for protocol, bpb in found.items():
        if not abs(bpb - expected[protocol]) <= tolerance:
            raise VerificationFailed(f"{code_path}: {protocol} gives {bpb!r} BPB, the run {expected[protocol]!r}")
    return found


def compare_losses(
    code_path: Path, found: dict[int, float], expected: dict[int, float], config: dict[str, Any]
) -> dict[str, Any]:
    """How many losses were compared; raises VerificationFailed at the first one that differs from the run's."""
    hardware = config["hardware"]
    exact = hardware["accelerator"] == "cpu" and hardware["threads"] == 1 and hardware["devices"] == 1
    exact = exact and not hardware["compile"] and not config["budget"]["max_seconds"]
    for step, loss in expected.items():
        allowed = 0.0 if exact else LOSS_TOLERANCE * abs(loss)
        if step not in found or not abs(found[step] - loss) <= allowed:
            raise VerificationFailed(
                f"{code_path}: the loss of step {step} is {found.get(step)!r}, in the run {loss!r}: do not ship it"
            )
    return {"steps": len(expected), "bit_equal": all(found[step] == loss for step, loss in expected.items())}


def first_losses(run_folder: Path, k: int) -> dict[int, float]:
    """Losses of the first k steps of a run, as far as metrics.jsonl has them one by one."""
    path = run_folder / "metrics.jsonl"
    if not path.is_file():
        raise UserError(f"{run_folder} has no metrics.jsonl: verify a run that has been trained")
    losses: dict[int, float] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if "train/loss" in entry and entry["step"] == len(losses) + 1 <= k:
            losses[entry["step"]] = entry["train/loss"]
    return losses


def _ladder(root: Path) -> list[dict[str, Any]]:
    path = root / "stages" / "score" / "scores.json"
    if not path.is_file():
        raise UserError(f"{root} has no scores yet: finish it with python train.py run=<folder>")
    return json.loads(path.read_text(encoding="utf-8"))["ladder"]


def _tokenizer_argument(path: str) -> str:
    return str(Path(path).resolve()) if Path(path).is_file() else path


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
