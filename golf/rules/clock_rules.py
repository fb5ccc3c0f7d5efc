"""L22 to L26: the two clocks of 600 seconds, and what has to happen on which."""

from __future__ import annotations

from typing import TYPE_CHECKING

from golf.rules.facts import Facts
from golf.rules.rule import COMMUNITY, MAINTAINERS, OPEN, README, Rule
from golf.rules.verdict import PASS, RECORD, Verdict, cannot_tell, failed, not_applicable, passed

if TYPE_CHECKING:
    from golf.rules.profile import Profile
    from golf.rules.subject import Subject


class ClockRule(Rule):
    """Every seed has to pass; one that cannot be told leaves the rest untold."""

    def check(self, subject: Subject, profile: Profile) -> Verdict:
        if not subject.facts:
            return cannot_tell("no record of any clock", "audit a run folder or logs of the training")
        verdicts = [self.seed(facts, profile, subject) for facts in subject.facts]
        for outcome in ("fail", "cannot tell", "not applicable", PASS):
            for verdict, facts in zip(verdicts, subject.facts):
                if verdict.outcome == outcome:
                    name = f"{facts.where}: " if len(subject.facts) > 1 and outcome != PASS else ""
                    return Verdict(outcome, name + verdict.reason, verdict.remedy, verdict.how, verdict.evidence)
        raise AssertionError("a verdict has one of four outcomes")

    def seed(self, facts: Facts, profile: Profile, subject: Subject) -> Verdict:
        raise NotImplementedError


def on_hardware(facts: Facts, reason: str, seconds: float) -> Verdict:
    """Within the limit; but seconds of other hardware say nothing of the challenge's."""
    if facts.on_eight_h100:
        return passed(f"{reason} on 8 x H100", RECORD, seconds=seconds)
    where = facts.hardware or "hardware that the log doesn't name"
    return cannot_tell(f"{reason}, but on {where}", "measure it on 8 x H100 SXM", seconds=seconds)


class L22(ClockRule):
    id = "L22"
    title = "training within 600 s on 8 x H100 SXM"
    status = (README,)
    sources = ("#22", "#1908", "#1956")

    def seed(self, facts: Facts, profile: Profile, subject: Subject) -> Verdict:
        if facts.train_seconds is None:
            return cannot_tell("no training time", "log train_time, or audit a run folder of golf")
        if facts.train_seconds > profile.train_seconds:
            reason = f"{facts.train_seconds:.3f} s of training, {profile.train_seconds:g} allowed"
            return failed(
                reason, "type budget.max_seconds=600 budget.reserve_seconds=1", RECORD, seconds=facts.train_seconds
            )
        return on_hardware(facts, f"{facts.train_seconds:.3f} s of training", facts.train_seconds)


class L23(ClockRule):
    id = "L23"
    title = "statistics for quantisation that read training data count as training"
    status = (MAINTAINERS,)
    sources = ("#677", "#634", "#1028", "#1047")

    def seed(self, facts: Facts, profile: Profile, subject: Subject) -> Verdict:
        if facts.calibration_source == "nothing":
            return not_applicable("quantisation reads no data")
        if facts.calibration_seconds is None or facts.train_seconds is None:
            return cannot_tell("no seconds of calibration", "log how long Hessians took and when")
        if facts.calibration_on_clock is False:
            return not_applicable(f"calibrated on {facts.calibration_source}, which is no training data")
        total = facts.train_seconds + facts.calibration_seconds
        if total > profile.train_seconds:
            reason = f"{facts.train_seconds:.3f} s of training and {facts.calibration_seconds:g} s of calibration"
            remedy = f"type budget.reserve_seconds={facts.calibration_seconds + 1:.0f}"
            return failed(f"{reason}: {total:.3f} s, {profile.train_seconds:g} allowed", remedy, RECORD, seconds=total)
        return on_hardware(facts, f"{total:.3f} s of training and calibration", total)


class L24(ClockRule):
    id = "L24"
    title = "rounding, packing and compression after the training clock"
    status = (OPEN,)
    sources = ("#1950", "#2121")

    def seed(self, facts: Facts, profile: Profile, subject: Subject) -> Verdict:
        if facts.packing_seconds is None or facts.train_seconds is None:
            return cannot_tell("no seconds of rounding and packing", "audit a run folder of golf")
        total = facts.train_seconds + (facts.calibration_seconds or 0.0) + facts.packing_seconds
        if total > profile.train_seconds:
            reason = f"with {facts.packing_seconds:.1f} s of rounding and packing, training comes to {total:.1f} s"
            remedy = f"type budget.reserve_seconds={facts.packing_seconds + 1:.0f} to have it inside the clock"
            return failed(reason, remedy, RECORD, seconds=total, packing=facts.packing_seconds)
        return on_hardware(facts, f"{total:.1f} s with rounding and packing", total)


class L25(ClockRule):
    id = "L25"
    title = "evaluation within 600 s, with test-time training and every precomputation"
    status = (README, MAINTAINERS)
    sources = ("#1972", "#1514", "#2041", "#2135")

    def seed(self, facts: Facts, profile: Profile, subject: Subject) -> Verdict:
        if facts.eval_seconds is None:
            return cannot_tell("no seconds of evaluation", "log eval_time, or audit a run folder of golf")
        outside = facts.precompute_seconds or 0.0 if facts.precompute_outside else 0.0
        total = facts.eval_seconds + outside
        what = f"{total:.1f} s of evaluation" + (f", {outside:.1f} of them before its clock" if outside else "")
        if total > profile.evaluation_seconds:
            reason = f"{what}, {profile.evaluation_seconds:g} allowed"
            return failed(reason, "use a larger stride or fewer updates", RECORD, seconds=total)
        if facts.precompute_outside:
            return failed(
                f"{what}: precomputation belongs on the clock",
                "start the clock when the file is loaded",
                RECORD,
                seconds=total,
            )
        return on_hardware(facts, what, total)


class L26(ClockRule):
    id = "L26"
    title = "no work moved from one clock to the other, or off both"
    status = (COMMUNITY,)
    sources = ("#1017",)

    def seed(self, facts: Facts, profile: Profile, subject: Subject) -> Verdict:
        inner = [L23().seed(facts, profile, subject), L25().seed(facts, profile, subject)]
        wrong = next((verdict for verdict in inner if verdict.outcome == "fail"), None)
        if wrong is not None:
            return failed(f"off its clock: {wrong.reason}", wrong.remedy, RECORD)
        unknown = next((verdict for verdict in inner if verdict.outcome == "cannot tell"), None)
        if unknown is not None:
            return cannot_tell(unknown.reason, unknown.remedy)
        return passed("calibration is on the training clock or reads no data, evaluation on its own", RECORD)
