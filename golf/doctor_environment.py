"""What `golf doctor` looks at without running anything: versions, devices, compressors, disk, data, browser, login."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from golf.doctor import Line
from golf.errors import UserError

MALICIOUS = {"lightning": ("2.6.2", "2.6.3")}  # uploads that were withdrawn
OPTIONAL = {
    "brotli": "codec=brotli",
    "zpaq": "codec=zpaq",
    "tensorboard": "logger=tensorboard",
    "hydra-joblib-launcher": "parallel sweeps",
}
DISK_BYTES = 2 * 10**9
PYTHONS = ((3, 11), (3, 13))


def versions() -> list[Line]:
    """Python and every package that golf needs, against the ranges in its own metadata."""
    import golf
    from golf.config.resolvers import git

    first, last = PYTHONS
    inside = first <= sys.version_info[:2] <= last
    todo = "" if inside else f"use Python {first[0]}.{first[1]} to {last[0]}.{last[1]}: make install PYTHON=<its path>"
    lines = [Line("ok", "golf", f"{golf.__version__}, commit {git()}, {platform.platform()}")]
    lines.append(Line("ok" if inside else "fail", "python", platform.python_version(), todo))
    for name, wanted in required().items():
        lines.append(package(name, wanted))
    for name, purpose in OPTIONAL.items():
        if version_of(name) is None:
            lines.append(Line("warn", name, f"not installed, needed for {purpose}", f"pip install {name}"))
        else:
            lines.append(Line("ok", name, str(version_of(name))))
    return lines


def required() -> dict[str, str]:
    """Package → version range, from golf's metadata; the least that is known where golf is not installed."""
    from packaging.requirements import Requirement

    try:
        texts = importlib.metadata.requires("golf") or []
    except importlib.metadata.PackageNotFoundError:
        return {"torch": ">=2.11", "lightning": ">=2.6.6,<2.7", "hydra-core": ">=1.3.8,<1.4", "numpy": ""}
    found = [Requirement(text) for text in texts]
    return {item.name: str(item.specifier) for item in found if item.marker is None}


def package(name: str, wanted: str) -> Line:
    """One required package: there, in its range, and not one of the known bad uploads."""
    from packaging.specifiers import SpecifierSet

    version, install = version_of(name), f"pip install '{name}{wanted}'"
    if version is None:
        return Line("fail", name, "not installed", f"make install, or {install}")
    if version in MALICIOUS.get(name, ()):
        return Line("fail", name, f"{version} is a malicious upload: change every credential of this machine", install)
    if not SpecifierSet(wanted).contains(version, prereleases=True):
        return Line("warn", name, f"{version}, tested with {wanted}", install)
    return Line("ok", name, version)


def version_of(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def devices() -> list[Line]:
    """CPU (cores, memory, bfloat16 units) and GPUs (name, memory, capability)."""
    import torch

    from golf.training.device import usable_cores

    flags = cpu_flags()
    fast = "AMX" if "amx_bf16" in flags else "AVX-512 BF16" if "avx512_bf16" in flags else ""
    memory = memory_bytes()
    about = f"{usable_cores()} cores" + (f", {memory / 1e9:.0f} GB memory" if memory else "")
    cpu = Line("ok", "cpu", f"{about}, {f'bfloat16 by {fast}' if fast else 'no bfloat16 units: float32 is used'}")
    if torch.cuda.is_available():
        gpus = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        return [
            cpu,
            *(
                Line("ok", f"gpu {index}", f"{gpu.name}, {gpu.total_memory / 1e9:.0f} GB, sm_{gpu.major}{gpu.minor}")
                for index, gpu in enumerate(gpus)
            ),
        ]
    if torch.backends.mps.is_available():
        return [cpu, Line("ok", "gpu", "Metal: type hardware=mac to use it")]
    if shutil.which("nvidia-smi"):
        reason = f"nvidia-smi is here, but torch {torch.__version__} sees no GPU"
        return [cpu, Line("warn", "gpu", reason, "install a torch built for CUDA, or update the driver")]
    return [cpu, Line("ok", "gpu", "none: runs train on the CPU")]


def compiler() -> list[Line]:
    """torch.compile needs a C++ compiler (on a GPU a C compiler too)."""
    named = os.environ.get("CXX")
    found = next((path for name in (named, "g++", "clang++", "c++") if name and (path := shutil.which(name))), None)
    if found is None:
        return [Line("warn", "compiler", "no C++ compiler: eager mode, slower", "apt install g++, or the like")]
    return [Line("ok", "compiler", f"{found}: hardware.compile works")]


def compressors() -> list[Line]:
    """Every codec packs and unpacks a few bytes; one without its package says how to get it."""
    from golf.codec.catalogue import CODECS

    lines = []
    for codec in CODECS:
        try:
            intact = codec().decode(codec().encode(b"golf" * 64)) == b"golf" * 64
            lines.append(Line("ok" if intact else "fail", f"codec {codec.name}", "round trip"))
        except UserError as error:
            reason, _, todo = str(error).partition(": ")
            lines.append(Line("warn", f"codec {codec.name}", reason, todo.removeprefix("type ")))
    return lines


def disk() -> list[Line]:
    """Room and permission where runs and data go."""
    lines = []
    for name in ("runs", "data"):
        place = Path.cwd() / name
        existing = next(path for path in (place, *place.parents) if path.exists())
        free = shutil.disk_usage(existing).free
        try:
            with tempfile.TemporaryFile(dir=existing):
                pass
        except OSError as error:
            todo = "run where you may write" + (", or set hydra.run.dir=<folder>" if name == "runs" else "")
            lines.append(Line("fail", f"{name}/", f"{existing} is not writable ({error.strerror})", todo))
            continue
        room = f"{free / 1e9:,.0f} GB free in {existing}"
        low = free < DISK_BYTES
        todo = "free some space: a run needs about 40 bytes per parameter" if low else ""
        lines.append(Line("warn" if low else "ok", f"{name}/", room, todo))
    return lines


def data(overrides: Sequence[str] = ()) -> list[Line]:
    """The sample corpus, and the folder that data=fineweb would read."""
    from golf.config.build import build
    from golf.config.compose import compose
    from golf.data.manifest import is_complete

    own = [text for text in overrides if text.split(".")[0].split("=")[0] in ("data", "tokenizer")]
    folder = build(compose("train", ["data=sample"])["data"]).dataset_folder()
    if is_complete(folder):
        lines = [Line("ok", "data sample", str(folder))]
    else:
        lines = [Line("warn", "data sample", "not prepared: the first run fetches 5 MB and prepares it", "make demo")]
    choice = own if any("fineweb" in text for text in own) else ["data=fineweb"]
    return [*lines, fineweb(Path(compose("train", choice)["data"]["folder"]), asked=choice is own)]


def fineweb(folder: Path, asked: bool) -> Line:
    """What a folder in the challenge's layout holds; not having it is a failure only where it was asked for."""
    from golf.data.shards import Shards, train_shards, validation_shards
    from golf.data.tokenizer import find_tokenizer

    try:
        train, validation = train_shards(folder), validation_shards(folder)
        parts = ((train, "training"), (validation, "validation"))
        tokens = ", ".join(f"{len(Shards(paths)):,} {name} tokens in {len(paths)} shards" for paths, name in parts)
        return Line("ok", "data fineweb", f"{folder}: {tokens}, tokenizer {find_tokenizer(folder)}")
    except UserError as error:
        if folder.is_dir() or asked:
            return Line("fail" if asked else "warn", "data fineweb", str(error))
        return Line("ok", "data fineweb", f"{folder} is not here; other places: data=fineweb data.folder=<folder>")


def browser() -> list[Line]:
    """Only the tests of the report need one."""
    from golf.report.screenshot import find_chromium

    found = find_chromium()
    if found is None:
        return [Line("warn", "browser", "no Chromium: the browser tests are skipped", "apt install chromium")]
    return [Line("ok", "browser", found)]


def login() -> list[Line]:
    """Weights & Biases is used only by logger=wandb."""
    from golf.training.login import wandb_login, wandb_mode

    found = wandb_login()
    if found is None and wandb_mode() == "online":
        return [Line("ok", "wandb", "no login; logger=wandb needs one (wandb login), logger=wandb_offline does not")]
    return [Line("ok", "wandb", f"login in {found}" if found else f"{wandb_mode()} by WANDB_MODE")]


def cpu_flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return set()
    return {flag for line in text.splitlines() if line.startswith("flags") for flag in line.split(":", 1)[1].split()}


def memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
