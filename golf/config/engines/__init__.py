"""Engines of a multirun: where jobs run (launchers) and what is tried (sweepers), all with the same promises.

A finished job is not run twice, a job that fails or whose process dies is a line of the table and not the end of the
sweep, and every job has a finite objective.
"""
