"""The fit ladder: every rung makes smaller files, the first that fits is kept, and what cannot fit is exit code 3."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest
import torch

from golf.app import export
from golf.codec.artifact import artifact_bytes
from golf.config.build import build
from golf.config.codec_checks import codec_package
from golf.config.command import check_command
from golf.errors import UserError
from golf.models.exported import exported_network
from golf.quant.cheapest import CheapestCodes
from golf.quant.formats import FORMAT_NAMES, format_named
from golf.size.fit import FitLadder, Fitting, first_within
from golf.size.ranking import frozen
from golf.size.rungs import fewer_bits, format_of, node_of, widened

QUANT = {
    "_target_": "golf.quant.plan.QuantPlan",
    **{"matrix": "int6_deviation_rows", "embedding": "float16", "head": "int8_rows", "table": "int8_rows"},
    **{
        "gate": "float16",
        "scalar": "float16",
        "small": "float16",
        "small_numel": 1000,
        "overrides": {"b1": "int6_rows"},
    },
}
MODEL = {"_target_": "golf.models.gpt.GPT", "width": 64}
ZLIB = {"_target_": "golf.codec.zlib_codec.ZlibCodec", "level": 6}


def climbed(target: int, rungs: tuple[str, ...], **options):
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    weights = {f"b{n}.w": torch.randn(64, 96, generator=generator) * (n + 1) / 20 for n in range(4)}
    weights |= {"tok_emb": torch.randn(128, 64, generator=generator), "scale": torch.ones(64)}
    roles = {name: "matrix" if name[0] == "b" else "scalar" for name in weights} | {"tok_emb": "embedding"}
    config = {"quant": QUANT, "codec": ZLIB, "model": MODEL}
    lines: list[str] = []
    hessians = {"b0.w": torch.eye(96) * 1e6}
    ladder = FitLadder(
        0, rungs, codecs=options.pop("codecs", ("lzma",)), narrowest_clip=options.pop("narrowest_clip", 1.0)
    )
    fitting = Fitting(ladder, config, weights, roles, hessians, {}, lambda config: 100, target, lines.append, **options)
    fitted = fitting.climb()
    state = build(fitted.quant).quantise(weights, roles, hessians)
    size = len(artifact_bytes(state, exported_network(MODEL), {}, build(fitted.codec))[0]) + 100
    assert size == fitted.rows[-1]["total_bytes"]
    assert fitted.fits == (size <= target)
    for row in fitted.rows:
        assert sum(row["bytes_by_class"].values()) == row["total_bytes"]
        assert row["bytes_by_class"]["code"] == 100
    assert config["quant"] is QUANT
    return fitted, lines


@pytest.mark.parametrize("rung", ["codec", "clip", "embedding", "mixed", "prune"])
def test_each_rung_goes_as_far_as_it_must(rung):
    whole, _ = climbed(1, (rung,))
    assert not whole.fits
    sizes = [row["total_bytes"] for row in whole.rows]
    assert len(sizes) == 2
    assert sizes[1] < sizes[0]
    half = (sizes[0] + sizes[1]) // 2
    found, _ = climbed(half, (rung,))
    assert found.fits
    assert sizes[1] <= found.rows[-1]["total_bytes"] <= half
    if rung in ("clip", "mixed", "prune"):
        assert found.rows[0]["relative_mse"] < found.rows[1]["relative_mse"] < whole.rows[1]["relative_mse"]
        assert half - found.rows[-1]["total_bytes"] < 0.7 * (sizes[0] - sizes[1])


def test_bytes_that_are_left_are_spent_on_finer_steps():
    plain, _ = climbed(10**6, ())
    size, error = plain.rows[0]["total_bytes"], plain.rows[0]["relative_mse"]
    roomy, _ = climbed(10**6, (), narrowest_clip=0.7)
    assert roomy.rows[-1]["rung"] == "finer"
    assert roomy.rows[-1]["relative_mse"] < error
    most = roomy.rows[-1]["total_bytes"]
    target = (size + most) // 2
    found, _ = climbed(target, (), narrowest_clip=0.7)
    assert size < found.rows[-1]["total_bytes"] <= target
    assert roomy.rows[-1]["relative_mse"] < found.rows[-1]["relative_mse"] < error
    tight, lines = climbed(size, (), narrowest_clip=0.7)
    assert [row["rung"] for row in tight.rows] == ["as asked"]
    assert "no finer step fits" in lines[-1]


def test_all_rungs_in_order_and_scores():
    scores = iter([1.0, 1.25, 1.5, 1.75, 2.0, 2.25])
    fitted, lines = climbed(1, ("codec", "clip", "embedding", "mixed", "prune"), score=lambda state: next(scores))
    assert [row["rung"] for row in fitted.rows] == ["as asked", "codec", "clip", "embedding", "mixed", "prune"]
    sizes = [row["total_bytes"] for row in fitted.rows]
    assert sizes == sorted(sizes, reverse=True)
    assert [row["delta_bpb"] for row in fitted.rows] == [0, 0.25, 0.5, 0.75, 1.0, 1.25]
    assert len(lines) == 6
    fits, _ = climbed(10**6, ("codec", "clip"))
    assert [row["rung"] for row in fits.rows] == ["as asked"]
    assert fits.quant is QUANT


def test_sensitive_matrices_are_changed_last():
    fitted, _ = climbed(1, ("mixed",))
    patterns = [name for name in fitted.quant["overrides"] if name != "b1"]
    assert all("b" in pattern for pattern in patterns)
    sizes = [row["total_bytes"] for row in fitted.rows]
    one, _ = climbed(sizes[0] - 200, ("mixed",))
    assert "b0" not in "".join(name for name in one.quant["overrides"] if name != "b1")  # its inputs are large


def test_codecs_that_are_missing_are_passed_over(monkeypatch):
    monkeypatch.setitem(sys.modules, "brotli", None)
    fitted, lines = climbed(1, ("codec",), codecs=("brotli", "lzma"))
    assert fitted.codec["_target_"].endswith("LzmaCodec")
    assert any("needs the package 'brotli" in line for line in lines)


@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_formats_survive_as_nodes(name):
    fmt = format_named(name)
    assert format_of(node_of(fmt)) == fmt
    wide = format_of(widened(name, 1.3))
    if fmt.number == "integer" and fmt.bits >= 4:
        assert wide.clip_factor == pytest.approx(1.3 * fmt.clip_factor)
        assert build(widened(name, 1.3)) == wide
    else:
        assert wide == fmt
    lower = format_of(fewer_bits(name, 2))
    assert lower is None or (lower.bits == fmt.bits - 1 and lower.levels <= 2**lower.bits)


def test_algorithms_are_changed_by_their_own_arguments():
    node = {"_target_": "golf.quant.gptq.Gptq", "bits": 6, "factor": 12.85}
    assert widened(node, 2.0)["factor"] == pytest.approx(25.7)
    assert fewer_bits(node, 4) == {**node, "bits": 5}
    assert fewer_bits({**node, "bits": 4}, 4) is None
    assert widened({"_target_": "golf.quant.clip.ClipSearch", "bits": 6}, 2.0) == {
        "_target_": "golf.quant.clip.ClipSearch",
        "bits": 6,
    }
    assert (fewer_bits("float16", 6), fewer_bits("float16", 6, floats=True)) == (None, "int8_rows")


def test_wrong_options_are_one_line():
    for options, words in (
        ({"margin_bytes": -1}, "fit.margin_bytes=-1"),
        ({"score_tokens": -1}, "fit.score_tokens=-1"),
        ({"rungs": ["clips"]}, "'clips' is not known"),
        ({"codecs": ["rar"]}, "'rar' is not known"),
        ({"widest_clip": 0.5}, "fit.widest_clip=0.5"),
    ):
        with pytest.raises(UserError, match=words) as error:
            FitLadder(**options)
        assert len(str(error.value).splitlines()) == 1
    with pytest.raises(UserError, match="count=-1"):
        CheapestCodes(-1)
    assert first_within(lambda index: 10 - index, 0, 9, 5) == 5
    assert first_within(lambda index: 10 - index, 0, 9, 0) == 9


def exported(run, monkeypatch, *overrides):
    """export.py's job with these overrides."""
    from golf.config.compose import compose

    texts = [f"run={run.path}", "through=verify", *overrides]
    assert check_command("export", texts).errors == []
    job = SimpleNamespace(overrides=texts, folder=run.path, multirun=False, choices={})
    monkeypatch.setattr("golf.config.job.current_job", lambda: job)
    monkeypatch.setattr("golf.app._plain", lambda config: config)
    return export(compose("export", texts))


def test_export_until_it_fits_and_what_cannot(smoke_run, monkeypatch):
    summary = json.loads((smoke_run.path / "summary.json").read_text())
    limit = summary["total_bytes"] - 5_000
    quant = ("quant=int8_rows", "quant.small_numel=500", "codec=zlib", "fit.codecs=[lzma]")
    exported(smoke_run, monkeypatch, *quant, "fit.margin_bytes=2000", f"budget.limit_bytes={limit}", "export=fitted")
    folder = smoke_run.path / "artifact" / "fitted"
    table = json.loads((folder / "fit.json").read_text())
    packed = json.loads((folder / "stages" / "pack" / "manifest.json").read_text())["result"]
    assert table["fits"]
    assert table["target_bytes"] == limit - 2000
    assert packed["total_bytes"] == table["rungs"][-1]["total_bytes"] <= limit - 2000
    assert packed["limit_bytes"] == limit
    assert "training split" in table["scored_on"]
    assert table["rungs"][0]["delta_bpb"] == 0
    assert all(row["bpb"] > 0 for row in table["rungs"])
    summary = json.loads((smoke_run.path / "summary.json").read_text())
    assert summary["fits"]["fitted"]["rungs"] == table["rungs"]
    page = (smoke_run.path / "report.html").read_text()
    assert all(f"{row['total_bytes']:,}" in page for row in table["rungs"])


def test_export_that_cannot_fit_is_exit_code_3_with_bytes_by_class(smoke_run, script_here):
    overrides = ("quant=int8_rows", "quant.small_numel=500", "codec=zlib", "submission=false", "through=verify")
    small = ("fit.margin_bytes=0", "budget.limit_bytes=3000", "fit.rungs=[clip]", "fit.score_tokens=64")
    done = script_here("export", f"run={smoke_run.path}", *overrides, *small, "export=never", tiny=False)
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert "cannot be made to fit" in line
    table = json.loads((smoke_run.path / "artifact" / "never" / "fit.json").read_text())
    assert not table["fits"]
    for name, size in table["rungs"][-1]["bytes_by_class"].items():
        assert f"{name} {size:,}" in line
    for row in table["rungs"]:  # every rung was printed with its bytes and its Δ BPB
        assert f"{row['total_bytes']:,}" in done.stdout
        assert f"{row['delta_bpb']:+.4f}" in done.stdout
    assert json.loads((smoke_run.path / "summary.json").read_text())["fits"]["never"]["fits"] is False
    assert "It does not fit" in (smoke_run.path / "report.html").read_text()
    wide = script_here("export", f"run={smoke_run.path}", "fit.margin_bytes=16000000", tiny=False)
    assert (wide.returncode, "fit.margin_bytes=16000000 leaves nothing" in wide.stderr) == (2, True)
    negative = script_here("export", f"run={smoke_run.path}", "fit.margin_bytes=-1", tiny=False)
    assert (negative.returncode, "fit.margin_bytes=-1 must be at least 0" in negative.stderr) == (2, True)


def test_a_mixed_plan_keeps_its_choice_while_it_is_made_to_fit():
    mixed = {"_target_": "golf.quant.mixed.TraceRanked", "fine": "int8_absmax_rows", "keep": 2}
    plan = {**QUANT, "matrix": "int6_rows", "overrides": {}, "mixed": mixed}
    weights = {f"b{n}": torch.randn(64, 96) for n in range(4)}
    roles, hessians = dict.fromkeys(weights, "matrix"), {"b1": torch.eye(96), "b3": torch.eye(96) * 2}
    before, after = (
        {name: stored.format.bits for name, stored in build(node).quantise(weights, roles, hessians).tensors.items()}
        for node in (plan, frozen(plan, weights, roles, hessians))
    )
    assert before == after == {"b0": 6, "b1": 8, "b2": 6, "b3": 8}
    grids = {"_target_": "golf.quant.bit_allocation.BitAllocation", "grids": ["int7_rows", "int5_rows"]}
    by_error = {**plan, "mixed": {**grids, "average_bits": 6.0}}
    chosen = build(by_error).routes(weights, roles, hessians)
    kept = build(frozen(by_error, weights, roles, {**hessians, "b0": torch.eye(96) * 1e6}))
    assert {t.bits for t in chosen.values()} == {5, 7}
    assert kept.routes(weights, roles)["b0"].bits == 7  # its inputs are the largest
    assert frozen(QUANT, weights, roles, hessians) is QUANT


def test_a_codec_without_its_package_is_refused_before_training(monkeypatch, capsys):
    from golf.cli import main as golf

    monkeypatch.setattr("golf.config.codec_checks.installed", lambda module, package: module != "zpaq")
    assert codec_package({"codec": {"_target_": "golf.codec.zlib_codec.ZlibCodec"}}) == []
    (line,) = check_command("train", ["experiment=smoke", "codec=zpaq"]).errors
    assert "needs the package 'zpaq': pip install 'zpaq', or type codec=lzma" in line
    assert golf(["doctor", "--no-dry-run", "experiment=smoke", "codec=zpaq"]) == 1
    assert any(text.startswith("fail") and "zpaq" in text for text in capsys.readouterr().out.splitlines())
