"""The other rules of `golf translate`: optimizer, schedule, averaging, quantisation in training, evaluation."""

from __future__ import annotations

from typing import Any

from golf.config.translate_rules import Rule
from golf.config.translate_view import View, as_number


def momentum(view: View) -> None:
    names = {"start": "MUON_MOMENTUM_WARMUP_START", "end": "MUON_MOMENTUM", "steps": "MUON_MOMENTUM_WARMUP_STEPS"}
    if not view.current("schedule.momentum"):
        if view.has("MUON_MOMENTUM"):
            view.set("optim.momentum", view.number("MUON_MOMENTUM"))
        for name in (names["start"], names["steps"]):
            view.note(name, "not expressed", "this experiment's momentum is constant; type schedule=warmdown_steps")
        return
    for key, name in names.items():
        if view.has(name):
            view.set(f"schedule.momentum.{key}", view.number(name))


def schedule(view: View) -> None:
    """Warm-down by steps (March) or by a share of the budget (April); both at once is the share."""
    share, steps, floor = view.number("WARMDOWN_FRAC"), view.number("WARMDOWN_ITERS"), view.number("MIN_LR")
    if share is not None:
        _switch(view, "warmdown_fraction")
        view.set("schedule.lr.warmdown_fraction", share)
        view.note("WARMDOWN_ITERS", "no effect", "WARMDOWN_FRAC decides")
    elif steps is not None:
        _switch(view, "warmdown_steps")
        view.set("schedule.lr.warmdown_steps", int(steps))
    if floor is not None and view.choices.get("schedule") == "warmdown_fraction":
        view.set("schedule.lr.floor", floor)
    elif floor:
        view.note("MIN_LR", "not expressed", "a warm-down in steps ends at zero; give WARMDOWN_FRAC")
    else:
        view.note("MIN_LR", "off", "as in golf")


def _switch(view: View, option: str) -> None:
    """Another schedule option keeps the momentum of the base."""
    ramp: Any = view.current("schedule.momentum")
    if view.choices.get("schedule") == option:
        return
    view.choose("schedule", option)
    for key in ("start", "end", "steps"):
        if isinstance(ramp, dict) and key in ramp:
            view.set(f"schedule.momentum.{key}", ramp[key])


def embedding_rate(view: View) -> None:
    """EMBED_LR is the rate of an untied table: a tied one has TIED_EMBED_LR."""
    if view.current("model.tie_embeddings"):
        view.note("EMBED_LR", "no effect", "for untied embeddings; tied ones have TIED_EMBED_LR")
    else:
        view.set("optim.embedding_lr", view.number("EMBED_LR"))


def betas(view: View) -> None:
    now = view.current("optim.betas") or [0.9, 0.95]
    given = [view.number("BETA1"), view.number("BETA2")]
    view.set("optim.betas", [old if new is None else new for new, old in zip(given, now)])


def row_normalise(view: View) -> None:
    kind = "row" if view.flag("MUON_ROW_NORMALIZE") else "none"
    if kind != view.current("optim.row_normalise"):
        view.set("optim.row_normalise", kind)


def decay(view: View) -> None:
    """ADAM_WD and WEIGHT_DECAY are Adam's: embeddings and scalars in March, scalars alone once EMBED_WD exists."""
    value = view.number("ADAM_WD", "WEIGHT_DECAY")
    view.set("optim.scalar_weight_decay", value)
    split = view.current("optim.scalar_weight_decay") is not None and view.has("EMBED_WD")
    base = view.base.get("optim", {})
    if not split and base.get("embedding_weight_decay") == base.get("scalar_weight_decay"):
        view.set("optim.embedding_weight_decay", value)


def averaging(view: View) -> None:
    ema, rate = view.flag("EMA_ENABLED"), view.number("EMA_DECAY")
    swa = view.flag("SWA_ENABLED")
    if ema or (ema is None and rate is not None):
        view.choose("average", "ema")
    elif swa and (ema is False or view.choices.get("average") != "ema"):
        view.choose("average", "swa")
    elif ema is False or (swa is False and view.choices.get("average") == "swa"):
        view.choose("average", "none")
    kind = view.choices.get("average")
    if kind == "ema":
        if rate is not None:
            view.set("average.decay", rate)
        for name in ("SWA_ENABLED", "SWA_EVERY", "SWA_START_FRAC"):
            view.note(name, "no effect", "weights are averaged by EMA; the scripts collected SWA beside it, unused")
    elif kind == "swa":
        every, start = view.number("SWA_EVERY"), view.number("SWA_START_FRAC")
        for key, value in (("every", every), ("start_multiplier", start)):
            if value is not None:
                view.set(f"average.{key}", value)
        if view.has("SWA_ENABLED"):
            view.note("SWA_ENABLED", "translated", "scripts from 22 March on export an EMA of 0.997 whatever it says")
    else:
        for name in ("EMA_ENABLED", "EMA_DECAY", "SWA_ENABLED", "SWA_EVERY", "SWA_START_FRAC"):
            view.note(name, "off", "no averaging")


def training_quantisation(view: View) -> None:
    if view.flag("QAT_ENABLED"):
        view.choose("qat", "full")
    else:
        view.note("QAT_ENABLED", "off", "as in golf")
    threshold = view.number("LATE_QAT_THRESHOLD")
    live = f"qat=late qat.at=null qat.lr_below={0.1 if threshold is None else threshold}"
    for name in ("LATE_QAT", "LATE_QAT_THRESHOLD"):
        view.note(name, "no effect", f"compiled away in the published runs; alive, with another result, by {live}")


def evaluation(view: View) -> None:
    stride, sliding = view.number("EVAL_STRIDE"), view.flag("SLIDING_WINDOW_ENABLED")
    if sliding is False or stride == 0:
        view.choose("eval", "contiguous")
        view.note("EVAL_STRIDE", "no effect", "no sliding windows")
        view.set("objective", "quantised")
    elif stride or sliding:
        view.choose("eval", "ladder")
        view.set("objective", "sliding")
        if stride:
            view.set("eval.stride", int(stride))


def compressor(view: View) -> None:
    name = (view.text("COMPRESSOR") or "").lower()
    known = {"brotli": "brotli", "lzma": "lzma", "zlib": "zlib", "zstd": "zstd", "zstandard": "zstd"}
    if name in known:
        view.choose("codec", known[name])
    else:
        view.note("COMPRESSOR", "later", "packing: conf/codec and export.py decide it")


def reserve(view: View) -> None:
    seconds, milliseconds = view.number("GPTQ_RESERVE_SECONDS"), view.number("GPTQ_RESERVE_MS")
    view.set("budget.reserve_seconds", seconds if seconds is not None else (milliseconds or 0) / 1000)


def devices(view: View) -> None:
    count = view.text("NPROC_PER_NODE", "NPROC", "NUM_GPUS", "WORLD_SIZE")
    view.set("hardware.devices", int(as_number("processes", str(count))))


TRAINING: dict[Rule, tuple[str, ...]] = {
    embedding_rate: ("EMBED_LR",),
    betas: ("BETA1", "BETA2"),
    row_normalise: ("MUON_ROW_NORMALIZE",),
    schedule: ("WARMDOWN_ITERS", "WARMDOWN_FRAC", "MIN_LR"),
    momentum: ("MUON_MOMENTUM", "MUON_MOMENTUM_WARMUP_START", "MUON_MOMENTUM_WARMUP_STEPS"),
    decay: ("ADAM_WD", "WEIGHT_DECAY"),
    averaging: ("EMA_ENABLED", "EMA_DECAY", "SWA_ENABLED", "SWA_EVERY", "SWA_START_FRAC"),
    training_quantisation: ("QAT_ENABLED", "LATE_QAT", "LATE_QAT_THRESHOLD"),
    evaluation: ("EVAL_STRIDE", "SLIDING_WINDOW_ENABLED"),
    compressor: ("COMPRESSOR",),
    reserve: ("GPTQ_RESERVE_SECONDS", "GPTQ_RESERVE_MS"),
    devices: ("NPROC_PER_NODE", "NPROC", "NUM_GPUS", "WORLD_SIZE"),
}
