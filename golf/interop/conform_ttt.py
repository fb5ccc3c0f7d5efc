"""Conformance of test-time training: losses at scoring time, order of the windows, and the weights that come out.

What a case asks for is read from its settings: adapters with or without phases of a global SGD, or SGD by chunks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from golf.interop.conform_lora import check_lora, check_phased
from golf.interop.conform_result import Check, exact, max_difference, unsupported
from golf.interop.conform_ttt_case import MEAN_TOLERANCE, NLL_TOLERANCE, TttCase
from golf.interop.upstream import UnsupportedNetwork

# Scripts with banks: windows at the end score targets again, except those with less than a stride.
BANKED_TAIL = "rescored_whole"


def is_ttt(content: Mapping[str, Any]) -> bool:
    """Whether a component file holds test-time training."""
    cases = content.get("cases")
    nested = [case for case in cases.values() if isinstance(case, Mapping)] if isinstance(cases, Mapping) else []
    return any("windows_in_scoring_order" in case or "lora_linears" in case for case in [content, *nested])


def check_ttt(path: Path, data: Path | None) -> list[Check]:
    """Every case of a file, or the one that the file is."""
    from safetensors.numpy import load_file

    spec = json.loads(path.read_text(encoding="utf-8"))
    arrays = load_file(str(path.with_suffix(".safetensors")))
    cases = spec["cases"] if isinstance(spec.get("cases"), dict) else {"": spec}
    results: list[Check] = []
    for name, case in cases.items():
        own = {key.removeprefix(f"{name}."): value for key, value in arrays.items() if key.startswith(f"{name}.")}
        family = name.split(".")[0]
        own = {**{k.removeprefix(f"{family}."): v for k, v in arrays.items() if k.startswith(f"{family}.")}, **own}
        try:
            results += check_case(path.stem, name or "all", case, own if name else arrays)
        except UnsupportedNetwork as reason:
            results.append(unsupported(path.stem, name or "all", "nll", str(reason)))
    return results


def check_case(vector: str, name: str, spec: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> list[Check]:
    case = TttCase(vector, name, spec, arrays)
    if "lora_linears" not in spec:
        return check_sgd(case)
    phased = "phased_ttt_num_phases" in case.settings and case.settings.get("phased_ttt_enabled", True)
    return check_phased(case) if phased else check_lora(case)


# -- SGD along the stream ------------------------------------------------------------------------------------------
def check_sgd(case: TttCase) -> list[Check]:
    """Losses in scoring order, the windows themselves, the mean with and without training, and the final weights."""
    from golf.ttt.sgd import SgdTtt

    settings = {re.sub("^(ttt|eval)_", "", key): value for key, value in case.settings.items()}
    banked = any(key.endswith("_bank") for key in case.shapes)
    expected_windows = [tuple(window) for window in case.case["windows_in_scoring_order"]]
    seq_len, stride = settings["seq_len"], settings["stride"]
    method = SgdTtt(
        chunk_tokens=settings["chunk_tokens"],
        learning_rate=settings["lr"],
        epochs=settings["epochs"],
        momentum=settings["momentum"],
        batch_sequences=settings.get("batch_seqs", 32),
        grad_clip=settings.get("grad_clip", 1.0),
        freeze_blocks=settings.get("freeze_blocks", 0),
        frozen="vectors" if banked else "blocks",
    )
    # Whether tail windows score targets again shows in the list itself; it is then the script's rule for the tail.
    scored = sum(length - first for _, first, length in expected_windows)
    tail = BANKED_TAIL if scored > len(case.tokens) - 1 else "exact"
    heard = Listener(method)
    trained = case.evaluate(method, seq_len, stride, tail, heard)
    final = heard.final
    method.learning_rate = 0.0
    plain = case.evaluate(method, seq_len, stride, tail)
    nll = torch.cat([torch.as_tensor(nll) for nll in heard.nll]) if heard.nll else torch.zeros(0)
    checks = [
        exact(case.vector, case.name, "windows", heard.windows, expected_windows),
        case.check("nll", max_difference(nll, case.expected), NLL_TOLERANCE),
        case.check("mean_loss", abs(trained.nats_per_token - case.case["mean_loss"]), MEAN_TOLERANCE),
    ]
    if "mean_loss_without_training" in case.case:
        error = abs(plain.nats_per_token - case.case["mean_loss_without_training"])
        checks.append(case.check("mean_loss_without_training", error, MEAN_TOLERANCE))
    return [*checks, case.norms(final, case.case["final_param_norms"], "final norms (relative)")]


class Listener:
    """Hears what a session scores, in order, and the weights after the last update."""

    def __init__(self, method: Any):
        self.method, self.windows, self.nll, self.final, self.session = method, [], [], {}, None

    def __call__(self, session: Any) -> None:
        record, score, learn = session.ledger.record, session.score, self.method.learn

        def recorded(first_target: int, nll_S: Any) -> None:
            self.nll.append(nll_S)
            record(first_target, nll_S)

        def scored(batches: Sequence[Sequence[Any]], longest: int = 0) -> None:
            self.windows += [(w.start, w.first_scored, w.length) for batch in batches for w in batch]
            score(batches, longest)

        def learned(*arguments: Any) -> None:
            learn(*arguments)
            self.final = {name: tensor.detach().clone() for name, tensor in session.model.state_dict().items()}

        session.ledger.record, session.score, self.method.learn = recorded, scored, learned
