"""Console tables, number formats, the treemap and the axis ticks."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from golf.codec import size
from golf.report import ladder
from golf.report.charts import ticks
from golf.report.format import coverage, decimal, duration, plain, scientific, short, signed, significant, whole
from golf.report.ladder import deltas, exports_of, headline_rung
from golf.report.tables import bytes_table, ladder_table, sweep_table
from golf.report.treemap import squarify

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "browser"))
from fake_run import CLASSES, summary_of

STRANGE = [
    None,
    True,
    3,
    -1,
    0.5,
    1e300,
    10**400,
    float("nan"),
    "",
    "text " * 60,
    "a\nb\u2028c",
    [],
    [{}],
    {"a": {"b": [1]}},
]
ANYTHING = st.sampled_from(STRANGE)
KEYS = ["ladder", "exports", "bytes_by_class", "total_bytes", "limit_bytes", "artifact_bytes", "code_bytes"]
RUNG_KEYS = ["stage", "nats_per_token", "bpb", "tokens", "seconds", "protocol", "coverage"]
RUNG = st.dictionaries(st.sampled_from(RUNG_KEYS), ANYTHING)


def test_ladder_table_is_aligned_and_has_the_deltas():
    lines = ladder_table(summary_of()).splitlines()
    assert lines[0] == "Ladder"
    assert lines[1].split() == ["stage", "nats/token", "BPB", "Δ", "BPB", "tokens", "coverage", "time", "protocol"]
    assert lines[4].split()[:4] == ["averaged", "2.9642", "1.8675", "−0.0169"]
    assert lines[6].startswith("sliding  ")
    assert {line.index("1.8") for line in lines[3:]} == {lines[1].index("BPB") - 3}


def test_bytes_table_adds_up_and_says_what_is_over():
    summary = summary_of()
    text = bytes_table(summary)
    assert sum(int(line.split()[1].replace(",", "")) for line in text.splitlines()[3:10]) == sum(CLASSES.values())
    assert "total" in text
    assert text.splitlines()[-1].split()[:2] == ["free", "13,644,028"]
    summary["total_bytes"] = 16_000_001
    assert bytes_table(summary).splitlines()[-1].startswith("OVER THE LIMIT BY           1")
    assert "not attributed" in bytes_table(summary)


def test_several_exports_have_their_own_tables_on_common_training_rungs():
    text = ladder_table(summary_of(exports=True))
    assert text.count("raw") == 2
    assert "Ladder · export int6" in text
    assert "Bytes of 16,000,000 · export int6" in bytes_table(summary_of(exports=True))


def test_the_limit_is_the_one_that_the_packer_enforces():
    assert ladder.LIMIT_BYTES == size.LIMIT_BYTES


def test_nothing_yet():
    assert ladder_table({}) == "Ladder: nothing scored yet"
    assert bytes_table({}) == "Bytes of 16,000,000: nothing packed yet"
    assert sweep_table([]) == "No jobs."


def test_sweep_table_marks_the_best_and_cuts_long_overrides():
    rows = [
        {"job": 0, "overrides": ["optim.matrix_lr=.02"], "bpb": 1.91, "bytes": 12, "seconds": 9, "status": "done"},
        {"job": 1, "overrides": "x" * 300, "bpb": 1.89, "bytes": 12, "seconds": 3700, "status": "done"},
        {"job": 2, "status": "failed: one\nline " + "y" * 200},
    ]
    lines = sweep_table(rows).splitlines()
    assert len(lines) == 5
    assert "done ◂ best" in lines[3]
    assert "…" in lines[3]
    assert max(map(len, lines)) <= 100


@given(
    st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS, ANYTHING) | {"ladder": st.lists(RUNG, max_size=4)}),
    st.lists(
        st.dictionaries(st.sampled_from(["job", "overrides", "bpb", "bytes", "seconds", "status"]), ANYTHING),
        max_size=3,
    ),
)
def test_no_table_is_ever_wider_than_the_console(summary, rows):
    for text in (ladder_table(summary), bytes_table(summary), sweep_table(rows)):
        assert all(len(line) <= 100 for line in text.splitlines())


def test_formats():
    assert whole(1234567.4) == "1,234,567"
    assert decimal(None) == "–"
    assert decimal(float("nan")) == "–"
    assert signed(-0.00004) == "±0.0000"
    assert signed(0.25) == "+0.2500"
    assert significant(1234.5678, 6) == "1,234.57"
    assert significant(100) == "100"
    assert short(16_000_000) == "16 M"
    assert duration(0.2) == "0.20 s"
    assert duration(59.96) == "1 min 00 s"
    assert duration(185) == "3 min 05 s"
    assert duration(7380) == "2 h 03 min"
    assert scientific(6.7e14) == "6.7 × 10¹⁴"
    assert plain({"name": "H200", "count": 8}) == "name H200, count 8"
    assert coverage({"scored": 5, "never_scored": 2, "scored_twice": 0}) == "PARTIAL, 2 never"
    assert coverage({"scored": 5, "never_scored": 0, "scored_twice": 0}) == "all, once"
    assert coverage(0.5) == "50.0 %"


def test_headline_is_the_sliding_score_else_the_last():
    assert headline_rung(summary_of())["stage"] == "sliding"
    assert headline_rung({"ladder": summary_of()["ladder"][:3]})["stage"] == "quantised"
    assert headline_rung({}) is None
    assert deltas([{"bpb": 2.0}, {}, {"bpb": 1.5}]) == [None, None, -0.5]
    assert [name for name, _ in exports_of(summary_of(exports=True))] == ["default", "int6"]


@given(st.lists(st.floats(1, 1e9), min_size=1, max_size=30), st.floats(1, 100), st.floats(1, 100))
def test_treemap_tiles_the_rectangle(sizes, width, height):
    sizes.sort(reverse=True)
    tiles = squarify(sizes, width, height)
    assert len(tiles) == len(sizes)
    for tile, share in zip(tiles, sizes):
        area = share / sum(sizes) * width * height
        assert tile.width * tile.height == pytest.approx(area, rel=1e-6)
        assert tile.x >= -1e-9
        assert tile.x + tile.width <= width * (1 + 1e-6)
        assert tile.y >= -1e-9
        assert tile.y + tile.height <= height * (1 + 1e-6)
    for index, one in enumerate(tiles):
        for other in tiles[:index]:
            across = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
            down = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
            assert across <= 1e-6 * width or down <= 1e-6 * height


@given(st.floats(-1e12, 1e12), st.floats(1e-6, 1e12))
def test_ticks_are_inside_and_few(low, span):
    high = low + span
    found = ticks(low, high)
    assert 1 <= len(found) <= 9 or math.isclose(low, high, rel_tol=1e-6)
    assert all(low - span * 1e-3 <= value <= high + span * 1e-3 for value in found)


def test_report_imports_neither_torch_nor_lightning_nor_hydra():
    code = "import sys, golf.report.html, golf.report.tables, golf.report.sweep, golf.report.screenshot\n"
    code += "print(sorted({'torch', 'lightning', 'hydra', 'omegaconf', 'numpy', 'rich'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
