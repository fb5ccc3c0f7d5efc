"""Checkpoints: a folder with `weights.safetensors`, `state.pt` (plain tensors and numbers, loadable with
weights_only=True) and `meta.json`; complete or absent, never half-written (made beside its place, then renamed). The
one at the end of training is step_<n>_end, so that it never has to replace one of the same step.

Invariant: on one device, training from a checkpoint gives bit for bit what an uninterrupted run gives. The data stream
is a pure function of the step, so its state is the step.
"""

from __future__ import annotations

import io
import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save

from golf.errors import UserError
from golf.files import disk_error, write_atomically

CHECKPOINT_VERSION = 1
NOT_RESTORED = ("peak_flops",)
WEIGHTS, STATE, META = "weights.safetensors", "state.pt", "meta.json"


def save_checkpoint(session: Any, trainer: Any, keep: int = 2, finished: bool = False) -> Path:
    """Write checkpoints/step_<n>, point `latest` to it, and remove all but the newest `keep`.

    `finished` says that training has reached its end: resuming goes straight to the next stage.

    Raises:
        UserError: the disk refuses; earlier checkpoints are untouched.
    """
    root = session.folder / "checkpoints"
    final = root / (f"step_{session.step:08d}" + ("_end" if finished else ""))
    part = root / f".{final.name}.part"
    meta = {"version": CHECKPOINT_VERSION, "step": session.step, "finished": finished}
    state = io.BytesIO()
    torch.save(training_state(session, trainer), state)
    try:
        for unfinished in root.glob(".*.part"):  # of a process that was killed
            shutil.rmtree(unfinished, ignore_errors=True)
        save_weights(session.net.state_dict(), part / WEIGHTS)
        write_atomically(part / STATE, state.getvalue())
        write_atomically(part / META, json.dumps(meta))
        shutil.rmtree(final, ignore_errors=True)
        os.replace(part, final)
    except (OSError, UserError) as error:
        shutil.rmtree(part, ignore_errors=True)
        if isinstance(error, OSError):
            raise disk_error(error, final) from error
        raise
    write_atomically(root / "latest", final.name)
    for old in sorted(root.glob("step_*"))[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def save_weights(state: dict[str, torch.Tensor], path: Path) -> None:
    """Named tensors as a safetensors file (whole or not there).

    Raises:
        UserError: the disk refuses.
    """
    write_atomically(path, save({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}))


def training_state(session: Any, trainer: Any) -> dict[str, Any]:
    """Everything but the weights, as plain tensors, numbers, strings, lists and dicts."""
    callbacks = {c.state_key: c.state_dict() for c in trainer.callbacks if c.state_dict()} if trainer else {}
    statistics = {k: v for k, v in session.statistics.items() if k not in NOT_RESTORED}
    return {
        "optimizer": session.optimizer.state_dict(),
        "average": session.average.state_dict() if session.average is not None else {},
        "clock": session.clock.state_dict(),
        "phase": session.net.phase,  # of the last step: what begins with the next phase has not happened yet
        "random": random_state(session.device),
        "callbacks": _plain(callbacks),
        "statistics": json.dumps(statistics, default=float),
    }


def find_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint of a run folder, None if it has none."""
    root = folder / "checkpoints"
    complete = [path.parent for path in sorted(root.glob("step_*/" + META))]
    return complete[-1] if complete else None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Weights, state and step of a checkpoint folder.

    Raises:
        UserError: not a checkpoint, damaged, or written by another version.
    """
    if not (path / META).is_file():
        raise UserError(
            f"{path} is not a checkpoint (no {META}): type a folder like runs/<name>/<time>/checkpoints/step_…"
        )
    try:
        meta = json.loads((path / META).read_text())
        if meta["version"] != CHECKPOINT_VERSION:
            raise UserError(
                f"{path} has checkpoint version {meta['version']}, this golf reads {CHECKPOINT_VERSION}: "
                "resume it with the golf that wrote it"
            )
        weights = load_file(path / WEIGHTS)
        state = torch.load(path / STATE, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{path} is damaged ({type(error).__name__}): delete this folder to use the one before"
        ) from error
    return {**state, "weights": weights, "step": int(meta["step"]), "finished": bool(meta["finished"])}


def restore(session: Any, trainer: Any, checkpoint: dict[str, Any]) -> None:
    """Put a checkpoint into a session whose optimizer exists; the session's step must be the checkpoint's."""
    load_weights(session.net, checkpoint["weights"])
    session.net.phase = checkpoint.get("phase", session.net.phase)
    optimizer_state = checkpoint["optimizer"]
    session.optimizer.load_state_dict(optimizer_state)
    if session.average is not None and checkpoint["average"]:
        session.average.load_state_dict(checkpoint["average"], session.device)
    session.clock.load_state_dict(checkpoint["clock"], checkpoint["step"])
    session.statistics.update(json.loads(checkpoint["statistics"]))
    set_random_state(checkpoint["random"])
    states = checkpoint["callbacks"]
    for callback in trainer.callbacks:
        if callback.state_key in states:
            callback.load_state_dict(states[callback.state_key])
    # Lightning's counters: `trainer.global_step` and the cadence of validation go on where they were.
    loop = trainer.fit_loop.epoch_loop
    steps, batches = checkpoint["step"], checkpoint["step"] * session.accumulate
    progress = loop.automatic_optimization.optim_progress.optimizer.step.total
    progress.ready = progress.completed = steps
    total = loop.batch_progress.total
    total.ready = total.started = total.processed = total.completed = batches


def load_weights(net: Any, weights: dict[str, torch.Tensor]) -> None:
    """Copy named weights into a network; every name and shape must fit.

    Raises:
        UserError: naming the tensors that are missing, left over or of another shape.
    """
    own = net.state_dict()
    missing, extra = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    shaped = [n for n in own.keys() & weights.keys() if own[n].shape != weights[n].shape]
    if missing or extra or shaped:
        parts = [
            f"{what} {', '.join(names[:3])}"
            for what, names in (("missing", missing), ("left over", extra), ("of another shape", sorted(shaped)))
            if names
        ]
        raise UserError(
            f"the weights do not fit this network ({'; '.join(parts)}): use the config they were trained with"
        )
    net.load_state_dict(weights)


def random_state(device: torch.device) -> dict[str, Any]:
    """States of the generators of Python, numpy and torch, as plain data."""
    _, words, gauss = random.getstate()
    _, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "python": list(words),
        "python_gauss": gauss,
        "numpy": [int(k) for k in keys],
        "numpy_tail": [int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if device.type == "cuda" else [],
    }


def set_random_state(state: dict[str, Any]) -> None:
    random.setstate((3, tuple(state["python"]), state["python_gauss"]))
    position, has_gauss, cached = state["numpy_tail"]
    np.random.set_state(("MT19937", np.array(state["numpy"], dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


def _plain(value: Any) -> Any:
    """What a callback keeps (EarlyStopping's best score is a tensor and must stay one), without foreign types."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
