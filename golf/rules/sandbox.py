"""Scoring where there is no network and no training data: `python -m golf.rules.sandbox <request.json>` is the inside.

The process gets a folder with the validation shards alone. Inside, an audit hook refuses name look-ups, connections and
every training shard by path, and writes down each attempt, also one whose refusal the program swallows. Where Linux
allows it (`unshare --user --net`), the process has no network device either; the report says which guard there was.
The hook is a guard against accidents: native code that calls the system itself is only stopped by the namespace.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from golf.rules.material import Material
    from golf.rules.subject import Subject

NETWORK_EVENTS = (
    "socket.connect",
    "socket.getaddrinfo",
    "socket.gethostbyname",
    "socket.gethostbyaddr",
    "socket.sendto",
)
TRAINING_NAME = "fineweb_train"
SANDBOX_WINDOWS = 4
TIMEOUT_SECONDS = 600.0
CPU = {"accelerator": "cpu", "devices": 1, "threads": 1, "compile": False, "compute_dtype": "float32"}


@dataclass
class SandboxResult:
    """BPB of a small part of the split, scored inside; what was reached for; the guard in words."""

    guard: str
    bpb: list[float] = field(default_factory=list)
    attempts: list[str] = field(default_factory=list)
    error: str = ""


def namespace_prefix() -> list[str]:
    """The command that takes the network away, empty where the system does not allow it."""
    command = ["unshare", "--user", "--map-root-user", "--net"]
    if shutil.which("unshare") is None:
        return []
    done = subprocess.run([*command, "true"], capture_output=True, check=False)
    return command if done.returncode == 0 else []


def small_plan(subject: Subject) -> tuple[dict[str, Any], int]:
    """(eval node for a few windows, tokens per window) of a subject; as small as its network asks for.

    The cheapest protocol has to do for a large network, and without test-time training for any: what is looked at is
    which files and addresses are opened, and whether the file alone gives the same score.
    """
    from golf.rules.network import UNKNOWN_WINDOW, affordable_length

    seq_len = subject.config["data"]["seq_len"] if subject.config else UNKNOWN_WINDOW
    node = dict(subject.config.get("eval") or {})
    length = node.get("seq_len") or seq_len
    if subject.examination is not None and subject.examination.path.watched is not None:
        length = affordable_length(subject.examination.path.watched.net, length)
    if "_target_" not in node or "max_tokens" not in node or length < (node.get("seq_len") or seq_len):
        return {"_target_": "golf.evaluation.contiguous.Contiguous", "max_tokens": SANDBOX_WINDOWS * length}, length
    node = {key: None if key == "ttt" else value for key, value in node.items()}
    if str(node["_target_"]).endswith(".Adaptive"):
        node = {"_target_": "golf.evaluation.sliding.Sliding", **{k: node[k] for k in ("seq_len", "stride", "tail")}}
    return {**node, "max_tokens": SANDBOX_WINDOWS * length}, seq_len


def score_in_sandbox(subject: Subject, material: Material) -> SandboxResult:
    """Score the first windows of the split with a subject's packed model, locked up."""
    from golf.own_techniques import own_targets

    node, seq_len = small_plan(subject)
    with tempfile.TemporaryDirectory() as folder:
        for path in material.val_paths:
            (Path(folder) / Path(path).name).symlink_to(Path(path).resolve())
        tokenizer = Path(material.tokenizer_path)
        body = {
            "artifact": str(Path(str(subject.artifact)).resolve()),
            "folder": folder,
            "tokenizer": str(tokenizer.resolve()) if tokenizer.is_file() else material.tokenizer_path,
            "eval": node,
            "seq_len": seq_len,
            "upstream": subject.upstream,
            "trusted": own_targets(subject.config) if subject.config else [],
            "hidden": [os.path.realpath(path) for path in material.train_paths],
            "import_path": sys.path,
        }
        return run_inside(["-m", "golf.rules.sandbox"], body, Path(folder))


def run_inside(program: list[str], body: dict[str, Any], folder: Path) -> SandboxResult:
    """Run a Python program with a request in a sandbox and read its report."""
    request, report, prefix = folder / "request.json", folder / "report.json", namespace_prefix()
    request.write_text(json.dumps({**body, "report": str(report)}), encoding="utf-8")
    guard = (
        "no network device (user namespace) and a hook on sockets and files"
        if prefix
        else ("a hook on sockets and files (this system gives no user namespace)")
    )
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    done = subprocess.run(
        [*prefix, sys.executable, *program, str(request)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    result = SandboxResult(guard)
    if report.is_file():
        found = json.loads(report.read_text(encoding="utf-8"))
        result.attempts, result.bpb = found["attempts"], found["bpb"]
    if done.returncode:
        result.error = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1][:300]
    return result


def install_guard(hidden: set[str], attempts: list[str]) -> None:
    """From here on, this process reaches no network and none of the hidden files; attempts are written down."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in NETWORK_EVENTS:
            attempts.append(f"the network ({event} {' '.join(map(str, arguments[1:]))[:80]})")
            raise PermissionError("no network during evaluation")
        if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            path = os.fsdecode(arguments[0])
            if TRAINING_NAME in path or (hidden and os.path.realpath(path) in hidden):
                attempts.append(f"training data ({os.path.basename(path)})")
                raise PermissionError("no training data during evaluation")

    sys.addaudithook(hook)


def main(argv: list[str]) -> int:
    """The inside: score, and report what was reached for, however it ends."""
    request = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    attempts: list[str] = []
    scores: list[float] = []
    install_guard(set(request["hidden"]), attempts)
    sys.path += [folder for folder in request["import_path"] if folder not in sys.path]
    try:
        scores += score_request(request)
    finally:
        Path(request["report"]).write_text(json.dumps({"attempts": attempts, "bpb": scores}), encoding="utf-8")
    return 0


def score_request(request: dict[str, Any]) -> list[float]:
    """BPB of every protocol, through the functions that score a run's packed model."""
    import torch

    from golf.data.dataset import open_folder
    from golf.pipeline.scoring import score_network
    from golf.rules.upstream import opened

    torch.set_num_threads(1)
    prepared = open_folder(request["folder"], request["tokenizer"], require_train=False)
    net = opened(Path(request["artifact"]), request["trusted"], request["upstream"])
    entries = score_network(
        net.eval(), prepared, request["eval"], request["seq_len"], torch.device("cpu"), lambda _: None
    )
    return [entry["bpb"] for entry in entries]


if __name__ == "__main__":
    from golf.config.entry import guard as guarded

    sys.exit(guarded(lambda: main(sys.argv[1:])))
