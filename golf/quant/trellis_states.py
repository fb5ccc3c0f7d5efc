"""The trellises of trellis-coded quantisation: state tables of systematic rate-1/2 codes for one dimension.

With parity-check polynomials h1, h0 (octal) the code is all pairs of sequences with

    sum over i of (h1_i · z1[n-i]  xor  h0_i · z0[n-i]) = 0

In observer form the state's bit 0 is z0, which names the superset (0: even values, 1: odd ones), and z1, the parity of
the code within its superset, leads to the next state. Decoding is a walk through `next_states`, whatever their number.

Ungerboeck's codes (1987, Part II, Table I) have the largest distance, which is what a channel asks for. Those of
`LEAST_ERROR_CODES` have the least mean squared error among all pairs of polynomials of 16 to 256 states, found by
running the search on a uniform source with each pair (benchmarks/trellis_codes.py): 0.001 to 0.002 bit closer to the
bound at the same cost.
"""

from typing import Any

import numpy as np

# states -> (h1, h0)
UNGERBOECK_CODES = {
    4: (0o2, 0o5),
    8: (0o04, 0o13),
    16: (0o04, 0o23),
    32: (0o10, 0o45),
    64: (0o024, 0o103),
    128: (0o126, 0o235),
    256: (0o362, 0o515),
}
LEAST_ERROR_CODES = UNGERBOECK_CODES | {
    16: (0o10, 0o23),
    32: (0o12, 0o73),
    64: (0o42, 0o127),
    128: (0o106, 0o357),
    256: (0o212, 0o761),
}
TRELLISES = {"ungerboeck": UNGERBOECK_CODES, "least_error": LEAST_ERROR_CODES}
TRELLIS_KIND = "trellis"
READING_STEPS = 1 << 17
SHORTEST_WALK = 8


def next_states(states: int, trellis: str = "ungerboeck") -> np.ndarray:
    """Next state by [state, z1], int64."""
    h1, h0 = TRELLISES[trellis][states]
    memory = states.bit_length() - 1
    table = np.zeros((states, 2), dtype=np.int64)
    for state in range(states):
        z0 = state & 1
        for z1 in (0, 1):
            following = state >> 1
            for bit in range(1, memory + 1):
                feedback = (h0 >> bit & 1 & z0) ^ (h1 >> bit & 1 & z1)
                following ^= feedback << (bit - 1)
            table[state, z1] = following
    return table


def longest_walk(columns: int) -> int:
    """Rows of a walk down the columns, at most: reading takes a step for every row of a walk and column."""
    return max(SHORTEST_WALK, READING_STEPS // max(1, columns))


def walk_of_spec(spec: Any, columns: int) -> tuple[np.ndarray | None, int]:
    """The state table of a stored tensor's [kind, meta], or None where it has no trellis, and its walk_rows."""
    kind, meta = spec
    if kind != TRELLIS_KIND:
        return None, 0
    walk_rows = meta.get("walk_rows", 0)
    if type(walk_rows) is not int or not 0 <= walk_rows <= longest_walk(columns):
        raise ValueError("no such walk")
    return next_states(meta["states"], meta.get("trellis", "ungerboeck")), walk_rows
