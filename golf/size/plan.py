"""`golf plan`: what a run will come to, before anything is paid for: parameters, bytes by class, steps, seconds, cost.

The network is built without memory, filled with Gaussian weights of the deviation that training implies, quantised and
compressed in samples (golf/size/prior.py, sample.py): the entropy prior is computed for exactly these shapes, formats
and codec. Sections that past runs have measured take their bytes from there. Exit code 3 if it cannot fit.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

from golf.errors import LimitExceeded, UserError
from golf.size.measured import PlanSettings, measured_step, split_settings

Config = dict[str, Any]
SOURCES = {"exact": "Gaussian weights", "sample": "Gaussian weights"}


@dataclass(frozen=True)
class PlannedClass:
    """One line of the table: the tensors of a class that are stored in one way."""

    tensor_class: str
    role: str
    treatment: str
    tensors: int
    elements: int
    bits_per_code: float | None
    raw_bytes: int
    bytes: int


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"plan: {message}; type golf plan --help")


def parser() -> argparse.ArgumentParser:
    made = _Parser("golf plan", description="Bytes, steps, seconds and cost of a run, before it.")
    told = "as for train.py, and code=packed, plan.step_ms= or plan.run= (a measured step), plan.price_per_gpu_hour="
    made.add_argument("overrides", nargs="*", help=told)
    made.add_argument("--runs", type=Path, default=Path("runs"), help="library of past runs that refines the forecast")
    made.add_argument("--no-library", action="store_true", help="forecast from the configuration alone")
    made.add_argument("--price", type=float, help="dollars per hour of the whole machine")
    made.add_argument("--config-dir", type=Path, action="append", default=[], help="a further folder with groups")
    made.add_argument("--json", action="store_true", help="machine-readable output")
    return made


def main(argv: Sequence[str]) -> int:
    """Print the plan.

    Raises:
        LimitExceeded: code and artifact are forecast above `budget.limit_bytes`.
    """
    arguments = parser().parse_intermixed_args(list(argv))
    if arguments.price is not None and not arguments.price >= 0:
        raise UserError(f"plan: --price {arguments.price:g} must be at least 0: type --price 20")
    settings, overrides = split_settings(arguments.overrides)
    if arguments.price is not None and settings.price_per_gpu_hour is not None:
        raise UserError("--price and plan.price_per_gpu_hour are two prices: leave one of them out")
    config, option = composed([text for text in overrides if not text.startswith("code=")], arguments.config_dir)
    config["code"] = next((text[5:] for text in reversed(overrides) if text.startswith("code=")), "readable")
    library = None if arguments.no_library else arguments.runs
    found = plan_of(config, option, library, arguments.price, settings)
    if arguments.json:
        print(json.dumps(found, indent=1))
    else:
        from golf.size.show import plan_text

        print(plan_text(found))
    if found["total_bytes"] > found["limit_bytes"]:
        over = found["total_bytes"] - found["limit_bytes"]
        raise LimitExceeded(
            f"forecast: {found['total_bytes']:,} bytes, {over:,} over the limit of {found['limit_bytes']:,}: "
            "use fewer bits (quant=int6_rows), a stronger codec (codec=brotli) or a smaller model"
        )
    return 0


def composed(overrides: Sequence[str], config_dirs: Sequence[Path] = ()) -> tuple[Config, str]:
    """The checked config of train.py with these overrides, and the name of its hardware option."""
    from golf.config.command import require
    from golf.config.compose import Composer

    require("train", overrides, config_dirs)
    composer = Composer("train", tuple(config_dirs))
    choices = composer.load(list(overrides)).hydra.runtime.choices
    return composer.compose(list(overrides)), str(choices.get("hardware"))


def network_of(config: Config) -> Any:
    """The network without memory.

    Raises:
        UserError: it cannot be built.
    """
    import torch

    from golf.config.build import build
    from golf.config.derived import MACHINE
    from golf.errors import GolfError

    try:
        with torch.device("meta"):
            return build({key: MACHINE.get(key, value) for key, value in config["model"].items()})
    except GolfError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())
        raise UserError(f"model cannot be built ({type(error).__name__}: {said}): type golf check with it") from error


def plan_of(
    config: Config,
    option: str,
    runs: Path | None,
    price: float | None = None,
    settings: PlanSettings | None = None,
) -> Config:
    """The plan as plain data.

    Args:
        config: a resolved config of train.py. option: its hardware option.
        runs: folder of the library, None = without one. price: dollars per hour of the whole machine.
        settings: a measured step time and a price per GPU-hour.

    Raises:
        UserError: a tensor without a route; a codec whose package is missing.
    """
    import torch

    from golf.config.build import build
    from golf.models.exported import exported_network, exported_state
    from golf.models.roles import roles_of
    from golf.size.library import measured_rates, read_library
    from golf.size.prior import prior_weights
    from golf.size.sample import ANY_TOKENIZER, forecast_artifact
    from golf.size.shipped_code import code_bytes
    from golf.size.speed import step_seconds, training_forecast
    from golf.training.flops import training_flops_per_token

    net, plan, codec = network_of(config), build(config["quant"]), build(config["codec"])
    roles, state = roles_of(net), exported_state(net, net.state_dict())
    routed = plan.table(state, roles)
    sparsity = build(config["sparsity"]) if (config.get("sparsity") or {}).get("_target_") else None
    library = read_library(runs) if runs is not None else []
    flops = training_flops_per_token(net, config["data"]["seq_len"])
    settings = settings or PlanSettings()
    step = measured_step(settings, config, option, flops)
    if step is None:
        step = step_seconds(config, option, flops, library, hardware_line(config))
    training = training_forecast(config, option, step, price, settings.price_per_gpu_hour)
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, config["hardware"]["threads"]))
    try:
        with torch.no_grad():
            weights = prior_weights(state, roles, config, training.steps)
            if sparsity is not None:  # zeros cost what the codec makes of them
                sparsity.prune(weights, roles)
            quantised = plan.quantise(weights, roles)
    finally:
        torch.set_num_threads(threads)
    parameters = sum(p.numel() for p in net.parameters())
    dense = [] if sparsity is not None else library  # runs whose bytes tell nothing about zeros are left out
    rate_of = measured_rates(dense, codec.name, parameters, training.tokens or 0)
    network = exported_network(config["model"])
    forecast = forecast_artifact(quantised, network, ANY_TOKENIZER, codec, rate_of=rate_of)
    code = code_bytes(config)
    lines = planned_classes(routed, quantised, forecast)
    return {
        "name": config["name"],
        "parameters": parameters,
        "exported_parameters": sum(tensor.numel() for tensor in state.values()),
        "payload_bytes": sum(line.payload_bytes for line in routed),
        "codec": codec.name,
        "tensors": [asdict(line) for line in lines],
        "bytes_by_class": {**forecast.sizes, "code": code},
        "artifact_bytes": forecast.total,
        "code": config.get("code", "readable"),
        "code_bytes": code,
        "total_bytes": forecast.total + code,
        "limit_bytes": config["budget"]["limit_bytes"],
        "sources": sorted({SOURCES.get(section.source, section.source) for section in forecast.sections}),
        "training": {**training.as_dict(), "flops_per_token": flops, "hardware": option},
        "published_bytes": (config.get("published") or {}).get("bytes"),
    }


def hardware_line(config: Config) -> str | None:
    """How a run with this config would describe the machine; None if it cannot run here."""
    from golf.training.device import describe_hardware, resolve_hardware

    try:
        return describe_hardware(resolve_hardware(config["hardware"]))
    except UserError:
        return None


def planned_classes(routed: Sequence[Any], quantised: Any, forecast: Any) -> list[PlannedClass]:
    """The table: sections shared out to (class, role, treatment) in proportion to what their codes need at order 0.

    The lines and the metadata add up to the artifact.
    """
    from golf.codec.size import finer_class, shared_out
    from golf.quant.sensitivity import code_entropy

    route = {line.name: line for line in routed}
    totals: dict[tuple[str, str, str], list[Any]] = {}
    for section in forecast.sections:
        names, needs, raws, kinds = section.group.names, [], [], []
        for name in names:
            part = quantised.tensors[name].parts()[section.group.part]
            raw = part.numel() * part.itemsize
            bits = code_entropy(part) if str(part.dtype) == "torch.int8" else None
            needs.append(part.numel() * (8.0 * part.itemsize if bits is None else max(bits, 0.01)))
            raws.append(raw)
            kinds.append((part.numel(), bits))
        for name, share, raw, (elements, bits) in zip(names, shared_out(section.bytes, needs), raws, kinds):
            line = route[name]
            own = section.group.label == line.tensor_class
            label = finer_class(name, line.tensor_class) if own else section.group.label
            key = (label, line.role if own else "", line.treatment if own else section.group.part.replace("_", " "))
            entry = totals.setdefault(key, [0, 0, 0.0, False, 0, 0])
            entry[0] += 1
            entry[1] += elements
            entry[2] += elements * (bits or 0.0)
            entry[3] = entry[3] or bits is not None
            entry[4] += raw
            entry[5] += share
    return [
        PlannedClass(*key, count, elements, round(bits / elements, 3) if coded and elements else None, raw, size)
        for key, (count, elements, bits, coded, raw, size) in totals.items()
    ]


def class_totals(lines: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Bytes by class of a plan's lines."""
    sizes: dict[str, int] = {}
    for line in lines:
        sizes[line["tensor_class"]] = sizes.get(line["tensor_class"], 0) + line["bytes"]
    return sizes
