"""Calibration text that the network writes itself (records of 2026-03-25 and 2026-03-31): no data is needed at all.

64 sequences; the first token is uniform over the vocabulary, the others are drawn from softmax(logits / 0.8). Keys and
values of earlier positions are kept, and every position is rotated as in a forward pass over the whole sequence (the
records computed each prefix again, with the rotation of a prefix). Whether a network can be run position by position is
tried first; where it cannot, each prefix is computed again.
Invariant: the tokens depend on weights and settings, not on the number of ranks.
Legend: B sequences, T time, H heads, K key/value heads, E head width, V vocabulary.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from golf.data.shards import Shards
from golf.errors import UserError
from golf.quant.hessian import collect_hessians

LOOK_BACK = 8  # embeddings read at most this many tokens (hashed n-grams, smearing)
TRIAL_TOKENS = 12
TRIAL_TOLERANCE = 0.1  # of hidden states whose mean square is 1; a wrong position is off by about 1


class Place:
    """Where a generation is: `start` is the first position of the present forward pass, of `length` in the end."""

    def __init__(self, length: int):
        self.start, self.length = 0, length


class RopeAtPlace(nn.Module):
    """The rotary tables of the whole sequence, cut to the positions of the present forward pass."""

    def __init__(self, rope: Any, place: Place):
        super().__init__()
        self.whole, self.place, self.tables = [rope], place, {}

    def forward(self, length: int, dtype: torch.dtype, packed: bool = False) -> tuple[Tensor, Tensor]:
        if dtype not in self.tables:
            self.tables[dtype] = self.whole[0](self.place.length, dtype, packed)
        cos_TR, sin_TR = self.tables[dtype]
        here = slice(self.place.start, self.place.start + length)
        return cos_TR[here], sin_TR[here]


class AttentionWithMemory:
    """Attention backend for one position at a time: keys and values of earlier positions are kept for each visit."""

    def __init__(self, place: Place, memory: dict[Any, tuple[Tensor, Tensor]], owner: int):
        self.place, self.memory, self.owner = place, memory, owner

    def __call__(self, q_BHTE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, context: Any) -> Tensor:
        key, now = (self.owner, context.visit), self.place.start
        if key not in self.memory:
            shape = (*k_BKTE.shape[:2], self.place.length, k_BKTE.shape[3])
            self.memory[key] = k_BKTE.new_zeros(shape), v_BKTE.new_zeros(shape)
        keys, values = self.memory[key]
        keys[:, :, now : now + 1], values[:, :, now : now + 1] = k_BKTE, v_BKTE
        seen = slice(0, now + 1)
        grouped = q_BHTE.shape[1] != k_BKTE.shape[1]
        return F.scaled_dot_product_attention(q_BHTE, keys[:, :, seen], values[:, :, seen], enable_gqa=grouped)


@contextmanager
def whole_rope(net: Any, place: Place) -> Iterator[None]:
    """Rotate positions as in a sequence of `place.length` tokens."""
    rope = net.rope
    net.rope = RopeAtPlace(rope, place)
    try:
        yield
    finally:
        net.rope = rope


@contextmanager
def position_by_position(net: Any, place: Place, tokens_BT: Tensor) -> Iterator[None]:
    """Let `net.hidden` of one column of `tokens_BT` continue the columns before it."""
    attentions = [module for module in net.modules() if hasattr(module, "backend")]
    backends, embed = [module.backend for module in attentions], net.embed
    memory: dict[Any, tuple[Tensor, Tensor]] = {}
    for index, module in enumerate(attentions):
        module.backend = AttentionWithMemory(place, memory, index)

    def embed_here(ids_B1: Tensor) -> Tensor:
        first = max(0, place.start + 1 - LOOK_BACK)
        return embed(tokens_BT[:, first : place.start + 1])[:, -1:]

    net.embed = embed_here
    try:
        with whole_rope(net, place):
            yield
    finally:
        del net.embed  # the instance's attribute: the method is back
        for module, backend in zip(attentions, backends):
            module.backend = backend


@torch.no_grad()
def runs_position_by_position(net: Any) -> bool:
    """Whether memory gives what whole forward passes give."""
    device = next(net.parameters()).device
    generator = torch.Generator().manual_seed(0)
    tokens_BT = torch.randint(0, net.vocab_size, (2, TRIAL_TOKENS), generator=generator).to(device)
    expected_BTD = net.hidden(tokens_BT)
    place, found = Place(TRIAL_TOKENS), []
    try:
        with position_by_position(net, place, tokens_BT):
            for place.start in range(TRIAL_TOKENS):
                found.append(net.hidden(tokens_BT[:, place.start : place.start + 1]))
    except (RuntimeError, IndexError, ValueError):
        return False
    return float((torch.cat(found, dim=1) - expected_BTD).float().abs().max()) < TRIAL_TOLERANCE


@torch.no_grad()
def generate_tokens(
    net: Any, rows: int, length: int, temperature: float, generator: torch.Generator, remember: bool = True
) -> Tensor:
    """Token ids [rows, length] on the network's device. `remember`: keep keys and values of earlier positions."""
    device = next(net.parameters()).device
    first_B1 = torch.randint(0, net.vocab_size, (rows, 1), generator=generator).to(device)
    tokens_BT = torch.cat((first_B1, first_B1.new_zeros(rows, length - 1)), dim=1)
    place = Place(length)
    with position_by_position(net, place, tokens_BT) if remember else whole_rope(net, place):
        for now in range(length - 1):
            place.start = now if remember else 0
            logits_BV = net.logits(net.hidden(tokens_BT[:, place.start : now + 1])[:, -1]).float().cpu()
            drawn_B1 = torch.multinomial((logits_BV / temperature).softmax(dim=-1), 1, generator=generator)
            tokens_BT[:, now + 1] = drawn_B1[:, 0].to(device)
    return tokens_BT


class SelfGenerated:
    """Calibration source: sequences as long as training's, drawn from the network that is to be quantised.

    Args:
        sequences: how many, over all ranks. rows: of them at a time. temperature: of sampling. seed: of the draws.
    """

    reads_training_data = False

    def __init__(self, sequences: int = 64, rows: int = 16, temperature: float = 0.8, seed: int = 0):
        if sequences < 1 or rows < 1 or not temperature > 0:
            raise UserError(
                f"quant.calibration: sequences={sequences} rows={rows} temperature={temperature} is not possible: "
                "type quant.calibration.sequences=64 quant.calibration.temperature=0.8"
            )
        self.sequences, self.rows, self.temperature, self.seed = sequences, rows, temperature, seed

    def token_batches(self, net: Any, seq_len: int, rank: int = 0, world: int = 1) -> Iterator[Tensor]:
        """Token ids [B, T] of this rank's share."""
        was_training = net.training
        net.eval()
        remember = runs_position_by_position(net)
        for number, first in enumerate(range(0, self.sequences, self.rows)):
            if number % world == rank:
                rows = min(self.rows, self.sequences - first)
                generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
                yield generate_tokens(net, rows, seq_len, self.temperature, generator, remember)
        net.train(was_training)

    def hessians(
        self, net: Any, shards: Shards | None, seq_len: int, rank: int = 0, world: int = 1
    ) -> dict[str, Tensor]:
        """Hessian of every matrix of the network, summed over ranks; no data is read."""
        return collect_hessians(net, list(self.token_batches(net, seq_len, rank, world)))
