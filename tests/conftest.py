"""One thread per test process, no network services, and an environment that does not depend on who runs the suite.

Set before torch is imported anywhere, and inherited by every process that a test starts.
"""

from __future__ import annotations

import os

LAUNCHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")

for name in [*LAUNCHER, *(name for name in os.environ if name.startswith(("WANDB_", "HYDRA_", "TORCHELASTIC_")))]:
    os.environ.pop(name, None)

os.environ |= {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "WANDB_MODE": "disabled",
    "WANDB_SILENT": "true",
    "PYTHONWARNINGS": "ignore::DeprecationWarning",
    "COLUMNS": "120",
}
