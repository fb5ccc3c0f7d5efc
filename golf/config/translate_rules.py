"""Variables of the published scripts that mean something together: each rule reads a few and chooses options and keys.

Source: the record scripts of March and April 2026; where the same name meant two things, the experiment that the
command is laid over decides. Invariant: `RULES` names every variable that its function reads.
"""

from __future__ import annotations

from collections.abc import Callable

from golf.config.cross_checks import get
from golf.config.translate_view import View

Rule = Callable[[View], None]


def rope(view: View) -> None:
    dims, reference = view.number("ROPE_DIMS"), view.number("ROPE_TRAIN_SEQ_LEN")
    if view.flag("ROPE_YARN"):
        view.choose("model/rope", "yarn")
    elif dims == 0:
        view.choose("model/rope", "full")
        view.note("ROPE_DIMS", "translated", "0 = all dimensions of a head")
    elif dims:
        view.choose("model/rope", "partial")
        if reference is None and get(view.base, "model.rope.reference_length") is None:
            reference = 1024  # fixed in the scripts of March; those of April have ROPE_TRAIN_SEQ_LEN
    if view.choices.get("model/rope") == "partial":
        for key, value in (("dims", dims), ("reference_length", reference)):
            if value:
                view.set(f"model.rope.{key}", int(value))
        if (
            reference
            and reference < (view.current("data.seq_len") or 0)
            and view.current("model.rope.bf16_frequencies")
        ):
            view.set("model.rope.bf16_frequencies", False)  # a rescaled base is computed in float32
    elif reference:
        view.note("ROPE_TRAIN_SEQ_LEN", "no effect", "only rescales partial rotary positions")


def exclusive_attention(view: View) -> None:
    last = view.number("XSA_LAST_N")
    view.choose("model/xsa", "exclusive" if last else "none")
    if last:
        view.set("model.xsa.last_n", int(last))
        if view.choices.get("model/depth", "").startswith(("loop", "mini_recurrence")):
            view.set("model.xsa.count", "block")  # the scripts decide by block, whatever the number of visits


def bigram(view: View) -> None:
    buckets, columns = view.number("BIGRAM_VOCAB_SIZE"), view.number("BIGRAM_DIM")
    if buckets == 0:
        view.choose("model/bigram", "none")
        view.note("BIGRAM_DIM", "no effect", "BIGRAM_VOCAB_SIZE=0 has no table")
        return
    if not view.choices.get("model/bigram", "none").startswith("hash"):
        view.choose("model/bigram", "hash_b")
        _table_type(view, "model.bigram.table_dtype")
    for key, value in (("buckets", buckets), ("columns", columns)):
        if value is not None:
            view.set(f"model.bigram.{key}", int(value))


def _table_type(view: View, key: str) -> None:
    """The scripts hold all their tables in one type."""
    if view.current("model.embedding.table_dtype") == "bfloat16":
        view.set(key, "bfloat16")


def gates(view: View) -> None:
    """Output gates of attention, the smear gate, and the inputs that both read."""
    kinds = {"GATED_ATTN_ENABLED": "dense", "SPARSE_ATTN_GATE_ENABLED": "sparse", "ATTN_OUT_GATE_ENABLED": "double"}
    on = [option for name, option in kinds.items() if view.flag(name)]
    if on:
        view.choose("model/gate", on[0])
    elif any(view.flag(name) is False for name in kinds if kinds[name] == view.choices.get("model/gate")):
        view.choose("model/gate", "none")
    if view.has("SMEAR_GATE_ENABLED"):
        view.choose("model/smear", "input_gate" if view.flag("SMEAR_GATE_ENABLED") else "none")
    gate, smear = view.choices.get("model/gate", "none"), view.choices.get("model/smear", "none")
    _when(view, "GATED_ATTN_INIT_STD", gate == "dense", "model.gate.std")
    _when(view, "SPARSE_ATTN_GATE_SCALE", gate == "sparse", "model.gate.scale")
    if view.number("SPARSE_ATTN_GATE_INIT_STD"):
        view.note("SPARSE_ATTN_GATE_INIT_STD", "not expressed", "golf's sparse gate starts at zero, as in every record")
    inputs = view.number("GATE_WINDOW")
    for key, used in (("gate", gate in ("sparse", "double")), ("smear", smear == "input_gate")):
        if inputs and used:
            view.set(f"model.{key}.inputs", int(inputs))
    for name in (*kinds, "SMEAR_GATE_ENABLED", "GATE_WINDOW", "SPARSE_ATTN_GATE_INIT_STD"):
        if not (view.text(name) or "").strip("0."):
            view.note(name, "off", "as in golf")


def _when(view: View, name: str, used: bool, key: str) -> None:
    value = view.number(name)
    if value is not None and used:
        view.set(key, value)
    elif value is not None:
        view.note(name, "no effect", "its gate is off")


def values(view: View) -> None:
    blocks, columns = view.whole_numbers("VE_LAYERS"), view.number("VE_DIM")
    enabled = view.flag("VE_ENABLED")
    if view.flag("VALUE_RESIDUAL"):
        view.choose("model/values", "residual")
    elif enabled is False and view.choices.get("model/values") != "residual":
        view.choose("model/values", "none")
    elif (enabled or blocks or columns) and view.choices.get("model/values") != "embedding":
        view.choose("model/values", "embedding")
        _table_type(view, "model.values.table_dtype")
    if view.choices.get("model/values") == "embedding":
        if blocks:
            view.set("model.values.blocks", blocks)
        if columns:
            view.set("model.values.columns", int(columns))


def mlp(view: View) -> None:
    slope = view.number("NEGATIVE_SLOPE", "NEG_SLOPE")
    view.choose("model/mlp", "leaky_relu2" if slope else "relu2")
    if slope:
        view.set("model.mlp.slope", slope)


def embedding(view: View) -> None:
    rank, width = view.number("EMBEDDING_DIM", "EMBED_DIM"), view.current("model.width")
    if rank and int(rank) != width:
        view.choose("model/embedding", "factored")
        view.set("model.embedding.rank", int(rank))
    elif rank:
        for name in ("EMBEDDING_DIM", "EMBED_DIM"):
            view.note(name, "no effect", "the model's width: the table is not factored")


def skips(view: View) -> None:
    view.choose("model/skips", "gated" if view.flag("SKIP_GATES_ENABLED") else "plain")


def lanes(view: View) -> None:
    """Four mechanisms share these names: PARALLEL_RESIDUAL routes two lanes (31 March), PARALLEL_RESIDUAL_START is
    GPT-J's form (6 and 9 April), PARALLEL_START_LAYER alone two lanes with lambdas (from 10 April)."""
    start = view.number("PARALLEL_START_LAYER", "PARALLEL_RESIDUAL_START")
    had = view.choices.get("model/lanes", "none") != "none"
    routed = view.flag("PARALLEL_RESIDUAL")
    last = view.current("model.num_layers")
    if routed is False or (start is not None and (start < 0 or start >= (last or start + 1))):
        view.choose("model/lanes", "none")
        if view.choices.get("model/residual") == "parallel":
            view.choose("model/residual", "x0_mix")
    elif routed:
        view.choose("model/lanes", "routed")
    elif start is not None and view.has("PARALLEL_RESIDUAL_START") and not had:
        view.choose("model/residual", "parallel")
        view.set("model.residual.start", int(start))
        text = "GPT-J's form (6 and 9 April); the scripts of 4 and 8 April mean model/lanes=decoupled"
        view.note("PARALLEL_RESIDUAL_START", "translated", text)
        return
    elif start is not None and not had:
        view.choose("model/lanes", "parallel")
    if view.choices.get("model/lanes", "none") != "none" and start is not None:
        view.set("model.lanes.start", int(start))
    final = view.text("PARALLEL_FINAL_LANE")
    if final not in (None, "mean"):
        view.note("PARALLEL_FINAL_LANE", "not expressed", "golf ends with the mean of both lanes, as every record did")
    view.note("PARALLEL_FINAL_LANE", "off", "mean of both lanes, as in golf") if final == "mean" else None


def depth(view: View) -> None:
    loops, at = view.number("NUM_LOOPS"), view.number("ENABLE_LOOPING_AT")
    recurring = view.whole_numbers("RECUR_LAYERS", "RECUR_LAYERS_STR")
    untied = (view.text("REPEAT_UNTIE_MLP") or "none").lower() not in ("none", "0", "")
    ends = {"first": view.number("LOOP_START"), "last": view.number("LOOP_END")}
    if loops == 0 or (view.has("RECUR_LAYERS", "RECUR_LAYERS_STR") and not recurring):
        view.choose("model/depth", "unet")
        return
    mini = untied or view.choices.get("model/depth") == "mini_recurrence"
    if mini:
        _mini_recurrence(view, recurring, untied)
    elif loops or recurring or any(end is not None for end in ends.values()):
        view.choose("model/depth", "loop")
        if recurring:
            ends = {"first": min(recurring), "last": max(recurring)}
        for key, value in ends.items():
            if value is not None:
                view.set(f"model.depth.{key}", int(value))
        if loops or recurring:
            view.set("model.depth.passes", int(loops or 1) + 1)
    _depth_start(view, at)


def _mini_recurrence(view: View, recurring: list[int], untied: bool) -> None:
    view.choose("model/depth", "mini_recurrence")
    if recurring:
        view.set("model.depth.repeated", recurring)
    if view.has("REPEAT_UNTIE_MLP"):
        view.set("model.depth.untied_mlps", untied)
    if untied and view.whole_numbers("REPEAT_UNTIE_MLP_LAYERS") not in ([], recurring):
        view.note("REPEAT_UNTIE_MLP_LAYERS", "not expressed", "golf unties the MLPs of all repeated layers, or of none")


def _depth_start(view: View, at: float | int | None) -> None:
    """By step from 31 March to 4 April, by the share of the clock afterwards."""
    step = view.number("RECUR_START_STEP")
    if view.choices.get("model/depth") not in ("loop", "mini_recurrence"):
        return
    if step is not None:
        view.set("model.depth.start_step", int(step))
    if at is not None or step is not None:
        view.set("model.depth.at", at or 0.0)


def first_attention(view: View) -> None:
    blocks = [0] if view.flag("DISABLE_LAYER0_ATTN") else []
    if blocks != (view.current("model.residual.attention_free") or []):
        view.set("model.residual.attention_free", blocks)


def objective(view: View) -> None:
    heads, weight = view.number("MTP_NUM_HEADS"), view.number("MTP_LOSS_WEIGHT")
    if heads:
        view.choose("model/objective", "multi_token")
        view.set("model.objective.heads", int(heads))
    if view.choices.get("model/objective") == "multi_token" and weight is not None:
        view.set("model.objective.weight", weight)
    elif not heads:
        view.note("MTP_NUM_HEADS", "off", "as in golf")
        view.note("MTP_LOSS_WEIGHT", "no effect", "MTP_NUM_HEADS is 0")


ARCHITECTURE: dict[Rule, tuple[str, ...]] = {
    rope: ("ROPE_DIMS", "ROPE_TRAIN_SEQ_LEN", "ROPE_YARN"),
    bigram: ("BIGRAM_VOCAB_SIZE", "BIGRAM_DIM"),
    gates: (
        *("GATED_ATTN_ENABLED", "GATED_ATTN_INIT_STD", "ATTN_OUT_GATE_ENABLED", "SPARSE_ATTN_GATE_ENABLED"),
        *("SPARSE_ATTN_GATE_SCALE", "SPARSE_ATTN_GATE_INIT_STD", "SMEAR_GATE_ENABLED", "GATE_WINDOW"),
    ),
    values: ("VE_ENABLED", "VE_DIM", "VE_LAYERS", "VALUE_RESIDUAL"),
    mlp: ("NEGATIVE_SLOPE", "NEG_SLOPE"),
    embedding: ("EMBEDDING_DIM", "EMBED_DIM"),
    skips: ("SKIP_GATES_ENABLED",),
    lanes: ("PARALLEL_RESIDUAL", "PARALLEL_START_LAYER", "PARALLEL_RESIDUAL_START", "PARALLEL_FINAL_LANE"),
    depth: (
        *("NUM_LOOPS", "LOOP_START", "LOOP_END", "ENABLE_LOOPING_AT", "RECUR_LAYERS", "RECUR_LAYERS_STR"),
        *("RECUR_START_STEP", "REPEAT_UNTIE_MLP", "REPEAT_UNTIE_MLP_LAYERS"),
    ),
    exclusive_attention: ("XSA_LAST_N",),
    first_attention: ("DISABLE_LAYER0_ATTN",),
    objective: ("MTP_NUM_HEADS", "MTP_LOSS_WEIGHT"),
}
