"""Scores of models that only count: the floor that a trained network must beat (unigram, bigram), in bits per byte.

Unigram: P(c) = (n(c) + 1) / (N + V). Bigram: Witten-Bell interpolation with it (no parameter to tune),
P(c | p) = (n(p, c) + D(p) · P(c)) / (n(p) + D(p)), D(p) = number of different successors of p seen in training.
Every target but the first token counts, BOS included, as in the challenge's evaluation. Legend: N tokens, V vocabulary.
"""

import math

import numpy as np

from golf.data.bytes import ByteTable


def unigram_probabilities(train_tokens: np.ndarray, vocab_size: int) -> np.ndarray:
    """Add-one estimate of P(token), float64 [V]."""
    counts = np.bincount(train_tokens, minlength=vocab_size).astype(np.float64)
    return (counts + 1.0) / (len(train_tokens) + vocab_size)


def unigram_nll(train_tokens: np.ndarray, val_tokens: np.ndarray, vocab_size: int) -> np.ndarray:
    """Negative log-likelihood in nats of targets 1 … N−1, float64 [N−1]."""
    return -np.log(unigram_probabilities(train_tokens, vocab_size))[val_tokens[1:]]


def bigram_nll(train_tokens: np.ndarray, val_tokens: np.ndarray, vocab_size: int) -> np.ndarray:
    """The same for the interpolated bigram; memory grows with the pairs seen, not with the vocabulary squared."""
    pairs = train_tokens[:-1].astype(np.int64) * vocab_size + train_tokens[1:]
    seen_pairs, seen_counts = np.unique(pairs, return_counts=True)
    distinct = np.bincount(seen_pairs // vocab_size, minlength=vocab_size).astype(np.float64)
    totals = np.bincount(train_tokens[:-1], minlength=vocab_size).astype(np.float64)
    previous, target = val_tokens[:-1].astype(np.int64), val_tokens[1:].astype(np.int64)
    wanted = previous * vocab_size + target
    place = np.minimum(np.searchsorted(seen_pairs, wanted), len(seen_pairs) - 1)
    counts = np.where(seen_pairs[place] == wanted, seen_counts[place], 0).astype(np.float64)
    weight = np.maximum(distinct[previous], 1.0)
    unigram = unigram_probabilities(train_tokens, vocab_size)[target]
    return -np.log((counts + weight * unigram) / (totals[previous] + weight))


def unigram_bpb(train_tokens: np.ndarray, val_tokens: np.ndarray, table: ByteTable) -> float:
    """Bits per byte of the unigram on the validation stream."""
    nll = unigram_nll(train_tokens, val_tokens, table.vocab_size)
    return float(nll.sum()) / math.log(2.0) / int(table.count_stream(val_tokens).sum())


def bigram_bpb(train_tokens: np.ndarray, val_tokens: np.ndarray, table: ByteTable) -> float:
    """Bits per byte of the bigram on the validation stream."""
    nll = bigram_nll(train_tokens, val_tokens, table.vocab_size)
    return float(nll.sum()) / math.log(2.0) / int(table.count_stream(val_tokens).sum())
