"""The rule of `golf translate` for test-time training: which method a script's variables mean, and their keys.

The scripts had three: SGD along the stream (TTT_LR, TTT_EPOCHS, TTT_CHUNK_TOKENS …), adapters per document
(TTT_LORA_RANK, TTT_CHUNK_SIZE …), and adapters with phases of SGD in between (PHASED_TTT_…, GLOBAL_TTT_…).
"""

from __future__ import annotations

from golf.config.translate_view import View

SGD = {
    "TTT_LR": "learning_rate",
    "TTT_EPOCHS": "epochs",
    "TTT_MOMENTUM": "momentum",
    "TTT_CHUNK_TOKENS": "chunk_tokens",
    "TTT_FREEZE_BLOCKS": "freeze_blocks",
    "TTT_GRAD_CLIP": "grad_clip",
    "TTT_BATCH_SEQS": "batch_sequences",
}
LORA = {
    "TTT_LORA_LR": "learning_rate",
    "TTT_LORA_RANK": "rank",
    "TTT_LORA_ALPHA": "alpha",
    "TTT_BATCH_SIZE": "batch_documents",
    "TTT_CHUNK_SIZE": "chunk",
    "TTT_EVAL_SEQ_LEN": "context",
    "TTT_GRAD_STEPS": "grad_steps",
    "TTT_WEIGHT_DECAY": "weight_decay",
}
LORA_SWITCHES = {"TTT_K_LORA": "k", "TTT_O_LORA": "o", "TTT_MLP_LORA": "mlp"}
GLOBAL = {
    "GLOBAL_TTT_LR": "learning_rate",
    "GLOBAL_TTT_EPOCHS": "epochs",
    "GLOBAL_TTT_MOMENTUM": "momentum",
    "GLOBAL_TTT_CHUNK_TOKENS": "chunk_tokens",
    "GLOBAL_TTT_GRAD_CLIP": "grad_clip",
    "GLOBAL_TTT_BATCH_SEQS": "batch_sequences",
}
PHASED = {"PHASED_TTT_NUM_PHASES": "phases", "PHASED_TTT_PREFIX_DOCS": "documents"}
BETAS = ("TTT_BETA1", "TTT_BETA2")
FIRST_BETAS = {"lora": (0.9, 0.95), "lora_visits": (0.0, 0.999), "phased": (0.0, 0.99)}
ADAPTER_NAMES = (*LORA, *LORA_SWITCHES, *BETAS, "TTT_WARM_START_A", "TTT_OPTIMIZER")
PHASE_NAMES = (*GLOBAL, *PHASED, "PHASED_TTT_ENABLED", "GLOBAL_TTT_RESPECT_DOC_BOUNDARIES")
NOT_EXPRESSED = {
    "TTT_EVAL_BATCHES": ("", "golf scores every batch of documents"),
    "TTT_OPTIMIZER": ("adam", "golf's adapters learn by AdamW, as in every record"),
    "GLOBAL_TTT_WARMUP_CHUNKS": ("0", "golf's rate starts at its peak, as in every record"),
    "GLOBAL_TTT_WARMUP_START_LR": ("0", "golf's rate starts at its peak, as in every record"),
}
NAMES = tuple(dict.fromkeys(("TTT_ENABLED", *SGD, *ADAPTER_NAMES, *PHASE_NAMES, *NOT_EXPRESSED)))


def test_time_training(view: View) -> None:
    """Chooses `ttt` and sets its keys; variables of another method than the chosen one have no effect."""
    on, method = view.flag("TTT_ENABLED"), _method(view)
    for name, (neutral, text) in NOT_EXPRESSED.items():
        is_neutral = (view.text(name) or neutral).removesuffix(".0") == neutral
        view.note(name, "off" if is_neutral else "not expressed", "as in golf" if is_neutral else text)
    if on is False or (on is None and view.choices.get("ttt", "none") == "none"):
        view.choose("ttt", "none")
        if view.current("objective") == "ttt":
            view.set("objective", "sliding")
        _without_effect(view, NAMES, "TTT_ENABLED=1 is not set")
        return
    if not view.choices.get("ttt", "none").startswith(method):
        view.choose("ttt", method)
    if view.choices.get("eval") not in ("ladder", "ladder_tilted", "packed_ladder", "adaptive"):
        view.choose("eval", "ladder")
    if view.current("objective") != "ttt":
        view.set("objective", "ttt")
    if method == "sgd":
        _set(view, SGD, "ttt")
        _without_effect(view, (*ADAPTER_NAMES, *PHASE_NAMES), "SGD along the stream has no adapters and no phases")
        return
    adapters = "ttt.lora" if method == "phased" else "ttt"
    _adapters(view, adapters)
    _without_effect(view, tuple(SGD), "for SGD along the stream")
    if method == "phased":
        _set(view, GLOBAL, "ttt.sgd")
        _set(view, PHASED, "ttt")
        if view.has("GLOBAL_TTT_RESPECT_DOC_BOUNDARIES"):
            view.set("ttt.sgd.document_mask", view.flag("GLOBAL_TTT_RESPECT_DOC_BOUNDARIES"))
    else:
        _without_effect(view, PHASE_NAMES, "without phases")


def _method(view: View) -> str:
    """sgd, lora (of March), lora_visits (of April) or phased: what the variables ask for, else the experiment's."""
    base = view.choices.get("ttt", "none")
    kind = next((name for name in ("sgd", "phased", "lora") if base.startswith(name)), "")
    if view.flag("PHASED_TTT_ENABLED") or (view.has(*PHASED) and view.flag("PHASED_TTT_ENABLED") is not False):
        return "phased"
    if view.flag("PHASED_TTT_ENABLED") is False and kind in ("phased", ""):
        return "lora_visits"
    if kind:
        return kind
    return "lora" if view.has(*LORA, *LORA_SWITCHES, "TTT_WARM_START_A") and not view.has(*SGD) else "sgd"


def _set(view: View, keys: dict[str, str], node: str) -> None:
    for name, key in keys.items():
        if view.has(name):
            view.set(f"{node}.{key}", view.number(name))


def _adapters(view: View, node: str) -> None:
    _set(view, LORA, node)
    if view.has("TTT_LORA_ALPHA"):
        view.set(f"{node}.alpha", float(view.number("TTT_LORA_ALPHA") or 0.0))
    if view.has(*BETAS):
        kept = view.current(f"{node}.betas") or FIRST_BETAS[view.choices["ttt"]]
        given = [view.number(name) for name in BETAS]
        view.set(f"{node}.betas", [float(old if new is None else new) for old, new in zip(kept, given)])
    if view.has("TTT_WARM_START_A"):
        view.set(f"{node}.warm_start", view.flag("TTT_WARM_START_A"))
    if view.has(*LORA_SWITCHES):
        off = {target for name, target in LORA_SWITCHES.items() if view.flag(name) is False}
        on = {target for name, target in LORA_SWITCHES.items() if view.flag(name)}
        kept = set(view.current(f"{node}.targets") or ("q", "k", "v", "o", "mlp", "head"))
        view.set(f"{node}.targets", [name for name in ("q", "k", "v", "o", "mlp", "head") if name in kept - off | on])


def _without_effect(view: View, names: tuple[str, ...], text: str) -> None:
    told = {note.name for note in view.notes}
    for name in names:
        if name not in told:
            view.note(name, "off" if name == "TTT_ENABLED" else "no effect", text)
