"""Hashed trigram embedding: as variant B of the bigram hash, with a third token in the hash (switch of 25 March 2026).

index_t = ((36313 x_t) xor (27191 x_{t-1}) xor (51497 x_{t-2})) mod (buckets - 1), in int32; positions 0 and 1 have the
last bucket. Off in the submitted run. Legend: B batch, T time, D width.
"""

import torch
from torch import Tensor

from golf.models.bigram.hashed import BIGRAM_HASH_CURRENT, BIGRAM_HASH_PREVIOUS, BigramHash

TRIGRAM_HASH_BEFORE = 51497


def trigram_buckets(ids_BT: Tensor, buckets: int) -> Tensor:
    """Bucket of each position [B, T] (int32) from its token and the two before."""
    last, ids_BT = buckets - 1, ids_BT.to(torch.int32)
    mixed = torch.bitwise_xor(BIGRAM_HASH_CURRENT * ids_BT[:, 2:], BIGRAM_HASH_PREVIOUS * ids_BT[:, 1:-1])
    mixed = torch.bitwise_xor(mixed, TRIGRAM_HASH_BEFORE * ids_BT[:, :-2])
    return torch.cat((torch.full_like(ids_BT[:, :2], last), torch.remainder(mixed, last)), dim=1)


class TrigramHash(BigramHash):
    """ids [B, T] -> [B, T, D]; arguments as for `BigramHash`."""

    def forward(self, ids_BT: Tensor) -> Tensor:
        x_BTD = self.proj(self.embed(trigram_buckets(ids_BT, self.buckets)))
        return self.scale.to(x_BTD.dtype) * x_BTD
