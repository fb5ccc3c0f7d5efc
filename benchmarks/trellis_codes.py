"""Finds the trellises of least squared error: every pair of parity-check polynomials on a uniform source.

    python benchmarks/trellis_codes.py --states 16            (seconds; 64: minutes, 256: hours)

A pair's error is the cost of the best walk over its trellis, per sample, without a rate term; values are the integers,
so the gap to the rate-distortion bound at high rate is 1/2 · log2(2 pi e · error / 4). Prints the best pairs and
Ungerboeck's; golf/quant/trellis_states.py holds the winners of long runs.
"""

import argparse
import math

import torch

from golf.quant.trellis_states import UNGERBOECK_CODES


def transitions(states, pairs):
    """Next state [P, S, 2] of every pair (h1, h0), as golf.quant.trellis_states.next_states has it for one."""
    h1, h0 = (torch.tensor(polynomial)[:, None, None] for polynomial in zip(*pairs))
    state = torch.arange(states)[None, :, None]
    return (state >> 1) ^ ((state & 1) * (h0 >> 1)) ^ (torch.arange(2) * (h1 >> 1))


def errors(states, pairs, samples, lanes, seed=0):
    """Mean squared error [P]."""
    following = transitions(states, pairs)
    order = following.reshape(len(pairs), -1).argsort(dim=1, stable=True).reshape(len(pairs), states, 2)
    previous, subset = order >> 1, 2 * (order & 1) + (order >> 1 & 1)
    generator = torch.Generator().manual_seed(seed)
    cost_PSL = torch.zeros(len(pairs), states, lanes)
    row = torch.arange(len(pairs))[:, None, None]
    total = torch.zeros(len(pairs), dtype=torch.float64)
    for _ in range(samples // lanes):
        x_L = 4 * torch.rand(lanes, generator=generator)
        distance = (x_L - torch.arange(4)[:, None]).abs()
        branch = torch.minimum(distance, 4 - distance).square()
        cost_PSL = (cost_PSL[row, previous] + branch[subset]).amin(dim=2)
        least = cost_PSL.amin(dim=1, keepdim=True)
        total += least.double().sum(dim=(1, 2))
        cost_PSL = cost_PSL - least
    return total / (samples // lanes * lanes)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--states", type=int, default=16, choices=list(UNGERBOECK_CODES))
    parser.add_argument("--samples", type=int, default=1 << 16)
    parser.add_argument("--show", type=int, default=6)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    states = arguments.states
    pairs = [(h1, h0) for h0 in range(states + 1, 2 * states, 2) for h1 in range(2, states, 2)]
    at_once = max(1, (1 << 20) // (states * 32))
    found = torch.cat(
        [errors(states, pairs[i : i + at_once], arguments.samples, 16) for i in range(0, len(pairs), at_once)]
    )
    best = found.argsort()[: arguments.show].tolist()
    for index in [*best, pairs.index(UNGERBOECK_CODES[states])]:
        gap = 0.5 * math.log2(2 * math.pi * math.e * float(found[index]) / 4)
        print(
            f"{states} states  h1={pairs[index][0]:o} h0={pairs[index][1]:o}  error {found[index]:.5f}  gap {gap:.4f}"
        )


if __name__ == "__main__":
    main()
