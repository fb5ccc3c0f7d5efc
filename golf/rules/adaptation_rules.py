"""L8, L9, L11, L12, L13: what may change while scoring, and what that makes of an entry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from golf.rules.rule import COMMUNITY, MAINTAINERS, OPEN, Rule
from golf.rules.scoring_rules import NO_PATH
from golf.rules.verdict import BEHAVIOUR, RECORD, Verdict, cannot_tell, failed, not_applicable, passed

if TYPE_CHECKING:
    from golf.rules.profile import Profile
    from golf.rules.subject import Subject

STILL = "nothing is adapted during evaluation"


def adapts(subject: Subject) -> bool | None:
    """Whether evaluation changes the model; None if that is not known."""
    if "updates" in subject.final_record:
        return subject.final_record["updates"] > 0
    ttt = subject.config.get("ttt")
    if isinstance(ttt, dict) and "_target_" in ttt:
        return True
    seen = subject.examination
    if seen is not None and seen.base.state is not None:
        return len(set(seen.base.state)) > 1 or seen.repeats > seen.path.tolerance
    if subject.kind == "run" and subject.config:
        return False
    known = [facts.adapts for facts in subject.facts if facts.adapts is not None]
    return any(known) if known else None


class L8(Rule):
    id = "L8"
    title = "several epochs of adaptation on chunks that are already scored"
    status = (OPEN,)
    sources = ("#549", "#1413", "#1493", "#1698")

    def check(self, subject: Subject, profile: Profile) -> Verdict:
        if adapts(subject) is False:
            return not_applicable(STILL)
        node = subject.config.get("ttt") or {}
        logged = [facts.ttt_epochs for facts in subject.facts if facts.ttt_epochs is not None]
        epochs = node.get("epochs", max(logged) if logged else None)
        if epochs is None:
            return cannot_tell("no record of epochs per chunk", "log ttt_epochs, or audit a run folder of golf")
        if epochs > 1:
            return failed(
                f"{epochs} epochs per scored chunk: merged before, and challenged since",
                "type ttt.epochs=1",
                RECORD,
                epochs=epochs,
            )
        return passed("one epoch per scored chunk", RECORD, epochs=epochs)


class L9(Rule):
    id = "L9"
    title = "no adaptation after the last score"
    status = (COMMUNITY,)
    sources = ("#1017",)

    def check(self, subject: Subject, profile: Profile) -> Verdict:
        if adapts(subject) is False:
            return not_applicable(STILL)
        states = subject.final_record.get("states", [])
        if len(states) < 2:
            return cannot_tell("no record of when the last update was", NO_PATH)
        end = max(state["scored"] for state in states)
        updates = [state["updates"] for state in states if state["scored"] == end]
        if max(updates) > min(updates):
            reason = f"{max(updates) - min(updates)} updates after the last score"
            return failed(reason, "leave the last chunk out of adaptation", RECORD, states=states)
        return passed("the ledger noted no update after the last score", RECORD, states=states)


class L11(Rule):
    id = "L11"
    title = "no validation token in a warm-up that steps an optimizer"
    status = (OPEN,)
    sources = ("#1530", "#1900", "#2014")

    def check(self, subject: Subject, profile: Profile) -> Verdict:
        if adapts(subject) is False:
            return not_applicable("no optimizer runs during evaluation")
        if subject.facts and all(facts.warms_up_on_random_tokens for facts in subject.facts):
            return passed("the log says that warm-up used random tokens", RECORD)
        if subject.kind == "run":
            return passed("golf's scorer hands adaptation nothing but scored tokens, so a warm-up has none", RECORD)
        return cannot_tell("no record of the tokens that warm-up read", "log what warm-up reads; use random tokens")


class L12(Rule):
    id = "L12"
    title = "document boundaries: nothing but attention crosses them"
    status = (OPEN, MAINTAINERS)
    sources = ("#1797", "#1902", "#1988", "#1851")
    cheap: ClassVar[bool] = False

    def check(self, subject: Subject, profile: Profile) -> Verdict:
        gate = gate_of(subject)
        if gate is None:
            if subject.examination is None:
                return cannot_tell(f"no network to look at: {subject.why_no_path}", NO_PATH)
            return passed("no smear gate; attention crosses documents, which is the custom", RECORD)
        moved = smears_into_documents(gate, gate_bos(subject, gate))
        if moved > 0:
            reason = f"the smear gate carries the previous document into a document's first token (by {moved:.3g})"
            return failed(reason, "type model.smear.mask_document_start=true", BEHAVIOUR, largest_change=moved)
        return passed("the smear gate leaves the first token of a document as it is", BEHAVIOUR)


def gate_of(subject: Subject) -> Any:
    """The smear gate of a network, None without one."""
    if subject.examination is None:
        return None
    net = getattr(getattr(subject.examination.path.score, "__self__", None), "net", None)
    smear = getattr(net, "smear", None)
    return smear if smear is not None and hasattr(smear, "parameters") else None


def gate_bos(subject: Subject, gate: Any) -> int:
    return subject.examination.path.bos_id if subject.examination is not None else gate.bos_id


def smears_into_documents(gate: Any, bos_id: int) -> float:
    """How much a gate's output at a document start changes with the token before it; [B, T, D] and ids [B, T]."""
    import torch

    shape = next((p.shape[-1] for p in gate.parameters() if p.ndim == 1 and p.numel() > 1), 0)
    width = max(shape, getattr(gate, "inputs", 0), 8)
    generator = torch.Generator().manual_seed(0)
    x_BTD = torch.randn(2, 4, width, generator=generator)
    x_BTD[1, 2:] = x_BTD[0, 2:]  # rows differ only before the document start at 2
    ids_BT = torch.full((2, 4), bos_id + 1)
    ids_BT[:, 2] = bos_id
    with torch.no_grad():
        y_BTD = gate(x_BTD, ids_BT)
    return float((y_BTD[0, 2] - y_BTD[1, 2]).abs().max())


class L13(Rule):
    id = "L13"
    title = "track: fixed predictor (A) or adaptive compressor (B)"
    status = (COMMUNITY,)
    sources = ("#1017", "#1487", "#1408")

    def check(self, subject: Subject, profile: Profile) -> Verdict:
        state = adapts(subject)
        if state is None:
            return cannot_tell("nothing says whether the model changes during evaluation", NO_PATH)
        track = "B (adaptive)" if state else "A (fixed)"
        how = RECORD if subject.quick or subject.examination is None else BEHAVIOUR
        claimed = str((subject.claims.get("compliance") or {}).get("track", "")).upper()
        if claimed in ("A", "B") and claimed != track[0]:
            return failed(f"claims track {claimed}, is track {track}", "correct the claim", how)
        return passed(f"track {track}", how, track=track[0])
