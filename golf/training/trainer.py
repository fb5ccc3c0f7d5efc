"""Lightning's Trainer, configured for a thin hot path; the flags people know either work or are refused by name."""

from __future__ import annotations

import logging
import warnings
from typing import Any

from golf.errors import UserError
from golf.training.session import Session

NEVER = 2**40  # batches between validations where there are none: Lightning wants an integer for endless data


def make_trainer(
    val_check_steps: int = 0,
    limit_val_batches: int | float = 1.0,
    fast_dev_run: bool = False,
    overfit_batches: int = 0,
    detect_anomaly: bool = False,
    deterministic: bool = False,
    profiler: Any = None,
    log_every_steps: int = 10,
    session: Session | None = None,
    callbacks: list[Any] | None = None,
    loggers: list[Any] | None = None,
) -> Any:
    """Build the Trainer of a session.

    Args:
        val_check_steps: optimizer steps between validations, 0 = none during training.
        log_every_steps: read by golf's own metrics; Lightning's counterpart is not used.
        The others are Lightning's own.
    """
    from lightning.pytorch import Trainer
    from lightning.pytorch.callbacks import ModelCheckpoint

    from golf.training.strategy import GolfDDP, remove_sigterm_broadcast

    assert session is not None
    _quiet()
    hardware, callbacks = session.config["hardware"], callbacks or []
    accelerator: str = "gpu" if hardware["accelerator"] == "cuda" else hardware["accelerator"]
    strategy: Any = "auto"
    if session.world > 1:
        remove_sigterm_broadcast()
        strategy = GolfDDP("nccl" if hardware["accelerator"] == "cuda" else "gloo")
    validate = val_check_steps > 0 or fast_dev_run
    trainer = Trainer(
        accelerator=accelerator,
        devices=local_devices(session),
        num_nodes=node_count(session),
        strategy=strategy,
        precision="32-true",
        logger=loggers or False,
        callbacks=callbacks,
        fast_dev_run=session.accumulate if fast_dev_run else False,  # micro-batches: one whole step
        max_epochs=-1,
        max_steps=-1,
        limit_val_batches=limit_val_batches if validate else 0,
        val_check_interval=val_check_steps * session.accumulate or NEVER,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        accumulate_grad_batches=session.accumulate,
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        detect_anomaly=detect_anomaly,
        deterministic=deterministic or hardware["accelerator"] == "cpu",  # see golf.loop.deterministic_on_cpu
        benchmark=False,
        inference_mode=False,
        use_distributed_sampler=False,
        profiler=make_profiler(profiler, session),
        default_root_dir=session.folder,
    )
    if fast_dev_run:
        trainer.limit_val_batches = 1
    return trainer


def make_profiler(profiler: Any, session: Session) -> Any:
    """Lightning's profiler of that name, whose table is said like everything else (Lightning's log is silent here).

    Raises:
        UserError: another name.
    """
    from lightning.pytorch.profilers import AdvancedProfiler, SimpleProfiler

    from golf.training.profiling import NoProfiler

    if profiler is None:
        return NoProfiler()
    if hasattr(profiler, "profile"):
        return profiler
    kinds = {"simple": SimpleProfiler, "advanced": AdvancedProfiler}
    if profiler not in kinds:
        raise UserError(
            f"trainer.profiler={profiler}: allowed are null, simple, advanced or a node; type trainer.profiler=simple"
        )
    made = kinds[profiler]()
    made.describe = lambda: session.say(made.summary())
    return made


def local_devices(session: Session) -> int:
    """Processes on this node."""
    import os

    return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if session.world > 1 else 1


def node_count(session: Session) -> int:
    return max(1, session.world // local_devices(session))


def _quiet() -> None:
    """Silence Lightning's banners and tips: a run's console is golf's own."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
