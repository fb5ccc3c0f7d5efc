"""What train.py, export.py and evaluate.py do with a composed config. Heavy imports happen inside, after the check."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from golf.errors import GolfError, LimitExceeded, UserError, VerificationFailed


def train(config: Any) -> float | None:
    """One job of train.py: a new run in Hydra's output folder."""
    from golf.config.job import current_job
    from golf.config.resolvers import rank
    from golf.config.scaling import changes, rescaled
    from golf.loading import require_start
    from golf.pipeline.run_folder import RunFolder, create_run_folder, open_run_folder
    from golf.training.login import require_login
    from golf.training.resolve import resolve_config

    job = current_job()
    folder = _shown(job.folder)
    first = rank() == 0
    replaced = job.fit(config)
    as_written = _plain(config)
    scaled = rescaled(as_written, job.overrides)
    composed = job.ablated(scaled)
    require_login(composed["logger"])
    require_start(composed["init_from"], composed["ckpt_path"])
    resolved = resolve_config(composed, print if first else lambda line: None)
    if first and (rescalings := changes(as_written, scaled)):
        factor = f"hardware.step_scale={scaled['hardware']['step_scale']:g}"
        print(f"rescaled to this hardware ({factor}; what is typed stays): {', '.join(rescalings)}", flush=True)
    for item in replaced if first else ():
        print(item, flush=True)
    restarted = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"  # torchrun --max-restarts: go on
    if first and (restarted or job.multirun) and (folder / "config.yaml").is_file():
        run = open_run_folder(folder)
        _require_same_job(run.path, job.overrides)
    elif first:
        run = create_run_folder(folder, resolved, list(job.overrides))
    else:
        run = RunFolder(folder, resolved)
    if resolved["hardware"]["devices"] > 1 and "LOCAL_RANK" not in os.environ:
        _start_ranks(run.path, resolved["hardware"]["devices"], as_child=job.multirun)
        from golf.pipeline.summary import objective, read_summary

        return objective(read_summary(run.path), resolved["objective"])
    return run_pipeline(open_run_folder(folder) if first else run)


def _require_same_job(folder: Path, overrides: Sequence[str]) -> None:
    """A job of a sweep that is started again goes on in its folder, if that is what the folder holds."""
    from golf.files import read_yaml

    if read_yaml(folder / "overrides.yaml") != list(overrides):
        raise UserError(f"{folder} holds another job: type the sweep as it was, or another hydra.sweep.dir=<folder>")


def resume(folder: str, overrides: list[str]) -> int:
    """`python train.py run=<folder>`: go on with a run, or a whole sweep, where it was left."""
    from golf.pipeline.run_folder import open_run_folder

    if (Path(folder) / "sweep.json").is_file():
        resume_sweep(Path(folder), overrides)
    run = open_run_folder(folder)
    if overrides:
        _require_same_config(run, overrides)
    from golf.pipeline.stage import finished_manifest
    from golf.training.resolve import require_ranks

    trained = finished_manifest(run.path, _train_stage(run)) is not None
    if "LOCAL_RANK" in os.environ:
        require_ranks(run.config["hardware"]["devices"])
    elif run.config["hardware"]["devices"] > 1 and not trained:
        _start_ranks(run.path, run.config["hardware"]["devices"], as_child=False)
    run_pipeline(run)
    return 0


def resume_sweep(folder: Path, overrides: list[str]) -> NoReturn:
    """The sweep's own command in its own folder: finished jobs are kept; another launcher may do the others.

    Raises:
        UserError: overrides that would make it another sweep.
    """
    from golf.config.entry import run_script

    saved = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))["arguments"]
    others = [
        text for text in overrides if not text.startswith(("hydra/launcher=", "hydra.launcher.", "hydra.sweeper."))
    ]
    if others:
        raise UserError(
            f"{others[0]}: a sweep goes on with the command that it was started with, on another launcher if you like; "
            f"type python train.py run={folder}"
        )
    other_launcher = any(text.startswith("hydra/launcher=") for text in overrides)
    replaced = {text.partition("=")[0] for text in overrides}
    kept = [
        text
        for text in saved
        if text.partition("=")[0] not in replaced and not (other_launcher and text.startswith("hydra.launcher."))
    ]
    run_script("train", "golf.app:train", [*kept, *overrides, f"hydra.sweep.dir={folder}"])


def run_pipeline(run: Any) -> float | None:
    """All stages of a run that are not done yet; returns the objective.

    Raises:
        LimitExceeded: code and model are over the byte limit (after everything was written and scored).
        Interrupted: a signal asked for the end; what was finished stays finished.
    """
    from golf.pipeline.export import SHARED_JOBS
    from golf.pipeline.ranks import help_first_rank
    from golf.pipeline.run_folder import held, remove_leftovers
    from golf.pipeline.stage import finished_manifest
    from golf.pipeline.summary import objective
    from golf.pipeline.train import rank_and_world, train_run
    from golf.signals import stop_with

    config, (rank, _) = run.config, rank_and_world()
    with stop_with(f"stopped by {{signal}}; go on with: python train.py run={run.path}"):
        if rank:
            if finished_manifest(run.path, _train_stage(run)) is None:
                train_run(run, run.path / "stages" / "train")
                help_first_rank(SHARED_JOBS, run)
            return None
        with held(run):
            remove_leftovers(run.path)
            run.say(f"run folder: {run.path}")
            if config["trainer"]["fast_dev_run"]:
                train_run(run, run.path / "stages" / "train")
                run.say("one step and one validation batch ran; trainer.fast_dev_run=true writes no results")
                return None
            summary = _run_stages(run)
            report(run, summary)
    value = objective(summary, config["objective"])
    require_fit(summary)
    return value


def _run_stages(run: Any) -> dict[str, Any]:
    """Every stage up to `through`, then the summary and the loggers' end, which come after a failure as well."""
    from golf.pipeline.ranks import dismiss
    from golf.pipeline.stage import STAGES, Stage, run_stage
    from golf.pipeline.train import average_weights, build_loggers, train_run

    config, loggers, trained = run.config, [], run.path / "stages" / "train"
    through = STAGES.index(config["through"])

    def work(folder: Path) -> Any:
        outputs, result, opened = train_run(run, folder)
        loggers.extend(opened)
        return outputs, result

    def average(folder: Path) -> Any:
        return average_weights(run, folder, trained, run.say)

    try:
        run_stage(run.path, _train_stage(run, work))
        if through >= STAGES.index("average"):
            weights = tuple(sorted(trained.glob("*.safetensors")))
            run_stage(run.path, Stage("average", config["eval"], weights, average))
        if through >= STAGES.index("calibrate"):
            from golf.pipeline.export import export_run

            export_run(run, config["export"], config, config["through"])
        dismiss()
    except BaseException:
        dismiss()
        with contextlib.suppress(GolfError):  # such as a full disk: the error that is on its way says it
            _conclude(run, loggers)
        raise
    if not loggers and config["logger"]:  # training was finished before: its loggers still get what followed
        loggers.extend(build_loggers(run))
    return _conclude(run, loggers)


def _train_stage(run: Any, work: Any = None) -> Any:
    from golf.pipeline.stage import Stage

    return Stage("train", _training_settings(run.config), (), work)


def _conclude(run: Any, loggers: list[Any]) -> dict[str, Any]:
    from golf.pipeline.summary import write_summary
    from golf.rules.at_end import audit_run
    from golf.training.loggers import finish_loggers
    from golf.training.wandb_record import log_submission

    summary, artifact = write_summary(run), run.artifact(run.config["export"])
    if audit_run(run) is not None:
        summary = write_summary(run)
    finish_loggers(loggers, summary, artifact if artifact.is_file() else None, _sensitivity(run))
    if sys.exc_info()[0] is None:
        log_submission(run, run.config["export"], summary)
    return summary


def _sensitivity(run: Any) -> dict[str, Any]:
    """The table of the run's own export, if it was quantised."""
    path = run.path / "stages" / "quantise" / "sensitivity.json"
    if not path.is_file():
        return {}
    return {run.config["export"]: json.loads(path.read_text(encoding="utf-8"))["tensors"]}


def report(run: Any, summary: dict[str, Any]) -> None:
    """Write report.html and print the ladder, the bytes by class and where everything is."""
    from golf.report.html import write_report
    from golf.report.tables import bytes_table, ladder_table

    page = write_report(run.path)
    pieces = [
        ladder_table(summary) if summary["ladder"] else "",
        bytes_table(summary) if summary["total_bytes"] else "",
    ]
    run.say("\n" + "\n\n".join(piece for piece in pieces if piece))
    run.say(f"\nrun folder  {run.path}\nreport      {_shown(page)}")


def require_fit(summary: dict[str, Any]) -> None:
    """Exit code 3 if an export is over the limit."""
    for name, export in summary["exports"].items():
        if export["total_bytes"] and export["total_bytes"] > export["limit_bytes"]:
            over = export["total_bytes"] - export["limit_bytes"]
            raise LimitExceeded(
                f"export '{name}' has {export['total_bytes']:,} bytes, {over:,} over the limit of "
                f"{export['limit_bytes']:,}: everything is kept; try python export.py run=<folder> codec=lzma"
            )


def export(config: Any) -> float | None:
    """One job of export.py: another export of a trained run."""
    from golf.config.as_run import with_own_keys
    from golf.config.job import current_job
    from golf.pipeline.export import export_run
    from golf.pipeline.run_folder import open_run_folder
    from golf.pipeline.summary import objective, write_summary

    options, job = _plain(config), current_job()
    run = open_run_folder(options["run"])
    options = with_own_keys(options, job.choices)
    merged = dict(run.config)
    for group in ("quant", "codec", "eval"):
        if options[group]:
            merged[group] = options[group]
    if options["budget"]["limit_bytes"] is not None:
        merged["budget"] = {**run.config["budget"], "limit_bytes": options["budget"]["limit_bytes"]}
    if options["submission"] not in (True, False, "record"):
        raise UserError(f"submission={options['submission']}: allowed are true, false, record; type submission=record")
    if options["code"] not in ("readable", "packed", "whole"):
        raise UserError(f"code={options['code']}: allowed are readable, packed, whole; type code=packed")
    merged["code"] = options["code"]
    name, tokens = options["export"] or _export_name(job.overrides), options["sensitivity"]["tokens"]
    if not isinstance(tokens, int) or tokens < 0:
        raise UserError(f"sensitivity.tokens={tokens} must be a number from 0 on: type sensitivity.tokens=65536")
    as_record = options["submission"] == "record"
    if (tokens or as_record) and not options["export"] and name == "again":
        name = run.config["export"]  # nothing else was asked for: the run's own export
    if as_record:
        from golf.submission.record import require_settings

        require_settings(run, name, options["record"])
    if options["fit"].get("margin_bytes") is not None:
        from golf.config.build import build
        from golf.pipeline.fit import fit_export

        merged = fit_export(run, name, merged, build(options["fit"]), bool(options["submission"]))
    export_run(run, name, merged, options["through"], bool(options["submission"]), options["upstream_ptz"])
    if tokens:
        from golf.pipeline.sensitivity import measure_sensitivity

        measure_sensitivity(run, name, merged, tokens)
    if options["verify_code"] or as_record:
        from golf.submission.verify import verify_submission

        try:
            found = verify_submission(run.code(name), run.artifact(name), run.path)
        except VerificationFailed as error:  # what is not proved is not handed on
            run.code(name).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                run.code(name).parent.rmdir()
            if options["code"] == "whole":
                raise
            raise VerificationFailed(f"{error}; code=whole exports the program with nothing left out") from error
        run.say(f"verified: {run.code(name)} alone repeats {found.get('steps', 0)} losses of the run and its scores")
    summary = write_summary(run)
    if as_record:
        from golf.submission.record import write_record

        run.say(f"record folder {_shown(write_record(run, name, merged, options['record']))}")
    if options["submission"]:
        from golf.training.wandb_record import log_submission

        log_submission(run, name, summary)
    report(run, {**summary, **summary["exports"][name]} if name in summary["exports"] else summary)
    value = objective(summary, options["objective"], name)
    if value is not None:
        value.place = str(run.artifact(name).parent)
    require_fit({"exports": {name: summary["exports"][name]}} if name in summary["exports"] else {"exports": {}})
    return value


def evaluate(config: Any) -> float | None:
    """One job of evaluate.py: score a packed artifact."""
    from golf.pipeline.evaluate import evaluate_artifact

    return evaluate_artifact(_plain(config))


def main_train() -> None:
    """Entry point of train.py: `run=<folder>` resumes, everything else composes a new run."""
    from golf.config.entry import guard, run_script

    runs = [argument for argument in sys.argv[1:] if argument.startswith("run=")]
    if not runs:
        run_script("train", "golf.app:train")
    others = [argument for argument in sys.argv[1:] if not argument.startswith("run=")]
    sys.exit(guard(lambda: resume(_unquote(runs[0][4:]), others)))


def _training_settings(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a config that training depends on: its manifest is valid for exactly these values."""
    groups = ("model", "data", "optim", "schedule", "average", "qat", "budget", "seed", "init_from", "ckpt_path")
    sparsity = {"sparsity": config["sparsity"]} if config.get("sparsity") else {}  # {} in runs from before it
    return {group: config[group] for group in groups} | sparsity


def _require_same_config(run: Any, overrides: list[str]) -> None:
    """Refuse a resume that would change the run, naming every difference.

    Raises:
        UserError: the differences, and what to type.
    """
    from golf.config.command import require
    from golf.config.compose import compose
    from golf.files import read_yaml
    from golf.training.resolve import resolve_config

    saved = [text for text in read_yaml(run.path / "overrides.yaml") if not text.startswith("hydra.")]
    keys = {override.split("=", 1)[0].lstrip("+~") for override in overrides}
    combined = [text for text in saved if text.split("=", 1)[0].lstrip("+~") not in keys] + overrides
    require("train", combined)
    asked = resolve_config(compose("train", combined))
    differences = _differences(run.config, asked)
    if "through" in keys:
        run.config["through"] = asked["through"]
    changed = [f"{key}: {before} -> {after}" for key, (before, after) in differences.items() if key != "through"]
    if changed:
        raise UserError(
            f"a run cannot be resumed with another config ({'; '.join(changed)}): leave the overrides out, start a new "
            f"run, or for quant, codec and eval use python export.py run={run.path} …"
        )


def _differences(before: Any, after: Any, path: str = "") -> dict[str, tuple[Any, Any]]:
    if isinstance(before, dict) and isinstance(after, dict):
        found: dict[str, tuple[Any, Any]] = {}
        for key in [*before, *(key for key in after if key not in before)]:
            name = f"{path}.{key}" if path else str(key)
            found |= _differences(before.get(key), after.get(key), name)
        return found
    return {} if before == after else {path: (before, after)}


def _start_ranks(folder: Path, devices: int, as_child: bool) -> None:
    """Run the pinned run folder on several ranks: replaces this process, or waits for a child in a multirun.

    Raises:
        UserError, GolfError: what the ranks came to, when run as a child.
    """
    command = [sys.executable, "-m", "golf.training.launch", str(devices), str(folder)]
    sys.stdout.flush()
    if not as_child:
        os.execv(sys.executable, command)
    environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT")}
    code = subprocess.run(command, env=environment, check=False).returncode
    if code:
        error = GolfError(f"the ranks of {folder} ended with exit code {code} (see above)")
        error.exit_code = code
        raise error


def _export_name(overrides: Iterable[str]) -> str:
    """A name made of what was overridden: quant=int6_rows codec=lzma → int6_rows-lzma."""
    skipped = ("run", "export", "through", "submission", "objective", "sensitivity", "record", "verify_code")
    parts = []
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        if key.split(".")[0] not in skipped:
            parts.append(value if key in ("quant", "codec", "eval") else f"{key.split('.')[-1]}_{value}")
    cleaned = "-".join(parts).replace("/", "_")
    return "".join(c for c in cleaned if c.isalnum() or c in "._-") or "again"


def _plain(config: Any) -> dict[str, Any]:
    from golf.config.compose import resolve

    return resolve(config)


def _shown(path: Path) -> Path:
    """A path relative to the working folder where that is shorter."""
    try:
        return path.resolve().relative_to(Path.cwd())
    except ValueError:
        return path


def _unquote(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text
