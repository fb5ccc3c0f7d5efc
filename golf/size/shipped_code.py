"""Bytes of code that an export will ship, before there is a run, or any data.

The exporter itself writes the program; what it would look up in the prepared data, the tokenizer's class and hash, is
taken from the tokenizer's file if that is here, and from names where it is not. Invariant: within one per cent of the
export's file (the folder of prepared data and the hash are not known yet, and have other digits).
"""

from __future__ import annotations

import hashlib
from typing import Any

from golf.errors import UserError

Config = dict[str, Any]
SENTENCEPIECE = "tokenizer_kinds.SentencePieceTokenizer"
# What a data option's folder, tokenizer or target is called -> the class of its tokenizer.
TOKENIZER_SIGNS = {
    "caseops": "caseops.CaseOpsTokenizer",
    "tiktoken": "byte_bpe.ByteBpeTokenizer",
    "_gpt2": "byte_bpe.ByteBpeTokenizer",
    "byte260": "tokenizer_kinds.PureByteTokenizer",
    "SyntheticSource": "tokenizer_kinds.SyntheticTokenizer",
}


def code_bytes(config: Config) -> int:
    """Bytes of train_gpt.py, in the form `code` of the config (readable, or packed).

    Raises:
        UserError: no such form; something in the configuration cannot be part of one file.
    """
    from golf.submission.flatten import FORMS, as_shipped, flatten

    if (form := config.get("code", "readable")) not in FORMS:
        raise UserError(f"code={form} is not known: type code={' or code='.join(FORMS)}")
    some_hash = hashlib.sha256().hexdigest()  # it compresses like any other
    tokenizer = likely_tokenizer(config["data"])
    place = "" if tokenizer.endswith("PureByteTokenizer") else "tokenizer.model"  # known once data is prepared
    text = flatten(config, tokenizer_sha256=some_hash, tokenizer_class=tokenizer, tokenizer_beside=place)
    return len(as_shipped(text, form))


def likely_tokenizer(data: Config) -> str:
    """The class of tokenizer that an export opens, by its dotted name; no data is prepared for it."""
    from golf.data.tokenizer import AUTOMATIC, find_tokenizer, open_tokenizer

    path, folder = str(data.get("tokenizer", AUTOMATIC)), str(data.get("folder", ""))
    try:
        found = open_tokenizer(find_tokenizer(folder) if path == AUTOMATIC else path)
        return f"{type(found).__module__}.{type(found).__name__}"
    except (UserError, OSError):
        pass
    names = f"{folder} {path} {data['_target_']}"
    return "golf.data." + next((name for sign, name in TOKENIZER_SIGNS.items() if sign in names), SENTENCEPIECE)
