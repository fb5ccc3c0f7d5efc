"""Conformance of end-to-end scores: bits per byte of tiny generated networks, and of published artifacts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from golf.interop.conform_data import (
    SLIDING_TAIL_BY_DATE,
    find_tokenizer,
    missing_tokenizer,
    tokenizers_by_sha256,
)
from golf.interop.conform_network import BOS_ID, Sidecar, described_network
from golf.interop.conform_result import Check, failed, measured, unsupported
from golf.interop.conform_weights import generate_weights
from golf.interop.upstream import UnsupportedNetwork, build_upstream_model

SCORE_TOLERANCE = 1e-4
REPRODUCED_TOLERANCE = 1e-6  # against a float32 evaluation of the same artifact
PUBLISHED_TOLERANCE = 5e-4  # against a published score, computed in bfloat16


def check_bpb_eval(path: Path, data: Path | None) -> list[Check]:
    """Loss and bits per byte of each case under the protocol of its script."""
    from safetensors.numpy import load_file

    spec = json.loads(path.read_text(encoding="utf-8"))
    arrays = load_file(str(path.with_suffix(".safetensors")))
    results: list[Check] = []
    tokenizers = {c["script"][:10]: c["tokenizer_sha256"] for c in spec["cases"].values() if "tokenizer_sha256" in c}
    for name, stated in spec["cases"].items():
        case = {"tokenizer_sha256": tokenizers.get(stated["script"][:10], ""), **stated}
        date = case["script"][:10]
        settings = spec.get(f"model_{date.replace('-', '')}", spec.get("baseline_model"))
        try:
            results += score_case(path.stem, name, case, settings, arrays, data)
        except UnsupportedNetwork as reason:
            results.append(unsupported(path.stem, name, "bpb", str(reason)))
    return results


def case_evaluator(case: Mapping[str, Any]) -> Any:
    """The evaluator of a case: sliding where it has a stride, contiguous where it has only a length."""
    from golf.evaluation.contiguous import Contiguous
    from golf.evaluation.packed import Packed
    from golf.evaluation.sliding import Sliding

    if "max_segment" in case:
        return Packed(case["max_segment"], case["val_batch_tokens"], "dropped")
    if "stride" not in case:
        return Contiguous(case["seq_len"])
    tail = SLIDING_TAIL_BY_DATE.get(case["script"][:10])
    if tail is None:
        raise UnsupportedNetwork(f"windows of {case['script']}")
    return Sliding(case["seq_len"], case["stride"], tail)


def score_case(
    vector: str,
    name: str,
    case: Mapping[str, Any],
    settings: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    data: Path | None,
) -> list[Check]:
    """Build the case's network from its weight rule and score its tokens; packed cases come with a byte sidecar."""
    from golf.data.bytes import byte_table_from_sentencepiece
    from golf.evaluation.protocol import evaluate

    evaluator = case_evaluator(case)
    sha256 = case.get("tokenizer_sha256", "")
    state = dict(generate_weights(settings["weight_seed"], settings["tensors"]))
    model = build_upstream_model(state, *described_network(settings, case["script"]))
    count = case["tokens_used"]
    if "max_segment" in case:
        name_of, table = "caseops", Sidecar(arrays["caseops.bytes"][:count])
    else:
        name_of, model_file = f"sp{model.vocab_size}", find_tokenizer(data, sha256)
        if model_file is None:
            return [unsupported(vector, name, "bpb", missing_tokenizer(sha256, data))]
        table = byte_table_from_sentencepiece(model_file)
    tokens = arrays[f"{name_of}.tokens"][:count].astype(np.int64)
    batch_tokens = case.get("val_batch_tokens", 0)
    result = evaluate(model, tokens, table, evaluator, batch_tokens=batch_tokens, bos_id=BOS_ID)
    return [
        measured(vector, name, "val_loss", abs(result.nats_per_token - case["val_loss"]), SCORE_TOLERANCE),
        measured(vector, name, "bpb", abs(result.bpb - case["bpb"]), SCORE_TOLERANCE),
    ]


def check_published_artifact(folder: Path, data: Path | None) -> list[Check]:
    """A folder with expected.json: score the packed artifact beside it on the validation tokens it names."""
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    vector, case = folder.name, str(expected.get("artifact", "artifact"))
    wanted = re.match(r"first (\d+) targets of (\S+)", expected["eval"]["tokens"])
    if wanted is None:
        return [failed(vector, case, "bpb", f"not understood: {expected['eval']['tokens']}")]
    shard = find_file(data, wanted.group(2))
    if shard is None:
        return [
            unsupported(vector, case, "bpb", f"no {wanted.group(2)} at hand: name a folder with --data or GOLF_DATA")
        ]
    try:
        model = load_upstream_artifact(folder / case, expected["model"])
    except UnsupportedNetwork as reason:
        return [unsupported(vector, case, "bpb", str(reason))]
    return compare_published(vector, case, expected, model, read_targets(shard, int(wanted.group(1))), data)


def find_file(data: Path | None, relative: str) -> Path | None:
    """A file by the end of its path, anywhere under the data folder."""
    if data is None:
        return None
    return next((path for path in sorted(data.rglob(Path(relative).name)) if path.as_posix().endswith(relative)), None)


def read_targets(shard: Path, targets: int) -> np.ndarray:
    """The first `targets` + 1 tokens of a shard."""
    from golf.data.shards import read_shard

    return np.asarray(read_shard(shard)[: targets + 1])


def load_upstream_artifact(path: Path, settings: Mapping[str, Any]) -> Any:
    """A golf model in float32 from an upstream artifact and the settings of its network."""
    from golf.interop.ptz import read_ptz

    return build_upstream_model(read_ptz(path).dequantise(), settings)


def compare_published(
    vector: str, case: str, expected: Mapping[str, Any], model: Any, tokens: np.ndarray, data: Path | None
) -> list[Check]:
    """Bytes, loss and bits per byte against what was reproduced in float32 and what was published."""
    from golf.data.bytes import byte_table_from_sentencepiece
    from golf.evaluation.contiguous import Contiguous
    from golf.evaluation.protocol import evaluate

    byte_count = expected["eval"].get("byte_count")
    table, counted = None, 0
    for model_file in tokenizers_by_sha256(str(data)).values():
        candidate = byte_table_from_sentencepiece(model_file)
        if len(candidate.base_bytes) == model.vocab_size:
            table, counted = candidate, int(candidate.count(tokens[:-1], tokens[1:]).sum())
            if byte_count in (None, counted):
                break
    if table is None:
        return [unsupported(vector, case, "bpb", f"no tokenizer of {model.vocab_size} ids under {data}")]
    result = evaluate(model, tokens, table, Contiguous(expected["eval"]["seq_len"]))
    checks = [] if byte_count is None else [measured(vector, case, "bytes", abs(counted - byte_count), 0)]
    ours = {"val_loss": result.nats_per_token, "val_bpb": result.bpb}
    for prefix, tolerance in (("reproduced_fp32", REPRODUCED_TOLERANCE), ("published", PUBLISHED_TOLERANCE)):
        for quantity, value in ours.items():
            key = f"{prefix}_{quantity}"
            if key in expected:
                checks.append(measured(vector, case, key, abs(value - expected[key]), tolerance, f"ours {value:.9f}"))
    return checks
