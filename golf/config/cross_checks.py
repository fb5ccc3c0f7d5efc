"""What no single node can know: options that contradict each other, do nothing, or belong to another key.

Each check takes a resolved config as plain dicts and returns lines; it returns nothing for what it does not recognise.
Add one: write the function, append it to CROSS_CHECKS, and test it with one good and one bad config.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from golf.config.budget_checks import hardware_scales, target, unique_tokens
from golf.config.callback_checks import monitors, starts
from golf.config.code import to_override
from golf.config.codec_checks import codec_package
from golf.config.model_checks import model_parts
from golf.config.moved import MOVED
from golf.config.nearest import nearest
from golf.config.tokenizer_size import tokenizer_size

Config = dict[str, Any]


def get(config: Any, path: str) -> Any:
    """The value at a dotted path, or None."""
    for part in path.split("."):
        config = config.get(part) if isinstance(config, dict) else None
    return config


def number(config: Config, path: str) -> float | None:
    """The number at a dotted path, or None if it is absent or not a number."""
    value = get(config, path)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _positive(config: Config, path: str) -> float | None:
    value = number(config, path)
    return value if value is not None and value > 0 else None


def moved_keys(config: Config) -> list[str]:
    """Trainer flags whose job another group does: refused as soon as they have a value."""
    lines = []
    for path, moved in MOVED.items():
        value = get(config, path)
        if value is not None:
            lines.append(moved.line(path, value))
    return lines


def model_sizes(config: Config) -> list[str]:
    """Heads divide the width into even head widths; key/value heads divide the heads."""
    lines = []
    width, heads, kv_heads = (_positive(config, f"model.{name}") for name in ("width", "num_heads", "num_kv_heads"))
    if width and heads and (width % heads or (width // heads) % 2):
        allowed = [n for n in range(1, int(width) // 2 + 1) if width % n == 0 and (width // n) % 2 == 0]
        best = min(allowed, key=lambda n: (abs(n - heads), n), default=1)
        lines.append(
            f"model.num_heads={heads} must divide model.width={width} into even widths; type model.num_heads={best}"
        )
    if heads and kv_heads and heads % kv_heads:
        allowed = [n for n in range(1, int(heads) + 1) if heads % n == 0]
        best = min(allowed, key=lambda n: (abs(n - kv_heads), n))
        lines.append(
            f"model.num_kv_heads={kv_heads} must divide model.num_heads={heads}; type model.num_kv_heads={best}"
        )
    return lines


def non_positive(config: Config) -> list[str]:
    """Counts that are at least one, and limits that are at least zero (0 = unlimited)."""
    counts = (
        *("model.width", "model.num_layers", "model.num_heads", "model.num_kv_heads", "model.vocab_size"),
        *("data.tokens_per_step", "data.seq_len", "data.spans_per_step", "hardware.devices"),
    )
    lines = [f"{p}={number(config, p)} must be at least 1; type {p}=1" for p in counts if (number(config, p) or 1) < 1]
    lines += [f"{p}=0 must be at least 1; type {p}=1" for p in counts if number(config, p) == 0]
    for path in ("budget.max_seconds", "budget.max_steps", "budget.max_tokens", "eval.max_tokens", "eval.seq_len"):
        value = number(config, path)
        if value is not None and value < 0:
            lines.append(f"{path}={value} must be at least 0 (0 = no limit of its own); type {path}=0")
    return lines


def token_batches(config: Config) -> list[str]:
    """A step is spans_per_step spans of whole sequences, dealt evenly to the devices."""
    lines = []
    tokens, seq_len = _positive(config, "data.tokens_per_step"), _positive(config, "data.seq_len")
    spans, devices = _positive(config, "data.spans_per_step"), _positive(config, "hardware.devices")
    packed = get(config, "data.order._target_") == "golf.data.packed.PackedStream"  # rows are not made of sequences
    if tokens and seq_len and not (packed and spans):
        unit = seq_len * (spans or 1)
        if tokens % unit:
            best = max(round(tokens / unit), 1) * unit
            parts = f"data.seq_len={seq_len}" + (f" x data.spans_per_step={spans}" if spans else "")
            lines.append(
                f"data.tokens_per_step={tokens} is not a multiple of {parts} = {unit}; type data.tokens_per_step={best}"
            )
    elif tokens and spans and tokens % spans:
        best = max(round(tokens / spans), 1) * spans
        lines.append(
            f"data.tokens_per_step={tokens} is not a multiple of data.spans_per_step={spans}; "
            f"type data.tokens_per_step={best}"
        )
    if spans and devices and spans % devices:
        best = max(n for n in range(1, int(spans) + 1) if spans % n == 0 and n <= devices)
        lines.append(
            f"hardware.devices={devices} must divide data.spans_per_step={spans}; "
            f"type hardware.devices={best} or data.spans_per_step={max(1, round(spans / devices)) * devices}"
        )
    return lines


STAGES = ("train", "average", "calibrate", "quantise", "pack", "verify", "score")
RUNGS = ("raw", "averaged", "quantised", "sliding", "ttt")


def run_keys(config: Config) -> list[str]:
    """The few keys of a run that belong to no node have the right type and a known value."""
    lines = []
    seed = config.get("seed", 0)
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        lines.append(f"seed={seed}: a whole number from 0 is expected; type seed=1337")
    for key, allowed in (("through", STAGES), ("objective", RUNGS)):
        value = config.get(key)
        if value is not None and value not in allowed:
            best = (nearest(str(value), allowed) or [allowed[-1] if key == "through" else "sliding"])[0]
            lines.append(f"{key}={value}: allowed: {', '.join(allowed)}; type {key}={best}")
    for key in ("name", "export", "run", "artifact", "init_from", "ckpt_path"):
        value = config.get(key)
        if value is not None and not isinstance(value, str):
            lines.append(f"{key}={value}: text is expected; type {to_override(key, str(value))}")
    name = config.get("name")
    if isinstance(name, str) and (not name.strip() or set(name) & set("/\\") or name.startswith(".")):
        lines.append(f"{to_override('name', name)}: a folder name without slashes is expected; type name=run")
    return lines


def inputs(config: Config) -> list[str]:
    """evaluate.py scores one thing: a run, an artifact or a submission."""
    if "artifact" in config and "run" in config:
        given = [key for key in ("run", "artifact", "submission") if config.get(key) is not None]
        if not given:
            return ["nothing to score: type run=<run folder>, artifact=<packed file> or submission=<record folder>"]
        if len(given) > 1:
            return [f"{' and '.join(given)} are both set: leave one of them out"]
    return []


def unused_ttt(config: Config) -> list[str]:
    """A method of test-time training that no protocol of the run would use."""
    method, plan = config.get("ttt"), config.get("eval")
    if not isinstance(method, dict) or "_target_" not in method or (isinstance(plan, dict) and plan.get("ttt")):
        return []
    return ["ttt: the chosen eval has no test-time training, so nothing would use it; type eval=ladder, or ttt=none"]


def as_run(config: Config) -> list[str]:
    """`as_run` means the exported run's own choice; a run that is being trained has to make it."""
    if "optim" not in config:
        return []
    needed = {"quant": "int8_rows", "codec": "zlib", "eval": "ladder"}
    return [
        f"{group}: a run has to choose; as_run is for export.py; type {group}={option}"
        for group, option in needed.items()
        if group in config and not get(config, f"{group}._target_")
    ]


def windows(config: Config) -> list[str]:
    """A window moves by at least one target and at most its length: a larger stride would leave targets unscored."""
    stride, seq_len = number(config, "eval.stride"), _positive(config, "eval.seq_len")
    seq_len = seq_len or _positive(config, "data.seq_len")
    if stride is not None and stride < 1:
        return [f"eval.stride={stride} must be at least 1; type eval.stride=64"]
    if stride and seq_len and stride > seq_len:
        return [
            f"eval.stride={stride} leaves targets unscored: a window has {seq_len} tokens; type eval.stride={seq_len}"
        ]
    return []


def schedule_fractions(config: Config) -> list[str]:
    """Fractions lie in 0…1, warm-up and warm-down together too; a warm-down in steps fits into a budget in steps."""
    lines = []
    for group in ("schedule", "average", "qat"):
        for path, node in _dicts(config.get(group), group):
            lines += _fractions_of(node, path)
    max_steps, max_seconds = _positive(config, "budget.max_steps"), _positive(config, "budget.max_seconds")
    for path, node in _dicts(config.get("schedule"), "schedule"):
        steps = node.get("warmdown_steps")
        if isinstance(steps, int) and max_steps and not max_seconds and steps > max_steps:
            lines.append(
                f"{path}.warmdown_steps={steps} is longer than budget.max_steps={max_steps}: the full rate is never "
                f"reached; type {path}.warmdown_steps={max(1, int(max_steps // 2))}"
            )
    return lines


def _fractions_of(node: Config, path: str) -> list[str]:
    lines, total = [], 0.0
    stages = node.get("stages")
    for stage in stages if isinstance(stages, list) else []:
        if isinstance(stage, list) and stage and isinstance(stage[0], int | float) and not 0 <= stage[0] < 1:
            lines.append(f"{path}.stages: a stage at {stage[0]} would never begin; type shares from 0 to below 1")
    for key, value in node.items():
        if not str(key).endswith("_fraction") or isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if not 0 <= value <= 1:
            lines.append(f"{path}.{key}={value} must lie between 0 and 1; type {path}.{key}={min(max(value, 0), 1):g}")
        total += value if key in ("warmup_fraction", "warmdown_fraction") else 0
    if total > 1 and not lines:
        rest = 1 - node["warmup_fraction"]
        lines.append(
            f"{path}: warmup_fraction + warmdown_fraction = {total:g} exceed 1; type {path}.warmdown_fraction={rest:g}"
        )
    return lines


def _dicts(value: Any, path: str) -> Iterator[tuple[str, Config]]:
    if isinstance(value, dict):
        yield path, value
        for key, item in value.items():
            yield from _dicts(item, f"{path}.{key}")


def averaging(config: Config) -> list[str]:
    """A decay lies in 0…1, and averaging needs a step to average."""
    decay = number(config, "average.decay")
    if decay is not None and not 0 <= decay < 1:
        return [f"average.decay={decay} must be at least 0 and below 1; type average.decay=0.997"]
    if decay is not None and number(config, "budget.max_steps") == 1:
        return [f"average.decay={decay} does nothing in a run of one step; type average=none"]
    return []


def vocabulary(config: Config) -> list[str]:
    """Every size of the vocabulary in the config agrees, with the tokenizer's own too where that can be read."""
    sizes = {
        path: int(size)
        for path in ("tokenizer.vocab_size", "data.vocab_size", "model.vocab_size")
        if (size := _positive(config, path))
    }
    path = get(config, "tokenizer.path")
    pieces = tokenizer_size(path) if isinstance(path, str) else None
    if pieces:
        return [
            f"{key}={size}: tokenizer.path={path} has {pieces} tokens; type tokenizer.vocab_size={pieces}"
            for key, size in list(sizes.items())[:1]
            if size != pieces
        ]
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{key}={size}" for key, size in sizes.items())
        return [f"vocabulary sizes differ: {listed}; set only tokenizer.vocab_size, the others follow it"]
    return []


def qat_start(config: Config) -> list[str]:
    """Fake quantisation starts within the run, on a schedule that gets there, and has a grid to round to."""
    if get(config, "qat._target_") != "golf.quant.qat.Qat":
        return []
    lines = []
    at, lr_below = number(config, "qat.at"), number(config, "qat.lr_below")
    start_step, max_steps = number(config, "qat.start_step"), _positive(config, "budget.max_steps")
    if at is None and lr_below is None and start_step is None:
        lines.append("qat has no start; type qat.at=0.85 (a share of the budget), qat.lr_below=0.15 or qat=none")
    if at is not None and not 0 <= at < 1:
        lines.append(f"qat.at={at} must be at least 0 and below 1, or it never starts; type qat.at=0.85")
    if start_step is not None and max_steps and start_step >= max_steps:
        lines.append(
            f"qat.start_step={start_step} is never reached with budget.max_steps={max_steps}; "
            f"type qat.start_step={int(max_steps * 0.85)}"
        )
    floor = number(config, "schedule.lr.floor") or 0
    constant = str(get(config, "schedule.lr._target_")).endswith(".Constant")
    if lr_below is not None and (lr_below <= floor or constant):
        why = "schedule.lr is constant" if constant else f"schedule.lr.floor={floor}"
        lines.append(f"qat.lr_below={lr_below} is never reached: {why}; type qat.lr_below=null qat.at=0.85")
    matrix = get(config, "quant.matrix")
    plain = matrix in ("as_is", "float16", "bfloat16", "float32") and not get(config, "quant.overrides")
    if get(config, "qat.format") is None and plain:
        lines.append(f"qat has no grid: quant.matrix={matrix}; type quant=int6_rows, qat.format=int6_rows or qat=none")
    return lines


def sparsity_stages(config: Config) -> list[str]:
    """Pruning begins after the start, ends within the run, and on a grid that has a zero for every weight."""
    if get(config, "sparsity._target_") != "golf.quant.gradual_pruning.GradualPruning":
        return []
    lines = []
    at, until, share = (number(config, f"sparsity.{key}") for key in ("at", "until", "share"))
    if at is None or until is None or not 0 < at < until <= 1:
        lines.append(
            f"sparsity.at={at} and sparsity.until={until} must be 0 < at < until <= 1 (shares of the budget); "
            "type sparsity.at=0.2 sparsity.until=0.8"
        )
    if share is None or not 0 < share < 1:
        lines.append(f"sparsity.share={share} must be above 0 and below 1; type sparsity.share=0.5")
    if str(get(config, "quant.matrix._target_")).startswith("golf.quant.trellis"):
        lines.append(
            "a trellis has no zero in half of its states, so pruned weights would come back; type quant=int6_rows"
        )
    return lines


CROSS_CHECKS: list[Callable[[Config], list[str]]] = [
    moved_keys,
    non_positive,
    model_sizes,
    token_batches,
    run_keys,
    inputs,
    as_run,
    unused_ttt,
    codec_package,
    windows,
    schedule_fractions,
    averaging,
    vocabulary,
    model_parts,
    qat_start,
    sparsity_stages,
    hardware_scales,
    target,
    unique_tokens,
    monitors,
    starts,
]
