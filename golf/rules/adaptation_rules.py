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
    if seen is not None and seen.record and seen.base.error is None:
        return seen.record["updates"] > 0
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
        watched = trained_rows(subject)
        logged = [facts.ttt_epochs for facts in subject.facts if facts.ttt_epochs is not None]
        epochs = watched or epochs_of(subject.config.get("ttt") or {}) or max(logged, default=None)
        how = BEHAVIOUR if watched else RECORD
        if epochs is None:
            return cannot_tell("no record of epochs per chunk", "log ttt_epochs, or audit a run folder of golf")
        seen = "the same row is learned from" if watched else "the record says"
        if epochs > 1:
            remedy = "type ttt.epochs=1 (ttt.sgd.epochs=1, ttt.grad_steps=1)"
            reason = f"{seen} {epochs} times per scored chunk: merged before, and challenged since"
            return failed(reason, remedy, how, epochs=epochs)
        return passed(f"{seen} once per scored chunk", how, epochs=epochs)


def trained_rows(subject: Subject) -> int:
    """How often the same row went through a differentiated pass while the path was watched; 0 = nothing was watched."""
    seen = subject.examination
    if seen is None or seen.path.watched is None or seen.base.error is not None:
        return 0
    return int(seen.passes)


def epochs_of(node: dict[str, Any]) -> int | None:
    """Most epochs or gradient steps per chunk of a `ttt` node and of what it is made of."""
    found = [value for key, value in node.items() if key in ("epochs", "grad_steps") and isinstance(value, int)]
    found += [inner for value in node.values() if isinstance(value, dict) and (inner := epochs_of(value))]
    return max(found, default=None)


class L9(Rule):
    id = "L9"
    title = "no adaptation after the last score"
    status = (COMMUNITY,)
    sources = ("#1017",)

    def check(self, subject: Subject, profile: Profile) -> Verdict:
        if adapts(subject) is False:
            return not_applicable(STILL)
        seen = subject.examination
        if seen is not None and seen.record and seen.base.error is None:
            late = max(seen.record["updates_after_last_score"], seen.steps[2])
            if late:
                reason = f"{late} updates after the last score of a test stream"
                return failed(reason, "leave the last chunk out of adaptation", BEHAVIOUR, updates=late)
            if seen.record["updates"]:
                return passed(f"{seen.record['updates']} updates in a test, none after its last score", BEHAVIOUR)
        late = subject.final_record.get("updates_after_last_score")
        if late is not None:
            if late:
                reason = f"{late} updates after the last score"
                return failed(reason, "leave the last chunk out of adaptation", RECORD, updates=late)
            return passed("the ledger noted no update after the last score", RECORD)
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
        seen = subject.examination
        if seen is not None and seen.record and seen.base.error is None:
            early = max(seen.record["updates_before_first_score"], seen.steps[0])
            if early:
                reason = f"{early} updates before the first score: what they learned from had no score yet"
                return failed(reason, "warm up on random tokens, and put the state back", BEHAVIOUR, updates=early)
            return passed("no optimizer stepped before the first score of a test stream", BEHAVIOUR)
        early = subject.final_record.get("updates_before_first_score")
        if early:
            return failed(f"{early} updates before the first score", "warm up on random tokens", RECORD, updates=early)
        if early == 0:
            return passed("the ledger noted no update before the first score", RECORD)
        return cannot_tell("no record of the tokens that warm-up read", "log what warm-up reads; use random tokens")


class L12(Rule):
    id = "L12"
    title = "document boundaries: nothing but attention crosses them"
    status = (OPEN, MAINTAINERS)
    sources = ("#1797", "#1902", "#1988", "#1851")
    cheap: ClassVar[bool] = False

    def check(self, subject: Subject, profile: Profile) -> Verdict:
        seen = subject.examination
        net = None if seen is None or seen.path.watched is None else seen.path.watched.net
        if seen is None or net is None:
            return cannot_tell(f"no network to look at: {subject.why_no_path}", NO_PATH)
        moved = smears_into_documents(net, seen.path.bos_id)
        if moved > 0:
            reason = f"what a document's first token is read as depends on the token before it (by {moved:.3g})"
            remedy = "type model.smear.mask_document_start=true"
            return failed(reason, remedy, BEHAVIOUR, largest_change=moved)
        hashed = f"; {BIGRAM} are set aside" if getattr(net, "bigram", None) is not None else ""
        text = f"the first block reads a document's first token as it is{hashed}; attention crosses documents by custom"
        return passed(text, BEHAVIOUR)


BIGRAM = "embeddings of token pairs"


def smears_into_documents(net: Any, bos_id: int) -> float:
    """How much the first block's input at a document start changes with the token before it.

    It is caught where the first block is entered, whatever module made it; a network without blocks shows nothing.
    Embeddings of token pairs are off for the test: they name the token before by design, and no rule is known.
    """
    import torch

    ids_BT = torch.full((2, 6), bos_id + 2)
    ids_BT[:, 3] = bos_id
    ids_BT[1, 2] = bos_id + 1  # rows differ in the token before the document start only
    caught: list[torch.Tensor] = []
    hooks = []
    blocks = getattr(net, "blocks", None)
    if blocks is not None and len(blocks):
        hooks.append(blocks[0].register_forward_pre_hook(lambda module, inputs: caught.append(first_of(inputs))))
    if getattr(net, "bigram", None) is not None:
        hooks.append(net.bigram.register_forward_hook(lambda module, inputs, output: output * 0))
    try:
        with torch.no_grad():
            net(ids_BT)
    finally:
        for hook in hooks:
            hook.remove()
    return float((caught[0][0, 3] - caught[0][1, 3]).abs().max()) if caught else 0.0


def first_of(inputs: Any) -> Any:
    """The residual stream among a block's inputs (lanes come as a tuple)."""
    return first_of(inputs[0]) if isinstance(inputs, tuple) else inputs


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
