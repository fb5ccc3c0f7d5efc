"""A whole run on a device that is not the CPU, without one: training, average, Hessians, quantisation, packing, scoring
and learning at test time find every tensor where it belongs, and give what they give on the CPU.

`python tests/contracts/test_other_device.py <experiment> …` does it for any experiment, in a process of its own
(accelerator.py says why): one line of JSON for each.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

HERE = Path(__file__).resolve().parent
# Between them: SGD and phases of LoRA at test time; RTN, GPTQ with LQER, trellis codes; banks, looped layers, document
# masks, lanes; EMA and a searched average; self-generated calibration; ternary weights.
EXPERIMENTS = (
    "record/0324_ternary_74m",
    "record/0325_gptq_xsa_all",
    "record/0409_loop35_parallel",
    "record/0427_lqer_sparse_gate_hp",
    "frontier",
)


def whole(config: dict[str, Any], device: torch.device, folder: Path) -> dict[str, Any]:
    """Losses of the first steps, scores of the packed network, and what the host read during a step."""
    from accelerator import Accelerator
    from tiny_run import tiny_run

    machine = Accelerator()
    reads: list[str] = []
    losses: list[torch.Tensor] = []

    def on_step(step: int, loss: torch.Tensor) -> None:
        losses.append(loss)
        reads.extend(machine.reads)
        machine.reads.clear()

    with machine if device.type != "cpu" else contextlib.nullcontext():
        run = tiny_run(config, folder, folder / "model.golf", on_step, device)
        return {
            "losses": [float(loss) for loss in losses],
            "scores": {name: result.bpb for name, result in run.scores.items()},
            "reads": reads,
        }


def main(experiments: list[str]) -> None:
    sys.path.insert(0, str(HERE))
    from tiny import shrink_quantisation, tiny

    torch.set_num_threads(1)
    for name in experiments:
        config = tiny([f"experiment={name}"], layers=None)
        shrink_quantisation(config["quant"])
        found = {}
        for device in ("cpu", "gpu"):
            with tempfile.TemporaryDirectory() as folder:
                found[device] = whole(config, torch.device(device), Path(folder))
        print(json.dumps({"experiment": name, **found}), flush=True)


def in_a_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=HERE, timeout=280)


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_it_is_as_on_the_cpu(experiment: str) -> None:
    """Losses to float32's rounding. Scores to 1 %: bfloat16 in Muon makes 1e-5 of a last bit, which moves codes."""
    done = in_a_process(str(HERE / "test_other_device.py"), experiment)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    cpu, gpu = found["cpu"], found["gpu"]
    assert len(gpu["losses"]) >= 2
    assert gpu["losses"] == pytest.approx(cpu["losses"], rel=2e-5)
    assert gpu["scores"] == pytest.approx(cpu["scores"], rel=1e-2)
    assert gpu["reads"] == [], "a step waits for the device"


REFUSED = """
import sys; sys.path.insert(0, {here!r})
import torch; from accelerator import Accelerator
with Accelerator() as machine:
    x = torch.arange(4.0).to("gpu")
    assert (x * 2 + torch.tensor(1.0)).cpu().tolist() == [1, 3, 5, 7] and machine.reads == ["aten._to_copy.default"]
    assert float(x.sum()) == 6 and machine.reads[1:] == ["aten._local_scalar_dense.default"]
    y = torch.zeros(4, 4, device="gpu"); y[1:3].add_(x); y.view(-1)[0] = 5
    assert y.cpu().sum() == 17 and x[torch.tensor([3])].item() == 3
    for wrong in (lambda: x + torch.ones(4), lambda: torch.arange(4.0)[x.long()], lambda: torch.nn.Linear(4, 1)(x)):
        try: wrong()
        except RuntimeError as problem: print("two devices" in str(problem))
"""


def test_the_simulated_device_refuses_what_a_gpu_refuses() -> None:
    done = in_a_process("-c", REFUSED.format(here=str(HERE)))
    assert (done.returncode, done.stdout.split()) == (0, ["True"] * 3), done.stderr[-2000:]


if __name__ == "__main__":
    main(sys.argv[1:])
