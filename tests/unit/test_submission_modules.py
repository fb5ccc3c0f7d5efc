"""Programs of torch modules that are found by name, hooked, and called by torch."""

from __future__ import annotations

import pytest
from submission_programs import special

PROGRAMS = {
    "what hooks read of the arguments": """
from typing import NamedTuple
import torch
from torch import nn
class Context(NamedTuple):
    scale: float
    visit: int = 0
class Lin(nn.Linear):
    def forward(self, x, context=None):
        return super().forward(x) * 2
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = Lin(2, 2)
        nn.init.ones_(self.lin.weight)
        nn.init.zeros_(self.lin.bias)
    def forward(self, x):
        for visit in range(3):
            x = self.lin(x, Context(1.5, visit))
        return x
net, seen = Net(), []
def hook(module, arguments, output):
    seen.append(f"q.{int(arguments[1].visit)}")
with torch.no_grad():
    handle = net.lin.register_forward_hook(hook)
    print(net(torch.ones(1, 2)).tolist(), seen)
""",
    "modules of torch and who calls them": """
import torch
from torch import nn
import torch.nn.functional as F
class Rot(nn.Module):
    def __init__(self, d, base=10.0):
        super().__init__()
        self.register_buffer("inv", 1.0 / base ** (torch.arange(0, d, 2) / d), persistent=False)
        self._n = 0
        self._cos = None
    def forward(self, n):
        if self._cos is None or self._n < n:
            self._cos = torch.outer(torch.arange(n).float(), self.inv).cos()
            self._n = n
        return self._cos[:n]
class Lin(nn.Linear):
    scale = None
    def forward(self, x):
        w = self.weight if self.scale is None else self.weight * self.scale
        return F.linear(x, w)
    def extra_repr(self):
        return "mine"
    def reset_parameters(self):
        nn.init.constant_(self.weight, 0.5)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.rot = Rot(4)
        self.layers = nn.ModuleList([Lin(4, 4, bias=False) for _ in range(2)])
        self.head = None
        self.gain = nn.Parameter(torch.ones(1))
    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        x = x * self.gain
        if self.head is not None:
            x = self.head(x)
        return x + self.rot(1).sum()
    def train(self, mode=True):
        print("train", mode)
        return super().train(mode)
n = Net()
print(n(torch.ones(1, 4)).tolist(), repr(n.layers[0]))
for m in n.modules():
    if isinstance(m, Lin):
        m.scale = 2.0
print(n(torch.ones(1, 4)).tolist())
n.eval()
def hook(module, args, out):
    return out + 1
h = n.layers[0].register_forward_hook(hook)
print(n(torch.ones(1, 4)).tolist())
h.remove()
n.head = Lin(4, 1, bias=False)
print(n(torch.ones(1, 4)).tolist(), sorted(n.state_dict()))
n.apply(lambda m: setattr(m, "seen", True))
print(n.head.seen)
class Ds(torch.utils.data.Dataset):
    def __len__(self):
        return 3
    def __getitem__(self, i):
        return self.load(i)
    def load(self, i):
        return torch.tensor(i)
print([b.tolist() for b in torch.utils.data.DataLoader(Ds(), batch_size=2)])
opt = torch.optim.SGD(n.parameters(), lr=1.0)
sched = torch.optim.lr_scheduler.LambdaLR(opt, lambda s: 0.5 ** s)
opt.step(); sched.step()
print(opt.param_groups[0]["lr"])
""",
    "modules that are found by name": """
import torch
from torch import nn
class Op:
    gain = 1.0
    def __init__(self, s):
        self.s = s
    def apply(self, x):
        return x * self.s * self.gain
class L(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.op = None
        self.w = nn.Parameter(torch.ones(n))
        self.lin = nn.Linear(n, n)
    def forward(self, x):
        x = x * self.w
        if self.op is not None:
            x = self.op.apply(x)
        return x
class N(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = L(2)
        self.b = nn.Sequential(L(2), L(2))
        self.c = nn.ModuleDict({"k": L(2)})
    def forward(self, x):
        return self.c["k"](self.b(self.a(x)))
n = N()
for name, m in n.named_modules():
    if name == "b.1":
        m.op = Op(3)
    if isinstance(m, L):
        m.extra = Op(2)
print(n(torch.ones(2)).tolist())
for m in n.modules():
    if hasattr(m, "extra"):
        print(m.extra.apply(2))
n.get_submodule("a").op = Op(5)
print(n(torch.ones(2)).tolist())
n.a.lin.tag = Op(7)
print(n.a.lin.tag.apply(1))
class F(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.k = 3
        return x * 2
    @staticmethod
    def backward(ctx, g):
        return g * ctx.k
v = torch.ones(1, requires_grad=True)
F.apply(v).backward()
print(v.grad.item())
class O(torch.optim.Optimizer):
    def __init__(self, p, lr=0.1):
        super().__init__(p, dict(lr=lr, k=1))
    @torch.no_grad()
    def step(self, closure=None):
        for g in self.param_groups:
            for p in g["params"]:
                p.add_(p.grad, alpha=-g["lr"])
                self.state[p]["n"] = self.state[p].get("n", 0) + 1
o = O([v])
o.step()
print(v.item(), o.state[v]["n"])
""",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_program_stays_the_same(name):
    special(PROGRAMS[name])
