"""L28, L29, L30: the bytes that a score is divided by."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from golf.rules.byte_fingerprint import (
    KNOWN_COUNTS,
    SPLIT_BYTES,
    TOLERANCE,
    WHOLE_SPLIT_TOKENS,
    canonical_step_zero,
    implied_bytes,
    known_count,
    tokens_per_byte,
)
from golf.rules.facts import Facts, LoggedScore
from golf.rules.material import counted_bytes, sidecar_documents
from golf.rules.rule import COMMUNITY, OPEN, README, Rule
from golf.rules.verdict import BEHAVIOUR, RECORD, Verdict, cannot_tell, failed, not_applicable, passed

if TYPE_CHECKING:
    from golf.rules.material import Material
    from golf.rules.profile import Profile
    from golf.rules.subject import Subject

NO_DATA = "type golf audit … --data <folder with fineweb_val_*.bin and its tokenizer>"
PART_TOLERANCE = 0.1  # of bytes per token; the first 60,000 tokens of the split are 0.6 % off
STEP_ZERO_TOLERANCE = 0.02  # BPB; an untrained network is not exactly uniform


class L28(Rule):
    id = "L28"
    title = "bytes are those of the source text: leading space once, byte fallback 1, control and unused ids 0"
    status = (README,)
    sources = ("#897", "#1289", "#1632")
    cheap: ClassVar[bool] = False

    def check(self, subject: Subject, profile: Profile) -> Verdict:
        material = subject.material
        if material is None:
            return cannot_tell("no validation data and tokenizer here", NO_DATA)
        if material.tokenizer.kind == "synthetic":
            return not_applicable("synthetic tokens stand for no text")
        remedy = "take the table of golf.data.bytes; its rule is in that file"
        checked = 0
        for number, ids in material.documents():
            counted = int(material.byte_table.count(ids[:-1], ids[1:]).sum())
            text = material.tokenizer.decode([int(token) for token in ids[1:]])
            actual = len(text.encode("utf-8"))
            if "\ufffd" in text:
                continue  # the stream was cut inside of a character
            if counted != actual:
                reason = f"document {number} counts {counted:,} bytes, its text has {actual:,} ({counted / actual:.2%})"
                return failed(reason, remedy, BEHAVIOUR, document=number, counted=counted, actual=actual)
            checked += 1
        if not checked:
            return cannot_tell("the validation data has no documents (no BOS)", NO_DATA)
        for number, counted, actual in sidecar_documents(material):
            if counted != actual:
                reason = f"the sidecar gives document {number} {counted:,} bytes, its source has {actual:,}"
                return failed(reason, "make the sidecar again: golf data retokenise", BEHAVIOUR, document=number)
        recorded = recorded_bytes(subject, material)
        if recorded is not None and recorded[0] != recorded[1]:
            reason = f"the score was divided by {recorded[0]:,} bytes, its tokens have {recorded[1]:,}"
            return failed(reason, remedy, BEHAVIOUR, recorded=recorded[0], actual=recorded[1])
        again = ", and the recorded sum is right" if recorded else ""
        return passed(
            f"byte counts of {checked} documents equal the length of their text{again}", BEHAVIOUR, documents=checked
        )


def recorded_bytes(subject: Subject, material: Material) -> tuple[int, int] | None:
    """(bytes of the last complete score, bytes counted again), None where that cannot be compared."""
    ladder = [entry for entry in subject.summary.get("ladder", []) if entry.get("bytes")]
    if not ladder or (ladder[-1].get("coverage") or {}).get("scored_twice"):
        return None
    tokens = ladder[-1]["tokens"]
    if not 0 < tokens < len(material.val_tokens):
        return None
    return int(ladder[-1]["bytes"]), counted_bytes(material, tokens)


class L29(Rule):
    id = "L29"
    title = "byte fingerprint: tokens · loss / (ln 2 · BPB) is 151.08 million on the whole split"
    status = (COMMUNITY,)
    sources = ("#755", "#1143", "#1184", "#1707", "#1718")

    def check(self, subject: Subject, profile: Profile) -> Verdict:
        seen = [(facts, score) for facts in subject.facts for score in (facts.final,) if score is not None]
        if not seen:
            return cannot_tell("no pair of loss and BPB", "audit a log with val_loss and val_bpb")
        if subject.kind == "run" and not any((facts.val_tokens or 0) > 38_000_000 for facts, _ in seen):
            return not_applicable("the validation data is not the challenge's split")
        verdicts = [self.pair(facts, score) for facts, score in seen]
        verdicts += [zero for facts, _ in seen if (zero := step_zero(facts)) is not None]
        return next((v for v in verdicts if v.outcome == "fail"), verdicts[0])

    def pair(self, facts: Facts, score: LoggedScore) -> Verdict:
        remedy = "count bytes again from the tokenizer: golf audit <run folder>, rule L28"
        if facts.val_tokens is not None:
            found = implied_bytes(facts.val_tokens, score.loss, score.bpb)
            known = known_count(facts.val_tokens)
            if facts.val_tokens < WHOLE_SPLIT_TOKENS[0]:
                return part_of_split(facts, found / facts.val_tokens)
            expected = known.bytes if known is not None else SPLIT_BYTES[0]
            if abs(found / expected - 1) > TOLERANCE or abs(found / SPLIT_BYTES[0] - 1) > TOLERANCE:
                reason = (
                    f"{found / 1e6:.3f} million bytes for {facts.val_tokens:,} tokens, not {SPLIT_BYTES[0] / 1e6:.3f}"
                )
                return failed(f"{reason} ({found / SPLIT_BYTES[0] - 1:+.1%})", remedy, RECORD, implied=found)
            exact = f", published for {known.name}" if known is not None else ""
            return passed(f"{found / 1e6:.3f} million bytes{exact}", RECORD, implied=found)
        ratio = tokens_per_byte(score.loss, score.bpb)
        near = [known for known in KNOWN_COUNTS if abs(ratio / known.ratio - 1) < TOLERANCE and known.whole]
        near = [known for known in near if facts.vocab_size in (None, known.vocab_size)]
        if near:
            return passed(f"{1 / ratio:.4f} bytes per token, as {near[0].name}", RECORD, bytes_per_token=1 / ratio)
        return cannot_tell(
            f"{1 / ratio:.4f} bytes per token is that of no published tokenizer",
            "log val_tokens",
            bytes_per_token=1 / ratio,
        )


def part_of_split(facts: Facts, bytes_per_token: float) -> Verdict:
    """A part has no published number of bytes; its tokens are about as long as those of the whole."""
    whole = [1 / known.ratio for known in KNOWN_COUNTS if known.whole and known.vocab_size == facts.vocab_size]
    found = f"{facts.val_tokens:,} tokens of {bytes_per_token:.4f} bytes are part of the split"
    if whole and all(abs(bytes_per_token / known - 1) > PART_TOLERANCE for known in whole):
        reason = f"{found}, whose tokens have {', '.join(f'{known:.4f}' for known in whole)}"
        return failed(reason, "count bytes again from the tokenizer", RECORD, bytes_per_token=bytes_per_token)
    reason = f"{found}: only the whole has a known sum"
    return cannot_tell(reason, "score the whole split", bytes_per_token=bytes_per_token)


def step_zero(facts: Facts) -> Verdict | None:
    """The untrained model's BPB against log2(V) · tokens / bytes: shards cut with another tokenizer show here."""
    zero, tokens = facts.step_zero, facts.val_tokens or 0
    if zero is None or not facts.vocab_size or tokens < WHOLE_SPLIT_TOKENS[0]:
        return None
    expected = canonical_step_zero(facts.vocab_size, tokens, SPLIT_BYTES[0])
    trained = zero.bpb * math.log(facts.vocab_size) / zero.loss  # the same bytes, at exactly the uniform loss
    if abs(trained / expected - 1) <= STEP_ZERO_TOLERANCE:
        return None
    reason = f"step 0 has {zero.bpb:.4f} BPB; {expected:.4f} is what a model that knows nothing has on the split"
    return failed(
        reason, "use shards and a tokenizer that belong together: golf data verify", RECORD, expected=expected
    )


class L30(Rule):
    id = "L30"
    title = "custom tokenizers: nothing of the text is lost"
    status = (README, OPEN)
    sources = ("#1578", "#1585", "#1604", "#1670", "#1707")
    cheap: ClassVar[bool] = False

    def check(self, subject: Subject, profile: Profile) -> Verdict:
        material = subject.material
        if material is None:
            return cannot_tell("no validation data and tokenizer here", NO_DATA)
        if material.tokenizer.kind == "synthetic":
            return not_applicable("synthetic tokens stand for no text")
        remedy = "use a tokenizer that decodes to its input, and count the bytes of the source"
        for number, _, text in decoded(material):
            if material.sources is not None:
                source = material.sources[number]
                if text != source:
                    lost = len(source.encode()) - len(text.encode())
                    reason = f"document {number} does not decode to its source ({lost:+,} bytes lost)"
                    lossy = text.casefold() == source.casefold() and text != source
                    reason += ": capital letters are gone" if lossy else ""
                    if lossy or abs(lost) > 0.01 * len(source.encode()) or not same_words(text, source):
                        return failed(reason, remedy, BEHAVIOUR, document=number, lost_bytes=lost)
            again = material.tokenizer.encode(text)
            if "\ufffd" not in text and material.tokenizer.decode(again) != text:
                return failed(f"document {number} changes when it is encoded again", remedy, BEHAVIOUR, document=number)
        texts = [text for _, _, text in decoded(material)]
        letters = "".join(texts)
        if len(letters) > 20_000 and letters == letters.lower():
            return failed("no capital letter in all of the text that was looked at", remedy, BEHAVIOUR)
        if material.sources is None:
            return cannot_tell(
                "the tokens decode and encode to the same; the source texts are not here",
                "put docs_selected.jsonl beside the shards",
            )
        exact = sum(text == material.sources[number] for number, _, text in decoded(material))
        note = "" if exact == len(texts) else f"; white space normalised in {len(texts) - exact}"
        return passed(f"{exact} of {len(texts)} documents decode to their source exactly{note}", BEHAVIOUR)


def decoded(material: Material) -> Iterator[tuple[int, np.ndarray, str]]:
    """(number, ids without BOS, text) of whole documents; the last of the split may be cut off."""
    starts = int((material.val_tokens == material.tokenizer.bos_id).sum())
    for number, ids in material.documents():
        if number < starts - 1 or (material.sources is not None and len(material.sources) == starts):
            yield number, ids[1:], material.tokenizer.decode([int(token) for token in ids[1:]])


def same_words(text: str, source: str) -> bool:
    """Whether two texts differ in white space and compatibility forms only (SentencePiece's normalisation)."""
    import unicodedata

    return unicodedata.normalize("NFKC", text).split() == unicodedata.normalize("NFKC", source).split()
