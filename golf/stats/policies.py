"""Named policies: what counts as better, and by which test.

The challenge asks for 0.005 nats per token at p < 0.01; what was applied by the end of April 2026 was p < 0.25 of any
gain (#1902). A margin in nats per token is another one in bits per byte for every tokenizer:
bits per byte = nats per token x tokens / bytes / ln 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from golf.config.nearest import offer
from golf.errors import UserError


@dataclass(frozen=True)
class Policy:
    """margin_nats: per token. p: below it the gain counts as shown. paired: by shared seeds where there are two."""

    name: str
    margin_nats: float
    p: float
    paired: bool
    about: str

    def margin_bpb(self, tokens_per_byte: float) -> float:
        return self.margin_nats * tokens_per_byte / math.log(2)


POLICIES = {
    policy.name: policy
    for policy in (
        Policy(
            "challenge_0.005_nats_p01",
            0.005,
            0.01,
            False,
            "the README's: more than 0.005 nats per token better, Welch's test, one-sided p < 0.01",
        ),
        Policy(
            "as_applied_2026_04",
            0.0,
            0.25,
            False,
            "as entries were merged in April 2026 (#1902): any gain, Welch's test, one-sided p < 0.25",
        ),
        Policy("research_p05", 0.0, 0.05, True, "any gain, one-sided p < 0.05, paired where the seeds are the same"),
    )
}
DEFAULT = "challenge_0.005_nats_p01"


def policy_of(name: str) -> Policy:
    """A policy by its name.

    Raises:
        UserError: there is no such policy.
    """
    if name not in POLICIES:
        raise UserError(f"--policy {name}: {offer(name, list(POLICIES))}; type --policy {DEFAULT}")
    return POLICIES[name]
