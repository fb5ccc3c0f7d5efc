"""L19, L31, L32 and the house's own two: seeds, reproducibility, and claims against records."""

from __future__ import annotations

import statistics as mean_of
from typing import TYPE_CHECKING, Any, ClassVar

from golf.rules.byte_fingerprint import tokens_per_byte
from golf.rules.facts import Facts
from golf.rules.rule import HOUSE, MAINTAINERS, README, Rule
from golf.rules.size_rules import seed_results, sizes_claimed
from golf.rules.verdict import BEHAVIOUR, RECORD, Verdict, cannot_tell, failed, not_applicable, passed
from golf.stats.gain import welch

if TYPE_CHECKING:
    from golf.rules.profile import Profile
    from golf.rules.subject import Subject

CLAIM_TOLERANCE = 5e-4
MANY_SEEDS = 10


class L19(Rule):
    id = "L19"
    title = "no brute force over seeds, no tuning on validation: every seed that ran is reported"
    status = (README,)
    sources = ("#1798",)

    def check(self, subject: Subject, profile: Profile) -> Verdict:
        claimed = {str(seed) for seed in seed_results(subject.claims)} | {
            str(seed) for seed in subject.claims.get("seeds", []) if isinstance(seed, int | str)
        }
        ran = {str(facts.seed) for facts in subject.facts if facts.seed is not None}
        ran |= {str(run["seed"]) for run in subject.siblings if run.get("seed") is not None}
        hidden = sorted(ran - claimed) if claimed else []
        if hidden:
            reason = f"ran with seeds {', '.join(hidden)}, which submission.json does not report"
            return failed(reason, "report every seed that ran", RECORD, ran=sorted(ran), reported=sorted(claimed))
        if len(ran) > MANY_SEEDS:
            return failed(
                f"{len(ran)} seeds were run of one configuration",
                "report all of them, not the best",
                RECORD,
                ran=sorted(ran),
            )
        if subject.kind == "run":
            return passed(
                f"seeds run beside this one: {', '.join(sorted(ran))}; report all of them", RECORD, ran=sorted(ran)
            )
        return cannot_tell("runs that were not handed in leave no trace here", "audit the run folders", ran=sorted(ran))


class L31(Rule):
    id = "L31"
    title = "0.005 nats better than the best so far at p < 0.01"
    status = (README, MAINTAINERS)
    sources = ("#1587", "#1902", "#2148")

    def check(self, subject: Subject, profile: Profile) -> Verdict:
        new, old = finals(subject.facts), finals(subject.against)
        if not old:
            return cannot_tell("nothing to compare with", "type --against <submission folder of the record to beat>")
        same = {facts.val_tokens for facts in subject.facts} == {facts.val_tokens for facts in subject.against}
        if same:
            unit, margin = "nats", profile.gain_nats
            values = [final.loss for final in new], [final.loss for final in old]
        else:  # per token says nothing between tokenizers: the margin becomes bits per byte of the new one
            unit, margin = "BPB", profile.gain_nats * tokens_per_byte(new[0].loss, new[0].bpb) / 0.6931471805599453
            values = [final.bpb for final in new], [final.bpb for final in old]
        found = welch(*values, margin)
        if found is None:
            return cannot_tell(f"{len(new)} and {len(old)} seeds: a test needs two of each", "run more seeds")
        said = f"{found.gain:.5f} {unit} better, more than {margin:.5f} with p = {found.p:.3g}"
        if found.p < profile.gain_p:
            return passed(f"{said} ({len(new)} against {len(old)} seeds)", RECORD, **vars(found), unit=unit)
        return failed(
            f"{said}; p < {profile.gain_p:g} is asked for",
            "run more seeds, or find more",
            RECORD,
            **vars(found),
            unit=unit,
        )


def finals(facts: list[Facts]) -> list[Any]:
    return [found.final for found in facts if found.final is not None]


class L32(Rule):
    id = "L32"
    title = "three seeds of the same configuration and code, logs included; the headline is their mean"
    status = (README, MAINTAINERS)
    sources = ("#2124",)

    def check(self, subject: Subject, profile: Profile) -> Verdict:
        if subject.kind in ("artifact", "path", "log"):
            return not_applicable("one model, not an entry")
        if subject.kind == "run":
            own = next((run for run in subject.siblings if run.get("own")), None)
            alike = [run for run in subject.siblings if own and run["config"] == own["config"]]
            seeds = {run["seed"] for run in alike}
            if len(seeds) < profile.min_seeds:
                return cannot_tell(
                    f"{len(seeds)} seeds of this configuration beside this run, {profile.min_seeds} asked",
                    "type python train.py -m experiment=… seed=1,2,3",
                    seeds=sorted(seeds),
                )
            return passed(f"{len(seeds)} seeds of one configuration", RECORD, seeds=sorted(seeds))
        return self.submission(subject, profile)

    def submission(self, subject: Subject, profile: Profile) -> Verdict:
        for name, what in (("config_hash", "configuration"), ("vocab_size", "vocabulary"), ("val_tokens", "split")):
            values = {facts.where: value for facts in subject.facts if (value := getattr(facts, name)) is not None}
            if len(set(values.values())) > 1:
                common = max(set(values.values()), key=list(values.values()).count)
                other = next(where for where, value in values.items() if value != common)
                return failed(f"{other} has another {what} than the other seeds", "run all seeds with the same", RECORD)
        seeds = {facts.seed if facts.seed is not None else facts.where for facts in finals_of(subject)}
        if len(seeds) < profile.min_seeds:
            reason = f"logs of {len(seeds)} seeds, {profile.min_seeds} asked"
            return failed(reason, "add the logs of every seed", RECORD, seeds=sorted(map(str, seeds)))
        scores = [facts.final.bpb for facts in finals_of(subject) if facts.final is not None]
        headline = subject.claims.get("val_bpb", subject.claims.get("mean_val_bpb"))
        if isinstance(headline, float) and abs(headline - mean_of.mean(scores)) > CLAIM_TOLERANCE:
            reason = f"the headline is {headline:.5f}, the mean of {len(scores)} logs {mean_of.mean(scores):.5f}"
            return failed(reason, "report the mean of all seeds", RECORD, scores=scores)
        return passed(f"{len(seeds)} seeds with logs", RECORD, scores=scores)


def finals_of(subject: Subject) -> list[Facts]:
    return [facts for facts in subject.facts if facts.final is not None]


class H1(Rule):
    id = "H1"
    title = "what is claimed is what the logs say"
    status = (HOUSE,)
    sources = ("#86", "#2076", "#2118", "#1334")

    def check(self, subject: Subject, profile: Profile) -> Verdict:
        if not subject.claims:
            return not_applicable("no submission.json")
        logged = [score.bpb for facts in subject.facts for score in facts.scores]
        if not logged:
            return cannot_tell("no log to compare with", "add the training logs")
        ends = [facts.final.bpb for facts in finals_of(subject) if facts.final is not None]
        logged.append(mean_of.mean(ends))
        claims = {"val_bpb": subject.claims.get("val_bpb", subject.claims.get("mean_val_bpb"))}
        claims |= {f"seed {seed}": found.get("val_bpb") for seed, found in seed_results(subject.claims).items()}
        for name, value in claims.items():
            if isinstance(value, int | float) and min(abs(value - other) for other in logged) > CLAIM_TOLERANCE:
                nearest = min(logged, key=lambda other: abs(value - other))
                reason = f"{name} = {value:.5f} is in no log; the nearest is {nearest:.5f}"
                return failed(reason, "derive submission.json from the logs", RECORD, claimed=value, nearest=nearest)
        sizes = {facts.total_bytes for facts in subject.facts if facts.total_bytes}
        for name, value in sizes_claimed(subject.claims).items():
            if sizes and value not in sizes and value < min(sizes):
                return failed(
                    f"{name} = {value:,} bytes is less than any log's {min(sizes):,}",
                    "state the largest",
                    RECORD,
                    claimed=value,
                    logged=sorted(sizes),
                )
        return passed(f"{sum(value is not None for value in claims.values())} claims are in the logs", RECORD)


class H2(Rule):
    id = "H2"
    title = "what is switched on had an effect"
    status = (HOUSE,)
    sources = ("#1032", "#1798", "#1740", "#1784")

    def check(self, subject: Subject, profile: Profile) -> Verdict:
        if subject.liveness is None:
            return cannot_tell("no liveness.json", "train with golf: every run writes one")
        dead = [entry["technique"] for entry in subject.liveness if not entry["alive"]]
        if dead:
            return failed(f"switched on, without effect: {', '.join(dead)}", "see liveness.json", RECORD, dead=dead)
        return passed(f"{len(subject.liveness)} techniques had an effect", RECORD)


class H3(Rule):
    id = "H3"
    title = "scoring leaves the random generators that training draws from as they were"
    status = (HOUSE,)
    sources = ("#1798",)
    cheap: ClassVar[bool] = False

    def check(self, subject: Subject, profile: Profile) -> Verdict:
        seen = subject.examination
        if seen is None:
            return cannot_tell(f"nothing here can be scored: {subject.why_no_path}", "audit a run or a packed model")
        assert seen.base is not None  # the run whose traces are looked at
        if seen.random_moved:
            reason = f"scoring moved {', '.join(seen.random_moved)}: how often one validates changes what training sees"
            return failed(reason, "give scoring a generator of its own", BEHAVIOUR, generators=seen.random_moved)
        return passed("scoring a stream left every process-wide generator as it was", BEHAVIOUR)
