"""L14 to L17: which data may be seen by what, tried on the files and in a sandbox."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from golf.errors import UserError
from golf.rules.metric_rules import NO_DATA
from golf.rules.rule import COMMUNITY, MAINTAINERS, README, Rule
from golf.rules.scoring_rules import NO_PATH
from golf.rules.verdict import BEHAVIOUR, RECORD, Verdict, cannot_tell, failed, not_applicable, passed

if TYPE_CHECKING:
    from golf.rules.material import Material
    from golf.rules.profile import Profile
    from golf.rules.subject import Subject

USUAL_SHARDS = (80, 128, 143, 195, 476)  # of the published exports
SNIPPET_BYTES = 24
SNIPPETS = 96
SEARCHED_BYTES = 1 << 24  # of a file at once
READING_CALIBRATION = ("validation", "val")


class L14(Rule):
    id = "L14"
    title = "no validation data in training, calibration or the artifact"
    status = (README, MAINTAINERS)
    sources = ("#168", "#262", "#1376", "#2018", "#2130")
    cheap: ClassVar[bool] = False

    def check(self, subject: Subject, profile: Profile) -> Verdict:
        source = next((f.calibration_source for f in subject.facts if f.calibration_source), None)
        if source and any(word in source.lower() for word in READING_CALIBRATION):
            return failed(f"calibrated on {source}", "type quant/calibration=self_generated", RECORD)
        material = subject.material
        if material is None:
            return cannot_tell("no validation data here to look for", NO_DATA)
        files = [*subject.shipped, *subject.code]
        for path in files:
            found, tried = validation_text_in(path, material)
            if found:
                reason = f"{path.name} holds {found} of {tried} pieces of validation text"
                return failed(reason, "remove the stored text", BEHAVIOUR, file=path.name, found=found, tried=tried)
        if not material.train_paths:
            return cannot_tell("nothing stored in the files; no training shards here to compare", NO_DATA)
        reason, overlap = overlap_of(material)
        if overlap:
            return failed(reason, "remove validation documents from training", BEHAVIOUR)
        return passed(f"{reason}; no validation text stored in {len(files)} files", BEHAVIOUR)


def overlap_of(material: Material) -> tuple[str, bool]:
    """(what was compared or found, whether training holds validation documents)."""
    from golf.data.overlap import check_overlap

    try:
        report = check_overlap(material.train_paths, material.val_paths, material.tokenizer.bos_id)
    except UserError as error:
        return str(error).partition(";")[0], True
    return str(report), False


def validation_text_in(path: Path, material: Material) -> tuple[int, int]:
    """(pieces of the validation split found in a file as it is or expanded, pieces looked for).

    Pieces are text and token ids (16 bits each): those at the start of the split one after the other, since a paid
    prefix begins there, and others spread over it.
    """
    streams = expanded(path.read_bytes())
    tokens = material.val_tokens.astype("<u2")
    starts = np.unique(
        np.r_[np.arange(0, 16) * 16, np.linspace(0, max(len(tokens) - 32, 0), SNIPPETS // 2).astype(int)]
    )
    wanted = []
    for start in starts.tolist():
        ids = tokens[start : start + 16]
        text = material.tokenizer.decode([int(token) for token in ids]).strip("\ufffd").encode()
        for piece in (text, ids.tobytes()):
            if len(piece) >= SNIPPET_BYTES and len(set(piece)) > 6:
                wanted.append(piece[:64])
    found = set[bytes]().union(*(pieces_in(stream, wanted) for stream in streams))
    return sum(piece in found for piece in wanted), len(wanted)


def pieces_in(stream: bytes, pieces: list[bytes]) -> set[bytes]:
    """Those of the pieces (4 bytes and more) that are somewhere in a stream, all looked for in one pass.

    Places whose first two pairs of bytes are those of some piece are few; only there the pieces are compared.
    """
    bytes_N = np.frombuffer(stream, dtype=np.uint8)
    begins: dict[bytes, list[bytes]] = {}
    first, second = np.zeros(1 << 16, dtype=bool), np.zeros(1 << 16, dtype=bool)
    for piece in pieces:
        begins.setdefault(piece[:4], []).append(piece)
        first[piece[0] << 8 | piece[1]] = second[piece[2] << 8 | piece[3]] = True
    found = set[bytes]()
    for begin in range(0, len(bytes_N), SEARCHED_BYTES):
        part_N = bytes_N[begin : begin + SEARCHED_BYTES + 3].astype(np.uint16)
        pairs_N = part_N[:-1] << 8 | part_N[1:]
        places = np.flatnonzero(first[pairs_N[:-2]])
        places = places[second[pairs_N[places + 2]]] + begin if len(pairs_N) > 2 else places
        for place in places.tolist():
            found.update(p for p in begins.get(stream[place : place + 4], ()) if stream.startswith(p, place))
    return found


def expanded(blob: bytes) -> list[bytes]:
    """A file's bytes, and what common compressors and golf's container make of them."""
    import bz2
    import lzma
    import zlib

    found = [blob]
    for decode in (zlib.decompress, lzma.decompress, bz2.decompress, _sections):
        try:
            found.append(decode(blob))
        except Exception:  # not of that format
            continue
    return found


def _sections(blob: bytes) -> bytes:
    """The expanded sections of a golf artifact, one after the other."""
    from golf.codec.catalogue import codec_named
    from golf.codec.container import read_header, section_bytes

    header, codec, start = read_header(blob, codec_named, "artifact")
    pieces = section_bytes(blob, header, start, "artifact")
    return b"".join(codec.decode(piece, raw) for piece, raw in pieces)


class L15(Rule):
    id = "L15"
    title = "training starts after the 50,000 validation documents, shown by document"
    status = (COMMUNITY, MAINTAINERS)
    sources = ("#2127", "#2146", "#1855", "#2109")
    cheap: ClassVar[bool] = False

    def check(self, subject: Subject, profile: Profile) -> Verdict:
        remedy = "cut the shards again: the first 50,000 documents are validation, training begins after them"
        shards = sorted({facts.train_shards for facts in subject.facts if facts.train_shards})
        material = subject.material
        if material is not None and material.train_paths:
            reason, overlap = overlap_of(material)
            if overlap:
                return failed(reason, remedy, BEHAVIOUR)
            if "files only" in reason:
                return cannot_tell(f"{reason}: disjointness cannot be shown by document", NO_DATA)
            return passed(reason, BEHAVIOUR)
        odd = [count for count in shards if count not in USUAL_SHARDS and count > max(USUAL_SHARDS)]
        if odd:
            reason = f"{odd[0]:,} training shards: as many as come from training on 80 % of the validation documents"
            return failed(reason, remedy, RECORD, train_shards=shards)
        if shards:
            return cannot_tell(
                f"{shards[0]} training shards is a usual count, which proves nothing", NO_DATA, train_shards=shards
            )
        return cannot_tell("no training shards and no record of them", NO_DATA)


class L16(Rule):
    id = "L16"
    title = "evaluation without network, downloads and training data"
    status = (README,)
    cheap: ClassVar[bool] = False

    def check(self, subject: Subject, profile: Profile) -> Verdict:
        if subject.quick or subject.artifact is None:
            return cannot_tell(f"no evaluation to lock up: {subject.why_no_path}", NO_PATH)
        result = subject.sandboxed
        if result is None:
            return cannot_tell("no validation data to score in a sandbox", NO_DATA)
        remedy = "evaluation may read the packed file, its code and the validation split, nothing else"
        if result.attempts:
            return failed(
                f"evaluation reached for {result.attempts[0]}",
                remedy,
                BEHAVIOUR,
                attempts=result.attempts,
                guard=result.guard,
            )
        if result.error:
            return failed(f"evaluation fails in a sandbox: {result.error}", remedy, BEHAVIOUR, guard=result.guard)
        return passed(f"scored with {result.guard}", BEHAVIOUR, guard=result.guard, bpb=result.bpb)


class L17(Rule):
    id = "L17"
    title = (
        "calibration on training data in the training phase only; on text of the model anywhere; on validation never"
    )
    status = (MAINTAINERS,)
    sources = ("#677", "#728", "#1019")

    def check(self, subject: Subject, profile: Profile) -> Verdict:
        known = [facts for facts in subject.facts if facts.calibration_source is not None]
        if not known:
            return cannot_tell("no record of what calibration read", "audit a run folder of golf")
        source = known[0].calibration_source or ""
        if source == "nothing":
            return not_applicable("quantisation reads no data")
        if any(word in source.lower() for word in READING_CALIBRATION):
            return failed(f"calibrated on {source}", "type quant/calibration=self_generated", RECORD)
        if known[0].calibration_on_clock:
            from golf.rules.clock_rules import L23

            inside = L23().check(subject, profile)
            if inside.outcome == "fail":
                return failed(f"reads training data after the training clock: {inside.reason}", inside.remedy, RECORD)
            return passed(f"calibrated on {source}, counted as training", RECORD)
        return passed(f"calibrated on {source}", RECORD)
