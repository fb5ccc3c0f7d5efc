"""hydra/sweeper=optuna: a search by Optuna (https://optuna.readthedocs.io) with its study in SQLite, which resumes.

The study's name is the sweep's folder, and a trial's number its job's: the same command goes on where it stopped, with
jobs that were under way first. Hydra's own plug-in for Optuna (1.3, for Optuna 2) would number the jobs of a resumed
study from 0 again and forget those under way. Invariant: every trial that ended has a finite value; that of a failed
job is WORST, which the samplers here only rank, and its reason stands in the trial's attribute `failed`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from golf.config.engines.records import WORST, read_record, usable
from golf.config.engines.space import search_space
from golf.config.nearest import offer
from golf.errors import UserError

SAMPLERS = {"tpe": "TPESampler", "random": "RandomSampler", "qmc": "QMCSampler"}


class OptunaStudy(Sweeper):
    """study_name, storage, n_trials (of the whole study), n_jobs (at once), sampler, seed, direction and params."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.composed, self.context = config, hydra_context
        self.jobs = Plugins.instance().instantiate_launcher(
            config=config, hydra_context=hydra_context, task_function=task_function
        )

    def sweep(self, arguments: list[str]) -> Any:
        folder = Path(str(self.composed.hydra.sweep.dir))
        folder.mkdir(parents=True, exist_ok=True)
        given = [f"{key}={value}" for key, value in (self.settings["params"] or {}).items()]
        space, fixed = search_space([*given, *arguments], self.context.config_loader)
        with held(folder):
            study = self._study(space)
            for trials in self._batches(study, space):
                self._run(study, trials, fixed)
            self._conclude(study, folder)

    def _study(self, space: dict[str, Any]) -> Any:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        _require_positive(self.settings, "n_trials", "n_jobs")
        from sqlalchemy.exc import SQLAlchemyError

        try:
            study = optuna.create_study(
                study_name=self.settings["study_name"],
                storage=self.settings["storage"],
                direction=self.settings["direction"],
                load_if_exists=True,
            )
        except (SQLAlchemyError, ImportError, ValueError, optuna.exceptions.OptunaError) as error:
            reason = " ".join(str(error).split())[:160]
            raise UserError(f"hydra.sweeper: storage, study_name or direction cannot be used ({reason})") from error
        known = study.trials
        if known and set(known[0].params) and set(known[0].params) != set(space):
            raise UserError(
                f"the study {study.study_name} searches {', '.join(known[0].params)}, not {', '.join(space)}: "
                "type another hydra.sweeper.study_name"
            )
        study.sampler = sampler(self.settings["sampler"], self.settings["seed"], len(known))
        return study

    def _batches(self, study: Any, space: dict[str, Any]) -> Iterator[list[Any]]:
        """Trials in groups of n_jobs: those that a stopped sweep left under way, then new ones up to n_trials."""
        from optuna.trial import Trial, TrialState

        left = [trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.RUNNING]
        for trial in left:
            if set(trial.params) != set(space):  # stopped before it had its values
                study.tell(trial.number, state=TrialState.FAIL)
        pending = [Trial(study, trial._trial_id) for trial in left if set(trial.params) == set(space)]
        at_once = self.settings["n_jobs"]
        done = len(_succeeded(study))
        if done or pending:
            print(f"study {study.study_name}: {done} trials are done, {len(pending)} were under way", flush=True)
        todo = self.settings["n_trials"] - done
        while todo > 0 or pending:
            batch, pending = pending[:at_once], pending[at_once:]
            while len(batch) < min(at_once, todo):
                try:
                    batch.append(study.ask(fixed_distributions=space))
                except ValueError as error:
                    reason = " ".join(str(error).split())
                    raise UserError(
                        f"the study {study.study_name} searched other values before ({reason}): type another "
                        "hydra.sweeper.study_name"
                    ) from error
            yield batch
            todo -= len(batch)

    def _run(self, study: Any, trials: Sequence[Any], fixed: Sequence[str]) -> None:
        for group in _consecutive(trials):
            jobs = [[*(f"{key}={value}" for key, value in trial.params.items()), *fixed] for trial in group]
            returned = self.jobs.launch(jobs, initial_job_idx=group[0].number)
            for trial, result in zip(group, returned):
                value = result.return_value
                if not usable(value) or value >= WORST:
                    record = read_record(Path(str(self.composed.hydra.sweep.dir)) / str(trial.number)) or {}
                    trial.set_user_attr("failed", record.get("error") or f"the objective was {value}")
                    value = WORST if str(self.settings["direction"]) == "minimize" else -WORST
                study.tell(trial, float(value))

    def _conclude(self, study: Any, folder: Path) -> None:
        """optimization_results.yaml, as Hydra's own Optuna plug-in writes it."""
        good = _succeeded(study)
        if not good:
            return
        best = (min if str(self.settings["direction"]) == "minimize" else max)(good, key=lambda trial: trial.value)
        found = {"name": "optuna", "best_params": dict(best.params), "best_value": best.value, "trial": best.number}
        OmegaConf.save(OmegaConf.create(found), folder / "optimization_results.yaml")
        print(f"study {study.study_name}: {len(good)} trials, the best is {best.number} in {self.settings['storage']}")


def sampler(name: str, seed: int | None, trials: int) -> Any:
    """An Optuna sampler by its short name; a study that goes on draws other numbers than at its beginning.

    Raises:
        UserError: no such sampler.
    """
    import optuna

    if name not in SAMPLERS:
        raise UserError(f"hydra.sweeper.sampler={name}: {offer(name, SAMPLERS)}")
    options: dict[str, Any] = {} if seed is None else {"seed": seed + trials}
    if name == "tpe":
        options |= {"constant_liar": True}  # trials of one batch do not all try the same place
    return getattr(optuna.samplers, SAMPLERS[name])(**options)


def _succeeded(study: Any) -> list[Any]:
    from optuna.trial import TrialState

    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return [trial for trial in complete if "failed" not in trial.user_attrs]


def _consecutive(trials: Sequence[Any]) -> list[list[Any]]:
    """Groups with consecutive numbers: a launcher numbers its jobs so."""
    groups: list[list[Any]] = []
    for trial in sorted(trials, key=lambda trial: trial.number):
        if groups and groups[-1][-1].number == trial.number - 1:
            groups[-1].append(trial)
        else:
            groups.append([trial])
    return groups


def _require_positive(settings: dict[str, Any], *names: str) -> None:
    for name in names:
        if not isinstance(settings[name], int) or settings[name] < 1:
            raise UserError(f"hydra.sweeper.{name}={settings[name]} must be a whole number from 1 on")


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """One sweeper per study: trials under way would be taken for those of a stopped one.

    Raises:
        UserError: another process runs the study.
    """
    with open(folder / ".lock", "a") as file:
        if os.name == "posix":
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"the study in {folder} is being run by another process: wait for it, stop it, or type another "
                    "hydra.sweeper.study_name"
                ) from None
        yield
