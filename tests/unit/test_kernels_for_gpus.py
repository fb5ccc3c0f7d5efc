"""What Triton and NVIDIA's assembler make of the kernels for GPUs that are not here: they need none to compile for it.

Each launch is recorded as golf makes it (sizes of the last record: 98,304 tokens per GPU, width 512, 2,048 hidden,
8,192 words), and compiled for Ampere, Ada, Hopper and Blackwell. That it computes the right thing is shown in the
interpreter (test_kernels.py); here: it compiles, fits into the shared memory of a block, and uses the tensor cores.
"""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from golf.models.kernels import leaky_mlp, softcapped_loss, triton_text

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed (pip install triton)"
)

# compute capability: bytes of shared memory that a block may ask for, the instruction that multiplies tiles
GPUS = {
    80: (166_912, "mma.sync"),  # A100
    89: (101_376, "mma.sync"),  # RTX 4090, L40
    90: (232_448, "wgmma.mma_async"),  # H100, H200
    100: (232_448, "tcgen05.mma"),  # B200
}
POINTERS = {torch.bfloat16: "*bf16", torch.float32: "*fp32", torch.int64: "*i64"}
ROWS, WIDTH, HIDDEN, VOCABULARY = 98_304, 512, 2_048, 8_192


class Launches:
    """Stands for a kernel and keeps what it is launched with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: Any):
        self.kept: list[tuple[str, str, tuple[Any, ...], dict[str, Any]]] = []
        monkeypatch.setattr(module, "kernel_from_text", self.kernel)

    def kernel(self, name: str, text: str) -> Any:
        class Kernel:
            def __getitem__(kernel, grid: tuple[int, ...]) -> Any:
                assert all(0 < number < 2**31 for number in grid)
                return lambda *values, **named: self.kept.append((name, text, values, named))

        return Kernel()


def on_gpu(shape: tuple[int, ...], dtype: torch.dtype) -> Any:
    """What a launch asks of a tensor of this size that is on a GPU."""
    device = SimpleNamespace(type="cuda")
    return SimpleNamespace(shape=shape, dtype=dtype, device=device, element_size=lambda: dtype.itemsize)


def compiled(launch: tuple[str, str, tuple[Any, ...], dict[str, Any]], capability: int) -> Any:
    """The launch compiled for a GPU, with what Triton knows of numbers: those that are 1 and those that 16 divides."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    name, text, values, named = launch
    options = {key: value for key, value in named.items() if key in ("num_warps", "num_stages")}
    constants = {key: value for key, value in named.items() if key not in options}
    kernel = triton_text.kernel_from_text(name, text)
    signature, known = {}, {}
    for index, (key, value) in enumerate(zip(kernel.arg_names, values)):
        if isinstance(value, float):
            signature[key] = "fp32"
        elif isinstance(value, int):
            signature[key] = "constexpr" if value == 1 else "i32"
            if value == 1:
                constants[key] = 1
            elif value % 16 == 0:
                known[(index,)] = [["tt.divisibility", 16]]
        else:
            signature[key] = POINTERS[value.dtype]
            known[(index,)] = [["tt.divisibility", 16]]
    signature |= dict.fromkeys(constants, "constexpr")
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=known)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bfloat16", "float32"])
@pytest.mark.parametrize("capability", GPUS)
def test_leaky_mlp(capability: int, dtype: torch.dtype, backward: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    memory, product = GPUS[capability]
    properties = SimpleNamespace(shared_memory_per_block_optin=memory)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "high")  # as training on a GPU sets it
    launches = Launches(monkeypatch, leaky_mlp)
    pre_NF, out_NF = on_gpu((ROWS, HIDDEN), dtype), on_gpu((ROWS, HIDDEN), dtype)
    weight = on_gpu((WIDTH, HIDDEN) if backward else (HIDDEN, WIDTH), dtype)
    leaky_mlp.launch_leaky_square(on_gpu((ROWS, WIDTH), dtype), weight, pre_NF, out_NF, 0.5, backward)
    made = compiled(launches.kept[0], capability)
    assert made.asm["cubin"]
    assert made.metadata.shared <= memory
    assert product in made.asm["ptx"], "not on tensor cores"
    assert "cp.async" in made.asm["ptx"], "tiles are not read ahead"


@pytest.mark.parametrize("cap", [0.0, 30.0])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bfloat16", "float32"])
@pytest.mark.parametrize("capability", GPUS)
def test_softcapped_loss(capability: int, dtype: torch.dtype, cap: float, monkeypatch: pytest.MonkeyPatch) -> None:
    launches = Launches(monkeypatch, softcapped_loss)
    logits_NV, targets_N = torch.zeros((2, VOCABULARY), dtype=dtype), torch.zeros(2, dtype=torch.int64)
    losses_N, lses_N = softcapped_loss.capped_loss_run(logits_NV, targets_N, cap)
    softcapped_loss.capped_gradient_run(logits_NV, targets_N, lses_N, losses_N, cap)
    assert [name for name, *_ in launches.kept] == ["capped_loss", "capped_gradient"]
    for launch in launches.kept:
        made = compiled(launch, capability)
        assert made.asm["cubin"]
        assert made.metadata.shared <= 49_152  # what every block has
