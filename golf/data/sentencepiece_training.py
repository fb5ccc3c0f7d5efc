"""Train a SentencePiece BPE model with the challenge's own settings.

BPE, byte fallback, digits split, nmt_nfkc normalisation, no dummy prefix, character coverage 0.999,
pad/bos/eos/unk = 0/1/2/3, soft vocabulary limit; everything else is the library's default.
Invariant: one thread, texts in the given order, nothing from the file system: the same texts give the same bytes.
"""

from collections.abc import Iterable
from io import BytesIO
from typing import Any

from golf.errors import UserError

SENTENCEPIECE_FLAGS: dict[str, Any] = {
    "model_type": "bpe",
    "character_coverage": 0.999,
    "byte_fallback": True,
    "split_digits": True,
    "normalization_rule_name": "nmt_nfkc",
    "add_dummy_prefix": False,
    "pad_id": 0,
    "bos_id": 1,
    "eos_id": 2,
    "unk_id": 3,
    "hard_vocab_limit": False,
}


def train_sentencepiece(texts: Iterable[str], vocab_size: int, **changes: Any) -> bytes:
    """Content of a `.model` file with exactly `vocab_size` pieces trained on `texts` (NUL read as a space).

    changes: the library's own arguments, where they are to differ from the challenge's.
    """
    from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

    sentences = (clean for text in texts if (clean := text.replace("\0", " ").strip()))
    model = BytesIO()
    try:
        SentencePieceTrainer.train(
            sentence_iterator=sentences,
            model_writer=model,
            vocab_size=vocab_size,
            num_threads=1,
            minloglevel=2,
            **(SENTENCEPIECE_FLAGS | changes),
        )
        learned = SentencePieceProcessor(model_proto=model.getvalue()).vocab_size()
    except RuntimeError as error:
        reason = str(error).splitlines()[-1]
        raise UserError(
            f"no tokenizer of {vocab_size} pieces could be trained: {reason}; try tokenizer.vocab_size=1024"
        ) from None
    if learned != vocab_size:
        raise UserError(f"the text yields {learned} pieces, not {vocab_size}; type tokenizer.vocab_size={learned}")
    return model.getvalue()
