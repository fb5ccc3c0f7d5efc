"""Are the data those that the run takes them for? What can be seen in seconds; `golf data verify` reads everything.

Looked at: shards and their headers, the manifest (golf's or the official one), the tokenizer's identity and size,
whether documents decode and encode to their own ids (shards cut with another tokenizer do not), and how much of the
official validation split is there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from golf.doctor.finding import Line, Subject, split_error
from golf.errors import UserError

PEEKED_TOKENS = 2_000_000
OWN_SOURCES = ("golf.data.sample.SampleCorpus", "golf.data.synthetic.SyntheticSource")


def data(subject: Subject) -> list[Line]:
    """The run's data; without a run, the sample corpus and the folder of data=fineweb."""
    node = (subject.config or {}).get("data")
    lines = [sample()] if not subject.asked or (node and node["_target_"] == OWN_SOURCES[0]) else []
    if node and node["_target_"] not in OWN_SOURCES and node.get("folder"):
        assert subject.config is not None
        return lines + shards(Path(node["folder"]), str(node.get("tokenizer") or "auto"), subject.config)
    if not subject.asked:
        lines.append(fineweb())
    if not lines and node:
        lines.append(Line("ok", "data", f"{str(node['_target_']).rpartition('.')[2]} makes its own"))
    return lines


def sample() -> Line:
    from golf.config.build import build
    from golf.config.compose import compose
    from golf.data.manifest import is_complete

    folder = build(compose("train", ["data=sample"])["data"]).dataset_folder()
    if is_complete(folder):
        return Line("ok", "data sample", str(folder))
    why = "the first run fetches 5 MB and prepares it"
    return Line("warn", "data sample", "not prepared", "make demo, or data=sample_docstrings without a network", why)


def fineweb() -> Line:
    """The default place of the challenge's data, which nobody asked for."""
    from golf.config.compose import compose

    folder = Path(compose("train", ["data=fineweb"])["data"]["folder"])
    if folder.is_dir():
        return Line("ok", "data fineweb", f"{folder} is here: golf doctor data=fineweb looks into it")
    return Line("ok", "data fineweb", f"{folder} is not here; other places: data=fineweb data.folder=<folder>")


def shards(folder: Path, tokenizer: str, config: dict[str, Any]) -> list[Line]:
    """Shards, manifest, tokenizer and split of a dataset folder."""
    from golf.data.dataset import open_folder
    from golf.data.shards import Shards

    if not folder.is_dir():
        variant = folder.name.removeprefix("fineweb10B_") if folder.name.startswith("fineweb10B_") else "sp1024"
        todo = f"golf data download --variant {variant} --train-shards 10, or data.folder=<folder>"
        return [Line("fail", "data", f"{folder}: no such folder", todo, "there is nothing to train on")]
    try:
        prepared = open_folder(folder, tokenizer)
        counts = {name: len(Shards(paths)) for name, paths in parts(prepared)}
    except UserError as error:
        what, todo = split_error(error)
        return [Line("fail", "data", what, todo or f"golf data verify {folder}", "the run would end with this line")]
    shown = ", ".join(f"{counts[name]:,} {name} tokens in {len(paths)} shards" for name, paths in parts(prepared))
    lines = [Line("ok", "data", f"{folder}: {shown}")]
    return (
        lines + manifest(folder, prepared) + tokenizer_match(prepared, config) + split(prepared, counts["validation"])
    )


def parts(prepared: Any) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return ("training", prepared.train_paths), ("validation", prepared.val_paths)


def manifest(folder: Path, prepared: Any) -> list[Line]:
    """Sizes and number of the files against golf's manifest, or numbers against the official one."""
    from golf.data.manifest import is_complete, read_manifest
    from golf.data_commands.readings import official_entry

    remake = f"golf data verify {folder}, then make or fetch it again"
    try:
        own = read_manifest(folder)
    except UserError as error:
        what, todo = split_error(error)
        return [Line("fail", "data manifest", what, todo or remake, "nothing says that the files are whole")]
    if own is not None:
        if is_complete(folder):
            return [Line("ok", "data manifest", f"{len(own['files'])} files at the sizes of manifest.json")]
        why = "a file is missing or was cut short: scores would be of another split"
        return [Line("fail", "data manifest", f"{folder} is not what its manifest.json lists", remake, why)]
    official = official_entry(folder)
    if official is None:
        why = "sizes and hashes cannot be compared"
        return [Line("warn", "data manifest", f"none in {folder}", f"golf data verify {folder}", why)]
    stats, found = official.get("stats", {}), len(prepared.val_paths)
    if stats.get("files_val", found) != found:
        wrong = f"{found} validation shards, the manifest lists {stats['files_val']}"
        return [Line("fail", "data manifest", wrong, remake, "scores would be of another split")]
    here, all_of_them = len(prepared.train_paths), stats.get("files_train")
    note = f", {here} of {all_of_them} training shards" if all_of_them else ""
    return [Line("ok", "data manifest", f"official entry {official['name']}{note}")]


def tokenizer_match(prepared: Any, config: dict[str, Any]) -> list[Line]:
    """The vocabulary of the model, the tokenizer of the manifest, and ids that come back."""
    import numpy as np

    from golf.data.manifest import read_manifest
    from golf.data.shards import read_shard
    from golf.data.tokenizer import load_tokenizer
    from golf.data_commands.official import official_tokenizer
    from golf.data_commands.readings import round_trips
    from golf.data_commands.verify import MIN_ROUND_TRIPS

    try:
        found = load_tokenizer(prepared.tokenizer_path, int(config["model"]["vocab_size"]))
    except UserError as error:
        what, todo = split_error(error)
        return [Line("fail", "tokenizer", what, todo, "embedding and tokens would not fit each other")]
    made_with = ((read_manifest(prepared.folder) or {}).get("tokenizer") or {}).get("sha256", found.sha256)
    other = "tokenizer.path=<the tokenizer the shards were cut with>"
    if made_with != found.sha256:
        detail = f"{found.path} is {found.sha256[:12]}…, the shards were made with {made_with[:12]}…"
        return [Line("fail", "tokenizer", detail, other, "bytes per token, hence every BPB, would be wrong")]
    tokens = np.asarray(read_shard(prepared.val_paths[0])[:PEEKED_TOKENS])
    largest = max(int(np.asarray(read_shard(paths[0])[:PEEKED_TOKENS]).max()) for _, paths in parts(prepared))
    if largest >= found.vocab_size:
        detail = f"the shards hold id {largest}, the tokenizer has {found.vocab_size} ids"
        return [Line("fail", "tokenizer", detail, other, "the run would end at the first such token")]
    known = official_tokenizer(found.sha256, found.kind)
    name = known.name if known else f"{found.kind}, {found.vocab_size} ids, {found.sha256[:12]}…"
    same, tried = round_trips(found, tokens)
    if tried and same < MIN_ROUND_TRIPS * tried:
        detail = f"{name}: only {same} of {tried} documents give their own ids when decoded and encoded"
        why = "the shards were cut with another tokenizer: every BPB would be wrong (parameter-golf #1718)"
        return [Line("fail", "tokenizer", detail, other, why)]
    return [Line("ok", "tokenizer", f"{name}; {same} of {tried} documents give their own ids again")]


def split(prepared: Any, tokens: int) -> list[Line]:
    """How much of the official validation split this is, where the tokenizer is an official one."""
    from golf.data.tokenizer import load_tokenizer
    from golf.data_commands.official import SCORED_MULTIPLE, official_tokenizer

    found = load_tokenizer(prepared.tokenizer_path)
    known = official_tokenizer(found.sha256, found.kind)
    scored = (tokens - 1) // SCORED_MULTIPLE * SCORED_MULTIPLE
    if known is None:
        return []
    if scored == known.targets:
        return [Line("ok", "validation", f"the official split: {scored:,} targets")]
    detail = f"{scored:,} of the official {known.targets:,} targets"
    todo = "golf data download --variant <variant> fetches the whole split"
    return [Line("warn", "validation", detail, todo, "scores on it are no leaderboard scores")]
