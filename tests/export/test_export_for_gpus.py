"""The form of the exported file for GPUs, run on a CPU that passes for one, does what the whole program does.

It takes no route that only a CPU takes, and is compiled: neither can be tried without a GPU, but everything else of it
can. Attention has other kernels then, so numbers are compared, not bits.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "contracts"))
from forked import run_forked
from tiny import records, shrunk, tiny_data

from golf.config.build import build
from golf.config.compose import Composer
from golf.submission.flatten import flatten

EXPERIMENTS = [*(f"record/{name}" for name in records()), "frontier"]
FEW = {"record/0427_lqer_sparse_gate_hp"}
FULL_GRID = [
    pytest.mark.slow,
    pytest.mark.skipif("GOLF_FULL_GRID" not in os.environ, reason="GOLF_FULL_GRID=1 runs it"),
]
GRID = [pytest.param(name, marks=[] if name in FEW else FULL_GRID) for name in EXPERIMENTS]
STEPS = 3
DEVICE = 'torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))'
FAKES = """
torch.cuda.is_available = lambda: True
torch.cuda.set_device = lambda device: None
torch.cuda.synchronize = lambda: None
torch.cuda.set_rng_state_all = lambda states: None
torch.cuda.get_rng_state_all = lambda: []
torch.compile = lambda function, **options: function
"""


def on_a_cpu(text: str) -> str:
    """The program with a CPU for its GPU."""
    assert text.count(DEVICE) == 1
    first = text.index("# ----- golf.")
    return text[:first] + FAKES + text[first:].replace(DEVICE, 'torch.device("cpu")')


@pytest.mark.parametrize("experiment", GRID)
def test_the_form_for_gpus_does_what_the_whole_program_does(experiment, tmp_path):
    config = shrunk(Composer("train").compose([f"experiment={experiment}", "budget=steps"]), layers=None)
    config["hardware"] |= {"accelerator": "cuda", "compile": True}
    config["budget"]["max_steps"] = STEPS
    config["callbacks"]["warmup"]["steps"] = 1
    config["data"] = tiny_data(tmp_path / "shards", config["data"]["order"], shard_tokens=600)
    prepared = build(config["data"]).prepare(say=lambda line: None)
    found = []
    for code in ("whole", "readable"):
        text = flatten({**config, "code": code})
        arguments = ["--data", str(prepared.folder), "--output", str(tmp_path / f"{code}.golf")]
        found.append(run_forked(on_a_cpu(text), arguments))
    whole, own = found
    losses = [[step["train_loss"] for step in each["steps"]] for each in found]
    assert len(losses[0]) == STEPS
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    names = [[(score["weights"], score["name"]) for score in each["scores"]] for each in found]
    assert names[0] == names[1]
    assert any(weights == "artifact" for weights, _ in names[0])
    scores = [[score["bpb"] for score in each["scores"]] for each in (whole, own)]
    assert scores[1] == pytest.approx(scores[0], rel=1e-4)
