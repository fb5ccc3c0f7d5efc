# ruff: noqa: E501
"""Writes the pages of docs/ that follow from conf/: every technique with its source, its published gain and the override
that switches it on, every published record, and what each of them changed. Run it after changing conf/:
python scripts/make_docs.py. With --check the page that takes composing all records (leaderboard.md) is left to
tests/contracts/test_records.py, which has composed them anyway."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
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
    "Evaluation": ("eval", "eval/tilt", "ttt"),
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
        "ones (as announced; a file says the mean where it differs); golf has not trained them at their real size. What each changed,",
        "and where golf differs from its script: [the leaderboard, one difference at a time](leaderboard.md).\n",
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


# -- the leaderboard, one difference at a time -------------------------------------------------------------------------
# Keys that say again what another one says, and those of the heading.
REPEATED = re.compile(
    r"name|parent|published|objective|eval\.ttt|qat\.(plan|lr)|(data|model)\.vocab_size|rules\.(?!name).*|.*\b_partial_"
)
HEAD = re.compile(r"^(?P<score>[\d.]+) BPB: (?P<what>.*)$")


def leaderboard(composed: Callable[[str], dict[str, Any]]) -> str:
    """The page of all records in order of their dates. `composed`: the resolved config of an experiment."""
    lines = [
        "# The leaderboard, one difference at a time\n",
        "Every record of the 10-minute track beside the one it was made from (or the nearest one before it): the published",
        "score, its difference in bits per byte, every key of the configuration that differs (as `golf runs diff <parent>",
        "<record>`, a part that was replaced in one line), and below the table what is known of the published script and what",
        "golf does otherwise. The scores are the published ones; golf has not trained these networks at their real size.\n",
        "Otherwise than all of them: the file is golf's own container (sections by kind, each in the order of bytes that packs",
        "smaller, in place of `torch.save` and a byte shuffle) with the record's compressor, and the code is golf's exported file.",
        "Gradients are clipped after they are averaged, and the warm-up leaves no momenta behind. As in the logs, Hessians from",
        "training data are those of the first of eight ranks; `quant.calibration.first_rank_of=1` takes them from all ranks.\n",
        "This page is made from `conf/` by `python scripts/make_docs.py`.\n",
    ]
    for path in sorted((CONF / "experiment" / "record").glob("*.yaml")):
        lines += entry(path, composed)
    return "\n".join(lines).rstrip() + "\n"


def entry(path: Path, composed: Callable[[str], dict[str, Any]]) -> list[str]:
    """The section of one record."""
    config = composed(f"record/{path.stem}")
    parent, published = composed(config["parent"]), config["published"]
    comments = joined(comments_of(path)[1:])
    head = HEAD.match(comments[0])
    assert head, f"{path.name} does not say what it is after its command: <score> BPB: <what>"
    assert comments[1].startswith("Published: "), f"{path.name} does not say what was published after that"
    before = (parent.get("published") or {}).get("bpb")
    gain = f", {published['bpb'] - before:+.4f} from `{config['parent']}`" if before else ""
    rows = differing(parent, config)
    table = [
        "| key | before | here |",
        "|---|---|---|",
        *(f"| {code(key)} | {old} | {new} |" for key, old, new in rows),
        "",
    ]
    return [
        f"## `record/{path.stem}`: {published['bpb']:.4f}{gain}\n".replace("-0.", "\u22120."),
        f"{head['what'][0].upper()}{head['what'][1:]} {comments[1]}\n",
        *(table if rows else ["No key of the configuration differs.\n"]),
        *([" ".join(comments[2:]) + "\n"] if comments[2:] else []),
    ]


def joined(comments: Sequence[str]) -> list[str]:
    """Comment lines as sentences: a line that goes on in the next one is put together with it."""
    found: list[str] = []
    for line in comments:
        if found and not found[-1].endswith((".", ":")):
            found[-1] += f" {line}"
        else:
            found.append(line)
    return found


def differing(left: Any, right: Any, path: str = "") -> list[tuple[str, str, str]]:
    """(key, before, here) of all that differs; a node that another one replaced is one line."""
    found: list[tuple[str, str, str]] = []
    for key in dict.fromkeys([*left, *right]):
        name = f"{path}{key}"
        old, new = left.get(key), right.get(key)
        if old == new or REPEATED.fullmatch(name):
            continue
        same_kind = all(isinstance(side, dict) for side in (old, new)) and old.get("_target_") == new.get("_target_")
        found += differing(old, new, f"{name}.") if same_kind else [(name, brief(old, new), brief(new, old))]
    return found


def brief(value: Any, other: Any) -> str:
    """A value as the page shows it; of a node its class and the arguments that the other side has otherwise."""
    if isinstance(value, dict):
        rest = other if isinstance(other, dict) else {}
        shown = {
            key: item for key, item in value.items() if key not in ("_target_", "_partial_") and rest.get(key) != item
        }
        arguments = ", ".join(f"{key}={plain(item)}" for key, item in shown.items())
        value = f"{plain(value)}({arguments})" if "_target_" in value else f"{{{arguments}}}"
    return "–" if value in (None, "{}") else code(plain(value))


def code(text: str) -> str:
    """Code in a cell of a table."""
    return f"`{text}`".replace("|", "\\|")


def plain(value: Any) -> str:
    if isinstance(value, dict):
        return str(value.get("_target_", "…")).rpartition(".")[2]
    return str(value).lower() if isinstance(value, bool) else str(value)


def composed_once() -> Callable[[str], dict[str, Any]]:
    """Composes an experiment, each once."""
    from functools import cache

    sys.path.insert(0, str(ROOT))
    from golf.config.compose import Composer

    composer = Composer("train")
    return cache(lambda experiment: composer.compose([f"experiment={experiment}"]))


# -- options ------------------------------------------------------------------------------------------------------------
LEADING = ("model", "optim", "quant", "eval")  # the groups that lead everywhere else, too


def reference() -> str:
    """The page of all options: every file of conf/ as it is, records apart."""
    lines = [
        "# Options\n",
        "Every option of every group with its keys, their defaults and what they mean, made from `conf/` by",
        "`python scripts/make_docs.py`. Choose one with `group=option`, change a key with `group.key=value`; `golf show` prints",
        "what comes of it. `_target_` is the class or function whose arguments the keys are. The records are on",
        "[a page of their own](records.md).\n",
        "The primary files, one per command, hold what belongs to no group:\n",
    ]
    for name in ("train", "export", "evaluate"):
        lines += [f"## {name}.yaml\n", *yaml_block(CONF / f"{name}.yaml")]
    folders = sorted({path.parent.relative_to(CONF).as_posix() for path in CONF.rglob("*.yaml")} - {"."})
    groups = [name for name in folders if not name.startswith("experiment/")]
    for group in sorted(groups, key=lambda name: (name.split("/")[0] not in LEADING, groups.index(name))):
        lines.append(f"## {group}\n")
        for path in sorted((CONF / group).glob("*.yaml")):
            lines += [f"### {group}={path.stem}\n", *yaml_block(path)]
    return "\n".join(lines).rstrip() + "\n"


def yaml_block(path: Path) -> list[str]:
    return ["```yaml", path.read_text(encoding="utf-8").rstrip(), "```\n"]


PAGES: dict[str, Callable[[], str]] = {"techniques.md": techniques, "records.md": records, "reference.md": reference}


def main(arguments: Sequence[str]) -> int:
    """Write the pages; with --check only say which are out of date (exit 1)."""
    old = []
    pages = PAGES if "--check" in arguments else PAGES | {"leaderboard.md": lambda: leaderboard(composed_once())}
    for name, make in pages.items():
        path, text = ROOT / "docs" / name, make()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            old.append(name)
            if "--check" not in arguments:
                path.write_text(text, encoding="utf-8")
    print(f"{'out of date' if '--check' in arguments else 'written'}: {', '.join(old) or 'nothing'}")
    return 1 if old and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
