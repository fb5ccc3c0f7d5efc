# ruff: noqa: E501
"""Writes the pages of docs/ that follow from conf/: every technique with its source, its published gain and the override
that switches it on, and every published record. Run it after changing conf/: python scripts/make_docs.py"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"
CHAPTERS: dict[str, tuple[str, ...]] = {
    "Attention": ("model/attention", "model/backend", "model/rope", "model/xsa", "model/gate", "model/values"),
    "MLP": ("model/mlp",),
    "Embedding": ("model/embedding", "model/bigram", "model/smear"),
    "Residual stream and depth": ("model/residual", "model/lanes", "model/skips", "model/depth"),
    "Weights and linear maps": ("model/weights", "model/linear", "model/initialise"),
    "Loss": ("model/softcap", "model/objective"),
    "Optimizer, schedule, averaging": ("optim", "schedule", "average"),
    "Quantisation": ("qat", "quant", "codec"),
    "Data order": ("data/order",),
    "Evaluation": ("eval", "ttt"),
}
GAIN = re.compile(r"[;,(]\s*((?:with [^;()]*?)?(?:published|gain not isolated|-0\.\d+ (?:BPB|nats))[^;()]*?)(?=[;)]|$)")


def comments_of(path: Path) -> list[str]:
    """The leading comment lines of an option, without the package line."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        text = line.lstrip("# ").strip()
        if text and not text.startswith("@package"):
            found.append(text)
    return found


def techniques() -> str:
    """The page of all options."""
    lines = [
        "# Techniques\n",
        "Every technique is one Python file and one option of the configuration; this page is made from the options by",
        "`python scripts/make_docs.py`. Gains are as published by the records, in bits per byte unless said otherwise; a",
        "dash means that nobody published one. What an override does in detail: `golf show <override>`.\n",
        '"XSA" on the leaderboard is *exclusive* self-attention (`model/xsa`); newspapers spell it out as cross-sequence',
        "attention, which is another technique and an option of its own where it is listed.\n",
    ]
    for chapter, groups in CHAPTERS.items():
        lines += [
            f"## {chapter}\n",
            "| switch it on | what it is and where it is from | gain as published |",
            "|---|---|---|",
        ]
        for group in groups:
            for path in sorted((CONF / group).glob("*.yaml")):
                if path.stem in ("as_run", "none"):
                    continue
                comments = comments_of(path)
                text = " ".join(comments[1:])
                gain = GAIN.search(text)
                text = text.replace("|", "\\|")
                shown = gain.group(1).removeprefix("published").strip() if gain else "–"
                lines.append(f"| `{group}={path.stem}` | {text} | {shown} |")
        lines.append("")
    return "\n".join(lines)


def records() -> str:
    """The page of the published records, from the `published` node of their experiments."""
    lines = [
        "# Records of the 10-minute track\n",
        "Every published record as an experiment: `python train.py experiment=record/<id>`. The numbers are the published",
        "ones (as announced; a file says the mean where it differs); golf has not trained them at their real size. What a record needs",
        "that golf does not have yet stands in a comment of its file, `conf/experiment/record/<id>.yaml`.\n",
        "| experiment | published folder | BPB | seeds | bytes | steps | parameters |",
        "|---|---|---|---|---|---|---|",
    ]
    for path in sorted((CONF / "experiment" / "record").glob("*.yaml")):
        node: Any = yaml.safe_load(path.read_text(encoding="utf-8")).get("published") or {}
        cells = [node.get(key) for key in ("bpb", "seeds", "bytes", "steps", "parameters")]
        lines.append(f"| `record/{path.stem}` | {node.get('folder', '–')} | " + " | ".join(map(cell, cells)) + " |")
    return "\n".join(lines) + "\n"


def cell(value: Any) -> str:
    if isinstance(value, dict | list):
        return str(len(value))
    if isinstance(value, int):
        return f"{value:,}"
    return "–" if value is None else str(value)


PAGES = {"techniques.md": techniques, "records.md": records}


def main(arguments: Sequence[str]) -> int:
    """Write the pages; with --check only say which are out of date (exit 1)."""
    old = []
    for name, make in PAGES.items():
        path, text = ROOT / "docs" / name, make()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            old.append(name)
            if "--check" not in arguments:
                path.write_text(text, encoding="utf-8")
    print(f"{'out of date' if '--check' in arguments else 'written'}: {', '.join(old) or 'nothing'}")
    return 1 if old and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
