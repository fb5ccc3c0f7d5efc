"""L27: the packed file is the one that was verified, loads alone, and scores the same every time."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from golf.files import sha256_of
from golf.rules.rule import COMMUNITY, Rule
from golf.rules.verdict import BEHAVIOUR, RECORD, Verdict, cannot_tell, failed, passed

if TYPE_CHECKING:
    from golf.rules.profile import Profile
    from golf.rules.subject import Subject

PACKING_GAP_BPB = 0.5  # more than any quantiser of the field loses: something was not saved
SAME_SCORE = 1e-9


class L27(Rule):
    id = "L27"
    title = "the file loads alone, in a fresh process, and scores the same every time"
    status = (COMMUNITY,)
    sources = ("#1740",)
    cheap: ClassVar[bool] = False

    def check(self, subject: Subject, profile: Profile) -> Verdict:
        gap = packing_gap(subject)
        if gap is not None and gap > PACKING_GAP_BPB:
            reason = f"the packed model is {gap:.3f} BPB worse than the weights it was made from"
            return failed(
                reason, "find the state that is not saved (a buffer?), or the quantiser's fault", RECORD, gap=gap
            )
        other = other_file(subject)
        if other:
            return failed(other, "pack and score again: python export.py run=<folder>", RECORD)
        verified = ((subject.stages.get("verify") or {}).get("result") or {}).get("bit_equal")
        seen = subject.examination
        if seen is None:
            if verified:
                return passed("the file decodes to the packed tensors bit for bit, as the verify stage says", RECORD)
            return cannot_tell(f"nothing to load: {subject.why_no_path}", "audit a run folder or a packed model")
        if seen.base.error is None and seen.repeats > seen.path.tolerance:
            return failed(
                f"the same file scores {seen.repeats:.3g} nats apart on a token when it scores twice",
                "remove randomness and state that outlives a score",
                BEHAVIOUR,
                nats=seen.repeats,
            )
        alone = scored_alone(subject)
        if alone is None:
            return passed("scores twice the same", BEHAVIOUR)
        here, there, error = alone
        if error:
            return failed(f"does not score in a fresh process: {error}", "make the file loadable alone", BEHAVIOUR)
        if len(here) != len(there) or any(abs(a - b) > SAME_SCORE for a, b in zip(here, there)):
            return failed(f"scores {there} alone and {here} here", "find what the file does not hold", BEHAVIOUR)
        return passed(
            f"scores the same twice, and in a fresh process ({there[-1]:.6f} BPB of a few windows)", BEHAVIOUR
        )


def other_file(subject: Subject) -> str | None:
    """A line if the packed model is not the file that was verified and scored."""
    if subject.kind != "run" or subject.artifact is None:
        return None
    own = sha256_of(subject.artifact)
    packed = ((subject.stages.get("pack") or {}).get("result") or {}).get("sha256")
    scored = {entry["source_sha256"] for entry in subject.summary.get("ladder", []) if entry.get("source_sha256")}
    if packed not in (None, own):
        return f"{subject.artifact.name} (sha256 {own[:12]}…) is not the file that was packed and verified"
    if scored and own not in scored:
        return f"{subject.artifact.name} (sha256 {own[:12]}…) is not the file that was scored"
    return None


def packing_gap(subject: Subject) -> float | None:
    """BPB by which the packed model is worse than the weights, on the same protocol."""
    by_stage = {entry["stage"]: entry["bpb"] for entry in subject.summary.get("ladder", []) if entry.get("bpb")}
    before = by_stage.get("averaged", by_stage.get("raw"))
    return None if before is None or "quantised" not in by_stage else by_stage["quantised"] - before


def scored_alone(subject: Subject) -> tuple[list[float], list[float], str] | None:
    """(scores in this process, scores in a fresh and locked one, error), None without data."""
    result, material = subject.sandboxed, subject.material
    if result is None or material is None:
        return None
    import torch

    from golf.data.dataset import open_folder
    from golf.pipeline.scoring import score_network
    from golf.rules.sandbox import small_plan

    if result.error:
        return [], [], result.error
    node, seq_len = small_plan(subject)
    assert subject.examination is not None
    net = subject.examination.path.watched.net
    prepared = open_folder(str(material.folder), material.tokenizer_path, require_train=False)
    entries = score_network(net, prepared, node, seq_len, torch.device("cpu"), lambda line: None)
    return [entry["bpb"] for entry in entries], result.bpb, ""
