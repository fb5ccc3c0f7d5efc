"""Open the tokenizer that belongs to data: by path, by what its file says it is, or by the dataset's folder.

Kinds: SentencePiece models, CaseOps models (SentencePiece with the four operators at ids 4 to 7), `.tiktoken` files
(GPT-2's byte-level BPE), pure bytes, and the text-free tokenizer of the synthetic source.
"""

import json
from pathlib import Path

from golf.data.byte_bpe import TIKTOKEN_SUFFIX, ByteBpeTokenizer
from golf.data.bytes import spelled_space_of
from golf.data.caseops import CaseOpsTokenizer, has_case_operators
from golf.data.tokenizer_kinds import (
    PURE_BYTES,
    PureByteTokenizer,
    SentencePieceTokenizer,
    SpellingTokenizer,
    SyntheticTokenizer,
    Tokenizer,
    read_tokenizer_file,
)
from golf.errors import UserError

AUTOMATIC = "auto"
OFFICIAL_NAMES = {"byte260": "fineweb_pure_byte_260.json", "gpt2": "gpt2.tiktoken"}
TOKENIZER_FILES = ("tokenizer.model", "tokenizer.json", "tokenizer.tiktoken")


def find_tokenizer(folder: str | Path) -> str:
    """The tokenizer that belongs to a dataset folder: in it (the only `.model` file, whatever its name), or in the
    challenge's official layout beside it.

    Official layout: datasets/fineweb10B_sp<V>[_…] with tokenizers/fineweb_<V>_bpe[_…].model two levels up.
    """
    folder = Path(folder)
    for name in TOKENIZER_FILES:
        if (folder / name).is_file():
            return str(folder / name)
    models = sorted(folder.glob("*.model"))
    if len(models) > 1:
        names = ", ".join(path.name for path in models)
        raise UserError(
            f"{folder} has several tokenizers ({names}); type tokenizer.path={models[0]}, or another of them"
        )
    if models:
        return str(models[0])
    variant = folder.resolve().name.partition("_")[2]
    pieces, _, rest = variant.removeprefix("sp").partition("_")
    official = OFFICIAL_NAMES.get(variant, f"fineweb_{pieces}_bpe{'_' if rest else ''}{rest}.model")
    candidate = folder.resolve().parent.parent / "tokenizers" / official
    if candidate.is_file():
        return str(candidate)
    raise UserError(f"no tokenizer in {folder} nor at {candidate}; type tokenizer.path=<file>")


def load_tokenizer(path: str = AUTOMATIC, vocab_size: int | None = None, folder: str | Path | None = None) -> Tokenizer:
    """Open a tokenizer: a file, "bytes", or "auto" = the one that belongs to the dataset `folder`.

    With `vocab_size` the tokenizer must have exactly that many ids, else UserError.
    """
    if path == AUTOMATIC:
        if folder is None:
            raise UserError("tokenizer.path=auto needs a dataset folder; type tokenizer.path=<file>")
        path = find_tokenizer(folder)
    tokenizer = open_tokenizer(path)
    if vocab_size is not None and tokenizer.vocab_size != vocab_size:
        raise UserError(
            f"tokenizer {path} has {tokenizer.vocab_size} ids, but tokenizer.vocab_size={vocab_size}; "
            f"type tokenizer.vocab_size={tokenizer.vocab_size}, or name another tokenizer.path"
        )
    return tokenizer


def open_tokenizer(path: str | Path) -> Tokenizer:
    """Open a tokenizer by what its file says it is."""
    if str(path) == PURE_BYTES:
        return PureByteTokenizer()
    if str(path).endswith(TIKTOKEN_SUFFIX):
        return ByteBpeTokenizer(path)
    if not str(path).endswith(".json"):
        tokenizer = SpellingTokenizer(path)
        if has_case_operators(tokenizer.pieces):
            return CaseOpsTokenizer(path)
        return tokenizer if spelled_space_of(tokenizer.pieces) else SentencePieceTokenizer(path)
    try:
        description = json.loads(read_tokenizer_file(path))
        kind = description.get("kind", description.get("tokenizer_type"))
    except (ValueError, AttributeError):
        raise UserError(f"tokenizer {path} is not a JSON object; type tokenizer.path=<file>") from None
    if kind in (PURE_BYTES, "pure_byte", "byte"):
        return PureByteTokenizer(path)
    if kind == "synthetic":
        return SyntheticTokenizer(path)
    raise UserError(
        f"tokenizer {path} is of unknown kind {kind!r}; known: bytes, synthetic, a .model or .tiktoken file"
    )
