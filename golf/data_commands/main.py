"""`golf data <command>`: download, tokenizer, retokenise, verify.

Each command is a module of its own, imported when it is called; this file holds their arguments only.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from golf.errors import UserError, VerificationFailed

DESCRIPTION = """Get data, make data, check data.

  golf data download --variant sp1024 --train-shards 10
  golf data tokenizer train docs_selected.jsonl --vocab-size 8192 --out data/tokenizers/my_8192.model
  golf data retokenise docs_selected.jsonl --tokenizer data/tokenizers/my_8192.model --out data/datasets/mine
  golf data verify data/datasets/mine
"""


class DataParser(argparse.ArgumentParser):
    """argparse with golf's manners: a wrong argument is one line that says what to type."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog.removeprefix('golf ')}: {message}; type {self.prog} --help")


def parser() -> argparse.ArgumentParser:
    top = DataParser("golf data", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = top.add_subparsers(dest="command", required=True, metavar="download | tokenizer | retokenise | verify")
    _download_arguments(commands.add_parser("download", help="published shards and their tokenizer"))
    _retokenise_arguments(commands.add_parser("retokenise", help="documents to shards"))
    _verify_arguments(commands.add_parser("verify", help="check a folder of shards, whoever made it"))
    tokenizer = commands.add_parser("tokenizer", help="train one, or convert GPT-2's")
    kinds = tokenizer.add_subparsers(dest="action", required=True, metavar="train | convert")
    _tokenizer_arguments(kinds.add_parser("train", help="on documents"), kinds.add_parser("convert", help="vocab.json"))
    for command in (*commands.choices.values(), *kinds.choices.values()):
        if command is not tokenizer:
            command.add_argument("--json", action="store_true", help="machine-readable output")
    return top


def _download_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--variant", default="sp1024", help="sp1024, sp4096, sp8192, caseops, byte260 (sp1024)")
    command.add_argument("--train-shards", type=int, default=80, help="training shards of 100,000,000 tokens (80)")
    command.add_argument("--folder", type=Path, default=Path("data"), help="holds datasets/ and tokenizers/ (data)")
    command.add_argument("--repo", help="another dataset repository, owner/name (or MATCHED_FINEWEB_REPO_ID)")
    command.add_argument("--root", help="folder in the repository (datasets)")
    command.add_argument("--revision", default="main", help="branch, tag or commit (main)")
    command.add_argument("--pin", type=Path, help="manifest.json of an earlier download: its commit, its hashes")
    command.add_argument("--update", action="store_true", help="the newest commit instead of the pinned one")
    command.add_argument("--with-docs", action="store_true", help="also docs_selected.jsonl (45 GB)")
    command.add_argument("--workers", type=int, default=4, help="files at a time (4)")


def _retokenise_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("documents", nargs="+", type=Path, help="docs_selected.jsonl, or any .jsonl/.parquet")
    command.add_argument("--tokenizer", required=True, help="a .model or .tiktoken file, or bytes")
    command.add_argument("--out", required=True, type=Path, help="the folder to make")
    command.add_argument("--val-docs", type=int, default=50_000, help="the first documents are validation (50,000)")
    command.add_argument("--val", type=Path, nargs="+", help="files whose documents are validation, all of them")
    command.add_argument("--field", default="text", help="key, or column, of the text (text)")
    command.add_argument("--shard-tokens", type=int, default=100_000_000, help="tokens per shard (100,000,000)")
    command.add_argument("--max-train-tokens", type=int, help="stop after this many training tokens")
    command.add_argument("--workers", type=int, default=cores(), help="processes (as many as cores)")
    command.add_argument("--drop-overlap", action="store_true", help="leave validation documents out of training")
    command.add_argument("--restart", action="store_true", help="begin again instead of going on")


def _tokenizer_arguments(train: argparse.ArgumentParser, convert: argparse.ArgumentParser) -> None:
    train.add_argument("documents", nargs="*", type=Path, help="docs_selected.jsonl, or any .jsonl/.parquet")
    train.add_argument("--kind", default="sentencepiece", choices=("sentencepiece", "caseops", "bytes", "gpt2"))
    train.add_argument("--vocab-size", type=int, help="number of ids (1024; gpt2: 50257; bytes: 260)")
    train.add_argument("--out", required=True, type=Path, help="the file to write")
    train.add_argument("--field", default="text", help="key, or column, of the text (text)")
    train.add_argument("--docs", type=int, help="train on this many documents only")
    train.add_argument("--skip-docs", type=int, default=0, help="leave out the first ones, such as validation (0)")
    train.add_argument("--lossless", action="store_true", help="no normalisation: every byte of a text is kept")
    convert.add_argument("vocabulary", type=Path, help="GPT-2's vocab.json (encoder.json)")
    convert.add_argument("--out", required=True, type=Path, help="the .tiktoken file to write")


def _verify_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("folder", type=Path, help="a folder with fineweb_val_*.bin")
    command.add_argument("--tokenizer", default="auto", help="its tokenizer (auto: in the folder, or beside it)")
    command.add_argument("--full", action="store_true", help="it must be the whole official validation split")


def cores() -> int:
    """Cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def download_command(options: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    from golf.data_commands.download import Order, download

    order = Order(
        options.variant,
        options.train_shards,
        options.folder,
        options.repo,
        options.root,
        options.revision,
        options.pin,
        options.update,
        options.with_docs,
        options.workers,
    )
    return download(order, say)


def retokenise_command(options: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    from golf.data_commands.request import Request
    from golf.data_commands.retokenise import retokenise
    from golf.data_commands.sources import DocumentFiles

    files = DocumentFiles(options.documents, options.field)
    manifest = retokenise(
        Request(
            files,
            options.out,
            options.tokenizer,
            options.val_docs,
            DocumentFiles(options.val, options.field) if options.val else None,
            options.shard_tokens,
            options.max_train_tokens,
            options.workers,
            options.drop_overlap,
            options.restart,
        ),
        say,
    )
    for split, entry in manifest["splits"].items():
        say(f"{split}: {entry['documents']:,} documents, {entry['tokens']:,} tokens")
    validation = manifest["splits"]["val"]
    if validation["documents"]:
        lost = validation["lost_bytes"]
        say(
            f"val: {validation['raw_bytes']:,} bytes of text, {validation['counted_bytes']:,} counted in tokens, "
            f"{abs(lost):,} {'lost' if lost >= 0 else 'gained'} in normalisation"
            + ("" if validation["exact"] else f"; {validation['inexact_documents']:,} documents do not add up")
        )
    say(f"{options.out} is complete: no training document is a validation document")
    return manifest


def tokenizer_command(options: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    from golf.data_commands.sources import DocumentFiles
    from golf.data_commands.tokenizers import convert_gpt2, train_tokenizer, write_tokenizer

    if options.action == "convert":
        return write_tokenizer("gpt2", convert_gpt2(options.vocabulary), options.out, say)
    if not options.documents and options.kind != "bytes":
        raise UserError("data tokenizer train: name the documents, such as docs_selected.jsonl")
    size = options.vocab_size or {"gpt2": 50_257}.get(options.kind, 1024)
    files = DocumentFiles(options.documents, options.field)
    content = train_tokenizer(options.kind, files, size, options.skip_docs, options.docs, options.lossless)
    return write_tokenizer(options.kind, content, options.out, say)


def verify_command(options: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    from golf.data_commands.verify import verify

    return verify(options.folder, options.tokenizer, options.full, say)


COMMANDS: dict[str, Callable[[argparse.Namespace, Callable[[str], None]], dict[str, Any]]] = {
    "download": download_command,
    "retokenise": retokenise_command,
    "tokenizer": tokenizer_command,
    "verify": verify_command,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of `golf data`; returns the exit code."""
    options = parser().parse_args(argv)
    quiet = options.json
    try:
        result = COMMANDS[options.command](options, (lambda line: None) if quiet else _say)
    except UserError as error:
        raise UserError(in_words_of_this_command(str(error))) from None
    if quiet:
        print(json.dumps(result, indent=1))
    if result.get("error"):
        raise VerificationFailed(result["error"])
    return 0


def in_words_of_this_command(message: str) -> str:
    """A message of golf.data, which names overrides of train.py, with this command's arguments instead."""
    for override, argument in (("tokenizer.path=", "--tokenizer "), ("data.folder=", "")):
        message = message.replace(f"type {override}", f"type {argument}" if argument else "name a ")
    return message


def _say(line: str) -> None:
    print(line, flush=True)
