"""The state of the GPUs as nvidia-smi tells it: other processes, clocks, errors of the memory, driver and CUDA.

`nvidia-smi --query-gpu=… --format=csv,noheader,nounits` gives a line per GPU; what a GPU or a driver does not know is
[N/A] or refused by name, and is then not judged. Bits of the active clock reasons: NVML's nvmlClocksEventReasons.
Invariant: only reads; a field that is not there never makes a finding.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from golf.doctor.finding import Line, Subject

FIELDS = (
    "index",
    "uuid",
    "name",
    "driver_version",
    "memory.total",
    "memory.used",
    "utilization.gpu",
    "temperature.gpu",
    "clocks.sm",
    "clocks.max.sm",
    "clocks_throttle_reasons.active",
    "ecc.mode.current",
    "ecc.errors.uncorrected.volatile.total",
    "remapped_rows.pending",
    "remapped_rows.failure",
    "mig.mode.current",
)
PROCESS_FIELDS = "gpu_uuid,pid,name,used_memory"
RENAMED = {"clocks_throttle_reasons.active": "clocks_event_reasons.active"}  # in newer drivers
SECONDS = 15.0
# Slower than this GPU could be, through no setting of anybody's: bit, what it is, worth a failure.
SLOWED = (
    (0x08, "hardware slowdown", True),
    (0x40, "hardware thermal slowdown", True),
    (0x80, "power brake", True),
    (0x20, "software thermal slowdown", False),
)
PINNED = 0x02  # application clocks: somebody's setting
USED_MIB = 1024.0  # an idle driver takes a few hundred
BUSY_PERCENT = 10.0
HOT_CELSIUS = 85.0
OLDEST_DRIVER = {11: 450, 12: 525, 13: 580}  # CUDA major → driver branch (NVIDIA, CUDA Compatibility, minor versions)
SLOWER = "it is slower than its kind, and a step waits for the slowest rank"
ELSEWHERE = "use another machine, or leave it out with CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Gpu:
    """One line of nvidia-smi: values by field, None where the GPU does not say; and who else computes on it."""

    values: dict[str, str | None]
    processes: list[str] = field(default_factory=list)

    def text(self, name: str) -> str:
        return self.values.get(name) or ""

    def number(self, name: str) -> float | None:
        try:
            return float(self.text(name))
        except ValueError:
            return None

    @property
    def reasons(self) -> int:
        try:
            return int(self.text("clocks_throttle_reasons.active"), 16)
        except ValueError:
            return 0

    @property
    def what(self) -> str:
        return f"gpu {self.text('index')}"


def ask(arguments: list[str]) -> tuple[int, str]:
    """nvidia-smi's exit code and output; a code other than 0 where it is missing or does not answer."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return 127, ""
    try:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 124, ""
    return done.returncode, done.stdout + done.stderr


def read_gpus(ask: Callable[[list[str]], tuple[int, str]] = ask) -> list[Gpu]:
    """All GPUs of this machine as they are now; none without nvidia-smi."""
    fields: list[str] = list(FIELDS)
    for _ in range(2 * len(FIELDS)):
        code, said = ask([f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"])
        if code == 0:
            processes = read_processes(ask([f"--query-compute-apps={PROCESS_FIELDS}", "--format=csv,noheader"])[1])
            return [with_processes(gpu, processes) for gpu in parse_gpus(said, fields)]
        refused = [name for name in fields if f'"{name}"' in said]
        if not refused:
            return []
        for name in refused:  # an older or a newer driver: ask by the other name, else without it
            fields = [RENAMED.get(name, "") if item == name else item for item in fields]
        fields = [name for name in fields if name]
    return []


def parse_gpus(text: str, fields: list[str]) -> list[Gpu]:
    """Lines of --format=csv,noheader,nounits."""
    found = []
    names = [next((old for old, new in RENAMED.items() if new == name), name) for name in fields]
    for line in text.splitlines():
        values = [value.strip() for value in line.split(",")]
        if len(values) == len(names) and values[0].isdigit():
            unknown = ("[N/A]", "N/A", "[Not Supported]", "[Unknown Error]", "")
            found.append(Gpu({k: None if v in unknown else v for k, v in zip(names, values, strict=True)}))
    return found


def read_processes(text: str) -> dict[str, list[str]]:
    """GPU's uuid → its processes as `pid 4242 python (71234 MiB)`."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        values = [value.strip() for value in line.split(",")]
        if len(values) == 4 and values[0].startswith("GPU-"):
            found.setdefault(values[0], []).append(f"pid {values[1]} {values[2].rpartition('/')[2]} ({values[3]})")
    return found


def with_processes(gpu: Gpu, processes: dict[str, list[str]]) -> Gpu:
    return Gpu(gpu.values, processes.get(gpu.text("uuid"), []))


def state(gpus: list[Gpu], subject: Subject, cuda: str | None = None) -> list[Line]:
    """Findings about GPUs as they were before this process touched them. `cuda`: the version torch is built for."""
    gpus = used(gpus, subject, os.environ.get("CUDA_VISIBLE_DEVICES"))
    if not gpus:
        return []
    if cuda is None:
        import torch

        cuda = torch.version.cuda
    lines = driver(gpus[0], cuda)
    names = sorted({gpu.text("name") for gpu in gpus})
    if len(names) > 1:
        why = "a step is as slow as the slowest rank"
        lines.append(Line("warn", "gpus", f"different ones: {', '.join(names)}", "use equal ones", why))
    for gpu in gpus:
        found = [line for check in (others, clocks, errors) for line in check(gpu)]
        lines += found or [Line("ok", gpu.what, summary(gpu))]
    return lines


def used(gpus: list[Gpu], subject: Subject, visible: str | None) -> list[Gpu]:
    """The GPUs that this run would get: those that CUDA_VISIBLE_DEVICES leaves, as many as it has devices."""
    if visible is not None:
        chosen = [name.strip() for name in visible.split(",") if name.strip()]
        gpus = [gpu for name in chosen for gpu in gpus if name == gpu.text("index") or is_uuid(name, gpu)]
    return gpus[: subject.devices] if subject.asked and subject.config is not None else gpus


def is_uuid(name: str, gpu: Gpu) -> bool:
    return name.startswith("GPU-") and gpu.text("uuid").startswith(name)


def driver(gpu: Gpu, cuda: str | None) -> list[Line]:
    """Can this driver run the CUDA that torch is built for?"""
    version = gpu.text("driver_version")
    oldest = OLDEST_DRIVER.get(int(cuda.partition(".")[0])) if cuda else None
    branch = int(version.partition(".")[0]) if version[:1].isdigit() else None
    if oldest is None or branch is None:
        return []
    if branch >= oldest:
        return [Line("ok", "driver", f"{version}, torch is built for CUDA {cuda}")]
    todo = f"take a machine with driver {oldest} or newer, or make distclean install TORCH=<a build for an older CUDA>"
    why = f"torch is built for CUDA {cuda}, which needs driver {oldest}: it will see no GPU"
    return [Line("fail", "driver", version, todo, why)]


def others(gpu: Gpu) -> list[Line]:
    """Somebody else's memory or work."""
    used, busy = gpu.number("memory.used") or 0.0, gpu.number("utilization.gpu") or 0.0
    if used <= USED_MIB and busy <= BUSY_PERCENT and not gpu.processes:
        return []
    who = ", ".join(gpu.processes[:3]) or "processes that are not visible from here"
    detail = f"{used:,.0f} of {gpu.number('memory.total') or 0:,.0f} MiB used, {busy:.0f} % busy: {who}"
    todo = "stop them (kill <pid>), or leave it out with CUDA_VISIBLE_DEVICES"
    return [Line("fail", gpu.what, detail, todo, "steps would be slower than paid for, and memory may run out")]


def clocks(gpu: Gpu) -> list[Line]:
    """Slowed down by heat or power, pinned below what it could do, or hot already."""
    lines, now, most = slowed(gpu), gpu.number("clocks.sm"), gpu.number("clocks.max.sm")
    if gpu.reasons & PINNED and now and most and now < 0.9 * most:
        todo = "nvidia-smi -rac, if it is your machine"
        lines.append(Line("warn", gpu.what, f"application clocks are set, {pace(gpu)}", todo, SLOWER))
    celsius = gpu.number("temperature.gpu")
    if celsius is not None and celsius >= HOT_CELSIUS:
        lines.append(Line("warn", gpu.what, f"{celsius:.0f} °C before any work", ELSEWHERE, "it will slow down"))
    return lines


def slowed(gpu: Gpu) -> list[Line]:
    """Slowed down by itself; asked again while it works."""
    found = [(name, bad) for bit, name, bad in SLOWED if gpu.reasons & bit]
    return [Line("fail" if bad else "warn", gpu.what, f"{name}, {pace(gpu)}", ELSEWHERE, SLOWER) for name, bad in found]


def pace(gpu: Gpu) -> str:
    now, most = gpu.number("clocks.sm"), gpu.number("clocks.max.sm")
    return f"{now:,.0f} of {most:,.0f} MHz" if now and most else "clock unknown"


def errors(gpu: Gpu) -> list[Line]:
    """Memory errors that could not be corrected, rows that wait for a reset, a GPU in slices."""
    lines, count = [], gpu.number("ecc.errors.uncorrected.volatile.total")
    if count:
        why = "weights may be wrong, and the next one ends the run"
        lines.append(Line("fail", gpu.what, f"{count:,.0f} uncorrectable memory errors", ELSEWHERE, why))
    if gpu.text("remapped_rows.pending").lower() in ("yes", "1"):
        why = "the driver waits for a reset of this GPU"
        lines.append(Line("fail", gpu.what, "memory rows to be remapped", ELSEWHERE, why))
    if gpu.text("remapped_rows.failure").lower() in ("yes", "1"):
        lines.append(Line("fail", gpu.what, "remapping of memory rows has failed", ELSEWHERE, "its memory is worn out"))
    if gpu.text("mig.mode.current") == "Enabled":
        why = "a run gets a slice of it, and slices cannot talk to each other"
        lines.append(Line("warn", gpu.what, "MIG is on", "ask for a whole GPU", why))
    return lines


def summary(gpu: Gpu) -> str:
    about: list[Any] = [gpu.text("name"), f"driver {gpu.text('driver_version')}", "nobody else on it"]
    celsius, mode = gpu.number("temperature.gpu"), gpu.text("ecc.mode.current")
    about += [f"{celsius:.0f} °C"] if celsius is not None else []
    about += [f"ECC {mode.lower()}, no uncorrectable errors"] if mode else []
    return ", ".join(about)
