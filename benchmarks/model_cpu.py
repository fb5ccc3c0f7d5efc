"""Training speed on the CPU: golf with its preset for this CPU against the same graph written plainly in PyTorch.

    python benchmarks/model_cpu.py                      (about two minutes; writes benchmarks/results/model_cpu.json)
    python benchmarks/model_cpu.py --tokens 8192 --pairs 15 --threads 2
    python benchmarks/model_cpu.py --graph march --tokens 1024 --seq-len 512      (the record of 22 March, real width)
    python benchmarks/model_cpu.py --graph april --tokens 1024 --seq-len 512      (the record of 27 April, real width)

The plain model is nn.Linear, F.rms_norm, F.scaled_dot_product_attention and F.cross_entropy, with Muon written per
matrix and torch.optim.Adam, in {fp32, autocast, bf16} x {eager, torch.compile}. All six are screened in rotation; the
best two and golf are then timed in turn. The result is the median of the ratios within a round, because the speed of a
shared machine drifts; `--clock cpu` with `--threads 1` counts the thread's processor seconds, for a machine that is
busy with other things. A step is forward, backward and update; forward+backward alone is reported as well.
"""

import argparse
import contextlib
import datetime
import json
import platform
import shlex
import statistics
import sys
import time
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from plain_records import PlainApril, PlainMarch
from torch import nn

from golf.config.build import build
from golf.config.compose import compose
from golf.optim.muon_adam import muon_adam
from golf.training.hardware import cpu_preset

SIZES = {"vocab_size": 1024, "num_layers": 4, "width": 256, "num_heads": 8, "num_kv_heads": 4, "mlp_mult": 2}


class PlainAttention(nn.Module):
    def __init__(self, width, num_heads, num_kv_heads):
        super().__init__()
        self.num_heads, self.num_kv_heads, self.head_width = num_heads, num_kv_heads, width // num_heads
        self.c_q = nn.Linear(width, width, bias=False)
        self.c_k = nn.Linear(width, num_kv_heads * self.head_width, bias=False)
        self.c_v = nn.Linear(width, num_kv_heads * self.head_width, bias=False)
        self.proj = nn.Linear(width, width, bias=False)
        self.q_gain = nn.Parameter(torch.full((num_heads,), 1.5))

    def rotate(self, x, cos, sin):
        a, b = x.chunk(2, dim=-1)
        return torch.cat((a * cos + b * sin, b * cos - a * sin), dim=-1)

    def forward(self, x, cos, sin):
        B, T, D = x.shape
        q = self.c_q(x).view(B, T, self.num_heads, self.head_width).transpose(1, 2)
        k = self.c_k(x).view(B, T, self.num_kv_heads, self.head_width).transpose(1, 2)
        v = self.c_v(x).view(B, T, self.num_kv_heads, self.head_width).transpose(1, 2)
        q = self.rotate(F.rms_norm(q, (self.head_width,)), cos, sin)
        k = self.rotate(F.rms_norm(k, (self.head_width,)), cos, sin)
        q = q * self.q_gain.to(q.dtype)[:, None, None]
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=self.num_heads != self.num_kv_heads)
        return self.proj(y.transpose(1, 2).reshape(B, T, D))


class PlainBlock(nn.Module):
    def __init__(self, width, num_heads, num_kv_heads, mlp_mult):
        super().__init__()
        self.attn = PlainAttention(width, num_heads, num_kv_heads)
        self.fc = nn.Linear(width, mlp_mult * width, bias=False)
        self.proj = nn.Linear(mlp_mult * width, width, bias=False)
        self.attn_scale = nn.Parameter(torch.ones(width))
        self.mlp_scale = nn.Parameter(torch.ones(width))
        self.resid_mix = nn.Parameter(torch.stack((torch.ones(width), torch.zeros(width))))

    def forward(self, x, x0, cos, sin):
        D = x.shape[-1]
        mix = self.resid_mix.to(x.dtype)
        x = mix[0] * x + mix[1] * x0
        x = x + self.attn_scale.to(x.dtype) * self.attn(F.rms_norm(x, (D,)), cos, sin)
        return x + self.mlp_scale.to(x.dtype) * self.proj(torch.relu(self.fc(F.rms_norm(x, (D,)))).square())


class PlainGPT(nn.Module):
    def __init__(self, vocab_size, num_layers, width, num_heads, num_kv_heads, mlp_mult, seq_len):
        super().__init__()
        self.tok_emb = nn.Embedding(vocab_size, width)
        self.blocks = nn.ModuleList(PlainBlock(width, num_heads, num_kv_heads, mlp_mult) for _ in range(num_layers))
        self.half = num_layers // 2
        self.skip_weights = nn.Parameter(torch.ones(self.half, width))
        nn.init.normal_(self.tok_emb.weight, std=0.005)
        for block in self.blocks:
            nn.init.zeros_(block.proj.weight)
            nn.init.zeros_(block.attn.proj.weight)
        head_width = width // num_heads
        frequencies = 10000.0 ** (-torch.arange(0, head_width, 2).float() / head_width)
        angles = torch.outer(torch.arange(seq_len).float(), frequencies)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def forward(self, ids, targets):
        x = F.rms_norm(self.tok_emb(ids), (self.tok_emb.embedding_dim,))
        x0, skips = x, []
        cos, sin = self.cos.to(x.dtype), self.sin.to(x.dtype)
        for index, block in enumerate(self.blocks):
            if index >= self.half:
                x = x + self.skip_weights[index - self.half].to(x.dtype) * skips.pop()
            x = block(x, x0, cos, sin)
            if index < self.half:
                skips.append(x)
        x = F.rms_norm(x, (x.shape[-1],))
        logits = 30.0 * torch.tanh(F.linear(x, self.tok_emb.weight.to(x.dtype)).float() / 30.0)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


class PlainMuon(torch.optim.Optimizer):
    """Muon, one matrix at a time, as it is usually written."""

    def __init__(self, params, lr=0.04, momentum=0.95, steps=5):
        super().__init__(params, {"lr": lr, "momentum": momentum, "steps": steps})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if "buffer" not in state:
                    state["buffer"] = torch.zeros_like(p)
                buffer = state["buffer"].mul_(group["momentum"]).add_(p.grad)
                update = self.orthogonalise(p.grad.add(buffer, alpha=group["momentum"]), group["steps"])
                p.add_(update.to(p.dtype), alpha=-group["lr"] * max(1.0, p.shape[0] / p.shape[1]) ** 0.5)

    @staticmethod
    def orthogonalise(update, steps):
        a, b, c = 3.4445, -4.7750, 2.0315
        X = update.bfloat16()
        X = X / (X.norm() + 1e-7)
        tall = X.shape[0] > X.shape[1]
        X = X.T if tall else X
        for _ in range(steps):
            A = X @ X.T
            X = a * X + (b * A + c * A @ A) @ X
        return X.T if tall else X


class Case:
    """One contestant: `loss()` gives the training loss of the fixed batch, `update()` steps the optimizer."""

    clock = staticmethod(time.perf_counter)

    def __init__(self, name, model, optimizers, context, batch):
        self.name, self.model, self.optimizers, self.context, self.batch = name, model, optimizers, context, batch
        self.step_seconds, self.backward_seconds = [], []
        started = time.perf_counter()
        self.run()
        self.first_step_seconds = time.perf_counter() - started
        self.run()

    def run(self):
        """One training step; returns (seconds of forward and backward, seconds of the whole step)."""
        started = self.clock()
        with self.context():
            loss = self.model(*self.batch)
        loss.backward()
        middle = self.clock()
        for optimizer in self.optimizers:
            optimizer.step()
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        return middle - started, self.clock() - started

    def measure(self, steps):
        seconds = [self.run() for _ in range(steps)]
        self.backward_seconds.append(sum(s[0] for s in seconds) / steps)
        self.step_seconds.append(sum(s[1] for s in seconds) / steps)


# Graph -> plain model, and the same network as golf's configuration.
GRAPHS = {
    "baseline": (partial(PlainGPT, **SIZES), ["experiment=none", *(f"model.{k}={v}" for k, v in SIZES.items())]),
    "march": (PlainMarch, ["experiment=record/0322_ema_gptq_lite"]),
    "april": (PlainApril, ["experiment=record/0427_lqer_sparse_gate_hp"]),
}


def plain_case(graph, precision, compiled, batch):
    torch.manual_seed(1)
    model = GRAPHS[graph][0](seq_len=batch[0].shape[1])
    context = contextlib.nullcontext
    if precision == "bf16":
        model = model.bfloat16()
    if precision == "autocast":
        context = partial(torch.autocast, "cpu", torch.bfloat16)
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "blocks" in name and min(p.shape) > 12]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    if compiled:
        model.compile(dynamic=False)
    optimizers = [PlainMuon(matrices), torch.optim.Adam(others, lr=0.04, betas=(0.9, 0.95))]
    return Case(f"plain {precision} {'compiled' if compiled else 'eager'}", model, optimizers, context, batch)


def golf_case(graph, preset, batch):
    torch.manual_seed(1)
    node = compose("train", GRAPHS[graph][1])["model"]
    node["compute_dtype"] = preset["compute_dtype"]
    for part in ("embedding", "bigram", "values"):  # tables in float32, as the plain model's
        if node.get(part) and "table_dtype" in node[part]:
            node[part]["table_dtype"] = "float32"
    model = build(node)
    if preset["compile"]:
        model.compile(fullgraph=True, dynamic=False)
    name = f"golf {preset['compute_dtype']} {'compiled' if preset['compile'] else 'eager'}"
    return Case(name, model, [muon_adam(model)], contextlib.nullcontext, batch)


def median_ratio(reference, contestant):
    """Median over rounds of (reference's seconds / contestant's seconds): above 1, the contestant is faster."""
    return statistics.median(r / c for r, c in zip(reference, contestant))


def measure(arguments):
    ids = torch.randint(2, 1024, (arguments.tokens // arguments.seq_len, arguments.seq_len + 1))
    batch = (ids[:, :-1].contiguous(), ids[:, 1:].contiguous())
    preset = {**cpu_preset(), "compile": False} if arguments.eager else cpu_preset()
    torch.set_num_threads(arguments.threads or preset["threads"])
    if arguments.clock == "cpu":
        Case.clock = staticmethod(time.thread_time)
    golf = golf_case(arguments.graph, preset, batch)
    modes = (False, True) if preset["compile"] else (False,)
    plain = [
        plain_case(arguments.graph, precision, mode, batch)
        for precision in ("fp32", "autocast", "bf16")
        for mode in modes
    ]
    for _ in range(arguments.screening):
        for case in plain:
            case.measure(1)
    plain.sort(key=lambda case: statistics.median(case.step_seconds))
    screened = {case.name: round(arguments.tokens / statistics.median(case.step_seconds)) for case in plain}
    finalists = [golf, *plain[:2]]
    for case in finalists:
        case.step_seconds, case.backward_seconds = [], []
    for round_index in range(arguments.pairs):
        for offset in range(len(finalists)):
            finalists[(round_index + offset) % len(finalists)].measure(arguments.steps)
    rivals = sorted(finalists[1:], key=lambda case: statistics.median(case.step_seconds))
    best = rivals[0]
    return {
        "hardware": hardware(),
        "date": datetime.date.today().isoformat(),
        "command": shlex.join(["python", *sys.argv]),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "clock": arguments.clock,
        "preset": preset,
        "graph": arguments.graph,
        "overrides": GRAPHS[arguments.graph][1],
        "parameters": sum(p.numel() for p in golf.model.parameters()),
        "parameters_of_plain": sum(p.numel() for p in plain[0].model.parameters()),
        "tokens_per_step": arguments.tokens,
        "seq_len": arguments.seq_len,
        "pairs": arguments.pairs,
        "steps_per_measurement": arguments.steps,
        "screening_tokens_per_second": screened,
        "tokens_per_second": {c.name: round(arguments.tokens / statistics.median(c.step_seconds)) for c in finalists},
        "first_step_seconds": {c.name: round(c.first_step_seconds, 1) for c in [golf, *plain]},
        "update_share": {c.name: round(1 - sum(c.backward_seconds) / sum(c.step_seconds), 3) for c in finalists},
        "best_plain": best.name,
        "ratio_step": round(median_ratio(best.step_seconds, golf.step_seconds), 3),
        "ratio_step_pairs": [round(r / g, 3) for r, g in zip(best.step_seconds, golf.step_seconds)],
        "ratio_forward_backward": round(
            median_ratio(
                min(rivals, key=lambda c: statistics.median(c.backward_seconds)).backward_seconds, golf.backward_seconds
            ),
            3,
        ),
    }


def hardware():
    """Model name of the CPU and the number of cores this process may use."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as lines:
        name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokens", type=int, default=4096, help="tokens per step")
    parser.add_argument("--seq-len", type=int, default=256)
    parser.add_argument("--pairs", type=int, default=11, help="rounds of the final comparison")
    parser.add_argument("--steps", type=int, default=3, help="training steps per measurement")
    parser.add_argument("--screening", type=int, default=3, help="rounds over all six plain variants")
    parser.add_argument("--threads", type=int, default=0, help="0: what the preset says")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: needs --threads 1")
    parser.add_argument("--eager", action="store_true", help="golf and the plain variants without torch.compile")
    parser.add_argument("--graph", choices=tuple(GRAPHS), default="baseline", help="march, april: real widths")
    parser.add_argument("--output", type=Path, help="default: benchmarks/results/model_cpu[_<graph>].json")
    arguments = parser.parse_args()
    if arguments.clock == "cpu" and arguments.threads != 1:
        parser.error("--clock cpu counts one thread: add --threads 1")
    name = "model_cpu.json" if arguments.graph == "baseline" else f"model_cpu_{arguments.graph}.json"
    result, output = measure(arguments), arguments.output or Path(__file__).parent / "results" / name
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(result, indent=2) + "\n")
    for name, speed in {**result["screening_tokens_per_second"], **result["tokens_per_second"]}.items():
        print(f"{name:28s} {speed:8,d} tokens/s   first step {result['first_step_seconds'][name]:6.1f} s")
    print(
        f"golf over '{result['best_plain']}': step {result['ratio_step']:.3f}x, "
        f"forward+backward {result['ratio_forward_backward']:.3f}x  ({result['pairs']} interleaved rounds)"
    )


if __name__ == "__main__":
    main()
