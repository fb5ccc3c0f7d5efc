"""`golf translate`: shell forms, every known variable, and that what it prints composes against conf/."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import pytest

from golf import cli
from golf.config.check import find
from golf.config.code import to_override
from golf.config.compose import Composer
from golf.config.translate import KNOWN, RULES, View, apply_all, published_folder, translate
from golf.config.translate_command import read_command
from golf.config.translate_names import DIRECT, INERT, LATER, OFF, OWN
from golf.config.translate_ttt import test_time_training as ttt_rule
from golf.errors import UserError

# Values that differ from the baseline's; variables that mean nothing alone come with what they need.
EXAMPLES = {
    "VOCAB_SIZE": "8192",
    "NUM_LAYERS": "11",
    "MODEL_DIM": "768",
    "NUM_HEADS": "4",
    "NUM_KV_HEADS": "2",
    "MLP_MULT": "3.0",
    "TIE_EMBEDDINGS": "0",
    "LOGIT_SOFTCAP": "15",
    "QK_GAIN_INIT": "5.25",
    "ROPE_BASE": "5000",
    "LN_SCALE": "1",
    "RUN_ID": "mine",
    "DATA_PATH": "./data/datasets/fineweb10B_sp1024/",
    "TOKENIZER_PATH": "data/tokenizers/x.model",
    "TRAIN_SEQ_LEN": "2048",
    "SEQ_LEN": "2048",
    "TRAIN_BATCH_TOKENS": "786432",
    "EVAL_SEQ_LEN": "2048",
    "MAX_WALLCLOCK_SECONDS": "600",
    "SEED": "42",
}
CONTEXTS = {
    "ROPE_DIMS=16": "model.rope.dims=16",
    "ROPE_DIMS=16 ROPE_TRAIN_SEQ_LEN=2048": "model.rope.reference_length=2048",
    "ROPE_YARN=1": "model/rope=yarn",
    "XSA_LAST_N=4": "model.xsa.last_n=4",
    "XSA_LAST_N=0": None,
    "BIGRAM_VOCAB_SIZE=2048 BIGRAM_DIM=112": "model.bigram.columns=112",
    "BIGRAM_VOCAB_SIZE=0 BIGRAM_DIM=128": None,
    "SMEAR_GATE_ENABLED=1 GATE_WINDOW=12": "model.smear.inputs=12",
    "GATED_ATTN_ENABLED=1 GATED_ATTN_INIT_STD=0.005": "model.gate.std=0.005",
    "SPARSE_ATTN_GATE_ENABLED=1 SPARSE_ATTN_GATE_SCALE=0.5 GATE_WINDOW=12": "model.gate.scale=0.5",
    "ATTN_OUT_GATE_ENABLED=1 ATTN_OUT_GATE_SRC=proj": "model/gate=double",
    "VE_ENABLED=1 VE_DIM=128 VE_LAYERS=9,10 NUM_LAYERS=11": "model.values.blocks=[9,10]",
    "VALUE_RESIDUAL=1": "model/values=residual",
    "NEGATIVE_SLOPE=0.5": "model.mlp.slope=0.5",
    "NEG_SLOPE=0.3": "model.mlp.slope=0.3",
    "EMBEDDING_DIM=254": "model.embedding.rank=254",
    "EMBEDDING_DIM=512": None,
    "EMBED_LR=0.6 TIE_EMBEDDINGS=0": "optim.embedding_lr=0.6",
    "EMBED_LR=0.6": None,
    "SKIP_GATES_ENABLED=1": "model/skips=gated",
    "PARALLEL_RESIDUAL=1 PARALLEL_START_LAYER=7": "model.lanes.start=7",
    "PARALLEL_START_LAYER=8 PARALLEL_FINAL_LANE=mean": "model/lanes=parallel",
    "PARALLEL_RESIDUAL_START=7": "model.residual.start=7",
    "PARALLEL_RESIDUAL_START=-1": None,
    "NUM_LOOPS=2 LOOP_START=3 LOOP_END=5 ENABLE_LOOPING_AT=0.35": "model.depth.passes=3",
    "NUM_LOOPS=0 ENABLE_LOOPING_AT=0.5": None,
    "RECUR_LAYERS=4,5 RECUR_START_STEP=3000": "model.depth.start_step=3000",
    "RECUR_LAYERS_STR=4,5 REPEAT_UNTIE_MLP=full REPEAT_UNTIE_MLP_LAYERS=4,5": "model.depth.repeated=[4,5]",
    "XSA_LAST_N=11 NUM_LAYERS=11 NUM_LOOPS=2 LOOP_START=4 LOOP_END=5": "model.xsa.count=block",
    "ROPE_DIMS=16 TRAIN_SEQ_LEN=2048": "model.rope.bf16_frequencies=false",
    "BIGRAM_VOCAB_SIZE=4096": "model.bigram.table_dtype=bfloat16",
    "DISABLE_LAYER0_ATTN=1": "model.residual.attention_free=[0]",
    "MTP_NUM_HEADS=2 MTP_LOSS_WEIGHT=0.2": "model.objective.heads=2",
    "MTP_NUM_HEADS=0 MTP_LOSS_WEIGHT=0.2": None,
    "BETA2=0.99": "optim.betas=[0.9,0.99]",
    "MUON_ROW_NORMALIZE=1": "optim.row_normalise=row",
    "WARMDOWN_ITERS=3500": "schedule.lr.warmdown_steps=3500",
    "WARMDOWN_FRAC=0.667 MIN_LR=0.1": "schedule.lr.floor=0.1",
    "MUON_MOMENTUM=0.99 MUON_MOMENTUM_WARMUP_START=0.92 MUON_MOMENTUM_WARMUP_STEPS=1500": "schedule.momentum.end=0.99",
    "ADAM_WD=0.04": "optim.embedding_weight_decay=0.04",
    "WEIGHT_DECAY=0.01": "optim.scalar_weight_decay=0.01",
    "ADAM_WD=0.02 EMBED_WD=0.085": "optim.embedding_weight_decay=0.085",
    "EMA_ENABLED=1 EMA_DECAY=0.997": "average.decay=0.997",
    "SWA_ENABLED=1 SWA_EVERY=50 SWA_START_FRAC=0.4": "average.start_multiplier=0.4",
    "SWA_ENABLED=0 SWA_EVERY=200": None,
    "QAT_ENABLED=1": "qat=full",
    "LATE_QAT=1 LATE_QAT_THRESHOLD=0.15": None,
    "EVAL_STRIDE=64": "eval.stride=64",
    "EVAL_STRIDE=0": None,
    "SLIDING_WINDOW_ENABLED=1": "eval=ladder",
    "COMPRESSOR=brotli": "codec=brotli",
    "GPTQ_RESERVE_SECONDS=12": "budget.reserve_seconds=12",
    "GPTQ_RESERVE_MS=14000": "budget.reserve_seconds=14.0",
    "NPROC=2": "hardware.devices=2",
}
EXAMPLES |= {name: "0.5" for name, (_, kind) in DIRECT.items() if kind == "float" and name not in EXAMPLES}
EXAMPLES |= {name: "4" for name, (_, kind) in DIRECT.items() if kind == "int" and name not in EXAMPLES}
RECORD = """
# the record of 22 March
export DATA_PATH="./data/datasets/fineweb10B_sp1024" ; RUN_ID='my run'
NUM_LAYERS=11 BIGRAM_VOCAB_SIZE=2048 XSA_LAST_N=4 \\
EMA_ENABLED=1 EMA_DECAY=0.997 SWA_ENABLED=1 \\
ROPE_DIMS=16 LN_SCALE=1 LATE_QAT=1 LATE_QAT_THRESHOLD=0.15 VE_ENABLED=1 VE_DIM=128 VE_LAYERS=9,10 \\
MUON_WD=0.04 ADAM_WD=0.04 MATRIX_LR=0.025 SCALAR_LR=0.025 TIED_EMBED_LR=0.035 MUON_MOMENTUM=0.99 \\
MUON_MOMENTUM_WARMUP_START=0.92 MUON_MOMENTUM_WARMUP_STEPS=1500 WARMDOWN_ITERS=3500 ITERATIONS=9000 \\
MAX_WALLCLOCK_SECONDS=600 EVAL_STRIDE=64 SEED=${SEED:-1337} NCCL_IB_DISABLE=1 MLP_MULT=3.0 GRAD_CLIP_NORM=0.3 \\
torchrun --standalone --nproc_per_node=8 train_gpt.py 2>&1 | tee log.txt  # eight H100
"""


@pytest.fixture(scope="module")
def baseline():
    composer = Composer("train")
    choices = composer.load(["experiment=baseline"]).hydra.runtime.choices
    return composer, composer.compose(["experiment=baseline"]), {str(key): str(value) for key, value in choices.items()}


def overrides_of(text, baseline):
    view = View(read_command(text).variables, baseline[1], dict(baseline[2]))
    apply_all(view)
    from golf.config.code import to_override

    return [to_override(key, value) for key, value in view.overrides.items()], view


def run(capsys, *argv):
    code = cli.main(["translate", *argv])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_every_direct_variable_composes(baseline):
    text = " ".join(f"{name}={shlex.quote(EXAMPLES[name])}" for name in DIRECT)
    found, view = overrides_of(text, baseline)
    assert len(found) == len({key for key, _ in DIRECT.values()})
    config = baseline[0].compose(["experiment=baseline", *found])
    for key, _ in DIRECT.values():
        value = config
        for part in key.split("."):
            value = value[part]
        assert value == view.overrides[key]


@pytest.mark.parametrize("text", CONTEXTS)
def test_every_rule_composes(text, baseline):
    found, view = overrides_of(text, baseline)
    expected = CONTEXTS[text]
    assert expected is None or expected in found
    assert not found or find(baseline[0].compose(["experiment=baseline", *found])).errors == []
    told = {note.name for note in view.notes}
    assert found or told >= set(view.variables)


def test_tables_do_not_overlap_and_rules_are_covered():
    places = [*DIRECT, *OFF, *INERT, *OWN, *LATER, *(name for names in RULES.values() for name in names)]
    assert len(places) == len(set(places)) == len(KNOWN)
    tried = " ".join(CONTEXTS)
    rules = {rule: names for rule, names in RULES.items() if rule is not ttt_rule}  # tried further down
    untried = {name for names in rules.values() for name in names if f"{name}=" not in tried}
    assert untried == {
        *("BETA1", "SPARSE_ATTN_GATE_INIT_STD", "EMBED_DIM"),
        *("NPROC_PER_NODE", "NUM_GPUS", "WORLD_SIZE"),
    }


def test_a_record_in_one_line(baseline):
    command = read_command(RECORD)
    assert command.processes == "8"
    assert command.variables["DATA_PATH"] == "./data/datasets/fineweb10B_sp1024"
    assert (command.variables["RUN_ID"], command.variables["SEED"]) == ("my run", "1337")
    assert command.scripts == ["train_gpt.py"]
    found, view = overrides_of(RECORD, baseline)
    assert {"name='my run'", "model/rope=partial", "schedule.lr.warmdown_steps=3500", "average=ema"} <= set(found)
    assert {"optim.scalar_weight_decay=0.04", "optim.embedding_weight_decay=0.04", "model/bigram=hash_b"} <= set(found)
    told = {note.name: note.status for note in view.notes}
    assert told["LATE_QAT"] == told["SWA_ENABLED"] == "no effect"
    assert told["NCCL_IB_DISABLE"] == "ignored"


@pytest.mark.parametrize(
    "text",
    [
        "export NUM_LAYERS=11; SEED=2 python train_gpt.py",
        "export NUM_LAYERS=11 SEED=2\npython train_gpt.py",
        "NUM_LAYERS=9 # first\nNUM_LAYERS=11 \\\n  SEED='2' \\\n  python3 train_gpt.py # the last counts",
        'env NUM_LAYERS=11 SEED="2" python -u train_gpt.py > log 2>&1 &',
        "cd here && pip install x && L=11 && NUM_LAYERS=$L SEED=${SEED:-2} torchrun train_gpt.py | tee 'a;b.txt'",
        "docker run -e NUM_LAYERS=11 -e SEED=2 image python train_gpt.py",
        "NUM_LAYERS=11\r\nSEED=2\r\n",
    ],
)
def test_shell_forms(text, baseline):
    assert set(overrides_of(text, baseline)[0]) == {"model.num_layers=11", "seed=2"}


@pytest.mark.parametrize(
    ("flag", "count"),
    [("--nproc_per_node=8", "8"), ("--nproc-per-node 4", "4"), ("--nproc_per_node ${N:-2}", "2"), ("", None)],
)
def test_processes(flag, count):
    assert read_command(f"torchrun --standalone {flag} train_gpt.py").processes == count


def test_the_command(capsys):
    code, out, _ = run(capsys, "WARMDOWN_ITERS=3000 MATRIX_BITS=6 torchrun --nproc_per_node=8 train_gpt.py")
    lines = out.splitlines()
    assert code == 0
    assert lines[0] == "python train.py experiment=baseline schedule.lr.warmdown_steps=3000 hardware.devices=8"
    assert all(line.startswith("# ") for line in lines[1:])
    assert any(line.startswith("# MATRIX_BITS: later:") for line in lines)
    listed = json.loads(run(capsys, "--json", "SEED=7", "torchrun", "--nproc_per_node", "2", "train_gpt.py")[1])
    assert listed["overrides"] == ["seed=7", "hardware.devices=2"]
    assert shlex.split(listed["command"])[2] == "experiment=baseline"


@pytest.mark.parametrize(
    ("base", "text", "expected"),
    [
        ("baseline", "TTT_ENABLED=0", set()),
        ("baseline", "TTT_LR=0.01", set()),
        (
            "baseline",
            "TTT_ENABLED=1 TTT_LR=0.002 TTT_CHUNK_TOKENS=16384 TTT_LORA_RANK=8",
            {"ttt=sgd", "eval=ladder", "objective=ttt", "ttt.learning_rate=0.002", "ttt.chunk_tokens=16384"},
        ),
        (
            "record/0417_none",
            "TTT_ENABLED=1 PHASED_TTT_ENABLED=1 PHASED_TTT_NUM_PHASES=2 TTT_BETA2=0.9 TTT_GRAD_STEPS=2 TTT_K_LORA=0",
            {
                *("ttt=phased", "objective=ttt", "ttt.phases=2", "ttt.lora.betas=[0.0,0.9]", "ttt.lora.grad_steps=2"),
                "ttt.lora.targets=[q,v,o,mlp,head]",
            },
        ),
        ("record/0427_smear_lqer", "PHASED_TTT_PREFIX_DOCS=2500", {"ttt.documents=2500"}),
        ("record/0427_smear_lqer", "TTT_ENABLED=0", {"ttt=none", "objective=sliding"}),
        ("record/0427_smear_lqer", "PHASED_TTT_ENABLED=0", {"ttt=lora_visits"}),
        ("record/0406_qk5_ttt", "TTT_EPOCHS=1", {"ttt.epochs=1"}),
    ],
)
def test_test_time_training(base, text, expected):
    base = "record/0405_sp8192_sdclip" if base == "record/0417_none" else base
    found = translate(f"{text} torchrun train_gpt.py", base)
    assert not found.errors
    assert set(found.overrides) == expected


@pytest.mark.parametrize("switches", ["TTT_ENABLED=1", "TTT_ENABLED=1 PHASED_TTT_ENABLED=1", "TTT_ENABLED=0"])
def test_every_variable_of_test_time_training_is_accounted_for(switches, baseline):
    values = {"TTT_OPTIMIZER": "adam", "TTT_EVAL_BATCHES": ""}
    given = dict(pair.split("=") for pair in switches.split())
    variables = {name: values.get(name, "3") for name in RULES[ttt_rule]}
    variables |= dict.fromkeys(("TTT_K_LORA", "TTT_O_LORA", "TTT_MLP_LORA", "TTT_WARM_START_A"), "0")
    variables |= {"GLOBAL_TTT_RESPECT_DOC_BOUNDARIES": "1", "PHASED_TTT_ENABLED": "0", **given}
    composer, config, choices = Composer("train"), baseline[1], {"ttt": "none", "eval": "contiguous"}
    view = View(variables, config, choices)
    ttt_rule(view)
    names = [note.name for note in view.notes]
    assert len(names) == len(set(names))
    keys = {key for key in view.overrides if key.startswith("ttt.")}
    silent = {"TTT_ENABLED", "PHASED_TTT_ENABLED"} - set(
        names
    )  # they choose; two betas and three targets are one key each
    assert len(keys) + len(names) == len(variables) - len(silent) - (
        3 if "ttt.targets" in keys or "ttt.lora.targets" in keys else 0
    )
    found = composer.compose(["experiment=baseline", *(to_override(k, v) for k, v in view.overrides.items())])
    assert find(found).errors == []


def test_another_base(capsys):
    listed = json.loads(run(capsys, "SEED=7 python train_gpt.py", "--base", "seq2048", "--json")[1])
    assert listed["base"] == "seq2048"
    assert listed["command"].startswith("python train.py experiment=seq2048 ")


def test_a_records_folder_is_recognised(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("# @package _global_\npublished:\n  folder: 2026-03-22_Some Thing_1.1233 # here\n  bpb: 1.1\n")
    assert published_folder(path) == "2026-03-22_Some Thing_1.1233"
    path.write_text("data:\n  folder: data/here\n")
    assert published_folder(path) == ""


def test_unset_variables_are_told():
    found = translate("for S in 1 2; do SEED=$S NUM_LAYERS=11 torchrun train_gpt.py; done")
    assert found.overrides == ["model.num_layers=11"]
    assert [(note.name, note.status) for note in found.notes if note.status == "unset"] == [("SEED", "unset")]


def test_unknown_variables(capsys):
    code, out, err = run(capsys, "NUM_LAYER=11 FLUX_CAPACITOR=1 python train_gpt.py")
    assert (code, out) == (2, "")
    first, second = err.splitlines()
    assert "NUM_LAYER: a variable that golf does not know; nearest: NUM_LAYERS" in first
    assert "FLUX_CAPACITOR" in second
    assert "--allow-unknown" in second
    found = translate("NUM_LAYER=11 SEED=3 python train_gpt.py", allow_unknown=True)
    assert found.overrides == ["seed=3"]
    assert found.unknown == ["NUM_LAYER"]


def test_what_golf_does_not_express_is_told(baseline):
    _, view = overrides_of("DTG_ENABLED=1 LAWA_ENABLED=0 MIN_LR=0.1 CANON_AC_LAYERS= VAL_DOC_FRACTION=1.0", baseline)
    told = {note.name: note.status for note in view.notes}
    assert told == {
        "DTG_ENABLED": "not expressed",
        "LAWA_ENABLED": "off",
        "MIN_LR": "not expressed",
        "CANON_AC_LAYERS": "off",
        "VAL_DOC_FRACTION": "off",
    }


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "a command is missing"),
        (["hello world"], "no NAME=value"),
        (["NUM_LAYERS=eleven python x.py"], "NUM_LAYERS=eleven: a number is expected"),
        (["NUM_LAYERS=11.5 python x.py"], "a whole number"),
        (["EMA_ENABLED=maybe python x.py"], "0 or 1"),
        (["NUM_LAYERS='11 python x.py"], "close the quote"),
        (["SEED=1 python x.py", "--base", "baselin"], "nearest: baseline"),
        (["NUM_HEADS=7 python x.py"], "golf check says: model.num_heads=7"),
    ],
)
def test_errors(capsys, argv, words):
    code, _, err = run(capsys, *argv)
    assert code == 2
    assert words in err
    assert all(line.startswith("golf: ") for line in err.splitlines())


def test_no_torch_and_no_import_of_what_is_named():
    with pytest.raises(UserError):
        read_command("nothing here")
    call = "main(['translate', 'SEED=1 python a.py'])"
    code = f"import sys; from golf.cli import main; {call}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
