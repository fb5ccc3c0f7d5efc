"""`golf runs compare A B …`: is A better than B, how surely, and how many more seeds would tell.

A is the new entry, every other one is compared with it; a sweep's folder alone compares its entries with their parent
(`parent:` of the experiment), or with the last one. The unit is nats per token where all were scored on the same
tokens, else bits per byte with the margin converted by A's tokens per byte. Invariant: scores of different validation
texts are never compared, and a verdict names its policy.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from golf.errors import UserError
from golf.runs.entries import FORMS, Entry, entries_of, scored_entries
from golf.stats.gain import Gain, holm, paired, pooled_deviation, welch
from golf.stats.policies import DEFAULT, POLICIES, Policy, policy_of
from golf.stats.power import detectable_effect, seeds_needed

SWEEP_POLICY = "research_p05"
SAME_TEXT = 2e-4  # relative: evaluators that drop a tail score a little less of the same text
SAME_TOKENS = 2e-6  # relative, of tokens per byte: beyond it a loss per token is of other tokens


@dataclass
class Comparison:
    """A against B. unit: nats per token or BPB, of every number but those that name another one."""

    new: Entry
    old: Entry
    unit: str
    margin: float
    tokens_per_byte: float | None
    any_gain: Gain | None
    gain: Gain | None
    pairs: Gain | None
    deviation: float | None
    detectable: float | None
    more_seeds: int | None
    verdict: str
    p: float | None

    def record(self) -> dict[str, Any]:
        found = {key: value for key, value in vars(self).items() if key not in ("new", "old")}
        tests = {key: asdict(value) if isinstance(value, Gain) else value for key, value in found.items()}
        return {"new": self.new.label, "old": self.old.label, **tests}


def add_parser(commands: Any) -> None:
    made = commands.add_parser("compare", help="is A better than B, and how surely", description=__doc__)
    made.add_argument("entry", nargs="+", metavar="A B", help=FORMS)
    made.add_argument("--stage", help="ladder rung (by default the runs' objective)")
    made.add_argument("--policy", default=DEFAULT, help=" | ".join(POLICIES))
    made.add_argument("--despite", action="store_true", help="seeds may differ in configuration or code (it is said)")
    made.add_argument("--json", action="store_true", help="machine-readable output")
    made.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Exit code 0 whatever the verdict."""
    policy = policy_of(arguments.policy)
    entries = [found for text in arguments.entry for found in entries_of(text, arguments.stage, arguments.despite)]
    compared = compare_entries(entries, policy)
    if arguments.json:
        found = {"policy": asdict(policy), "entries": [_entry_record(entry) for entry in entries]}
        print(json.dumps({**found, "comparisons": [item.record() for item in compared]}, indent=1, default=str))
    else:
        print("\n".join(render(entries, compared, policy)))
    return 0


def compare_entries(entries: Sequence[Entry], policy: Policy) -> list[Comparison]:
    """The comparisons that a list of entries asks for.

    Raises:
        UserError: fewer than two entries, or scores of different validation texts.
    """
    if len(entries) < 2:
        only = entries[0].label if entries else "nothing"
        raise UserError(f"compare: there is only one entry ({only}); type golf runs compare A B, each {FORMS}")
    return [compare_two(new, old, policy) for new, old in _pairs(entries)]


def _pairs(entries: Sequence[Entry]) -> list[tuple[Entry, Entry]]:
    """Every entry with the one it is to be compared with: its parent, or itself before a part was taken back."""
    by_name = {name: entry for entry in entries for name in {entry.label, _experiment(entry)} if name}
    whole = {_experiment(entry): entry for entry in entries if not _config(entry, "ablate")}
    found = []
    for entry in entries:
        parent = by_name.get(_config(entry, "parent") or "")
        other = whole.get(_experiment(entry)) if _config(entry, "ablate") else parent
        if other is not None and other is not entry:
            found.append((entry, other))
    return found or [(entries[0], other) for other in entries[1:]]


def _experiment(entry: Entry) -> str | None:
    return entry.rows[0].experiment if entry.rows else None


def _config(entry: Entry, key: str) -> Any:
    return entry.rows[0].config.get(key) if entry.rows else None


def sweep_verdicts(folder: Path) -> list[str]:
    """What the end of a sweep says about its entries: nothing unless seeds were repeated or a parent is among them."""
    entries = scored_entries(folder)
    linked = any(_config(entry, "ablate") or _config(entry, "parent") for entry in entries)
    if len(entries) < 2 or not (linked or any(len(entry.scores) > 1 for entry in entries)):
        return []
    policy = policy_of(SWEEP_POLICY)
    lines = render(entries, compare_entries(entries, policy), policy)
    return ["", *lines, f"other policies: golf runs compare {folder} --policy {' | '.join(POLICIES)}"]


def compare_two(new: Entry, old: Entry, policy: Policy) -> Comparison:
    """One comparison under a policy."""
    unit = _unit(new, old)
    ratio = next((score.tokens_per_byte for score in new.scores if score.tokens_per_byte), None)
    if ratio is None and unit == "bpb" and policy.margin_nats:
        raise UserError(
            f"{new.label}: its tokens per byte are not known, so 0.005 nats per token mean nothing in BPB; "
            "type --policy as_applied_2026_04"
        )
    margin = policy.margin_nats if unit == "nats_per_token" else policy.margin_bpb(ratio or 0.0)
    ours, theirs = new.by_seed(unit), old.by_seed(unit)
    values, others = list(ours.values()), list(theirs.values())
    any_gain, gain = welch(values, others), welch(values, others, margin)
    pairs = None if old.published or new.hardware != old.hardware else paired(ours, theirs, margin)
    decisive = pairs if policy.paired and pairs else gain
    deviation, counts = pooled_deviation(values, others), (len(values), len(others))
    more, detectable, size = None, None, statistics.fmean(others) - statistics.fmean(values)
    if deviation is not None:
        detectable = detectable_effect(deviation, *counts, policy.p, margin)
        more = seeds_needed(size, deviation, *counts, policy.p, margin, old.published)
    verdict = _verdict(decisive, welch(others, values), policy, more, size > margin)
    p = decisive.p if decisive else None
    tests = (any_gain, gain, pairs)
    return Comparison(new, old, unit, margin, ratio, *tests, deviation, detectable, more, verdict, p)


def _unit(new: Entry, old: Entry) -> str:
    """nats_per_token for the same tokens, bpb for the same text cut otherwise; a UserError for different texts."""
    sizes = [{score.bytes for score in entry.scores if score.bytes} for entry in (new, old)]
    tokens = [{score.tokens for score in entry.scores} for entry in (new, old)]
    if all(sizes):
        low, high = min(*sizes[0], *sizes[1]), max(*sizes[0], *sizes[1])
        if high / low - 1 > SAME_TEXT:
            raise UserError(
                f"{new.label} was scored on {max(sizes[0]):,} bytes and {old.label} on {max(sizes[1]):,}: scores of "
                "different texts cannot be compared; score one again (evaluate.py run=… data_folder=…)"
            )
    ratios = [[s.tokens_per_byte for s in entry.scores if s.tokens_per_byte] for entry in (new, old)]
    if not all(ratios):
        return "bpb"
    if tokens[0] == tokens[1] and None not in tokens[0]:
        return "nats_per_token"
    return "nats_per_token" if abs(ratios[0][0] / ratios[1][0] - 1) < SAME_TOKENS else "bpb"


def _verdict(decisive: Gain | None, worse: Gain | None, policy: Policy, more: int | None, beyond: bool) -> str:
    if decisive is None:
        return "not shown: a test needs two seeds of each"
    if decisive.p < policy.p:
        return "better"
    if worse is not None and worse.p < policy.p and not worse.gain < 0:
        return "worse"
    if not beyond:
        return "not shown: the gain seen is not larger than what is asked for"
    if more is None:
        return "not shown: more than 200 seeds would be needed"
    return f"not shown: needs {more} more seeds" if more else "not shown: repeat with new seeds"


def render(entries: Sequence[Entry], compared: Sequence[Comparison], policy: Policy) -> list[str]:
    """The tables as lines: seeds, then each comparison."""
    from golf.runs.listing import aligned

    rows = [["entry", "rung", "seeds", "mean BPB", "sd", "nats/token", "bytes", "ms/step"]]
    for entry in entries:
        spread = f"{statistics.stdev(entry.bpb):.5f}" if len(entry.bpb) > 1 else "-"
        nats = [score.nats_per_token for score in entry.scores if score.nats_per_token is not None]
        sizes = [score.total_bytes for score in entry.scores if score.total_bytes]
        steps = [score.step_ms for score in entry.scores if score.step_ms]
        cells = [f"{statistics.fmean(entry.bpb):.5f}", spread, f"{statistics.fmean(nats):.5f}" if nats else "-"]
        cells += [f"{max(sizes):,}" if sizes else "-", f"{statistics.fmean(steps):.1f}" if steps else "-"]
        rows.append([entry.label, entry.stage, str(len(entry.scores)), *cells])
    lines = [*aligned(rows, right={2, 3, 4, 5, 6, 7}), ""]
    for entry in entries:
        lines.append(f"{entry.label}: " + "  ".join(f"seed {score.seed} {score.bpb:.5f}" for score in entry.scores))
        lines += [f"  note: {note}" for note in entry.notes]
    for item in compared:
        lines += ["", *_told(item, policy)]
    if len(compared) > 1:
        adjusted = holm([1.0 if item.p is None else item.p for item in compared])
        lines += ["", f"{len(compared)} comparisons: one of them may look good by chance; p adjusted for that (Holm):"]
        lines += [f"  {item.new.label} against {item.old.label}: p = {p:.3g}" for item, p in zip(compared, adjusted)]
    return lines


def _told(item: Comparison, policy: Policy) -> list[str]:
    nats = item.unit == "nats_per_token"
    unit = "nats per token" if nats else "BPB"
    lines = [f"{item.new.label} against {item.old.label}"]
    bpb = statistics.fmean(item.old.bpb) - statistics.fmean(item.new.bpb)
    if item.any_gain is None:
        lines.append(f"  gain {bpb:+.5f} BPB; one seed says nothing about chance: type python train.py -m … seed=1,2,3")
    else:
        found = item.any_gain
        lines.append(f"  gain {_interval(found)} {unit}" + (f" = {bpb:+.5f} BPB" if nats else ""))
        lines.append(f"  Welch t = {found.t:.2f}, {found.degrees:.1f} degrees of freedom: p = {_p(found.p)} of no gain")
        if item.margin and item.gain:
            asked = f"{policy.margin_nats:g} nats per token" + ("" if nats else f" = {item.margin:.5f} BPB here")
            lines.append(f"  p = {_p(item.gain.p)} of no more than {asked}")
    if item.pairs is not None:
        lines.append(f"  paired by seed: {_interval(item.pairs)}, p = {_p(item.pairs.p)}")
    if item.detectable is not None:
        seeds = f"{len(item.new.scores)} against {len(item.old.scores)} seeds"
        shown = f"{seeds} show a true gain of {item.detectable:.5f} or more (power 0.8)"
        lines.append(f"  pooled sd {item.deviation:.5f}; {shown}")
    lines += [f"  {text}" for text in _sizes(item)]
    return [*lines, f"  {policy.name}: {item.verdict}"]


def _interval(found: Gain) -> str:
    return f"{found.gain:+.5f} (95 %: {found.low:+.5f} to {found.high:+.5f})"


def _p(p: float) -> str:
    return f"{p:.4f}" if p >= 1e-4 else f"{p:.1e}"


def _sizes(item: Comparison) -> list[str]:
    """What the gain costs in bytes and time, and what the referee found."""
    told = []
    sides = item.new.scores, item.old.scores
    sizes = [[score.total_bytes for score in side if score.total_bytes] for side in sides]
    steps = [[score.step_ms for score in side if score.step_ms] for side in sides]
    if all(sizes):
        told.append(f"bytes {max(sizes[0]) - max(sizes[1]):+,}")
    if all(steps) and item.new.hardware == item.old.hardware:
        told.append(f"ms per step {statistics.fmean(steps[0]) - statistics.fmean(steps[1]):+.1f}")
    elif item.new.rows and item.old.rows and item.new.hardware != item.old.hardware:
        told.append("different hardware: times are not compared, seeds not paired")
    for entry in (item.new, item.old):
        failed = sorted({rule for row in entry.rows for rule in (row.summary.get("rules") or {}).get("failed") or []})
        if failed:
            told.append(f"rules failed by {entry.label}: {', '.join(map(str, failed))}")
    return told


def _entry_record(entry: Entry) -> dict[str, Any]:
    return {
        "label": entry.label,
        "stage": entry.stage,
        "config": entry.rows[0].config_hash if entry.rows else None,
        "code": entry.rows[0].code_hash if entry.rows else None,
        "scores": [asdict(score) for score in entry.scores],
        "notes": entry.notes,
    }
