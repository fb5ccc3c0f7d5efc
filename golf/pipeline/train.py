"""The train stage: one session, one Trainer, one set of final weights; and the average stage that follows it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from golf.config.build import build
from golf.errors import RankLost, UserError
from golf.pipeline.ranks import stay_or_part
from golf.pipeline.run_folder import RunFolder, speaker
from golf.training.callbacks.base import GolfCallback, Together
from golf.training.callbacks.budget import BudgetCallback
from golf.training.callbacks.restore import RestoreCallback
from golf.training.callbacks.sparsity import SparsityCallback
from golf.training.checkpointing import find_checkpoint, load_weights, read_checkpoint, save_weights
from golf.training.datamodule import GolfDataModule
from golf.training.device import describe_hardware, peak_flops, torch_device
from golf.training.heartbeat import HeartbeatCallback
from golf.training.loggers import JsonLinesLogger, cut_metrics
from golf.training.module import GolfModule
from golf.training.session import Session, open_session

PEER_WORDS = ("gloo", "nccl", "closed by peer")  # in errors of collectives


def rank_and_world() -> tuple[int, int]:
    """This process' rank and the number of ranks, from torchrun's environment."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def train_run(run: RunFolder, folder: Path) -> tuple[Iterable[Path], dict[str, Any], list[Any]]:
    """Train (or go on training) on every rank; returns output files, the stage's result and the open loggers.

    Raises:
        Interrupted: a signal asked for the end; the checkpoint is written.
    """
    config, (rank, world) = run.config, rank_and_world()
    device = torch_device(config["hardware"])
    say = speaker(run, rank)
    session = open_session(
        config, run.path, run.data(say), say, device, rank, world, _share(device) if world > 1 else None
    )
    session.statistics["peak_flops"] = peak_flops(config["hardware"])
    checkpoint = _start_point(run, session)
    if rank == 0:
        cut_metrics(run.path / "metrics.jsonl", session.step)
    loggers = build_loggers(run) if rank == 0 and not config["trainer"]["fast_dev_run"] else []
    if checkpoint is not None and checkpoint["finished"]:
        _restore_finished(session, checkpoint)
    else:
        _fit_on_all_ranks(session, loggers)
    if session.interrupted:
        raise session.interruption()
    if rank or config["trainer"]["fast_dev_run"]:
        return [], {}, loggers
    outputs = [folder / "weights.safetensors"]
    save_weights(session.net.state_dict(), outputs[0])
    if session.average is not None:
        outputs.append(folder / "average.safetensors")
        save_weights(session.averaged(), outputs[1])
    return outputs, _result(session), loggers


def _fit(session: Session, loggers: list[Any]) -> None:
    module = GolfModule(session)
    trainer = build({**session.config["trainer"], "_partial_": True})(
        session=session, callbacks=build_callbacks(session.config["callbacks"]), loggers=loggers
    )
    trainer.fit(module, datamodule=GolfDataModule(session, module))


def _fit_on_all_ranks(session: Session, loggers: list[Any]) -> None:
    """Fit, then leave the process group, or stay for the exports.

    A rank that has gone is one line here, and the launcher names it.

    Raises:
        RankLost: another rank has died.
    """
    finished = False
    try:
        _fit(session, loggers)
        if session.world > 1:
            stay_or_part(session.config, bool(session.interrupted))
        finished = True
    except RuntimeError as error:
        about_ranks = isinstance(error, dist.DistError) or any(word in str(error).lower() for word in PEER_WORDS)
        if session.world > 1 and about_ranks:
            reason = str(error).strip().splitlines()[0][:160]
            raise RankLost(
                f"rank {session.rank} has lost another rank at step {session.step} ({reason}): "
                f"go on from the last checkpoint with python train.py run={session.folder}"
            ) from error
        raise
    finally:
        if session.heartbeat is not None:
            session.heartbeat.stop(finished)


def build_callbacks(nodes: dict[str, Any]) -> list[Any]:
    """Golf's callbacks as one, then the others in their order; what no run can do without is always among them."""
    built = [build(node) for node in nodes.values() if node and "_target_" in node]
    built += [RestoreCallback(), SparsityCallback(), HeartbeatCallback()]
    if not any(isinstance(callback, BudgetCallback) for callback in built):
        built.append(BudgetCallback())
    own = [callback for callback in built if isinstance(callback, GolfCallback)]
    return [Together(own), *(callback for callback in built if not isinstance(callback, GolfCallback))]


def build_loggers(run: RunFolder) -> list[Any]:
    """The JSON-lines logger, and those of the `logger` group; golf's own factories learn where the run is."""
    loggers: list[Any] = [JsonLinesLogger(run.path / "metrics.jsonl")]
    for node in run.config["logger"].values():
        if not node or "_target_" not in node:
            continue
        if node["_target_"].startswith("golf.training.loggers."):
            own = {"folder": run.path, "name": f"{run.config['name']}/{run.path.name}", "config": run.config}
            loggers.append(build({**node, "_partial_": True})(**own))
        else:
            loggers.append(build(node))
    return loggers


def _start_point(run: RunFolder, session: Session) -> dict[str, Any] | None:
    """The checkpoint to go on from: the run's own newest, else `ckpt_path`; else weights from `init_from`."""
    config = run.config
    own = find_checkpoint(run.path)
    found = own or (Path(config["ckpt_path"]) if config["ckpt_path"] else None)
    if found is not None:
        checkpoint = read_checkpoint(found)
        checkpoint["finished"] = checkpoint["finished"] and own is not None  # another run's end is no end here
        session.restored, session.step = checkpoint, checkpoint["step"]
        if own is None and not config["trainer"]["fast_dev_run"]:
            _require_room(session, checkpoint, found)
        session.say(f"going on from step {session.step} ({found})")
        return checkpoint
    if config["init_from"]:
        from golf.loading import load_state

        load_weights(session.net, load_state(config["init_from"]))
        session.say(f"weights from {config['init_from']}")
    return None


def _require_room(session: Session, checkpoint: dict[str, Any], path: Path) -> None:
    """A new run that starts where its budget is already used up would train one step and call it a run.

    Raises:
        UserError: naming the budget.
    """
    clock, step = session.clock, session.step
    clock.load_state_dict(checkpoint["clock"], step)
    if clock.local_progress(step).fraction >= 1:
        raise UserError(
            f"ckpt_path={path} is at step {step:,} after {clock.read():.0f} s and leaves nothing to train within the "
            f"budget: type a larger one (budget.max_steps={2 * step}), or evaluate the run it belongs to"
        )


def _restore_finished(session: Session, checkpoint: dict[str, Any]) -> None:
    """Training was finished, only its outputs are missing: take weights, average and statistics as they were."""
    load_weights(session.net, checkpoint["weights"])
    if session.average is not None and checkpoint["average"]:
        session.average.load_state_dict(checkpoint["average"], session.device)
    session.clock.load_state_dict(checkpoint["clock"], checkpoint["step"])
    session.statistics.update(json.loads(checkpoint["statistics"]))
    session.restored = None


def _result(session: Session) -> dict[str, Any]:
    statistics = session.statistics
    names = (
        "train_seconds",
        "train_tokens",
        "tokens_per_second",
        "step_ms_p50",
        "step_ms_p99",
        "flops",
        "mfu",
        "joules",
        "data_wait_seconds",
    )
    return {
        "steps": session.step,
        "parameters": sum(p.numel() for p in session.net.parameters()),
        "hardware": describe_hardware(session.config["hardware"]),
        "devices": session.world,
        "target": statistics.get("target"),
        "unique_tokens": len(session.stream.shards),
        "passes": session.step * session.stream.tokens_per_step / len(session.stream.shards),
        "peak_memory_bytes": _peak_memory(session.device),
        **{name: statistics.get(name) for name in names},
    }


def _peak_memory(device: torch.device) -> int:
    """Peak bytes of the device (GPU) or of this process (CPU)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    import resource
    import sys

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _share(device: torch.device) -> Callable[[tuple[float, float]], tuple[float, float]]:
    """Rank 0's two clock readings on all ranks; a negative pace, the request to stop, counts from whichever rank."""

    def share(values: tuple[float, float]) -> tuple[float, float]:
        seconds, pace = values
        mine = (seconds, pace) if dist.get_rank() == 0 else (0.0, 0.0)
        tensor = torch.tensor((*mine, float(pace < 0)), dtype=torch.float64, device=device)
        dist.all_reduce(tensor)
        seconds, pace, requests = tensor.tolist()
        return seconds, -1.0 if requests else pace

    return share


def average_weights(run: RunFolder, folder: Path, inputs: Path, say: Any) -> tuple[Iterable[Path], dict[str, Any]]:
    """Write the weights that are exported, and score raw and averaged ones on the cheapest protocol of `eval`."""
    from safetensors.torch import load_file

    from golf.pipeline.scoring import score_weights

    raw = load_file(inputs / "weights.safetensors")
    averaged_path = inputs / "average.safetensors"
    rungs = score_weights(run, {"raw": raw}, say)
    exported = raw
    if averaged_path.is_file():
        exported = {**raw, **load_file(averaged_path)}
        rungs += score_weights(run, {"averaged": exported}, say)
    output = folder / "weights.safetensors"
    save_weights(exported, output)
    return [output], {"ladder": rungs, "averaged": averaged_path.is_file()}
