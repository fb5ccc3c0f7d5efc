"""2,000 mutated artifacts, most with correct checksums: refused in one line or whole, quickly, never a crash."""

import importlib.util
from pathlib import Path

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "fuzz_artifact.py"


def fuzz_module():
    spec = importlib.util.spec_from_file_location("fuzz_artifact", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_two_thousand_mutated_artifacts(tmp_path):
    fuzz = fuzz_module().fuzz
    outcomes, slowest, wrong = fuzz(1950, 1, tmp_path, slow=())
    for codec, count in (("lzma", 20), ("range", 25), ("zpaq", 5)):
        more, longest, problems = fuzz(count, 2, tmp_path, (codec,), ())
        outcomes, slowest, wrong = outcomes + more, max(slowest, longest), wrong + problems
    assert wrong == []
    assert sum(outcomes.values()) == 2000
    assert outcomes["bytes: refused"] > 500
    assert outcomes["section: refused"] > 200
    assert outcomes["header: refused"] > 200
    assert slowest < 10  # 2 s on an idle machine
