"""The run folder: one process at a time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from golf.errors import UserError
from golf.pipeline.run_folder import RunFolder, held


def test_a_run_is_held_by_one_process(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, {})
    with held(run):
        child = os.fork()
        if child == 0:
            try:
                with held(run):
                    os._exit(0)
            except UserError as error:
                os._exit(7 if "another process" in str(error) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    with held(run), pytest.raises(UserError, match="another process"), held(run):
        pass
