"""golf doctor on GPUs and ranks: lines in nvidia-smi's CSV format, FLOP/s of devices, processes that talk or hang."""

from __future__ import annotations

import sys

import pytest

from golf.doctor import ranks, throughput
from golf.doctor.finding import Subject
from golf.doctor.gpu import FIELDS, Gpu, parse_gpus, read_gpus, state

H100 = (
    "{index}, GPU-{index}aaa, NVIDIA H100 80GB HBM3, {driver}, 81559, {used}, {busy}, {celsius}, {clock}, 1980, "
    "{reasons}, Enabled, {ecc}, {pending}, No, Disabled"
)
IDLE = {"index": 0, "driver": "580.82.07", "used": 1, "busy": 0, "celsius": 31, "clock": 345}
IDLE |= {"reasons": "0x0000000000000001", "ecc": 0, "pending": "No"}
RTX = (
    "0, GPU-bbb, NVIDIA GeForce RTX 4090, 580.65.06, 24564, 12, 0, 40, 210, 3105, 0x0000000000000001, "
    "[N/A], [N/A], [N/A], [N/A], [N/A]"
)


@pytest.fixture(autouse=True)
def _every_gpu(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def h100(**values):
    return H100.format(**(IDLE | values))


def found(line: str, processes: list[str] | None = None, cuda: str = "13.0"):
    gpus = [Gpu(gpu.values, processes or []) for gpu in parse_gpus(line, list(FIELDS))]
    return state(gpus, Subject([]), cuda)


def answers(*texts):
    """nvidia-smi that gives these (code, text) one after the other, and keeps what it was asked."""
    left, asked = list(texts), []

    def ask(arguments):
        asked.append(arguments)
        return left.pop(0)

    return ask, asked


def test_eight_idle_gpus():
    lines = found("\n".join(h100(index=index) for index in range(8)))
    assert [line.status for line in lines] == ["ok"] * 9
    assert "ECC enabled, no uncorrectable errors" in lines[1].detail


def test_a_gpu_that_does_not_say():
    lines = found(RTX)
    assert [line.status for line in lines] == ["ok", "ok"]
    assert "ECC" not in lines[1].detail


@pytest.mark.parametrize(
    ("values", "status", "words"),
    [
        ({"used": 71234}, "fail", "71,234 of 81,559 MiB used"),
        ({"busy": 97}, "fail", "97 % busy"),
        ({"reasons": "0x0000000000000048", "clock": 345}, "fail", "hardware thermal slowdown, 345 of 1,980 MHz"),
        ({"reasons": "0x0000000000000080"}, "fail", "power brake"),
        ({"reasons": "0x0000000000000020"}, "warn", "software thermal"),
        ({"reasons": "0x0000000000000002", "clock": 1095}, "warn", "application clocks are set, 1,095"),
        ({"celsius": 88}, "warn", "88 °C"),
        ({"ecc": 3}, "fail", "3 uncorrectable memory errors"),
        ({"pending": "Yes"}, "fail", "memory rows to be remapped"),
        ({"driver": "550.127.05"}, "fail", "550.127.05"),
    ],
)
def test_what_is_wrong_with_a_gpu(values, status, words):
    lines = [line for line in found(h100(**values)) if line.status != "ok"]
    assert {line.status for line in lines} == {status}
    assert any(words in line.detail for line in lines)


def test_power_cap_at_work_is_no_fault():
    assert {line.status for line in found(h100(reasons="0x0000000000000004"))} == {"ok"}


def test_driver_and_cuda():
    assert {line.status for line in found(h100(driver="550.127.05"), cuda="12.8")} == {"ok"}
    (line,) = [line for line in found(h100(driver="570.124.06")) if line.status == "fail"]
    assert "needs driver 580" in line.why


def test_different_gpus():
    other = h100(index=1).replace("H100 80GB HBM3", "H100 PCIe")
    assert any(line.what == "gpus" and line.status == "warn" for line in found(f"{h100()}\n{other}"))


def test_only_the_gpus_of_the_run_are_judged(monkeypatch):
    busy = parse_gpus("\n".join([h100(), h100(index=1, busy=97), h100(index=2)]), list(FIELDS))
    asked = Subject(["hardware.devices=1"], config={"hardware": {"devices": 1}})

    def faults(subject):
        return [line.what for line in state(busy, subject, "13.0") if line.status == "fail"]

    assert faults(Subject([])) == ["gpu 1"]
    assert faults(asked) == []
    for visible, found in (("0,2", []), ("1", ["gpu 1"]), ("GPU-1aaa", ["gpu 1"]), ("", [])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert faults(Subject([])) == found


def test_other_processes_and_a_field_by_its_other_name():
    refusal = 'Field "clocks_throttle_reasons.active" is not a valid field to query.\n\n'
    ask, asked = answers(
        (2, refusal),
        (0, h100(used=71234) + "\n"),
        (0, "GPU-0aaa, 4242, /usr/bin/python3, 71200 MiB\nGPU-1aaa, 7, [Not Found], [N/A]\n"),
    )
    (gpu,) = read_gpus(ask)
    assert "clocks_event_reasons.active" in asked[1][0]
    assert gpu.reasons == 1
    assert gpu.processes == ["pid 4242 python3 (71200 MiB)"]
    (line,) = [line for line in state([gpu], Subject([]), "13.0") if line.status == "fail"]
    assert "pid 4242 python3" in line.detail


def test_a_field_that_no_name_helps():
    ask, asked = answers(
        (2, 'Field "remapped_rows.pending" is not a valid field to query.\n'),
        (0, h100().replace(", No, No, Disabled", ", No, Disabled")),
        (0, ""),
    )
    (gpu,) = read_gpus(ask)
    assert "remapped_rows.pending" not in asked[1][0]
    assert gpu.text("mig.mode.current") == "Disabled"


def test_no_driver():
    said = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n"
    assert read_gpus(answers((9, said))[0]) == []
    assert read_gpus(answers((127, ""))[0]) == []
    assert state([], Subject([]), "13.0") == []


def test_a_device_that_is_slower_than_the_others():
    lines = throughput.judged([7.0e14] * 7 + [5.5e14], 989e12)
    assert [line.status for line in lines] == ["ok"] * 7 + ["fail"]
    assert "21% less than the others" in lines[-1].detail
    assert [line.status for line in throughput.judged([3e14], 989e12)] == ["warn"]
    assert [line.status for line in throughput.judged([3e14], None)] == ["ok"]


def test_steps_against_their_forecast():
    assert throughput.step_line(120.0, 122.0, "published", 0.1).status == "ok"
    line = throughput.step_line(183.0, 122.0, "published", 0.1)
    assert line.status == "warn"
    assert "+50% against 122.0 ms" in line.detail
    assert "33% fewer steps" in line.why
    unknown = throughput.step_line(183.0, None, "unknown", 0.1)
    assert (unknown.status, "--step-ms" in unknown.detail) == ("ok", True)


def test_ranks_that_talk():
    (line,) = ranks.reach("gloo", 2, 60.0)
    assert (line.status, line.what) == ("ok", "gloo x 2")


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("import time; time.sleep(60)", "no answer within"),
        ("import os, time; time.sleep(60 * (os.environ['RANK'] == '0')); raise OSError('no route')", "no route"),
        ("raise OSError('no route to host')", "rank 0: OSError: no route to host"),
        ("pass", "without a result"),
    ],
)
def test_ranks_that_do_not(program, words):
    seconds, said = ranks.all_reduce("gloo", 2, 1.5, program=(sys.executable, "-c", program))
    assert seconds is None
    assert words in said


def test_a_setting_that_helps_is_named(monkeypatch):
    tried = []

    def needs_sockets(backend, count, limit, cure=None):
        tried.append(cure)
        return (1e-3, "") if cure == {"NCCL_NET": "Socket"} else (None, "NCCL error: unhandled system error")

    monkeypatch.setattr(ranks, "all_reduce", needs_sockets)
    (line,) = ranks.reach("nccl", 8, 60.0)
    assert (line.status, line.todo) == ("fail", "export NCCL_NET=Socket")
    assert tried == [None, {"NCCL_IB_DISABLE": "1"}, {"NCCL_NET": "Socket"}]
    (line,) = ranks.reach("nccl", 8, 5.0)
    assert line.todo == "use another machine"
