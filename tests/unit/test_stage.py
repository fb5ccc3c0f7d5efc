"""A stage runs once for the same settings and inputs, again for others, and leaves no manifest when it fails."""

from __future__ import annotations

import errno
import json
import os

import pytest

from golf.errors import UserError
from golf.files import write_atomically
from golf.pipeline.run_folder import remove_leftovers
from golf.pipeline.stage import MANIFEST_VERSION, Stage, finished_manifest, run_stage, stage_result


@pytest.fixture
def double(tmp_path):
    """double(settings) is a stage that doubles the number in in.txt; `double.runs` counts how often it worked."""
    source = tmp_path / "in.txt"
    source.write_text("3")

    def work(folder):
        make.runs += 1
        output = folder / "out.txt"
        output.write_text(str(2 * int(source.read_text())))
        return [output], {"value": int(output.read_text())}

    def make(settings=None, work=work):
        return Stage("pack", settings, (source,), work)

    make.runs, make.source, make.output = 0, source, tmp_path / "stages" / "pack" / "out.txt"
    make.manifest = tmp_path / "stages" / "pack" / "manifest.json"
    return make


def test_a_finished_stage_is_not_run_again(double, tmp_path):
    assert finished_manifest(tmp_path, double()) is None
    assert run_stage(tmp_path, double()) == run_stage(tmp_path, double()) == {"value": 6}
    assert double.runs == 1
    manifest = json.loads(double.manifest.read_text())
    assert manifest["inputs"].keys() == {"in.txt"}
    assert manifest["outputs"].keys() == {"stages/pack/out.txt"}
    assert finished_manifest(tmp_path, double()) == manifest
    assert stage_result(tmp_path, "pack") == {"value": 6, "stage_seconds": manifest["seconds"]}


def change_input(double):
    double.source.write_text("5")


def damage_output(double):
    double.output.write_text("7")


def remove_output(double):
    double.output.unlink()


def halve_manifest(double):
    double.manifest.write_text(double.manifest.read_text()[:40])


def age_manifest(double):
    manifest = json.loads(double.manifest.read_text())
    double.manifest.write_text(json.dumps({**manifest, "version": MANIFEST_VERSION - 1}))


@pytest.mark.parametrize("change", [change_input, damage_output, remove_output, halve_manifest, age_manifest])
def test_whatever_does_not_fit_is_done_again(double, tmp_path, change):
    run_stage(tmp_path, double())
    change(double)
    value = run_stage(tmp_path, double())["value"]
    assert (double.runs, value) == (2, 2 * int(double.source.read_text()))
    assert int(double.output.read_text()) == value


def test_other_settings_are_another_stage(double, tmp_path):
    for settings in ({"a": 1}, {"a": 2}, {"a": 2}):
        run_stage(tmp_path, double(settings))
    assert double.runs == 2


def test_a_stage_that_fails_has_no_manifest_even_if_it_had_one(double, tmp_path):
    run_stage(tmp_path, double())

    def fail(folder):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        run_stage(tmp_path, double("other", fail))
    assert not double.manifest.exists()
    assert stage_result(tmp_path, "pack") is None


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "no space left on the disk"), (errno.EROFS, "no permission to write"), (errno.EIO, "error")],
)
def test_a_disk_that_refuses_is_one_line(double, tmp_path, number, words):
    def fail(folder):
        raise OSError(number, os.strerror(number), str(folder / "out.txt"))

    with pytest.raises(UserError, match=words) as caught:
        run_stage(tmp_path, double(work=fail))
    assert str(double.output) in str(caught.value)


def test_an_error_of_ours_stays_what_it_is(double, tmp_path):
    def fail(folder):
        (folder / "is not there").read_text()

    with pytest.raises(FileNotFoundError):
        run_stage(tmp_path, double(work=fail))


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, "old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="no space left on the disk"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_leftovers_of_a_killed_process_are_removed(tmp_path):
    (tmp_path / "artifact").mkdir()
    for name in (".model.golf.12.part", "model.golf.12.part", "model.golf"):
        (tmp_path / "artifact" / name).write_text("")
    remove_leftovers(tmp_path)
    assert [path.name for path in (tmp_path / "artifact").iterdir()] == ["model.golf"]
