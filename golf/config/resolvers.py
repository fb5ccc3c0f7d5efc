"""The four interpolations of golf's YAML files: `rank0`, `mul`, `git`, `run_id`. No torch; registering twice is fine.

`${rank0:x}` is x on rank 0 and null elsewhere (so that other ranks write neither `.hydra/` nor the main log);
`${mul:a,b}` multiplies; `${git:}` is the short commit; `${run_id:}` is a time stamp, the same at each use in a config,
and the launcher's (`GOLF_RUN_ID`) where one is set, so that all ranks of a run agree.
"""

from __future__ import annotations

import os
import subprocess
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from golf.errors import UserError

_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")


def rank() -> int:
    """This process's rank from the environment of its launcher; 0 without one."""
    for name in _RANKS[:2]:
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return 0


def rank0(value: object = None) -> object:
    return value if rank() == 0 else None


def mul(*factors: float) -> float:
    """Product of numbers; an integer if all factors are."""
    product: float = 1
    for factor in factors:
        product *= float(factor) if isinstance(factor, str) else factor
    return product


@lru_cache(maxsize=1)
def git() -> str:
    """Short commit of the checkout golf runs from (`-dirty` with uncommitted changes), or `unknown`."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip() or "unknown"


def run_id() -> str:
    """Time stamp with microseconds: two jobs started in the same second get different folders.

    Under torchrun it comes from the environment, because every rank would read another time.

    Raises:
        UserError: several ranks, and nothing that they could agree on.
    """
    chosen = os.environ.get("GOLF_RUN_ID")
    if not chosen and os.environ.get("WORLD_SIZE", "1") != "1" and "LOCAL_RANK" in os.environ:
        chosen = os.environ.get("TORCHELASTIC_RUN_ID", "none")
        if chosen == "none":  # torchrun's default without --standalone or --rdzv-id
            raise UserError(
                "torchrun's ranks would each choose another run folder: add hydra.run.dir=<folder> to the command, "
                "or torchrun --rdzv-id=<name>, or set GOLF_RUN_ID"
            )
    return chosen or datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")


def register() -> None:
    """Registers the four resolvers with OmegaConf; repeated calls replace them (tests, notebooks, multirun)."""
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver("rank0", rank0, replace=True)
    OmegaConf.register_new_resolver("mul", mul, replace=True)
    OmegaConf.register_new_resolver("git", git, replace=True)
    OmegaConf.register_new_resolver("run_id", run_id, use_cache=True, replace=True)
