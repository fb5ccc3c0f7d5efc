"""golf doctor: what it finds, how it words it, its exit code; and dry runs that go on behind a broken stage."""

from __future__ import annotations

import functools
import json
import shutil
import sys
from pathlib import Path

import pytest

from golf.cli import main as golf
from golf.doctor import attention, command, compressors, data, disk, dry_run, environment, packages, shrink
from golf.doctor.command import guarded
from golf.doctor.finding import Line, Subject, split_error, subject_of
from golf.errors import UserError

SMOKE = ["experiment=smoke", "hardware=cpu", "hardware.compile=false"]


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


@pytest.fixture
def quick(monkeypatch):
    """The checks that start processes or keep the processor busy, as if done."""
    monkeypatch.setattr("golf.doctor.ranks.all_reduce", lambda *arguments: (1e-3, ""))
    monkeypatch.setattr("golf.doctor.throughput.SECONDS", 0.0)


@functools.cache
def subject(*overrides: str) -> Subject:
    found = subject_of([*SMOKE, *overrides])
    assert not found.errors
    return found


def test_looking_only(capsys, tmp_path, quick):
    assert golf(["doctor", "--no-dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is True
    assert found["seconds"] < 60
    whats = {line["what"] for line in found["checks"]}
    assert whats >= {"python", "torch", "lightning", "versions", "cpu", "launcher", "compiler", "codec zlib", "config"}
    assert whats >= {"attention", "runs/", "data/", "compile cache", "data sample", "data fineweb", "gloo x 2"}
    assert whats >= {"throughput", "codec of this run", "browser", "wandb"}
    assert {line["status"] for line in found["checks"]} <= {"ok", "warn"}
    assert all(line["todo"] and line["why"] for line in found["checks"] if line["status"] != "ok")
    assert list(tmp_path.iterdir()) == []


def test_every_finding_says_why_and_what_to_type():
    """Over the sources: a line that is not ok has all five fields."""
    import ast

    folder = Path(command.__file__).parent
    calls = [
        node
        for path in folder.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Line"
    ]
    status = [call.args[0].value if isinstance(call.args[0], ast.Constant) else "" for call in calls]
    assert len(calls) > 60
    assert [ast.unparse(call) for call, name in zip(calls, status) if name != "ok" and len(call.args) != 5] == []


def test_dry_run_of_every_stage(tmp_path):
    arguments = command.parser().parse_args(["--tiny"])
    lines = dry_run.dry_run(subject(), arguments)
    assert [line.status for line in lines] == ["ok"] * 9, lines
    stages = ["train", "average", "calibrate", "quantise", "pack", "verify", "score"]
    assert [line.what for line in lines] == ["dry run", *(f"run {stage}" for stage in [*stages, "report"])]
    assert "3 steps" in lines[1].detail
    assert "BPB" in lines[7].detail
    assert list(tmp_path.iterdir()) == []


def in_this_process(run: Path, seconds: float, config_dirs: tuple[Path, ...] = ()) -> tuple[int, list[str]]:
    """What `dry_run.execute` does, without a process of its own."""
    from golf.app import run_pipeline
    from golf.errors import GolfError
    from golf.pipeline.run_folder import open_run_folder

    try:
        run_pipeline(open_run_folder(run))
    except GolfError as error:
        return error.exit_code, [f"golf: {error}"]
    return 0, []


def test_stages_behind_a_broken_one_are_tried(monkeypatch, start_run, tmp_path):
    def out_of_memory(*arguments):
        raise UserError("the GPU has no memory left: type hardware.micro_batch_tokens=16384")

    run = start_run(tmp_path / "run", "codec=brotli")
    monkeypatch.setitem(sys.modules, "brotli", None)
    monkeypatch.setattr("golf.pipeline.train.train_run", out_of_memory)
    monkeypatch.setattr(dry_run, "execute", in_this_process)
    failures = dry_run.rehearse(run.path, deadline=float("inf"))
    assert set(failures) == {"train", "pack"}
    lines = {line.what: line for line in dry_run.stage_lines(run.path, failures)}
    assert lines["run train"].status == "fail"
    assert "no memory left" in lines["run train"].detail
    assert "brotli" in lines["run pack"].detail
    assert [lines[f"run {stage}"].status for stage in ("average", "quantise", "verify", "score")] == ["ok"] * 4
    assert "with untrained weights" in lines["run quantise"].detail
    assert "with codec=none" in lines["run score"].detail


def test_a_stage_that_nothing_can_replace_ends_it(monkeypatch, start_run, tmp_path):
    run = start_run(tmp_path / "run")
    calls = []

    def dies(path, seconds, config_dirs=()):
        calls.append(path)
        return -9, []

    monkeypatch.setattr(dry_run, "execute", dies)
    monkeypatch.setattr("golf.doctor.stand_in.untrained", lambda run: (_ for _ in ()).throw(RuntimeError("no net")))
    failures = dry_run.rehearse(run.path, deadline=float("inf"))
    assert failures == {"train": "killed by SIGKILL, probably for want of memory"}
    assert len(calls) == 1
    lines = dry_run.stage_lines(run.path, failures)
    assert [line.detail for line in lines[1:]] == ["not reached"] * 6


def test_a_dry_run_is_bounded(start_run, tmp_path, monkeypatch):
    monkeypatch.setattr(dry_run, "START", "import time; time.sleep(60)")
    code, said = dry_run.execute(start_run(tmp_path / "run").path, 0.5)
    assert code == 124
    assert said == [dry_run.TIME_OVER]
    lines = dry_run.stage_lines(tmp_path / "run", {"train": said[0]})
    assert "--timeout" in lines[0].todo
    assert len(lines) == 7


@pytest.mark.parametrize(
    ("code", "said", "expected"),
    [
        (2, ["Traceback", "golf: no space left; type x", "rank 0 has ended"], "no space left; type x"),
        (1, ["Traceback", "RuntimeError: no kernel"], "RuntimeError: no kernel"),
        (139, [], "killed by SIGSEGV"),
        (1, [], "ended with exit code 1"),
    ],
)
def test_the_line_that_matters(code, said, expected):
    assert dry_run.reason(code, said) == expected


def test_full_shape_cuts_repetition_only(tmp_path):
    asked = subject("eval=adaptive", "ttt=sgd", "quant=int6_gptq", "budget=golf").config
    assert asked is not None
    found, notes = shrink.full(asked, tmp_path, steps=2)
    assert found["model"] == asked["model"]
    assert found["codec"] == asked["codec"]
    assert found["data"]["seq_len"] == asked["data"]["seq_len"]
    per_span = asked["data"]["tokens_per_step"] // asked["data"]["spans_per_step"]
    assert found["data"]["tokens_per_step"] // found["data"]["spans_per_step"] == per_span
    assert found["quant"]["calibration"]["rows"] == asked["quant"]["calibration"]["rows"]
    assert found["quant"]["calibration"]["batches"] == 1
    assert found["eval"]["max_tokens"] == 2 * asked["ttt"]["chunk_tokens"]
    assert (found["budget"]["max_steps"], found["budget"]["max_seconds"]) == (2, 0.0)
    assert "2 optimizer steps" in notes
    assert asked["budget"]["max_seconds"] == 600.0


def test_a_network_too_large_for_this_device_is_shrunk_and_says_so():
    large = subject_of(["experiment=baseline", "hardware=cpu"])
    ask = command.parser().parse_args
    small, lines = dry_run.chosen_size(large.config, large, ask([]))
    assert small
    assert [line.status for line in lines] == ["warn"]
    assert "--full" in lines[0].todo
    assert dry_run.chosen_size(large.config, large, ask(["--full"])) == (False, [])
    assert dry_run.chosen_size(subject().config, subject(), ask([])) == (False, [])


def test_errors_of_the_configuration_are_told_once_and_nothing_runs(capsys, quick):
    assert golf(["doctor", "experiment=smok"]) == 1
    lines = capsys.readouterr().out.splitlines()
    (config,) = [line for line in lines if " config " in line]
    assert config.startswith("fail")
    assert "experiment=smoke" in config
    assert any("not tried" in line for line in lines)
    assert "see the lines that begin with fail" in lines[-1]


def test_hardware_that_is_not_here():
    found = subject_of(["experiment=smoke", "hardware=h100x1"])
    line = environment.devices(found)[-1]
    assert (line.status, line.what) == ("fail", "hardware")
    assert "no CUDA device is visible" in line.detail
    assert "hardware=cpu" in line.todo
    lines = dry_run.dry_run(found, command.parser().parse_args([]))
    assert [line.status for line in lines] == ["fail"]


def test_variables_of_a_launcher_that_is_not_there(monkeypatch):
    assert environment.launcher()[0].status == "ok"
    monkeypatch.setenv("WORLD_SIZE", "8")
    (line,) = environment.launcher()
    assert (line.status, line.todo) == ("fail", "unset WORLD_SIZE")


@pytest.mark.parametrize(
    ("version", "status", "words"),
    [(None, "fail", "not installed"), ("2.5.0", "warn", "2.5.0"), ("2.6.6", "ok", "2.6.6")],
)
def test_versions(monkeypatch, version, status, words):
    monkeypatch.setattr(packages, "version_of", lambda name: version)
    line = packages.package("lightning", ">=2.6.6,<2.7")
    assert (line.status, words in line.detail) == (status, True)
    assert ("pip install 'lightning>=2.6.6,<2.7'" in line.todo) == (status != "ok")


@pytest.mark.parametrize(
    ("installed", "words"),
    [
        ({"lightning": "2.6.3"}, "malicious upload: change every credential"),
        ({"hydra-core": "1.3.8", "python": "3.14.0"}, "with python 3.14.0"),
        ({"hydra-core": "1.3.8", "omegaconf": "2.4.0"}, "omegaconf>=2.3,<2.4"),
        ({"optuna": "2.10.1", "sqlalchemy": "2.0.30"}, "sqlalchemy<2"),
        ({"optuna": "2.10.1", "sqlalchemy": "1.4.54", "alembic": "1.14.0"}, "alembic<1.14"),
        ({"hydra-optuna-sweeper": "1.3.0", "optuna": "4.1.0"}, "optuna==2.10.1"),
    ],
)
def test_known_bad_pairs(installed, words):
    lines = packages.known_bad(installed.get)
    (line,) = [line for line in lines if line.status == "fail"]
    assert words in str(line)


def test_good_pairs_and_requirements_that_are_met():
    good = {"optuna": "2.10.1", "sqlalchemy": "1.4.54", "alembic": "1.13.3", "hydra-core": "1.3.8"}
    assert [line.status for line in packages.known_bad(good.get)] == ["ok"]


def test_a_requirement_that_is_not_met(monkeypatch):
    import importlib.metadata

    wants = {"golf": ["torch>=2"], "torch": ["triton==3.7.1", "absent>=1; python_version<'3'"]}
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: wants.get(name, []))
    monkeypatch.setattr(packages, "version_of", {"torch": "2.13.0", "triton": "3.6.0"}.get)
    assert packages.unmet() == [("torch", "triton==3.7.1", "3.6.0")]


def test_what_is_missing_says_what_to_type(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name, *rest: None)
    monkeypatch.setattr(packages, "version_of", lambda name: None)
    (compiler,) = environment.compiler()
    assert (compiler.status, "no C++ compiler" in compiler.detail) == ("warn", True)
    (browser,) = environment.browser()
    assert (browser.status, "skipped" in browser.why) == ("warn", True)
    tensorboard = next(line for line in packages.versions() if line.what == "tensorboard")
    assert (tensorboard.status, tensorboard.todo) == ("warn", "pip install -c constraints.txt tensorboard")


def test_a_codec_without_its_package(monkeypatch):
    asked = subject("codec=brotli")
    monkeypatch.setitem(sys.modules, "brotli", None)
    lines = {line.what: line for line in compressors.compressors(asked)}
    assert lines["codec brotli"].status == "warn"
    assert lines["codec of this run"].status == "fail"
    assert "pip install" in lines["codec of this run"].todo


def test_a_codec_that_changes_what_it_packs():
    class Lossy:
        name = "lossy"

        def encode(self, data: bytes) -> bytes:
            return data[:-1]

        decode = encode

    assert compressors.round_trip("codec lossy", Lossy, "").status == "fail"


@pytest.mark.parametrize("overrides", [(), ("model.num_kv_heads=1",), ("hardware.compute_dtype=float32",)])
def test_attention_is_executed(overrides):
    assert [line.status for line in attention.attention(subject(*overrides))] == ["ok", "ok"]


def test_attention_that_is_not_here_breaks_or_is_wrong(monkeypatch):
    (missing,) = attention.attention(subject("model/backend=fa3"))
    assert (missing.status, "FlashAttention-3" in missing.detail) == ("fail", True)
    assert "model/backend=sdpa" in missing.todo
    target = "golf.models.attention.sdpa.Sdpa.__call__"
    monkeypatch.setattr(target, lambda self, q, k, v, context: q * 1.0 + k.sum() * 0 + v.sum() * 0)
    (wrong,) = attention.attention(subject())
    assert "is off by" in wrong.detail

    def no_kernel(self, q, k, v, context):
        raise RuntimeError("CUDA error: no kernel image is available")

    monkeypatch.setattr(target, no_kernel)
    (broken,) = attention.attention(subject())
    assert "no kernel image" in broken.detail
    assert "does not run" in broken.why


def test_a_folder_without_permission(monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(disk.tempfile, "TemporaryFile", refuse)
    lines = disk.disk(subject())
    assert [(line.status, "not writable" in line.detail) for line in lines[:2]] == [("fail", True)] * 2


def test_no_space_left(monkeypatch):
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: usage(10**9, 10**9, 10**6))
    lines = {line.what: line for line in disk.disk(subject())}
    assert lines["runs/"].status == "fail"
    assert "callbacks.checkpoint.keep=1" in lines["runs/"].todo
    assert lines["data/"].status == "ok"  # nothing will be written there
    assert lines["compile cache"].status == "warn"


def test_what_a_run_needs_is_at_least_what_it_leaves(smoke_run):
    written = sum(path.stat().st_size for path in smoke_run.path.rglob("*") if path.is_file())
    needed = disk.run_bytes(subject().config)
    assert written < needed
    keeps_more = subject("callbacks.checkpoint.keep=9", "model.width=128").config
    assert disk.run_bytes(keeps_more) > needed
    assert disk.run_bytes(subject("quant=int6_gptq").config) > needed


def test_a_cache_on_a_network_volume(monkeypatch):
    table = "overlay / overlay rw 0 0\npod:/vol /workspace nfs4 rw 0 0\n/dev/sda /workspace/fast ext4 rw 0 0\n"
    assert disk.file_system(Path("/workspace/cache"), table) == "nfs4"
    assert disk.file_system(Path("/workspace/fast/cache"), table) == "ext4"
    assert disk.file_system(Path("/workspaces"), table) == "overlay"
    monkeypatch.setattr(disk, "mounts", lambda: "pod:/vol / nfs4 rw 0 0\n")
    assert (disk.cache().status, "nfs4" in disk.cache().detail) == ("warn", True)


def test_where_runs_go(tmp_path):
    elsewhere = tmp_path / "disk" / "run"
    assert disk.run_folder(subject()) == tmp_path / "runs"
    assert disk.run_folder(subject(f"hydra.run.dir={elsewhere}")) == elsewhere


def test_shared_memory_of_a_container(monkeypatch, tmp_path):
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: usage(64 * 2**20, 0, 64 * 2**20))
    assert "--shm-size" in disk.shared_memory(tmp_path).todo
    assert disk.shared_memory(tmp_path / "none").status == "ok"


def test_shards(smoke_run, tmp_path):
    folder = smoke_run.data().folder
    asked = ("data=fineweb", "data.tokens_per_step=512", "data.seq_len=64", f"data.folder={folder}")
    lines = {line.what: line for line in data.data(subject(*asked))}
    assert "60,000 training tokens in 1 shards" in lines["data"].detail
    assert {line.status for line in lines.values()} == {"ok"}
    wrong = {line.what: line for line in data.data(subject(*asked, "tokenizer.vocab_size=64"))}
    assert wrong["tokenizer"].status == "fail"
    (missing,) = data.data(subject("data=fineweb", f"data.folder={tmp_path}/none"))
    assert (missing.status, "golf data download" in missing.todo) == ("fail", True)
    empty = tmp_path / "empty"
    empty.mkdir()
    (line,) = data.data(subject("data=fineweb", f"data.folder={empty}"))
    assert line.status == "fail"


def test_a_shard_that_was_cut_short(smoke_run, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(smoke_run.data().folder, folder)
    from golf.data.shards import read_shard, write_shard

    shard = next(folder.glob("fineweb_val_*.bin"))
    write_shard(shard, read_shard(shard)[:1000].copy())
    asked = ("data=fineweb", f"data.folder={folder}")
    lines = {line.what: line for line in data.data(subject(*asked))}
    assert lines["data manifest"].status == "fail"
    shard.write_bytes(shard.read_bytes()[:-10])
    (line,) = data.data(subject(*asked))
    assert "header" in line.detail


def test_a_check_that_breaks_is_a_line():
    def refused():
        raise UserError("this is wrong; type that")

    def broken():
        raise ZeroDivisionError("no")

    (line,) = guarded("disk", refused)
    assert (line.status, line.detail, line.todo) == ("fail", "this is wrong", "type that")
    (line,) = guarded("disk", broken)
    assert (line.status, line.detail) == ("fail", "ZeroDivisionError: no")


def test_a_line_of_golf_in_two_parts():
    assert split_error(UserError("no x here; type y=1")) == ("no x here", "type y=1")
    assert split_error(UserError("a: b: type c=d")) == ("a: b", "type c=d")
    assert split_error(UserError("nothing to part")) == ("nothing to part", "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--fast"], "golf doctor --help"),
        (["--full", "--tiny"], "not allowed with"),
        (["--steps", "-1"], "--steps 8"),
        (["--step-ms", "0"], "--step-ms 122"),
        (["--tolerance", "-0.1"], "--tolerance 0.1"),
        (["--timeout", "0"], "--timeout 1800"),
        (["--config-dir", "nowhere"], "no such folder"),
    ],
)
def test_bad_flags_are_one_line(capsys, words, said):
    assert golf(["doctor", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1


def test_verdict():
    assert command.verdict([], [], no_dry_run=False).endswith("python train.py experiment=demo")
    assert command.verdict([], ["experiment=smoke"], no_dry_run=True).endswith("train.py experiment=smoke")
    assert "1 failed" in command.verdict([Line("fail", "a", "b", "c", "d")], [], no_dry_run=True)
