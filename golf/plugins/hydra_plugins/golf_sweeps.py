"""golf's launchers and sweeper under the name that Hydra demands of plug-ins; their code is in golf/config/engines."""

from golf.config.engines.joblib_pool import JoblibJobs
from golf.config.engines.ray_pool import RayJobs
from golf.config.engines.slurm import LocalSubmititJobs, SubmititJobs
from golf.config.engines.study import OptunaStudy


class JoblibLauncher(JoblibJobs):
    """hydra/launcher=joblib."""


class RayLauncher(RayJobs):
    """hydra/launcher=ray."""


class SlurmLauncher(SubmititJobs):
    """hydra/launcher=submitit_slurm."""


class LocalLauncher(LocalSubmititJobs):
    """hydra/launcher=submitit_local."""


class OptunaSweeper(OptunaStudy):
    """hydra/sweeper=optuna."""
