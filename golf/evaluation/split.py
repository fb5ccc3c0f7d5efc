"""The part of a validation split that is scored, and the bytes of its targets.

One helper cuts the split, for validation while training, for scoring artifacts and for the exported script, so that all
of them score the same targets. Legend: N targets of a stream of N + 1 tokens.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from golf.errors import UserError

BYTE_COUNT_CHUNK = 1 << 20  # targets whose bytes are counted at once: bounds the memory, whatever the split's length
BYTE_COUNT_OVERLAP = 2  # tokens before a target that its bytes may depend on, besides the one right before it


class SplitPart(NamedTuple):
    """The tokens to score, and how many targets the whole split has under the same protocol."""

    tokens: np.ndarray
    split_targets: int


def split_part(tokens: np.ndarray, evaluator: Any, plan: Any, bos_id: int | None = None) -> SplitPart:
    """The beginning of a split that a plan asks for: its first max_tokens targets or max_documents documents, or all.

    Raises:
        UserError: not even one window fits, or documents cannot be told apart.
    """
    return SplitPart(
        tokens[: targets_to_score(tokens, evaluator, plan, bos_id) + 1], whole_windows(tokens, evaluator.seq_len)
    )


def targets_to_score(tokens: np.ndarray, evaluator: Any, plan: Any, bos_id: int | None = None) -> int:
    """How many targets a plan asks for; raises as `split_part`."""
    whole = whole_windows(tokens, evaluator.seq_len)
    documents = getattr(plan, "max_documents", 0)
    if documents:
        end = end_of_documents(tokens, documents, bos_id)
        if 0 < end < whole:
            if plan.max_tokens:
                raise UserError(
                    f"eval.max_documents={documents} and eval.max_tokens={plan.max_tokens} cut the same split: "
                    "type one of them as 0"
                )
            whole_windows(tokens[: end + 1], evaluator.seq_len)  # raises where no window fits
            return end
    return whole_windows(tokens, evaluator.seq_len, plan.max_tokens)


def validation_tokens(tokens: np.ndarray, seq_len: int, max_tokens: int = 0) -> np.ndarray:
    """The scored beginning of a split of n tokens: floor((n - 1) / T) * T + 1 of them, at most max_tokens targets.

    Raises UserError where not even one window fits.
    """
    return tokens[: whole_windows(tokens, seq_len, max_tokens) + 1]


def whole_windows(tokens: np.ndarray, seq_len: int, max_tokens: int = 0) -> int:
    """Targets of the windows that fit; raises as `validation_tokens`."""
    targets = len(tokens) - 1
    if targets < seq_len:
        raise UserError(
            f"validation has {max(targets, 0):,} targets, shorter than one window of {seq_len:,}: "
            f"type eval.seq_len={max(targets, 1)} or less, or use a longer validation split"
        )
    if 0 < max_tokens < seq_len:
        raise UserError(
            f"eval.max_tokens={max_tokens} is shorter than one window of {seq_len}: "
            f"allowed is 0 (whole split) or at least {seq_len}; type eval.max_tokens={seq_len}"
        )
    limit = min(targets, max_tokens) if max_tokens else targets
    return limit // seq_len * seq_len


def end_of_documents(tokens: np.ndarray, documents: int, bos_id: int | None) -> int:
    """Last target of the first so many documents: the BOS of the next one; 0 where the split has no more documents.

    Raises:
        UserError: a negative number, or a tokenizer without BOS.
    """
    if documents < 0:
        raise UserError(f"eval.max_documents={documents}: allowed is 0 (whole split) or a number of documents")
    if bos_id is None or bos_id < 0:
        raise UserError(
            f"eval.max_documents={documents}: this tokenizer has no BOS, so documents cannot be told apart; "
            "type eval.max_documents=0 eval.max_tokens=<targets>"
        )
    seen = 0
    for begin in range(1, len(tokens), BYTE_COUNT_CHUNK):
        starts = np.flatnonzero(tokens[begin : begin + BYTE_COUNT_CHUNK] == bos_id)
        if seen + len(starts) >= documents:
            return begin + int(starts[documents - seen - 1])
        seen += len(starts)
    return 0


def count_target_bytes(tokens: np.ndarray, byte_table: Any) -> np.ndarray:
    """Bytes of the targets 1 … N: entry i is what token i + 1 stands for after token i."""
    return bytes_between(tokens, byte_table, 0, len(tokens) - 1)


def bytes_between(tokens: np.ndarray, byte_table: Any, begin: int, end: int) -> np.ndarray:
    """Bytes of the targets begin + 1 … end, int32, for any part of the stream the same.

    A table with `bytes_of(begin, end)` (a sidecar) is asked for the bytes of the tokens at these positions instead.

    Raises:
        UserError: the sidecar has other bytes than one for each of these tokens.
    """
    sidecar = getattr(byte_table, "bytes_of", None)
    if sidecar is not None:
        found = np.asarray(sidecar(begin + 1, end + 1))
        if found.shape != (end - begin,) or (len(found) and int(found.min()) < 0):
            raise UserError(
                f"the byte sidecar has {found.size:,} counts for the {end - begin:,} targets {begin + 1:,} … {end:,}, "
                "or negative ones: it belongs to another split; fetch the split and its sidecar again"
            )
        return found.astype(np.int32)
    bytes_N = np.empty(end - begin, dtype=np.int32)
    for first in range(begin, end, BYTE_COUNT_CHUNK):
        last = min(first + BYTE_COUNT_CHUNK, end)
        before = min(BYTE_COUNT_OVERLAP, first)
        span = np.asarray(tokens[first - before : last + 1])
        bytes_N[first - begin : last - begin] = byte_table.count(span[:-1], span[1:])[before:]
    return bytes_N


def check_vocabulary(model: Any, tokens: np.ndarray) -> None:
    """Refuse tokens that the model has no row for: the split was made with another tokenizer."""
    vocab_size = getattr(model, "vocab_size", None)
    begins = range(0, len(tokens), BYTE_COUNT_CHUNK)
    highest = max((int(tokens[begin : begin + BYTE_COUNT_CHUNK].max()) for begin in begins), default=0)
    if vocab_size is not None and highest >= vocab_size:
        raise UserError(
            f"validation holds the token id {highest}, but the model's vocabulary is {vocab_size}: "
            f"the split was made with another tokenizer; use the data the model was trained on"
        )


def check_context(model: Any, seq_len: int) -> None:
    """Refuse windows that are longer than a model says it can read (`longest_context`; most can read any length)."""
    longest = getattr(model, "longest_context", 0)
    if longest and seq_len > longest:
        raise UserError(
            f"eval.seq_len={seq_len}, but {type(model).__name__} reads at most {longest} tokens: "
            f"type eval.seq_len={longest}"
        )


def require_network(evaluator: Any, model: Any) -> None:
    """UserError if a protocol cannot score a network; protocols that ask more of it have a method of this name."""
    check_context(model, evaluator.seq_len)
    require = getattr(evaluator, "require_network", None)
    if require is not None:
        require(model)
