"""L1 to L7 and L10: how scores come about. All of them run the evaluation path itself (golf/rules/examination.py)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from golf.rules.examination import LOG_TOLERANCE, MASS_TOLERANCE, Examination, Shift
from golf.rules.rule import COMMUNITY, MAINTAINERS, OPEN, README, Rule
from golf.rules.verdict import BEHAVIOUR, RECORD, Verdict, cannot_tell, failed, not_applicable, passed

if TYPE_CHECKING:
    from golf.rules.profile import Profile
    from golf.rules.subject import Subject

MOST_LEFT_OVER = 0.05  # of the split; published scripts leave up to 0.05 % behind the last whole window
NO_PATH = "audit a run folder or a packed model: python train.py, then golf audit <run folder>"


class ScoringRule(Rule):
    """A rule that needs something that scores."""

    cheap: ClassVar[bool] = False

    def check(self, subject: Subject, profile: Profile) -> Verdict:
        seen = subject.examination
        if seen is None:
            return cannot_tell(f"nothing here can be scored: {subject.why_no_path}", NO_PATH)
        return self.examine(seen, subject)

    def examine(self, seen: Examination, subject: Subject) -> Verdict:
        raise NotImplementedError


def unsteady(seen: Examination) -> Verdict | None:
    """Scores that differ between two runs of the same stream cannot be compared between different ones."""
    if seen.base.error is None and seen.repeats <= seen.path.tolerance:
        return None
    if seen.base.error is not None:
        return cannot_tell(f"the ledger refused the scores: {seen.base.error}", "see L6 and L7")
    return cannot_tell(
        f"two runs of the same stream differ by {seen.repeats:.2g} nats", "make the evaluation deterministic first"
    )


def learned_nothing(seen: Examination) -> Verdict | None:
    """A method that never learned in the test was not tested."""
    if seen.path.probe is None or seen.record.get("updates") or seen.base.error is not None:
        return None
    return cannot_tell("the test stream is too short for this method to learn from", "audit with a smaller ttt chunk")


def scale_of(seen: Examination) -> str:
    """What the tests made smaller, to be said with a result."""
    return f" (tested with {seen.path.scale})" if seen.path.scale else ""


def moved(shifts: list[Shift], remedy: str, what: str = "score") -> Verdict:
    worst = shifts[0]
    reason = f"the {what} of target {worst.target} moves by {worst.nats:.3g} nats when {worst.what} changes"
    return failed(reason, remedy, BEHAVIOUR, shifts=[vars(shift) for shift in shifts[:8]])


class L1(ScoringRule):
    id = "L1"
    title = "strict causality: the distribution at t depends on the artifact and earlier tokens only"
    status = (COMMUNITY, MAINTAINERS)
    sources = ("#1017", "#1514", "#1967", "#2118")

    def examine(self, seen: Examination, subject: Subject) -> Verdict:
        if (unclear := unsteady(seen)) is not None:
            return unclear
        remedy = "compute each score from earlier tokens only; look for caches, gates and updates that see further"
        if seen.flipped:
            return moved(seen.flipped, remedy)
        if seen.redirected:
            return moved(seen.redirected, remedy, "distribution")
        if (off := off_hidden(seen, remedy)) is not None:
            return off
        shown = "scores and distributions" if seen.redirected is not None else "scores"
        shown += " (given where documents begin)" if seen.path.keeps_documents else ""
        if (idle := learned_nothing(seen)) is not None:
            return idle
        exact = seen.path.tolerance == 0
        how = "bit-identical when later tokens change" if exact else f"within {seen.path.tolerance:g} nats"
        return passed(
            f"{shown} before {len(seen.positions)} places stay {how}{hidden_of(seen)}{scale_of(seen)}",
            BEHAVIOUR,
            positions=seen.positions,
            stream_tokens=len(seen.path.tokens),
            scale=seen.path.scale,
            distributions=seen.redirected is not None,
        )


def off_hidden(seen: Examination, remedy: str) -> Verdict | None:
    """A failure where a score is not what is predicted with the target and all that follows hidden."""
    for k, (score, expected, _) in (seen.replays or {}).items():
        if not abs(score - expected) <= max(seen.path.loose, LOG_TOLERANCE):
            reason = f"target {k} is scored {score:.5f} nats, its hidden prediction says {expected:.5f}"
            return failed(reason, remedy, BEHAVIOUR, target=k, score=score, hidden=expected)
    return None


def hidden_of(seen: Examination) -> str:
    return f"; {len(seen.replays)} are as predicted with all that follows hidden" if seen.replays else ""


class L2(ScoringRule):
    id = "L2"
    title = "no lookup, gate or mask that depends on the target itself"
    status = (MAINTAINERS, COMMUNITY)
    sources = ("#779", "#982", "#659", "#1967")

    def examine(self, seen: Examination, subject: Subject) -> Verdict:
        if (unclear := unsteady(seen)) is not None:
            return unclear
        remedy = "choose experts, buckets and hints from earlier tokens only"
        own = [shift for shift in seen.redirected or [] if "target" in shift.what or shift.what.startswith("token ")]
        if own:
            return moved(own, remedy, "distribution")
        if (off := off_hidden(seen, remedy)) is not None:
            return off
        if (off := off_sample(seen, remedy)) is not None:
            return off
        if seen.replays:
            how = " by the state that scored them" if seen.path.probe is not None else ""
            return passed(f"{len(seen.replays)} scores equal predictions made{how} with the target hidden", BEHAVIOUR)
        if seen.masses is None:
            return cannot_tell("neither distributions nor a vocabulary small enough to try every target", NO_PATH)
        wrong = {k: mass for k, mass in seen.masses.items() if abs(mass - 1) > MASS_TOLERANCE}
        if wrong:
            k, mass = next(iter(wrong.items()))
            return failed(f"at target {k} all possible tokens add up to {mass:.4f}", remedy, BEHAVIOUR, masses=wrong)
        return passed(f"every token tried at {len(seen.masses)} targets: probabilities add up to 1", BEHAVIOUR)


class L3(ScoringRule):
    id = "L3"
    title = "a full normalised distribution over the vocabulary, fixed before the target is looked at"
    status = (COMMUNITY, MAINTAINERS)
    sources = ("#1017", "#982", "#978", "#886", "#1147", "#1872")

    def examine(self, seen: Examination, subject: Subject) -> Verdict:
        remedy = "score with log_softmax over the whole vocabulary; normalise mixtures after mixing"
        vocabulary = seen.path.vocab_size
        for k, total in (seen.log_masses or {}).items():
            if not abs(total) <= LOG_TOLERANCE:
                reason = f"the distribution at target {k} sums to {math.exp(min(total, 700)):.5g}, not to 1"
                return failed(reason, remedy, BEHAVIOUR, target=k)
        sizes = {size for _, _, size in (seen.replays or {}).values()}
        if sizes - {vocabulary}:
            return failed(f"a distribution has {min(sizes)} entries for {vocabulary} tokens", remedy, BEHAVIOUR)
        if seen.base.error is not None and "loss" in seen.base.error:
            return failed(f"not a probability: {seen.base.error}", remedy, BEHAVIOUR)
        masses = seen.masses or {}
        for k, mass in masses.items():
            if not abs(mass - 1) <= MASS_TOLERANCE:
                reason = f"the scores of all {vocabulary} tokens at target {k} add up to a probability of {mass:.5g}"
                return failed(reason, remedy, BEHAVIOUR, masses=masses)
        if (off := off_sample(seen, remedy)) is not None:
            return off
        if not masses and seen.log_masses is None and seen.replays:
            for k, (score, expected, _) in seen.replays.items():
                if not abs(score - expected) <= max(seen.path.loose, LOG_TOLERANCE):
                    reason = f"target {k} is scored {score:.5f} nats, a normalised prediction gives {expected:.5f}"
                    return failed(reason, remedy, BEHAVIOUR, target=k)
            reason = f"{len(seen.replays)} scores are those of a log-softmax over {vocabulary} tokens"
            return passed(f"{reason}, fixed before the target", BEHAVIOUR, targets=sorted(seen.replays))
        if not masses and seen.log_masses is None:
            return cannot_tell("no distributions shown, and too large a vocabulary to try every target", NO_PATH)
        places = sorted({*masses, *(seen.log_masses or {})})
        scored = f"all {vocabulary} tokens scored at {len(masses)}" if masses else sample_of(seen)
        return passed(
            f"probabilities add up to 1 at {len(places)} targets over {vocabulary} tokens; {scored}",
            BEHAVIOUR,
            targets=places,
            enumerated=sorted(masses),
        )


def off_sample(seen: Examination, remedy: str) -> Verdict | None:
    """A failure where some token's score is not what the prediction gives it."""
    for k, (worst, tried) in (seen.sampled or {}).items() if seen.masses is None else ():
        if not worst <= max(seen.path.loose, LOG_TOLERANCE):
            reason = f"of {tried} tokens scored as target {k}, one is {worst:.3g} nats off the prediction"
            return failed(reason, remedy, BEHAVIOUR, target=k, nats=worst)
    return None


def sample_of(seen: Examination) -> str:
    tried = {tried for _, tried in (seen.sampled or {}).values()}
    return f"{max(tried)} tokens scored at {len(seen.sampled or {})}" if tried else "no token was scored in turn"


class L4(ScoringRule):
    id = "L4"
    title = "byte mixtures normalise over tokens"
    status = (MAINTAINERS, COMMUNITY)
    sources = ("#1902", "#1872", "#1933", "#2039")

    def examine(self, seen: Examination, subject: Subject) -> Verdict:
        if seen.masses is None:
            fixed = L3().examine(seen, subject)
            if fixed.outcome == "cannot tell" or (seen.sampled is None and not seen.replays):
                return cannot_tell("the vocabulary is too large to score every token in turn", NO_PATH)
            if fixed.outcome == "fail":
                return fixed
            how = sample_of(seen) if seen.sampled else f"{len(seen.replays or {})} scores"
            return passed(f"the vocabulary is too large for all; {how}, as one distribution over tokens", BEHAVIOUR)
        for k, mass in seen.masses.items():
            if not abs(mass - 1) <= MASS_TOLERANCE:
                remedy = "sum a byte model over the tokens that begin with each byte; do not spread tokens over bytes"
                reason = f"scored one by one, all tokens at target {k} add up to {mass:.5g}"
                return failed(reason, remedy, BEHAVIOUR, masses=seen.masses)
        return passed(f"scored one by one, all tokens add up to 1 at {len(seen.masses)} targets", BEHAVIOUR)


class L5(ScoringRule):
    id = "L5"
    title = "score before update: a score is final before any state sees its token"
    status = (README, MAINTAINERS, COMMUNITY)
    sources = ("#402", "#677", "#991", "#1972")

    def examine(self, seen: Examination, subject: Subject) -> Verdict:
        if "nothing may learn" in (seen.base.error or ""):
            return failed(str(seen.base.error), "score a chunk before learning from it", BEHAVIOUR)
        if (unclear := unsteady(seen)) is not None:
            return unclear
        if seen.flipped:
            return moved(seen.flipped, "score a chunk, write it to the ledger, and only then adapt on it")
        if seen.base.state is not None and len(set(seen.base.state)) == 1 and seen.repeats == 0:
            return passed("nothing that lives between scores changed while scoring", BEHAVIOUR, adapts=False)
        if (idle := learned_nothing(seen)) is not None:
            return idle
        if seen.redirected is None and seen.masses is None and not seen.replays:
            return cannot_tell(
                "later tokens do not move scores, but whether the target moves its own could not be tried", NO_PATH
            )
        own = L3().examine(seen, subject)
        if own.outcome == "fail":
            return failed(f"state may have seen the target: {own.reason}", own.remedy, BEHAVIOUR)
        updates = seen.record.get("updates")
        said = f" ({updates} updates in the test{scale_of(seen).replace(' (', '; ').rstrip(')')})" if updates else ""
        return passed(f"state changes, and no score depends on its own or a later token{said}", BEHAVIOUR, adapts=True)


class L6(ScoringRule):
    id = "L6"
    title = "one pass from left to right: no rescoring, no choice between passes or runs"
    status = (MAINTAINERS, COMMUNITY)
    sources = ("#573", "#888", "#1004")

    def examine(self, seen: Examination, subject: Subject) -> Verdict:
        remedy = "write every score once, when it is first computed"
        twice = int((seen.base.times_N > 1).sum())
        if any(words in (seen.base.error or "") for words in ("already scored", "more than one", "written in order")):
            return failed(str(seen.base.error), remedy, BEHAVIOUR)
        if twice:
            return failed(
                f"{twice:,} of {seen.base.times_N.size:,} targets are scored more than once",
                remedy,
                BEHAVIOUR,
                most=int(seen.base.times_N.max()),
            )
        if (unclear := unsteady(seen)) is not None:
            return unclear
        if seen.truncated:
            return moved(seen.truncated, remedy)
        over = {k: mass for k, mass in (seen.masses or {}).items() if mass > 1 + MASS_TOLERANCE}
        if over:
            k, mass = next(iter(over.items()))
            reason = f"probabilities at target {k} add up to {mass:.4f}: more than one pass can give, so one was chosen"
            return failed(reason, remedy, BEHAVIOUR, masses=over)
        if seen.path.keeps_documents:
            return passed(
                "each target written once; the protocol goes by document, so earlier ends were not tried", BEHAVIOUR
            )
        return passed("each target written once; streams that end earlier have the same scores", BEHAVIOUR)


class L7(ScoringRule):
    id = "L7"
    title = "every validation token exactly once, whole split, original order"
    status = (COMMUNITY, MAINTAINERS)
    sources = ("#1017", "#1854", "#2109", "#2146")
    cheap: ClassVar[bool] = True

    def check(self, subject: Subject, profile: Profile) -> Verdict:
        remedy = "score the whole split once: eval.max_tokens=0 eval.tail=exact"
        recorded = subject.final_coverage
        if recorded is not None and not recorded.get("complete", False):
            missing, twice = recorded.get("never_scored", 0), recorded.get("scored_twice", 0)
            reason = f"{missing:,} of {recorded['split_targets']:,} targets never scored, {twice:,} more than once"
            return failed(reason, remedy, RECORD, coverage=recorded)
        if recorded is not None and recorded.get("left_over", 0) > MOST_LEFT_OVER * recorded["split_targets"]:
            reason = f"{recorded['left_over']:,} targets at the end do not fill a window, and were not scored"
            return failed(reason, "type a shorter eval.seq_len", RECORD, coverage=recorded)
        known = subject.known_split
        if known is not None and not known.whole:
            return failed(known.reason, remedy, RECORD, targets=known.targets)
        seen = None if subject.quick else subject.examination
        if seen is not None:
            return self.examine(seen, subject)
        if recorded is not None:
            return passed(f"{recorded['scored']:,} targets scored, each once", RECORD, coverage=recorded)
        if known is not None:
            return passed(known.reason, RECORD, targets=known.targets)
        return cannot_tell("neither a coverage record nor a count of validation tokens", NO_PATH)

    def examine(self, seen: Examination, subject: Subject) -> Verdict:
        remedy = "score every target of the split once: eval.tail=exact"
        if seen.base.error is not None:
            return failed(f"the ledger refused the scores: {seen.base.error}", remedy, BEHAVIOUR)
        times = seen.base.times_N
        never, twice = int((times == 0).sum()), int((times > 1).sum())
        if never or twice:
            reason = f"{never:,} of {times.size:,} targets never scored, {twice:,} up to {int(times.max())} times"
            return failed(reason, remedy, BEHAVIOUR, never=never, twice=twice)
        return passed(
            f"all {times.size:,} targets of a test stream scored once", BEHAVIOUR, coverage=subject.final_coverage
        )


class L10(ScoringRule):
    id = "L10"
    title = "no optimisation of a window on the very positions it scores (SLOT)"
    status = (COMMUNITY, OPEN)
    sources = ("#1240", "#1319", "#1376", "#1336")

    def examine(self, seen: Examination, subject: Subject) -> Verdict:
        if (unclear := unsteady(seen)) is not None:
            return unclear
        if seen.flipped:
            return moved(seen.flipped, "optimise on context only, before the positions that are scored")
        if seen.base.state is not None and len(set(seen.base.state)) == 1 and seen.redirected == []:
            return not_applicable("nothing is optimised while scoring")
        return passed("scores inside a window do not depend on later positions of it", BEHAVIOUR)
