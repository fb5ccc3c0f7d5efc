"""`golf runs`: every finished run as one row, newest last; `--where` selects by a column or by a key of the config."""

from __future__ import annotations

import argparse
import json
import operator
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from golf.config.nearest import offer
from golf.errors import UserError
from golf.runs.library import RunRow, rows_below

OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
FORM = re.compile(r"^([\w./-]+?)\s*(<=|>=|!=|=|<|>)\s*(.*)$")


def add_parser(commands: Any) -> None:
    listed = commands.add_parser("list", help="finished runs, one row each", description=__doc__)
    listed.add_argument("folder", nargs="?", default="runs", help="where the runs are (runs/)")
    told = "seed=1, bpb<1.7, optim.matrix_lr=0.02"
    listed.add_argument("--where", action="append", default=[], metavar="KEY=VALUE", help=told)
    listed.add_argument("--price", type=float, help="dollars per hour of the whole machine")
    listed.add_argument("--json", action="store_true", help="machine-readable output")
    listed.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    folder = Path(arguments.folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; type golf runs list <folder with runs>, or train one: make demo")
    notes: list[str] = []
    rows = rows_below(folder, notes)
    records = [row.record(arguments.price) for row in selected(rows, arguments.where)]
    if arguments.json:
        print(json.dumps({"runs": records, "notes": notes}, indent=1))
        return 0
    print("\n".join([*render(records), *(f"note: {note}" for note in notes)]))
    return 0


def selected(rows: Sequence[RunRow], conditions: Sequence[str]) -> list[RunRow]:
    """Rows that meet every condition.

    Raises:
        UserError: a condition that is none, or a key that no run has.
    """
    for text in conditions:
        key, compare, value = _condition(text)
        values = [_value(row, key) for row in rows]
        if rows and not any(known for known, _ in values):
            keys = [*rows[0].record(), *rows[0].config]
            raise UserError(f"--where {text}: no run has {key}; {offer(key, keys)}; type --where seed=1")
        rows = [row for row, (known, found) in zip(rows, values) if known and _holds(compare, found, value)]
    return list(rows)


def _condition(text: str) -> tuple[str, Callable[[Any, Any], bool], str]:
    found = FORM.match(text.strip())
    if not found:
        raise UserError(f"--where {text}: allowed are KEY=VALUE, !=, <, <=, > and >=; type --where 'bpb<1.7'")
    return found[1], OPERATORS[found[2]], found[3].strip()


def _value(row: RunRow, key: str) -> tuple[bool, Any]:
    record = row.record()
    if key in record:
        return True, record[key]
    node: Any = {**row.config, "ladder": record["ladder"]}
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            return False, None
        node = node[part]
    return True, node


def _holds(compare: Callable[[Any, Any], bool], found: Any, value: str) -> bool:
    if isinstance(found, int | float) and not isinstance(found, bool):
        try:
            return compare(found, float(value))
        except ValueError:
            return compare is operator.ne
    if found is None or compare in (operator.eq, operator.ne):
        return compare in (operator.eq, operator.ne) and compare(_text(found), value)
    return compare(str(found), value)


def _text(value: Any) -> str:
    if isinstance(value, dict | list):
        return ""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def render(records: Sequence[dict[str, Any]]) -> list[str]:
    """The table as lines."""
    if not records:
        return ["no runs"]
    columns = ["config", "code", "experiment", "seed", "rung", "BPB", "bytes", "steps", "ms/step", "seconds"]
    price = ["$"] if any(record["cost_usd"] is not None for record in records) else []
    outcome = ["outcome"] if any(record["outcome"] for record in records) else []
    header = [*columns, *price, *outcome, "rules", "folder"]
    rows = [header, *(_cells(record, bool(price), bool(outcome)) for record in records)]
    return aligned(rows, right={3, *range(5, 10 + len(price))})


def _cells(record: dict[str, Any], priced: bool, with_outcome: bool) -> list[str]:
    failed = record["rules_failed"]
    return [
        record["config"][:8],
        record["code"][:8],
        record["experiment"] or record["name"] or "-",
        str(record["seed"]),
        record["stage"] or "-",
        _number(record["bpb"], ".4f"),
        _number(record["total_bytes"], ","),
        _number(record["steps"], ","),
        _number(record["step_ms"], ".1f"),
        _number(record["seconds"], ".0f"),
        *([_number(record["cost_usd"], ".2f")] if priced else []),
        *([record["outcome"] or "-"] if with_outcome else []),
        "-" if failed is None else f"{len(failed)} failed" if failed else "none failed",
        record["folder"],
    ]


def aligned(rows: Sequence[Sequence[str]], right: set[int]) -> list[str]:
    """Rows of text in columns; those in `right` flush right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]


def _number(value: Any, form: str) -> str:
    return "-" if value is None else format(value, form)
