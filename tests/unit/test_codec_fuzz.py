"""2,000 mutated artifacts, most with correct checksums: refused in one line or whole, quickly; no crash, no code."""

import importlib.util
from pathlib import Path

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "fuzz_artifact.py"


def fuzz_module():
    spec = importlib.util.spec_from_file_location("fuzz_artifact", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_two_thousand_mutated_artifacts(tmp_path):
    module = fuzz_module()
    fast = {codec: share for codec, share in module.SHARES.items() if codec not in ("range", "zpaq", "grouped_zpaq")}
    outcomes = module.collections.Counter()
    for count, shares in ((1965, fast), (30, {"range": 1}), (5, {"zpaq": 1})):
        done = module.fuzz(count, 1, tmp_path, shares)
        assert done.wrong == []  # processor time and whatever was run are looked at in there
        outcomes += done.outcomes
    assert sum(outcomes.values()) == 2000
    assert outcomes["bytes: refused"] > 500
    assert outcomes["section: refused"] > 200
    assert outcomes["header: refused"] > 200
    assert outcomes["order: refused"] > 100
    assert outcomes["sizes: refused"] > 150
    assert outcomes["bomb: refused"] > 5


def test_the_fuzzer_sees_code_that_runs(tmp_path):
    """Its own eyes: an exec while a file is read is reported."""
    done = fuzz_module().fuzz(1, 1, tmp_path, {"none": 1})
    done.armed = True
    exec("pass")
    done.armed = False
    assert [event.split()[0] for event in done.events if event.startswith("exec")] == ["exec"]
