"""Tokens per second of sliding evaluation, golf against a straightforward loop over batches of windows.

Both score the same targets of the same network with the same windows (stride 64) and the same number of tokens per
forward pass. The loop is plain PyTorch: logits of every position, cross entropy, the last 64 losses of a window. It is
run as it is and with its forward pass compiled; golf is compiled (--eager: neither). Rounds are paired and interleaved,
so that what else runs on the machine hits all; ratios are medians over rounds. What golf leaves out of a network of L
layers is about 1 / L of the blocks and most of the head; the rest of its lead over the plain loop is compiling.

    python benchmarks/eval_speed.py                    # the baseline, 9 x 512, context 1024; below five minutes
    python benchmarks/eval_speed.py --eager --context 256 --batches 2 --rounds 3       # a quick look
    python benchmarks/eval_speed.py --device cuda --context 2048 --dtype bfloat16      # against 107 k scored tokens/s

Result: benchmarks/results/eval_speed.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

import golf.evaluation.scorer as scorer
from golf.config.build import build
from golf.config.compose import compose
from golf.data.bytes import uniform_byte_table
from golf.evaluation.fingerprint import state_sha256
from golf.evaluation.protocol import evaluate
from golf.evaluation.sliding import Sliding
from golf.evaluation.windows import derived_batch_tokens

RESULT = Path(__file__).parent / "results" / "eval_speed.json"
PUBLISHED_PER_GPU = 107_000.0  # scored tokens/s: 62.0 M targets in 70 to 74 s on eight H100, context 2048, stride 64
STRIDE = 64


def network(arguments: argparse.Namespace) -> Any:
    """The baseline of the challenge, its zero projections drawn so that no work can be left out."""
    config = compose("train", ["experiment=baseline"])["model"]
    config |= {"num_layers": arguments.layers, "width": arguments.width, "compute_dtype": arguments.dtype}
    torch.manual_seed(0)
    net = build(config).to(arguments.device).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return net


def plain_loop(net: Any, forward: Any, tokens: np.ndarray, context: int, batch: int, device: str) -> float:
    """Sum of the losses of all targets: what a straightforward script does. An incomplete batch is not padded."""
    targets, total = len(tokens) - 1, 0.0
    starts = [p for p in range(0, targets, STRIDE) if p == 0 or p + context - STRIDE < targets]
    stream = torch.from_numpy(tokens.astype(np.int64))
    with torch.no_grad():
        for first in range(0, len(starts), batch):
            rows = starts[first : first + batch]
            ids_BT = torch.stack([stream[start : start + context] for start in rows]).to(device)
            targets_BT = torch.stack([stream[start + 1 : start + context + 1] for start in rows]).to(device)
            logits_BTV = (forward if len(rows) == batch else net)(ids_BT)
            nll = F.cross_entropy(logits_BTV.float().flatten(0, 1), targets_BT.flatten(), reduction="none")
            for start, nll_T in zip(rows, nll.view_as(targets_BT)):
                total += nll_T[0 if start == 0 else context - STRIDE :].double().sum().item()
    return total


def seconds(call: Any, device: str) -> tuple[float, float, float]:
    """Wall seconds, seconds of this process' CPU, and what the call returned."""
    if device == "cuda":
        torch.cuda.synchronize()
    wall, cpu = time.perf_counter(), time.process_time()
    found = call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - cpu, found


def peak_memory(call: Any, device: str) -> int | None:
    """Bytes on the device beyond what was there before."""
    if device != "cuda":
        return None
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def main() -> None:
    arguments = read_arguments()
    torch.set_num_threads(arguments.threads)
    net = network(arguments)
    context, device = arguments.context, arguments.device
    batch_tokens = arguments.batch_tokens or derived_batch_tokens(device, net.vocab_size)
    batch = max(batch_tokens // context, 1)
    num_targets = context + STRIDE * batch * arguments.batches  # the first window alone, then whole batches
    tokens = np.random.default_rng(1).integers(0, net.vocab_size, num_targets + 1).astype(np.uint16)
    table = uniform_byte_table(net.vocab_size, 2)
    evaluator = Sliding(context, STRIDE)
    if not arguments.eager:  # compile the windows' shape, however short the measurement is, and not the first window's
        one_batch = 2.0 * sum(parameter.numel() for parameter in net.parameters()) * batch * context
        scorer.COMPILE_FLOPS = dict.fromkeys(scorer.COMPILE_FLOPS, one_batch)

    def ours() -> float:
        found = evaluate(net, tokens, table, evaluator, device, batch * context, compiled=not arguments.eager)
        return found.score.nats_sum

    def plain() -> float:
        return plain_loop(net, net, tokens, context, batch, device)

    calls = [ours, plain]
    if not arguments.eager:
        compiled_forward = torch.compile(net.logits_at, fullgraph=True, dynamic=False)

        def plain_compiled() -> float:
            return plain_loop(net, compiled_forward, tokens, context, batch, device)

        calls.append(plain_compiled)
    sums = [call() / num_targets for call in calls]  # also warms up
    difference = max(sums) - min(sums)
    if not difference < (1e-5 if arguments.dtype == "float32" else 1e-2):
        raise SystemExit(f"the scores differ by {difference:.2e} nats per token: nothing to compare")
    rounds: list[dict[str, float]] = []
    for number in range(arguments.rounds):
        turn = number % len(calls)
        row = {}
        for call in calls[turn:] + calls[:turn]:
            row[f"{call.__name__}_s"], row[f"{call.__name__}_cpu_s"], _ = seconds(call, device)
        rounds.append(row)
        print(json.dumps({"round": number, **row}), flush=True)
    speed = num_targets / statistics.median(row["ours_s"] for row in rounds)
    begun = time.process_time()
    state_sha256(net.state_dict().items())
    once = time.process_time() - begun  # of `ours`, once per evaluation, however long it is
    ratios = {
        f"{call.__name__}{kind}": statistics.median(
            row[f"{call.__name__}{kind}"] / row[f"ours{kind}"] for row in rounds
        )
        for call in calls[1:]
        for kind in ("_s", "_cpu_s")
    }
    result = {
        **{name: value for name, value in vars(arguments).items() if name != "output"},
        "stride": STRIDE,
        "scored_targets": num_targets,
        "batch_windows": batch,
        "torch": torch.__version__,
        "nats_per_token_difference": difference,
        "rounds_measured": rounds,
        "ratios": ratios,
        "hash_cpu_s": once,
        "scored_tokens_per_second": speed,
        "peak_bytes": {call.__name__: peak_memory(call, device) for call in calls},
    }
    if device == "cuda":
        result |= {"device_name": torch.cuda.get_device_name(), "against_published_per_gpu": speed / PUBLISHED_PER_GPU}
    how = "eager" if arguments.eager else "compiled"
    print(
        f"sliding stride {STRIDE}, context {context}, {batch} windows per pass, {how}: {speed:,.0f} scored tokens/s, "
        + ", ".join(f"{value:.2f} x {name}" for name, value in ratios.items())
        + " (goal 1.2 x plain_s)"
    )
    if device == "cuda":
        print(f"{speed / PUBLISHED_PER_GPU:.2f} x the published {PUBLISHED_PER_GPU:,.0f} scored tokens/s per GPU")
    if arguments.output:
        path = Path(arguments.output)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--batches", type=int, default=8, help="whole batches of windows per round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-tokens", type=int, default=None, help="0 = as golf derives it; 8192 on a CPU")
    parser.add_argument("--layers", type=int, default=9)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--eager", action="store_true", help="compile neither")
    parser.add_argument("--output", default=str(RESULT), help="'' = write nothing")
    arguments = parser.parse_args()
    if arguments.batch_tokens is None:
        arguments.batch_tokens = 8192 if arguments.device == "cpu" else 0
    return arguments


if __name__ == "__main__":
    main()
