"""Conformance of the CaseOps transform: encoded text, ids, byte sidecar, and what a decoder has to refuse.

A file is recognised by its keys: `strings` with `encoded`, and optionally `decoder_on_malformed`. Everything is exact.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from golf.interop.conform_data import find_tokenizer, missing_tokenizer
from golf.interop.conform_result import Check, exact, unsupported

SHOWN = 40


def is_caseops(content: Mapping[str, Any]) -> bool:
    """Whether a component file holds vectors of the transform."""
    strings = content.get("strings")
    return isinstance(strings, list) and bool(strings) and isinstance(strings[0], dict) and "encoded" in strings[0]


def check_caseops(path: Path, data: Path | None) -> list[Check]:
    """Every string and every malformed input; ids and bytes only where the tokenizer is at hand."""
    from golf.data.caseops import CaseOpsTokenizer

    spec = json.loads(path.read_text(encoding="utf-8"))
    sha256 = spec.get("tokenizer_sha256", "")
    model_file = find_tokenizer(data, sha256)
    tokenizer = CaseOpsTokenizer(model_file) if model_file is not None else None
    results: list[Check] = []
    for entry in spec["strings"]:
        results += check_string(path.stem, entry, tokenizer)
    if tokenizer is None:
        results.append(unsupported(path.stem, "all", "ids, bytes", missing_tokenizer(sha256, data)))
    return results + [check_malformed(path.stem, entry) for entry in spec.get("decoder_on_malformed", [])]


def check_string(vector: str, entry: Mapping[str, Any], tokenizer: Any) -> list[Check]:
    """Transform, its inverse, ids and bytes of one string."""
    from golf.data.caseops import decode_case, encode_case

    text, encoded = entry["text"], entry["encoded"]
    case = ascii(text)[1:-1][:SHOWN]
    results = [
        exact(vector, case, "encoded", encode_case(text), encoded),
        exact(vector, case, "decoded", decode_case(encoded), text),
    ]
    if tokenizer is not None:
        ids, counts = tokenizer.encode_with_bytes(text)
        expected = {
            "ids": (ids, "ids"),
            "encoded_ids": (tokenizer.encode(text), "ids"),
            "bytes_per_token": (counts, "bytes_per_token"),
            "total_bytes": (sum(counts), "total_bytes"),
        }
        results += [
            exact(vector, case, name, ours, entry[key]) for name, (ours, key) in expected.items() if key in entry
        ]
    return results


def check_malformed(vector: str, entry: Mapping[str, Any]) -> Check:
    """What the decoder says to text that no encoder wrote."""
    from golf.data.caseops import decode_case

    case = f"malformed {ascii(entry['encoded'])[1:-1]}"[:SHOWN]
    try:
        decoded = decode_case(entry["encoded"])
    except ValueError:
        return exact(vector, case, "raises", True, entry.get("raises", True))
    if "decoded" in entry:
        return exact(vector, case, "decoded", decoded, entry["decoded"])
    return exact(vector, case, "raises", False, entry.get("raises", True))
