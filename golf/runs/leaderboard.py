"""`golf runs leaderboard`: the published entries, where a run would stand among them, and what it must still gain.

The table is leaderboard.json beside this file: every published entry with its seeds, as the logs print them. Scores
are of the official validation split (151,080,363 bytes of text); a run scored on anything else has no place in it.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from golf.stats.gain import pooled_deviation, welch
from golf.stats.policies import DEFAULT, POLICIES, Policy, policy_of

TABLE = Path(__file__).with_name("leaderboard.json")
RECORD_TRACK = "track_10min_16mb"
SPLIT_BYTES = 151_080_363
SPLIT_TOLERANCE = 2e-4  # evaluators that drop a tail, and normalisation, stay within


@dataclass(frozen=True)
class Published:
    """One published entry. seeds: text → bpb, nats_per_token, total_bytes, steps, step_ms, train_seconds."""

    date: str
    folder: str | None
    name: str
    author: str | None
    score: float | None
    bpb: float
    tokenizer: str | None
    evaluation: str | None
    ttt: str | None
    parameters: int | None
    track: str
    seeds: dict[str, dict[str, float]]
    notes: str | None

    @property
    def label(self) -> str:
        """The experiment that repeats it, else the published folder, else date and name."""
        return experiments().get(self.folder or "") or self.folder or f"{self.date} {self.name}"

    @property
    def values(self) -> list[float]:
        return [seed["bpb"] for seed in self.seeds.values()]

    def tokens_per_byte(self) -> float | None:
        told = [seed for seed in self.seeds.values() if "nats_per_token" in seed]
        return statistics.fmean(s["bpb"] * math.log(2) / s["nats_per_token"] for s in told) if told else None


@cache
def published() -> tuple[Published, ...]:
    """Every published entry, by date."""
    found = json.loads(TABLE.read_text(encoding="utf-8"))["records"]
    return tuple(sorted((Published(**item) for item in found), key=lambda entry: entry.date))


def frontier() -> Published:
    """The best entry of the record track."""
    return min((entry for entry in published() if entry.track == RECORD_TRACK), key=lambda entry: entry.bpb)


@cache
def experiments() -> dict[str, str]:
    """Published folder → the experiment that repeats it (record/<id>)."""
    import yaml

    from golf.config.compose import conf_dir

    found = {}
    for path in sorted((conf_dir() / "experiment" / "record").glob("*.yaml")):
        folder = (yaml.safe_load(path.read_text(encoding="utf-8")).get("published") or {}).get("folder")
        if folder:
            found[folder] = f"record/{path.stem}"
    return found


def find_published(text: str) -> Published | None:
    """By the published folder's name, or by the experiment record/<id> that repeats it."""
    names = {name: entry for entry in published() for name in (entry.folder, entry.label) if name}
    return names.get(text) or names.get(f"record/{text}")


def published_names() -> list[str]:
    return [*experiments().values(), *(entry.folder for entry in published() if entry.folder)]


def add_parser(commands: Any) -> None:
    made = commands.add_parser("leaderboard", help="the published entries, and a run's place", description=__doc__)
    made.add_argument("entry", nargs="*", help="runs to place: a run folder, a folder of runs")
    made.add_argument("--all", action="store_true", help="the non-record track too")
    made.add_argument("--policy", default=DEFAULT, help=" | ".join(POLICIES))
    made.add_argument("--stage", help="ladder rung (by default the run's objective)")
    made.add_argument("--json", action="store_true", help="machine-readable output")
    made.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from golf.runs.entries import entries_of

    policy = policy_of(arguments.policy)
    own = [entry for text in arguments.entry for entry in entries_of(text, arguments.stage)]
    shown = [entry for entry in published() if arguments.all or entry.track == RECORD_TRACK]
    placed = [place(entry, policy) for entry in own]
    if arguments.json:
        print(json.dumps({"published": [vars(entry) for entry in shown], "placed": placed}, indent=1))
        return 0
    print("\n".join([*render(shown, placed), *(line for found in placed for line in told(found, policy))]))
    return 0


def place(entry: Any, policy: Policy) -> dict[str, Any]:
    """Where an entry stands, and what is missing to the best one under a policy."""
    mean, best = statistics.fmean(entry.bpb), frontier()
    record = sorted(found.bpb for found in published() if found.track == RECORD_TRACK)
    ratio = next((score.tokens_per_byte for score in entry.scores if score.tokens_per_byte), None)
    margin = policy.margin_bpb(ratio) if ratio else None
    test = welch(entry.bpb, best.values, margin or 0.0) if margin is not None else None
    counted = {score.bytes for score in entry.scores}
    official = entry.published or all(
        count is not None and abs(count / SPLIT_BYTES - 1) < SPLIT_TOLERANCE for count in counted
    )
    return {
        "entry": entry.label,
        "seeds": len(entry.scores),
        "bpb": mean,
        "official_split": official,
        "place": 1 + sum(value < mean for value in record) if official else None,
        "of": len(record) + 1,
        "best": best.label,
        "best_bpb": best.bpb,
        "margin_bpb": margin,
        "still_to_gain_bpb": mean - best.bpb + margin if official and margin is not None else None,
        "deviation": pooled_deviation(entry.bpb, best.values),
        "p": test.p if test and official else None,
    }


def render(shown: Sequence[Published], placed: Sequence[dict[str, Any]]) -> list[str]:
    from golf.runs.listing import aligned

    lines: list[tuple[float, list[str]]] = []
    for entry in shown:
        spread = f"{statistics.stdev(entry.values):.4f}" if len(entry.values) > 1 else "-"
        size = max((int(s["total_bytes"]) for s in entry.seeds.values() if "total_bytes" in s), default=None)
        about = [(entry.tokenizer or "-").split(" (")[0], entry.date, entry.label]
        cells = [f"{entry.bpb:.4f}", spread, str(len(entry.values)), f"{size:,}" if size else "-", *about]
        lines.append((entry.bpb, cells))
    for found in placed:
        if found["place"] is not None:
            cells = [f"{found['bpb']:.4f}", "-", str(found["seeds"]), "-", "-", "yours", f"→ {found['entry']}"]
            lines.append((found["bpb"], cells))
    head = ["BPB", "sd", "seeds", "bytes", "tokenizer", "date", "entry"]
    return aligned([head, *(cells for _, cells in sorted(lines, key=lambda item: item[0]))], right={0, 1, 2, 3})


def told(found: dict[str, Any], policy: Policy) -> list[str]:
    """What is said about a placed entry."""
    head = f"{found['entry']}: {found['bpb']:.4f} BPB over {found['seeds']} seed{'s' * (found['seeds'] != 1)}"
    if not found["official_split"]:
        return [f"{head}, not on the whole official validation split: no place (type data=fineweb; 151,080,363 bytes)"]
    best = f"best is {found['best_bpb']:.4f} ({found['best']})"
    lines = [f"{head} would stand at place {found['place']} of {found['of']}; {best}"]
    if found["still_to_gain_bpb"] is not None:
        missing = found["still_to_gain_bpb"]
        asked = f"{policy.name} asks for {found['margin_bpb']:.4f} BPB with this tokenizer"
        more, less = f"still to gain: {missing:.4f} BPB ({asked})", f"{-missing:.4f} BPB beyond what {asked}"
        lines.append(f"  {more if missing > 0 else less}")
    if found["p"] is not None:
        lines.append(f"  p = {found['p']:.3g} of no more than that margin; p < {policy.p:g} is asked for")
    return lines
