"""Fused kernels against plain PyTorch: values and gradients, in Triton's interpreter on the CPU.

The interpreter has to be chosen before Triton is imported, so `test_in_the_interpreter` runs the rest of this file in a
process of its own:  TRITON_INTERPRET=1 python -m pytest -n0 tests/unit/test_kernels.py
Tolerances: float32 sums in another order; bfloat16 one rounding (2⁻⁸) of each stored number against float32 throughout.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "contracts"))

from model_options import network
from tiny import tiny

from golf.errors import UserError
from golf.models.kernels import leaky_mlp, softcapped_loss
from golf.models.kernels.leaky_mlp import define_leaky_operators, fused_leaky_mlp
from golf.models.kernels.softcapped_loss import IGNORED, define_loss_operators, softcapped_losses
from golf.models.kernels.triton_text import interpreted, lines_said

HAS_TRITON = importlib.util.find_spec("triton") is not None
inside = pytest.mark.skipif(not (HAS_TRITON and interpreted()), reason="runs inside test_in_the_interpreter")
DTYPES = (torch.float32, torch.bfloat16)
FUSED = ["model/mlp=leaky_relu2_fused", "model/objective=fused"]
PLAIN = ["model/mlp=leaky_relu2", "model/objective=none"]


@pytest.mark.skipif(not HAS_TRITON, reason="Triton is not installed (pip install triton): kernels are not tested")
def test_in_the_interpreter() -> None:
    command = [sys.executable, "-m", "pytest", "-n0", "-q", "--tb=short", "-p", "no:cacheprovider", __file__]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    if interpreted():
        pytest.skip("this is the interpreter")
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert " passed" in done.stdout


def near(found: Tensor, exact: Tensor, dtype: torch.dtype) -> None:
    """Relative to the largest number: products of many terms have no digits to spare near zero."""
    tolerance = 2e-6 if dtype == torch.float32 else 1.5e-2
    torch.testing.assert_close(found.float(), exact, atol=tolerance * float(exact.detach().abs().max()), rtol=0.0)


@inside
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", [(33, 17, 40), (64, 32, 64), (1, 5, 7), (290, 3, 33)])
def test_leaky_mlp(sizes: tuple[int, int, int], dtype: torch.dtype) -> None:
    """Rows x width x hidden that do and do not fill tiles; slope 0.3, and 290 rows are more than a group of tiles."""
    define_leaky_operators()
    N, D, F_ = sizes
    torch.manual_seed(0)
    given = [torch.randn(shape).to(dtype).requires_grad_() for shape in ((N, D), (F_, D), (D, F_))]
    exact = [tensor.detach().float().requires_grad_() for tensor in given]
    y_ND = fused_leaky_mlp(*given, 0.3)
    expected_ND = F.linear(F.leaky_relu(F.linear(exact[0], exact[1]), 0.3).square(), exact[2])
    g_ND = torch.randn(N, D).to(dtype)
    y_ND.backward(g_ND)
    expected_ND.backward(g_ND.float())
    near(y_ND, expected_ND, dtype)
    for mine, plain in zip(given, exact):
        assert mine.grad is not None
        assert plain.grad is not None
        near(mine.grad, plain.grad, dtype)


@inside
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("N", "V", "cap"), [(5, 1500, 30.0), (3, 1024, 0.0), (4, 7, 10.0), (2, 2049, 15.0)])
def test_softcapped_loss(N: int, V: int, cap: float, dtype: torch.dtype) -> None:
    """One block of columns, several, and a part of one; with and without softcap; a token that is ignored."""
    define_loss_operators()
    torch.manual_seed(0)
    given_NV = (20 * torch.randn(N, V)).to(dtype).requires_grad_()
    exact_NV = given_NV.detach().float().requires_grad_()
    targets_N = torch.randint(0, V, (N,))
    targets_N[0] = IGNORED
    losses_N = softcapped_losses(given_NV, targets_N, cap)
    z_NV = cap * torch.tanh(exact_NV / cap) if cap else exact_NV
    expected_N = F.cross_entropy(z_NV, targets_N, reduction="none")
    assert losses_N[0] == 0
    torch.testing.assert_close(losses_N, expected_N, atol=1e-5, rtol=1e-6)
    g_N = torch.rand(N)
    losses_N.backward(g_N)
    expected_N.backward(g_N)
    assert given_NV.grad is not None
    assert exact_NV.grad is not None
    assert not given_NV.grad[0].any()
    near(given_NV.grad, exact_NV.grad, dtype)


@inside
def test_a_target_outside_the_vocabulary_is_not_a_number() -> None:
    define_loss_operators()
    losses_N = softcapped_losses(torch.randn(3, 9), torch.tensor([4, 9, -1]), 30.0)
    assert torch.isnan(losses_N).tolist() == [False, True, True]


@inside
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_network_with_both_trains_as_without(
    backend: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced without a break; nothing falls back; scoring has the bits of the plain network."""
    nets = [network(tiny([*overrides, "model/embedding=token", "model.embedding.table_dtype=float32"], 2)).train()
            for overrides in (FUSED, PLAIN)]  # fmt: skip
    if backend != "eager":
        torch._dynamo.reset()
        nets[0].compile(fullgraph=True, dynamic=False, backend=backend)
    launched = counted_kernels(monkeypatch)
    ids_BT = torch.randint(2, 64, (2, 18))
    losses = [net(ids_BT[:, :-1].contiguous(), ids_BT[:, 1:].contiguous()) for net in nets]
    for loss in losses:
        loss.backward()
    torch.testing.assert_close(*losses, atol=1e-6, rtol=1e-6)
    for (name, mine), plain in zip(nets[0].named_parameters(), nets[1].parameters()):
        torch.testing.assert_close(mine.grad, plain.grad, atol=2e-5, rtol=2e-4, msg=lambda m, n=name: f"{n}: {m}")
    assert sorted(launched) == ["capped_gradient", "capped_loss", *4 * ["leaky_square"]], "two blocks, both ways"
    assert capsys.readouterr().err == ""
    with torch.no_grad():
        scores = [net.eval()(ids_BT[:, :-1], ids_BT[:, 1:], reduction="none") for net in nets]
    assert torch.equal(*scores)


def counted_kernels(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the kernels that are launched from now on."""
    launched: list[str] = []
    compiled = leaky_mlp.kernel_from_text

    def counting(name: str, text: str) -> Any:
        launched.append(name)
        return compiled(name, text)

    for module in (leaky_mlp, softcapped_loss):
        monkeypatch.setattr(module, "kernel_from_text", counting)
    return launched


@pytest.mark.skipif(interpreted(), reason="the interpreter needs no fall-back")
def test_the_fall_back_is_named_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """On a CPU both options compute exactly what the plain ones do, and each says so once, not once a block."""
    lines_said.cache_clear()
    nets = [network(tiny(overrides, 3)).train() for overrides in (FUSED, PLAIN)]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    for line, option in zip(said, ("leaky_relu2_fused", "objective=fused")):
        assert option in line
        assert "benchmarks/kernels.py" in line
        assert "computes instead" in line
    ids_BT = torch.randint(2, 64, (2, 18))
    assert torch.equal(*(net(ids_BT[:, :-1], ids_BT[:, 1:]) for net in nets))


def test_fused_loss_knows_which_softcaps_it_computes() -> None:
    net = network(tiny(["model/objective=fused", "model/softcap=polynomial"], 2))
    ids_BT = torch.randint(2, 64, (2, 18))
    with pytest.raises(UserError, match="type model/objective=chunked"):
        net(ids_BT[:, :-1], ids_BT[:, 1:])


@pytest.mark.parametrize(("rows", "softcap"), [(1, "tanh"), (7, "polynomial"), (34, "none"), (4096, "tanh")])
def test_chunks_change_nothing(rows: int, softcap: str) -> None:
    """Chunks that divide the tokens and that do not, another head with a bias, ignored targets."""
    common = [f"model/softcap={softcap}", "model/embedding=factored", "model.compute_dtype=float32"]
    options = (["model/objective=chunked", f"model.objective.rows={rows}"], ["model/objective=none"])
    nets = [network(tiny([*common, *option], 2)) for option in options]
    ids_BT = torch.randint(2, 64, (2, 18))
    targets_BT = ids_BT[:, 1:].clone()
    targets_BT[0, 3:6] = IGNORED
    losses = [net(ids_BT[:, :-1], targets_BT) for net in nets]
    torch.testing.assert_close(*losses, atol=1e-6, rtol=1e-6)
    for loss in losses:
        loss.backward()
    for mine, plain in zip(nets[0].parameters(), nets[1].parameters()):
        torch.testing.assert_close(mine.grad, plain.grad, atol=2e-6, rtol=1e-5)


def test_chunks_need_a_row() -> None:
    with pytest.raises(UserError, match=r"type model\.objective\.rows=4096"):
        network(tiny(["model/objective=chunked", "model.objective.rows=0"], 2))
