"""Small artifacts as the public scripts write them, in every container (for tests of the readers)."""

import hashlib
import io
import lzma
import struct
import zlib
from typing import Any

import brotli
import numpy as np
import torch
import zpaq
import zstandard

from golf.interop.zpaq_child import LIBRARY_MARK

WIDTH, LAYERS = 32, 11
SMALL_MODEL = "x0,0c"
GROUP_KEYS = (
    ("_tok_emb.weight.q", True),
    ("attn.c_k.weight.q", False),
    ("attn.c_q.weight.q", True),
    ("attn.c_v.weight.q", False),
    ("attn.proj.weight.q", False),
    ("mlp.fc.weight.q", True),
    ("mlp.proj.weight.q", False),
)


def record_tables(layers: int = LAYERS) -> dict[str, Any]:
    """A {"w", "m"} dictionary with every kind of entry."""
    generator = torch.Generator().manual_seed(0)
    weights: dict[str, torch.Tensor] = {}
    meta: dict[str, Any] = {}

    def codes(name: str, rows: int, columns: int, what: Any, limit: int = 31) -> None:
        weights[f"{name}.q"] = torch.randint(-limit, limit + 1, (rows, columns), generator=generator).to(torch.int8)
        weights[f"{name}.scale"] = (torch.rand(rows, generator=generator) / 32 + 0.01).half()
        meta[name] = what

    codes("tok_emb.weight", 40, WIDTH, "gptq (int7)", 63)
    for layer in range(layers):
        for kind, rows, columns in (
            *((f"attn.{name}.weight", WIDTH, WIDTH) for name in ("c_q", "c_k", "c_v", "proj")),
            ("mlp.fc.weight", 2 * WIDTH, WIDTH),
            ("mlp.proj.weight", WIDTH, 2 * WIDTH),
        ):
            codes(f"blocks.{layer}.{kind}", rows, columns, "gptq (int6)")
        weights[f"blocks.{layer}.attn_scale"] = torch.rand(WIDTH, generator=generator).half()
        meta[f"blocks.{layer}.attn_scale"] = "passthrough (float16)"
        weights[f"blocks.{layer}.attn.attn_gate_w.gq"] = torch.randint(-127, 128, (4, 12), generator=generator).char()
        weights[f"blocks.{layer}.attn.attn_gate_w.gs"] = torch.rand(4, generator=generator).half()
        meta[f"blocks.{layer}.attn.attn_gate_w"] = "gate_int8_row"
    for name, ending, scales in (
        ("blocks.0.mlp.fc.weight", "_a", (1, 2)),
        ("blocks.1.mlp.proj.weight", "", (WIDTH, 4)),
    ):
        rows, columns = weights[f"{name}.q"].shape
        factors = {"lqA": (rows, 4), "lqB": (4, columns)}
        for (key, shape), count in zip(factors.items(), scales):
            weights[f"{name}.{key}{ending}"] = torch.randint(-2, 2, shape, generator=generator).char()
            scale = torch.rand(count, generator=generator).half()
            weights[f"{name}.{key}s{ending}"] = scale[0] if count == 1 else scale
        meta[name] = f"gptq (int6)+lqer{'_asym' if ending else ''}"
    return {"w": weights, "m": meta}


def saved(document: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(document, buffer)
    return buffer.getvalue()


def shuffled(raw: bytes, stride: int = 2, head: int = 1) -> bytes:
    lanes = b"".join(raw[lane::stride] for lane in range(stride))
    return b"BSHF" + stride.to_bytes(head, "little") + lanes


def lrzip(raw: bytes, literals: bytes | None = None, commands: bytes | None = None) -> bytes:
    """`lrzip -z` with one ZPAQ block; given commands and literals stand for rzip's own."""
    literals = raw if literals is None else literals
    packed = zpaq.compress(literals, method=SMALL_MODEL, threads=1)[len(LIBRARY_MARK) :]
    if commands is None:
        lengths = [len(raw[start : start + 65535]) for start in range(0, len(raw), 65535)]
        commands = b"".join(struct.pack("<BH", 0, length) for length in lengths)
    commands += struct.pack("<BHI", 0, 0, zlib.crc32(raw))

    def block(method: int, stored: int, size: int, following: int) -> bytes:
        return bytes([method]) + b"".join(number.to_bytes(3, "little") for number in (stored, size, following))

    second = 30 + len(packed)
    body = block(3, 0, 0, second) + block(3, 0, 0, 20) + block(8, len(packed), len(literals), 0) + packed
    body += block(3, len(commands), len(commands), 0) + commands
    head = b"LRZI\x00\x06" + struct.pack("<Q", len(raw)) + bytes(7) + b"\x01\x00\x00"
    return head + b"\x03\x01" + len(raw).to_bytes(3, "little") + body + hashlib.md5(raw).digest()


def pergroup(document: dict[str, Any]) -> bytes:
    weights, rest, shapes = document["w"], dict(document["w"]), {}
    streams, orders = [], []
    generator = np.random.default_rng(0)
    for key, is_sorted in GROUP_KEYS:
        names = [name for name in weights if name.endswith(key.lstrip("_"))]
        names.sort(key=lambda name: int(name.split(".")[1]) if name.startswith("blocks") else 0)
        raw = b""
        for name in names:
            matrix = rest.pop(name).numpy()
            if is_sorted:
                order = np.concatenate([[0], 1 + generator.permutation(len(matrix) - 1)]).astype("<u2")
                orders.append(order)
                matrix = matrix[order]
            raw += np.ascontiguousarray(matrix.T).tobytes()
        shapes[key] = [tuple(weights[name].shape) for name in names]
        streams.append(lrzip(raw))
    streams.append(brotli.compress(saved({"r": rest, "m": document["m"], "s": shapes}), quality=5))
    streams.append(brotli.compress(np.concatenate(orders).tobytes(), quality=5))
    lengths = [len(stream) for stream in streams]
    return b"PGRP" + struct.pack(f"<{len(streams) + 1}I", len(streams), *lengths) + b"".join(streams)


CONTAINERS = {
    "zstd": lambda document: zstandard.ZstdCompressor(level=3).compress(saved(document)),
    "xz": lambda document: lzma.compress(saved(document), preset=1),
    "zlib": lambda document: zlib.compress(saved(document), 1),
    "brotli": lambda document: brotli.compress(saved(document), quality=4),
    "shuffled": lambda document: brotli.compress(shuffled(saved(document)), quality=4),
    "shuffled_two_byte_stride": lambda document: brotli.compress(shuffled(saved(document), head=2), quality=4),
    "pergroup": pergroup,
}


def model_digest() -> str:
    """What golf/interop/lrzip.py must know for `SMALL_MODEL` to be run."""
    stream = zpaq.compress(b"0", method=SMALL_MODEL, threads=1)[len(LIBRARY_MARK) :]
    return hashlib.sha256(stream[: 7 + int.from_bytes(stream[5:7], "little")]).hexdigest()
