"""Hashed bigram embedding: the published hash, the formula against explicit loops, causality, and the zero start."""

import pytest
import torch

from golf.errors import UserError
from golf.models.bigram.hashed import BigramHash, bigram_buckets
from golf.models.roles import roles_of


@pytest.fixture
def bigram() -> BigramHash:
    torch.manual_seed(0)
    module = BigramHash(width=16, buckets=64, columns=8, scale=0.3)
    torch.nn.init.normal_(module.embed.weight)
    return module


def test_published_check_vector():
    found = bigram_buckets(torch.tensor([[1, 5, 7, 1023, 1]]), 2048)
    assert found.tolist() == [[2047, 1887, 1082, 53, 310]]


@pytest.mark.parametrize("buckets", [2, 64, 10240])
def test_buckets_equal_an_explicit_loop(buckets):
    ids_BT = torch.randint(0, 1024, (3, 50), generator=torch.Generator().manual_seed(1))
    expected = [
        [buckets - 1] + [((36313 * row[t]) ^ (27191 * row[t - 1])) % (buckets - 1) for t in range(1, 50)]
        for row in ids_BT.tolist()
    ]
    assert bigram_buckets(ids_BT, buckets).tolist() == expected


def test_output_is_scale_times_projected_row(bigram):
    ids_BT = torch.tensor([[1, 9, 9, 700], [4, 1, 9, 2]])
    found = bigram(ids_BT)
    for b, row in enumerate(ids_BT.tolist()):
        for t, token in enumerate(row):
            index = 63 if t == 0 else ((36313 * token) ^ (27191 * row[t - 1])) % 63
            expected = bigram.scale * (bigram.proj.weight @ bigram.embed.weight[index])
            torch.testing.assert_close(found[b, t], expected)


def test_only_this_token_and_the_one_before_matter(bigram):
    ids_BT = torch.arange(10, 22)[None]
    changed = ids_BT.clone()
    changed[0, 5] = 1000
    different = (bigram(ids_BT) != bigram(changed)).any(-1)[0]
    assert different.nonzero().flatten().tolist() == [5, 6]


def test_a_row_starts_without_memory_of_another(bigram):
    first, second = bigram(torch.tensor([[3, 8]])), bigram(torch.tensor([[700, 1]]))
    torch.testing.assert_close(first[0, 0], second[0, 0])
    assert torch.equal(bigram_buckets(torch.tensor([[7], [8]]), 64), torch.tensor([[63], [63]], dtype=torch.int32))


def test_starts_at_zero_and_still_learns():
    module = BigramHash(width=16, buckets=64, columns=8)
    found = module(torch.tensor([[1, 2, 3]]))
    assert not found.any()
    found.sum().backward()
    assert module.embed.weight.grad.abs().sum() > 0


def test_roles_and_names():
    roles = roles_of(BigramHash(width=16, buckets=64, columns=8))
    assert roles == {"scale": "scalar", "embed.weight": "table", "proj.weight": "matrix"}


def test_one_bucket_is_refused():
    with pytest.raises(UserError, match="at least 2"):
        BigramHash(width=16, buckets=1)
