"""Is there room for this run, where it writes? What it needs is counted from its network and its checkpoint settings.

Needed in the run folder: (keep + 1) checkpoints while one is being replaced, the stages' weights, Hessians where the
plan wants them, and two artifacts. Also looked at: the compiler's cache and the shared memory that NCCL uses.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from golf.doctor.finding import Line, Subject

LEAST_BYTES = 500 * 10**6  # logs, reports, source, loggers' own files
CHECKPOINT_BYTES = 16  # per parameter: weights, at most two moments, average, all float32
STAGE_BYTES = 20  # per parameter: raw, averaged and exported weights, quantised tensors before packing
CACHE_BYTES = 2 * 10**9
SHARED_BYTES = 10**9
NETWORKED = ("nfs", "nfs4", "cifs", "smb3", "ceph", "lustre", "glusterfs", "9p", "fuse.sshfs", "fuse.juicefs", "beegfs")
FULL_WHY = "a run that finds the disk full stops, and has to be resumed while the machine is paid for"


def disk(subject: Subject) -> list[Line]:
    """Room and permission where runs, data, compiled kernels and shared memory go."""
    needed = run_bytes(subject.config) if subject.config else LEAST_BYTES
    lines = [place("runs/", run_folder(subject), needed), place("data/", data_folder(subject), 0)]
    lines.append(cache())
    if subject.devices > 1:
        lines.append(shared_memory())
    return lines


def run_bytes(config: dict[str, Any]) -> int:
    """Bytes one run may need in its folder at once."""
    from golf.config.build import build
    from golf.models.roles import roles_of
    from golf.size.plan import network_of

    net = network_of(config)
    parameters = sum(p.numel() for p in net.parameters())
    keep = max(1, int(((config["callbacks"] or {}).get("checkpoint") or {}).get("keep", 2)))
    found = LEAST_BYTES + parameters * (CHECKPOINT_BYTES * (keep + 1) + STAGE_BYTES)
    found += 2 * int(config["budget"]["limit_bytes"] or 0)
    if config["quant"] and "_target_" in config["quant"] and build(config["quant"]).needs_calibration():
        roles = roles_of(net)
        matrices = [p for name, p in net.named_parameters() if roles[name] == "matrix" and p.ndim >= 2]
        found += sum(4 * p.shape[-1] ** 2 * (p.numel() // (p.shape[-1] * p.shape[-2])) for p in matrices)
    return found


def run_folder(subject: Subject) -> Path:
    """Where runs go: runs/, or what hydra.run.dir= says."""
    key = "hydra.run.dir="
    chosen = [text.removeprefix(key).strip("'\"") for text in subject.overrides if text.startswith(key)]
    return Path.cwd() / (chosen[-1] if chosen else "runs")


def data_folder(subject: Subject) -> Path:
    folder = Path(str(((subject.config or {}).get("data") or {}).get("folder") or "data"))
    return folder if folder.is_absolute() else Path.cwd() / folder


def place(what: str, folder: Path, needed: int) -> Line:
    """Room for `needed` bytes in a folder that may not exist yet, and the right to write there."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    other = "run where you may write" + (", or set hydra.run.dir=<folder>" if what == "runs/" else "")
    if what == "data/" and folder.is_dir() and not os.access(folder, os.W_OK):
        return Line("ok", what, f"{folder}: read only")
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        reason = f"{existing} is not writable ({error.strerror})"
        return Line("fail", what, reason, other, "nothing that this run makes could be kept")
    free = shutil.disk_usage(existing).free
    if free < needed:
        room = f"{free / 1e9:,.1f} GB free in {existing}, this run needs up to {needed / 1e9:,.1f}"
        todo = "free some space, set callbacks.checkpoint.keep=1, or set hydra.run.dir=<folder> on a larger disk"
        return Line("fail", what, room, todo, FULL_WHY)
    wanted = f", this run needs up to {needed / 1e9:,.1f}" if needed else ""
    return Line("ok", what, f"{free / 1e9:,.1f} GB free in {existing}{wanted}")


def cache() -> Line:
    """Where torch.compile keeps kernels: room, and a disk of this machine."""
    folder = Path(os.environ.get("TORCHINDUCTOR_CACHE_DIR") or tempfile.gettempdir())
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    kind = file_system(existing, mounts())
    todo = "export TORCHINDUCTOR_CACHE_DIR=<a folder on a local disk>"
    if kind in NETWORKED:
        why = "compiled kernels on a network volume have been read back damaged (parameter-golf #1798)"
        return Line("warn", "compile cache", f"{folder} is on {kind}", todo, why)
    free = shutil.disk_usage(existing).free
    if free < CACHE_BYTES:
        why = "compilation writes some GB and ends the run when it cannot"
        return Line("warn", "compile cache", f"{free / 1e9:,.1f} GB free in {existing}", todo, why)
    return Line("ok", "compile cache", f"{free / 1e9:,.1f} GB free in {existing}")


def shared_memory(folder: Path = Path("/dev/shm")) -> Line:
    """Ranks on one machine talk through /dev/shm; containers give it 64 MB unless told otherwise."""
    if not folder.is_dir():
        return Line("ok", "shared memory", f"there is no {folder} here")
    size = shutil.disk_usage(folder).total
    if size < SHARED_BYTES:
        todo = "start the container with --shm-size=8g, or --ipc=host"
        return Line("warn", "shared memory", f"{size / 1e6:,.0f} MB in {folder}", todo, "NCCL may fail to start on it")
    return Line("ok", "shared memory", f"{size / 1e9:,.1f} GB in {folder}")


def mounts() -> str:
    try:
        return Path("/proc/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def file_system(folder: Path, table: str) -> str:
    """The type of the file system that holds a folder, from the text of /proc/mounts; "" if that is not known."""
    best, kind = "", ""
    for line in table.splitlines():
        words = line.split()
        if len(words) < 3:
            continue
        point = re.sub(r"\\040", " ", words[1])
        inside = folder == Path(point) or Path(point) in folder.parents
        if inside and len(point) >= len(best):
            best, kind = point, words[2]
    return kind
