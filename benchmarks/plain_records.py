"""Two records written plainly in PyTorch, the yardstick of golf's own graphs: 22 March and 27 April 2026, real widths.

nn.Linear, F.rms_norm, F.scaled_dot_product_attention, F.cross_entropy; every technique as one would write it first.
"""

import torch
import torch.nn.functional as F
from torch import nn


def norm(x):
    return F.rms_norm(x, (x.shape[-1],))


class Attention(nn.Module):
    """Eight heads, four key/value heads, 16 rotated dimensions, exclusive where asked; an optional sparse gate."""

    def __init__(self, width, exclusive, gate=False):
        super().__init__()
        self.heads, self.kv_heads, self.head_width, self.exclusive = 8, 4, width // 8, exclusive
        self.c_q = nn.Linear(width, width, bias=False)
        self.c_k = nn.Linear(width, 4 * self.head_width, bias=False)
        self.c_v = nn.Linear(width, 4 * self.head_width, bias=False)
        self.proj = nn.Linear(width, width, bias=False)
        self.q_gain = nn.Parameter(torch.full((8,), 1.5))
        self.gate = nn.Linear(12, 8, bias=False) if gate else None

    def rotate(self, x, cos, sin):
        a, b, rest = x[..., :8], x[..., 8:16], x[..., 16:]
        return torch.cat((a * cos + b * sin, b * cos - a * sin, rest), dim=-1)

    def forward(self, x, cos, sin, extra=None):
        B, T, D = x.shape
        q = self.c_q(x).view(B, T, self.heads, self.head_width).transpose(1, 2)
        k = self.c_k(x).view(B, T, self.kv_heads, self.head_width).transpose(1, 2)
        v = self.c_v(x)
        v = (v if extra is None else v + extra).view(B, T, self.kv_heads, self.head_width).transpose(1, 2)
        q = self.rotate(norm(q), cos, sin) * self.q_gain.to(q.dtype)[:, None, None]
        y = F.scaled_dot_product_attention(q, self.rotate(norm(k), cos, sin), v, is_causal=True, enable_gqa=True)
        if self.exclusive:
            n = F.normalize(v, dim=-1).repeat_interleave(2, dim=1)
            y = y - (y * n).sum(-1, keepdim=True) * n
        if self.gate is not None:
            y = y * torch.sigmoid(0.5 * self.gate(x[..., :12])).transpose(1, 2).unsqueeze(-1)
        return self.proj(y.transpose(1, 2).reshape(B, T, D))


class Block(nn.Module):
    def __init__(self, width, hidden, index, exclusive, leaky, gate=False):
        super().__init__()
        self.attn = Attention(width, exclusive, gate)
        self.fc = nn.Linear(width, hidden, bias=False)
        self.proj = nn.Linear(hidden, width, bias=False)
        self.attn_scale = nn.Parameter(torch.ones(width))
        self.mlp_scale = nn.Parameter(torch.ones(width))
        self.resid_mix = nn.Parameter(torch.stack((torch.ones(width), torch.zeros(width))))
        self.scale, self.leaky = (index + 1) ** -0.5, leaky

    def read(self, x, x0):
        mix = self.resid_mix.to(x.dtype)
        return mix[0] * x + mix[1] * x0

    def attention(self, x, cos, sin, extra=None):
        return self.attn_scale.to(x.dtype) * self.attn(norm(x) * self.scale, cos, sin, extra)

    def mlp(self, x):
        h = self.fc(norm(x) * self.scale)
        h = F.leaky_relu(h, 0.5).square() if self.leaky else torch.relu(h).square()
        return self.mlp_scale.to(x.dtype) * self.proj(h)

    def forward(self, x, x0, cos, sin, extra=None):
        x = self.read(x, x0)
        x = x + self.attention(x, cos, sin, extra)
        return x + self.mlp(x)


class PlainRecord(nn.Module):
    """What both have in common: tables, rotary tables, head and loss. The MLP is drawn small, projections zero."""

    def __init__(self, vocab_size, width, seq_len, blocks):
        super().__init__()
        self.tok_emb = nn.Embedding(vocab_size, width)
        self.blocks = nn.ModuleList(blocks)
        nn.init.normal_(self.tok_emb.weight, std=0.005)
        for block in self.blocks:
            nn.init.zeros_(block.proj.weight)
            nn.init.zeros_(block.attn.proj.weight)
        angles = torch.outer(torch.arange(seq_len).float(), 10000.0 ** (-torch.arange(0, 16, 2).float() / 16))
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def loss(self, x, targets):
        logits = 30.0 * torch.tanh(F.linear(norm(x), self.tok_emb.weight.to(x.dtype)).float() / 30.0)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


class PlainMarch(PlainRecord):
    """22 March 2026: 11 layers, MLP 1536, bigram hash, smear gate, value embedding in two layers, XSA in the last 4."""

    def __init__(self, seq_len, width=512):
        blocks = [Block(width, 1536, i, exclusive=i >= 7, leaky=False) for i in range(11)]
        super().__init__(1024, width, seq_len, blocks)
        self.skip_weights = nn.Parameter(torch.ones(5, width))
        self.bigram, self.bigram_proj = nn.Embedding(2048, 128), nn.Linear(128, width, bias=False)
        self.values, self.values_proj = nn.Embedding(1024, 128), nn.Linear(128, width // 2, bias=False)
        self.bigram_scale, self.values_scale = nn.Parameter(torch.tensor(0.05)), nn.Parameter(torch.tensor(0.1))
        self.smear = nn.Parameter(torch.zeros(width))

    def forward(self, ids, targets):
        hashed = torch.bitwise_xor(36313 * ids[:, 1:], 27191 * ids[:, :-1]) % 2047
        hashed = torch.cat((torch.full_like(ids[:, :1], 2047), hashed), dim=1)
        x = norm(self.tok_emb(ids) + self.bigram_scale * self.bigram_proj(self.bigram(hashed)))
        g = torch.sigmoid(self.smear).to(x.dtype)
        x = (1 - g) * x + g * F.pad(x[:, :-1], (0, 0, 1, 0))
        x0, skips = x, []
        cos, sin = self.cos.to(x.dtype), self.sin.to(x.dtype)
        extra = self.values_scale * self.values_proj(self.values(ids))
        for index, block in enumerate(self.blocks):
            if index >= 5 and skips:
                x = x + self.skip_weights[index - 5].to(x.dtype) * skips.pop()
            x = block(x, x0, cos, sin, extra.to(x.dtype) if index >= 9 else None)
            if index < 5:
                skips.append(x)
        return self.loss(x, targets)


class PlainApril(PlainRecord):
    """27 April 2026: 8,192 tokens, MLP 2048, layers 3 to 5 run three times, gated skips, two lanes, gates, smear."""

    def __init__(self, seq_len, width=512):
        blocks = [Block(width, 2048, i, exclusive=True, leaky=True, gate=True) for i in range(11)]
        super().__init__(8192, width, seq_len, blocks)
        self.skip_weights, self.skip_gates = nn.Parameter(torch.ones(8, width)), nn.Parameter(torch.zeros(8, width))
        self.post, self.resid = nn.Parameter(torch.ones(11, 2, 2)), nn.Parameter(torch.full((11, 2), 1.1))
        self.smear_gate, self.smear = nn.Linear(12, 1, bias=False), nn.Parameter(torch.zeros(1))

    def skip(self, x, skip, row):
        g, w = torch.sigmoid(self.skip_gates[row]).to(x.dtype), self.skip_weights[row].to(x.dtype)
        return g * x + (1 - g) * (w * skip)

    def forward(self, ids, targets):
        x = self.tok_emb(ids)
        g = self.smear.to(x.dtype) * torch.sigmoid(self.smear_gate(x[:, 1:, :12])) * (ids[:, 1:] != 1).unsqueeze(-1)
        x = norm(torch.cat((x[:, :1], x[:, 1:] + g * x[:, :-1]), dim=1))
        x0, skips = x, []
        cos, sin = self.cos.to(x.dtype), self.sin.to(x.dtype)
        for index in (0, 1, 2, 3, 4, 5, 3, 4):
            x = self.blocks[index](x, x0, cos, sin)
            skips.append(x)
        b = None
        for row, index in enumerate((5, 3, 4, 5, 6, 7, 8, 9, 10)):
            block = self.blocks[index]
            if skips:
                if index == 8:
                    b = x
                x = self.skip(x, skips.pop(), row)
            if index < 8:
                x = block(x, x0, cos, sin)
                continue
            r, p = self.resid[index].to(x.dtype), self.post[index].to(x.dtype)
            attended, mixed = block.attention(block.read(x, x0), cos, sin), block.mlp(b)
            x, b = (
                r[0] * x + p[0, 0] * attended + p[1, 0] * mixed,
                r[1] * b + p[0, 1] * attended + p[1, 1] * mixed,
            )
        return self.loss(0.5 * (x + b), targets)
