"""Two gloo processes: the same losses as one with accumulation, a common stop, and no rank's death hangs the others."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests" / "integration"))

from warm import TINY, Warm  # noqa: E402

from golf.training.heartbeat import RANK_LOST  # noqa: E402

# The orthogonalisation in bfloat16 would turn the last bit of a sum into the third digit of a loss.
EXACT = ("through=train", "data.spans_per_step=4", "optim.newton_schulz_dtype=float32")


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    server = Warm(tmp_path_factory.mktemp("ranks"))
    yield server
    server.close()


def start_two(warm, run: Path, *overrides: str, idle: str = ""):
    """Two forks with the environment that torchrun gives its processes."""
    ranks, port = [], free_port()
    for rank in (0, 1):
        environment = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "x"}
        arguments = [*TINY, warm.data, f"hydra.run.dir={run}", "hardware.devices=2", *overrides]
        how = {"idle": f"{idle}{rank}"} if idle else {}
        ranks.append(warm.start(*arguments, environment={k: str(v) for k, v in environment.items()}, **how))
    return ranks


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def metrics(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_two_ranks_have_the_losses_of_one_with_accumulation(warm):
    """Training losses, validation scores and the schedule agree; an idle step has one all-reduce and reads nothing."""
    options = (*EXACT, "budget.max_steps=20", "trainer.val_check_steps=5", "trainer.log_every_steps=100")
    options += ("callbacks.checkpoint.every_steps=0",)
    code, said = warm.train(warm.folder / "one", *options, idle=str(warm.folder / "idle_one"))
    assert code == 0, said
    ranks = start_two(warm, warm.folder / "two", *options, idle=str(warm.folder / "idle_two_"))
    for code, said in [rank.wait() for rank in ranks]:
        assert code == 0, said
    one, two = metrics(warm.folder / "one"), metrics(warm.folder / "two")
    assert [line["step"] for line in one] == [line["step"] for line in two]
    for a, b in zip(one, two):
        for name in ("train/loss", "val/loss", "val/bpb"):
            assert a.get(name, 0.0) == pytest.approx(b.get(name, 0.0), rel=2e-5), (a["step"], name)
        assert a.get("lr") == b.get("lr")
    alone = json.loads((warm.folder / "idle_one").read_text())
    assert (alone["collectives"], alone["reads"]) == ({"none": 0}, [])
    for rank in (0, 1):
        idle = json.loads((warm.folder / f"idle_two_{rank}").read_text())
        assert idle["step"] == 20
        assert idle["reads"] == []
        assert idle["collectives"] == {"c10d::allreduce_": idle["steps"], "none": 0}, "only the gradients"


def test_all_ranks_stop_at_the_same_step_under_a_time_budget(warm):
    timed = ("budget.max_steps=0", "budget.max_seconds=2.5", "through=train")
    ranks = start_two(warm, warm.folder / "timed", *timed, idle=str(warm.folder / "idle_timed_"))
    for code, said in [rank.wait() for rank in ranks]:
        assert code == 0, said
    steps = [json.loads((warm.folder / f"idle_timed_{rank}").read_text())["step"] for rank in (0, 1)]
    assert steps[0] == steps[1] > 1
    result = json.loads((warm.folder / "timed/stages/train/manifest.json").read_text())["result"]
    assert result["steps"] == steps[0]
    assert result["train_seconds"] <= 2.6


def test_a_request_to_stop_that_only_one_rank_gets_stops_all(warm):
    """SIGTERM to the second rank: both end after the same step, with the exit code of the signal, and a checkpoint."""
    run = warm.folder / "stopped"
    ranks = start_two(warm, run, "budget=unlimited", "budget.max_steps=0", "through=train")
    wait_for(run / "metrics.jsonl", '"step": 6')
    os.kill(ranks[1].pid, signal.SIGTERM)
    (first, said), (second, _) = [rank.wait() for rank in ranks]
    assert (first, second) == (143, 143), said
    assert "golf: stopped by SIGTERM after step" in said.splitlines()[-1]
    (newest, *_) = sorted((run / "checkpoints").glob("step_*"), reverse=True)
    assert f"after step {int(newest.name.split('_')[1])};" in said


def test_a_stopped_rank_ends_the_run_with_its_number(warm):
    """SIGSTOP to the second rank: the first one waits in a collective, and still says so and ends within seconds."""
    run = warm.folder / "stopped_rank"
    endless = ("budget=unlimited", "budget.max_steps=0", "through=train", "hardware.rank_timeout_seconds=3")
    ranks = start_two(warm, run, *endless)
    wait_for(run / "metrics.jsonl", '"step": 6')
    os.kill(ranks[1].pid, signal.SIGSTOP)
    stopped = time.monotonic()
    try:
        code, said = ranks[0].wait()
        assert time.monotonic() - stopped < 30
    finally:
        os.kill(ranks[1].pid, signal.SIGKILL)
    assert code == RANK_LOST, said
    assert re.search(
        r"^golf: rank 1 has been silent for \d+ s after step \d+ \(stopped, or .* is gone\); all", said, re.M
    )
    assert f"go on from the last checkpoint with python train.py run={run.name}" in said
    assert "Traceback" not in said
    assert "rank 1 has been silent" in (run / "log.txt").read_text()


def test_a_rank_that_stands_still_ends_the_run_with_its_number(warm):
    """The second rank beats but does no step: all ranks end, and both the rank and its step are named."""
    run = warm.folder / "slow_rank"
    endless = ("budget=unlimited", "budget.max_steps=0", "through=train", "hardware.rank_timeout_seconds=3")
    begun = time.monotonic()
    ranks = start_two(warm, run, *endless, "+callbacks.slow._target_=slow_rank.SlowRank", "+callbacks.slow.after=3")
    (first, said), (second, _) = [rank.wait() for rank in ranks]
    assert time.monotonic() - begun < 90
    assert (first, second) == (RANK_LOST, RANK_LOST), said
    assert re.search(r"^golf: rank 1 has stood still for \d+ s after step 3; all ranks end", said, re.M), said


def test_a_run_on_two_devices_survives_the_death_of_a_rank_and_a_sigterm(tmp_path):
    """The real command: it names a killed rank within 60 s, is resumed, and stops on SIGTERM with a checkpoint."""
    run = tmp_path / "run"
    command = [sys.executable, str(REPOSITORY / "train.py")]
    options = [*TINY, f"data.folder={tmp_path}/data", f"hydra.run.dir={run}", "hardware.devices=2", "through=pack"]
    options += ["budget.max_steps=2000", "callbacks.checkpoint.every_steps=10", "trainer.log_every_steps=1"]
    launched = begin([*command, *options], tmp_path)
    wait_for(run / "checkpoints" / "latest", "step_0")
    os.kill(rank_of(launched.pid, 1), signal.SIGKILL)
    killed = time.monotonic()
    said, _ = launched.communicate(timeout=60)
    assert time.monotonic() - killed < 60
    assert launched.returncode == 1
    assert "golf: rank 1 was killed by SIGKILL; all ranks were stopped: go on from the last checkpoint" in said
    assert "Traceback" not in said

    launched = begin([*command, f"run={run}"], tmp_path)
    wait_for(run / "log.txt", "going on from step")
    wait_for_steps(run, beyond=max(line["step"] for line in metrics(run)) + 3)
    launched.send_signal(signal.SIGTERM)
    said, _ = launched.communicate(timeout=60)
    assert launched.returncode == 143, said
    assert "golf: stopped by SIGTERM after step" in said
    assert "Traceback" not in said
    newest = sorted((run / "checkpoints").glob("step_*"))[-1]
    assert f"after step {int(newest.name.split('_')[1])};" in said


def begin(command: list[str], folder: Path):
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def rank_of(launcher: int, rank: int) -> int:
    """Process id of a rank that torchrun has started."""
    for children in (Path("/proc") / str(launcher) / "task").glob("*/children"):
        for child in children.read_text().split():
            environment = (Path("/proc") / child / "environ").read_bytes().split(b"\0")
            if f"RANK={rank}".encode() in environment:
                return int(child)
    raise AssertionError(f"rank {rank} is not running")


def wait_for(path: Path, text: str, seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if path.is_file() and text in path.read_text():
            return
        time.sleep(0.05)
    raise AssertionError(f"{text} did not appear in {path}")


def wait_for_steps(run: Path, beyond: int, seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with_steps = [line["step"] for line in metrics(run)]
        if with_steps and max(with_steps) > beyond:
            return
        time.sleep(0.05)
    raise AssertionError(f"no step after {beyond}")


def test_torchrun_by_hand(tmp_path):
    """Two nodes' agents on this machine: SIGTERM to one of them ends both nodes with a checkpoint, the same command
    with run=<folder> goes on from there, and a rank killed on one node is missed on the other within seconds."""
    run = tmp_path / "run"
    options = [*TINY, f"data.folder={tmp_path}/data", "hardware.devices=2", "through=train", f"hydra.run.dir={run}"]
    agents = two_nodes(tmp_path, *options, "budget=unlimited", "budget.max_steps=0", "hardware.rank_timeout_seconds=5")
    wait_for(run / "metrics.jsonl", '"step": 6')
    agents[1].send_signal(signal.SIGTERM)
    said = [agent.communicate(timeout=120)[0] for agent in agents]
    assert all(agent.returncode for agent in agents)
    stopped_at = int(re.search(r"golf: stopped by SIGTERM after step (\d+)", said[0])[1])
    assert (run / "checkpoints" / "latest").read_text().split() == [f"step_{stopped_at:08d}"]

    agents = two_nodes(tmp_path, f"run={run}")
    wait_for(run / "log.txt", f"going on from step {stopped_at}")
    wait_for_steps(run, beyond=stopped_at)
    os.kill(rank_of(agents[1].pid, 1), signal.SIGKILL)
    killed = time.monotonic()
    said = [agent.communicate(timeout=120)[0] for agent in agents]
    assert time.monotonic() - killed < 60
    assert all(agent.returncode for agent in agents)
    assert re.search(r"^golf: rank (0 has lost another rank|1 has been silent)", said[0], re.M), said[0]
    assert max(line["step"] for line in metrics(run)) > stopped_at


def two_nodes(folder: Path, *options: str) -> list:
    """train.py under the agents of two nodes with one rank each."""
    port, agents = free_port(), []
    for node in (0, 1):
        torchrun = ["-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", f"--node-rank={node}"]
        torchrun += ["--master-addr=127.0.0.1", f"--master-port={port}", str(REPOSITORY / "train.py")]
        agents.append(begin([sys.executable, *torchrun, *options], folder))
    return agents


@pytest.mark.parametrize(
    ("environment", "overrides", "words"),
    [
        ({"TORCHELASTIC_RUN_ID": "none"}, ["hardware.devices=2"], "add hydra.run.dir=<folder> to the command"),
        ({"TORCHELASTIC_RUN_ID": "x"}, [], "hardware.devices=1, but torchrun has started 2 ranks"),
    ],
)
def test_what_ranks_cannot_agree_on_is_one_line(warm, environment, overrides, words):
    ranks = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    code, said = warm.run(*TINY, warm.data, *overrides, environment={**ranks, **environment})
    assert code == 2, said
    assert words in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("exit_codes", "outcome"),
    [
        ({0: 1, 1: -9}, "rank 1 was killed by SIGKILL"),
        ({0: -15, 1: -11}, "rank 1 was killed by SIGSEGV"),
        ({0: 1, 1: 1}, "rank 0 ended with exit code 1"),
        ({1: -15}, "rank 1 was killed by SIGTERM"),
        ({0: 2, 1: 1}, 2),
        ({0: 2, 1: -15}, 2),
        ({0: 143, 1: 143}, 143),
    ],
)
def test_the_rank_to_blame(exit_codes, outcome):
    from golf.errors import GolfError
    from golf.training.launch import verdict

    if isinstance(outcome, int):
        assert verdict(exit_codes, "runs/x") == outcome
    else:
        with pytest.raises(GolfError, match=f"{outcome}; all ranks were stopped: go on .* run=runs/x"):
            verdict(exit_codes, "runs/x")
