"""`golf data tokenizer`: train one on documents, or convert GPT-2's.

sentencepiece: BPE with exactly the challenge's flags, which trains on all documents, those of validation included;
caseops: the same over encoded text, operators as user-defined symbols; bytes: nothing to train; gpt2: byte-level BPE.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from golf.data.byte_bpe import ranks_content
from golf.data.caseops import CASE_OPERATORS, encode_case
from golf.data.sentencepiece_training import train_sentencepiece
from golf.data.tokenizer import open_tokenizer
from golf.data.tokenizer_kinds import pure_byte_description
from golf.data_commands.byte_bpe_training import tokens_of_vocabulary, train_byte_bpe
from golf.data_commands.encode_worker import parsed_text
from golf.data_commands.sources import DocumentFiles
from golf.errors import UserError
from golf.files import write_atomically

SUFFIX_OF_KIND = {"sentencepiece": ".model", "caseops": ".model", "gpt2": ".tiktoken", "bytes": ".json"}
LOSSLESS = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}


def texts_of(files: DocumentFiles, skip: int, limit: int | None) -> Iterator[str]:
    """The documents' texts, `skip` of them left out, `limit` at most."""
    until = None if limit is None else skip + limit
    number = 0
    for batch in files.batches(limit=until):
        for place, item in enumerate(batch.items):
            number += 1
            if number > skip:
                yield parsed_text(item, files.field, f"{batch.path}, document {batch.first + place + 1}")


def train_tokenizer(
    kind: str, files: DocumentFiles, vocab_size: int, skip: int = 0, limit: int | None = None, lossless: bool = False
) -> bytes:
    """Content of a tokenizer file of one of the kinds above."""
    if kind == "bytes":
        return pure_byte_description()
    texts = texts_of(files, skip, limit)
    changes: dict[str, Any] = LOSSLESS if lossless else {}
    if kind == "gpt2":
        return ranks_content(train_byte_bpe(texts, vocab_size))
    if kind == "caseops":
        symbols = list(CASE_OPERATORS)
        return train_sentencepiece(map(encode_case, texts), vocab_size, user_defined_symbols=symbols, **changes)
    return train_sentencepiece(texts, vocab_size, **changes)


def write_tokenizer(kind: str, content: bytes, out: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Write a tokenizer's file, open it, and say what it is."""
    suffix = SUFFIX_OF_KIND[kind]
    if out.suffix != suffix:
        raise UserError(f"--out {out}: {kind} is stored as {suffix}; type --out {out.with_suffix(suffix)}")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, content)
    tokenizer = open_tokenizer(out)
    found = {"path": str(out), "kind": tokenizer.kind, "vocab_size": tokenizer.vocab_size, "sha256": tokenizer.sha256}
    if out.suffix == ".model":
        write_vocabulary(out, tokenizer)
    say(f"{out}: {tokenizer.kind}, {tokenizer.vocab_size:,} ids, sha256 {tokenizer.sha256[:16]}…")
    return found


def write_vocabulary(model: Path, tokenizer: Any) -> None:
    """The `.vocab` beside a `.model`: piece and score, a line each, as SentencePiece writes it."""
    pieces = tokenizer.pieces
    lines = [f"{pieces.id_to_piece(i)}\t{pieces.get_score(i):g}\n" for i in range(pieces.vocab_size())]
    write_atomically(model.with_suffix(".vocab"), "".join(lines))


def convert_gpt2(vocabulary: Path) -> bytes:
    """GPT-2's vocab.json as a `.tiktoken` file."""
    return ranks_content(tokens_of_vocabulary(vocabulary))
