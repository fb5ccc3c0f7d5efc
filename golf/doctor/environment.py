"""What a run finds around it: launcher's variables, CPU and devices, C++ compiler, browser, W&B login."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from golf.doctor.finding import Line, Subject, split_error
from golf.errors import UserError

LEFT_OVER = ("RANK", "LOCAL_RANK", "WORLD_SIZE")


def launcher() -> list[Line]:
    """Variables of torchrun where there is no torchrun."""
    found = [name for name in LEFT_OVER if name in os.environ]
    if not found:
        return [Line("ok", "launcher", "no rank variables are set: train.py starts torchrun itself")]
    shown = " ".join(f"{name}={os.environ[name]}" for name in found)
    return [Line("fail", "launcher", f"{shown} set", f"unset {' '.join(found)}", "a run would wait for ranks for ever")]


def devices(subject: Subject) -> list[Line]:
    """CPU (cores, memory, bfloat16 units), and each GPU with a product computed on it."""
    import torch

    from golf.training.device import usable_cores

    flags = cpu_flags()
    fast = "AMX" if "amx_bf16" in flags else "AVX-512 BF16" if "avx512_bf16" in flags else ""
    memory = memory_bytes()
    about = f"{usable_cores()} cores" + (f", {memory / 1e9:.0f} GB memory" if memory else "")
    lines = [Line("ok", "cpu", f"{about}, {f'bfloat16 by {fast}' if fast else 'no bfloat16 units: float32 is used'}")]
    if torch.cuda.is_available():
        lines += [cuda_device(index) for index in range(torch.cuda.device_count())]
    elif torch.backends.mps.is_available():
        lines.append(Line("ok", "gpu", "Metal: type hardware=mac to use it"))
    elif shutil.which("nvidia-smi"):
        built = torch.version.cuda
        reason = f"nvidia-smi is here, but torch {torch.__version__} sees no GPU"
        todo = "update the driver" if built else "install a torch built for CUDA: make distclean install"
        lines.append(Line("warn", "gpu", reason, todo, "runs would train on the CPU"))
    else:
        lines.append(Line("ok", "gpu", "none: runs train on the CPU"))
    if subject.refusal:
        what, todo = split_error(UserError(subject.refusal))
        asked = f"hardware={subject.option} was asked for"
        lines.append(Line("fail", "hardware", what, todo or "hardware=auto", asked))
    return lines


def cuda_device(index: int) -> Line:
    """A GPU counts as there when it has multiplied something."""
    import torch

    gpu = torch.cuda.get_device_properties(index)
    about = f"{gpu.name}, {gpu.total_memory / 1e9:.0f} GB, sm_{gpu.major}{gpu.minor}"
    try:
        ones_NN = torch.ones(256, 256, device=f"cuda:{index}", dtype=torch.bfloat16)
        right = bool((ones_NN @ ones_NN == 256).all())
    except RuntimeError as error:
        said = str(error).strip().splitlines()[0][:160]
        return Line("fail", f"gpu {index}", f"{about}: {said}", BROKEN, "torch has no kernels for it, or it is broken")
    if right:
        return Line("ok", f"gpu {index}", f"{about}, computes")
    return Line("fail", f"gpu {index}", f"{about}: a product of ones is wrong", BROKEN, "every number would be wrong")


BROKEN = "use another machine, or leave it out with CUDA_VISIBLE_DEVICES"


def compiler() -> list[Line]:
    """torch.compile needs a C++ compiler and Python's headers."""
    from golf.training.hardware import compiler_problem

    problem = compiler_problem()
    if problem is None:
        return [Line("ok", "compiler", "C++ compiler and Python's headers are here: hardware.compile works")]
    reason, _, todo = problem.partition("; ")
    return [Line("warn", "compiler", reason, todo or "install g++", "without torch.compile steps are slower")]


def browser() -> list[Line]:
    """Only the tests of the report need one."""
    from golf.report.screenshot import find_chromium

    found = find_chromium()
    if found is None:
        why = "the browser tests are skipped; runs need none"
        return [Line("warn", "browser", "no Chromium", "apt install chromium", why)]
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
