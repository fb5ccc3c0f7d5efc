"""All rules by id, in their order; H… are the house's own."""

from __future__ import annotations

from golf.rules.adaptation_rules import L8, L9, L11, L12, L13
from golf.rules.clock_rules import L22, L23, L24, L25, L26
from golf.rules.data_rules import L14, L15, L16, L17
from golf.rules.evidence_rules import H1, H2, H3, L19, L31, L32
from golf.rules.file_rules import L27
from golf.rules.metric_rules import L28, L29, L30
from golf.rules.rule import Rule
from golf.rules.scoring_rules import L1, L2, L3, L4, L5, L6, L7, L10
from golf.rules.size_rules import L18, L20, L21, L33

RULES: dict[str, Rule] = {
    rule.id: rule()
    for rule in (
        *(L1, L2, L3, L4, L5, L6, L7, L8, L9, L10, L11, L12, L13, L14, L15, L16, L17, L18, L19, L20, L21, L22),
        *(L23, L24, L25, L26, L27, L28, L29, L30, L31, L32, L33, H1, H2, H3),
    )
}
