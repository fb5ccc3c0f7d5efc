"""Sensitivities as their user meets them: export.py sensitivity.tokens=…, its table, picture, page and W&B table."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ElementTree

import pytest
from safetensors.torch import load_file

from golf.pipeline.run_folder import open_run_folder
from golf.pipeline.training_slice import TrainingSlice
from golf.quant.state import QuantisedState
from golf.report.sensitivity import ordered_by_harm, sensitivity_picture

TOKENS = 256


@pytest.fixture(scope="module")
def measured(tiny_run, tmp_path_factory):
    """A run that logs to W&B offline, with the sensitivities of another export of it."""
    from golf.config.entry import run_script

    folder = tmp_path_factory.mktemp("runs") / "smoke" / "first"
    quant = ("quant=int6_rows", "quant.small_numel=500")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        tiny_run(folder, "through=pack", "logger=wandb_offline", *quant)
        patch.chdir(folder.parent)
        overrides = [f"run={folder}", "quant=int5_mlp", "quant.small_numel=500", f"sensitivity.tokens={TOKENS}"]
        patch.setattr("sys.argv", ["export.py", *overrides, "through=pack", "export=five"])
        with pytest.raises(SystemExit) as ended:
            run_script("export", "golf.app:export")
    assert ended.value.code in (0, None)
    return folder


def test_table_has_what_quantising_each_tensor_alone_costs(measured):
    place = measured / "artifact" / "five"
    found = json.loads((place / "sensitivity.json").read_text())
    run = open_run_folder(measured)
    ruler = TrainingSlice(run, run.config, TOKENS)
    assert found["scored_on"] == ruler.label
    assert f"last {TOKENS:,} targets of the training split" in ruler.label
    loaded = load_file(measured / "stages" / "average" / "weights.safetensors")
    stored = QuantisedState.load(place / "stages" / "quantise" / "quantised.golf").tensors
    base = ruler.bpb(loaded)
    assert found["bpb"] == base
    assert found["delta_bpb"] == ruler.bpb({**loaded, **{n: t.dequantise() for n, t in stored.items()}}) - base
    coded = [name for name, tensor in stored.items() if "codes" in tensor.parts()]
    assert set(coded) <= {line["name"] for line in found["tensors"]}
    for line in found["tensors"]:
        assert line["delta_bpb"] == ruler.bpb({**loaded, line["name"]: stored[line["name"]].dequantise()}) - base
    assert any(line["delta_bpb"] != 0 for line in found["tensors"])
    assert {"mse", "relative_hessian_error", "clipped", "entropy_bits", "bytes"} <= set(found["tensors"][0])


def test_validation_is_not_read(measured, tmp_path):
    copied = tmp_path / "run"
    shutil.copytree(measured, copied, ignore=shutil.ignore_patterns("wandb"))
    pinned = json.loads((copied / "data.json").read_text())
    data = tmp_path / "data"
    shutil.copytree(pinned["folder"], data)
    # A run that never wrote its validation split down: the check of its identity would refuse other tokens.
    (copied / "data.json").write_text(json.dumps({"folder": str(data), "tokenizer": pinned["tokenizer"]}))
    for shard in data.glob("fineweb_val_*.bin"):
        content = bytearray(shard.read_bytes())
        content[1024:] = bytes(len(content) - 1024)  # other validation tokens
        shard.write_bytes(content)
    before, after = (TrainingSlice(run, run.config, TOKENS) for run in map(open_run_folder, (measured, copied)))
    weights = load_file(measured / "stages" / "average" / "weights.safetensors")
    assert before.bpb(weights) == after.bpb(weights)


def test_picture_and_page(measured):
    found = json.loads((measured / "artifact" / "five" / "sensitivity.json").read_text())
    picture = ElementTree.parse(measured / "artifact" / "five" / "sensitivity.svg").getroot()
    bars = picture.findall("{http://www.w3.org/2000/svg}rect")
    assert len(bars) == len(found["tensors"])
    worst = max(found["tensors"], key=lambda line: line["delta_bpb"])
    assert worst["name"] in bars[0][0].text
    page = (measured / "report.html").read_text()
    assert "Sensitivity of five" in page
    assert "Sensitivity of default" in page  # without Δ BPB: it was not asked for there
    assert all(line["name"] in page for line in found["tensors"])


def test_wandb_has_both_tables(measured):
    pytest.importorskip("wandb")
    tables = [json.loads(path.read_text()) for path in measured.glob("wandb/*/files/media/table/sensitivity/*.json")]
    by_columns = {"delta_bpb" in table["columns"]: table for table in tables}
    assert set(by_columns) == {False, True}
    found = json.loads((measured / "artifact" / "five" / "sensitivity.json").read_text())["tensors"]
    names = [row[by_columns[True]["columns"].index("name")] for row in by_columns[True]["data"]]
    assert names == [line["name"] for line in found]


def test_asked_alone_it_is_about_the_runs_own_export(measured, script_here):
    done = script_here("export", f"run={measured}", "through=pack", f"sensitivity.tokens={TOKENS}", tiny=False)
    assert done.returncode in (0, None), done.stderr
    assert "Δ BPB: only this tensor quantised" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 130
    assert (measured / "artifact" / "default" / "sensitivity.json").is_file()
    assert not (measured / "artifact" / "again").exists()


@pytest.mark.parametrize(
    ("tokens", "said"), [(-1, "tokens=-1 must be"), ("all", "tokens=all must be"), (3, "shorter than")]
)
def test_wrong_lengths_are_one_line(measured, script_here, tokens, said):
    done = script_here("export", f"run={measured}", "through=pack", f"sensitivity.tokens={tokens}", tiny=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert said in line


def test_pictures_of_strange_lines():
    lines = [{"name": f"<b>{n}", "relative_mse": 10.0**-n} for n in range(60)] + [{"name": "none"}]
    picture = sensitivity_picture(lines, "a & b")
    ElementTree.fromstring(picture)
    assert "<b>" not in picture
    assert "and 12 more tensors" in picture
    assert [line["name"] for line, _ in ordered_by_harm(lines)][:2] == ["<b>0", "<b>1"]
    negative = sensitivity_picture([{"name": "x", "delta_bpb": -0.5}, {"name": "y", "delta_bpb": 0.0}], "t")
    assert len(ElementTree.fromstring(negative).findall("{http://www.w3.org/2000/svg}rect")) == 2
