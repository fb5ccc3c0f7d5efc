"""Quantisation-aware training: which maps, which grid, when; and that the switch reaches a compiled graph."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from golf.config.cross_checks import qat_start
from golf.errors import UserError
from golf.models.layers import Linear
from golf.models.linear.ternary import TernaryLinears
from golf.optim.schedules import WarmdownFraction, WarmdownSteps
from golf.progress import Progress
from golf.quant.clip import ClipSearch
from golf.quant.formats import format_named
from golf.quant.plan import QuantPlan
from golf.quant.qat import Qat
from golf.quant.rtn import quantise_rows


class Facts(NamedTuple):
    """What of the context an operation reads."""

    quantise: bool
    softness: Any = None


class Map(Linear):
    """The contract of a linear map, as small as it gets."""

    def forward(self, x, context=None):
        op = getattr(self, "op", None)
        return super().forward(x) if op is None else op(x, self.weight, context)


class Toy(nn.Module):
    """Three maps in blocks, one outside; `quantise` is read outside the graph, as GPT does."""

    def __init__(self, width: int = 32):
        super().__init__()
        self.blocks = nn.ModuleList(nn.ModuleDict({"fc": Map(width, width)}) for _ in range(3))
        self.projection = Map(width, width)
        self.quantise, self.quantise_when_scoring, self.softness = False, False, None
        self.run = self.graph

    def graph(self, x, quantise: bool, softness=None):
        context = Facts(quantise, softness)
        for block in self.blocks:
            x = torch.tanh(block["fc"](x, context))
        return self.projection(x, context)

    def forward(self, x):
        return self.run(x, self.quantise and (self.training or self.quantise_when_scoring), self.softness)


def int6_plan() -> QuantPlan:
    return QuantPlan(matrix="int6_rows", small_numel=0)


def at_step(step: int, steps: int = 100, **limits) -> Progress:
    return Progress(step, max_steps=steps, **limits)


def attached(**settings) -> tuple[Toy, Qat]:
    torch.manual_seed(0)
    net, qat = Toy(), Qat(**{"plan": int6_plan(), "at": 0.5, **settings})
    qat.attach(net)
    return net, qat


def test_the_forward_changes_at_its_step_and_is_that_of_the_exported_weights():
    net, qat = attached(at=0.5)
    plain, x = Toy(), torch.randn(4, 32)
    plain.load_state_dict(net.state_dict())
    qat.set_progress(at_step(49))
    assert torch.equal(net(x), plain(x))
    qat.set_progress(at_step(50))
    quantised = net(x)
    assert not torch.equal(quantised, plain(x))
    with torch.no_grad():
        for name, weight in plain.named_parameters():
            if name.startswith("blocks"):
                weight.copy_(quantise_rows(weight, format_named("int6_rows")).dequantise())
    assert torch.equal(quantised, plain(x))


def test_scores_see_plain_weights_unless_asked():
    x = torch.randn(4, 32)
    for validate in (False, True):
        net, qat = attached(at=0.0, validate=validate)
        qat.set_progress(at_step(0))
        trained, scored = net(x), net.eval()(x)
        assert torch.equal(trained, scored) is validate


@pytest.mark.parametrize("rounding", ["ste", "soft"])
def test_the_switch_reaches_a_compiled_graph(rounding):
    """The records' flag was a constant of the compiled graph: it never switched anything on."""
    torch._dynamo.reset()
    net, qat = attached(at=0.5, rounding=rounding, alpha_steps=20)
    eager, x = net.graph, torch.randn(4, 32)
    net.run = torch.compile(net.graph, fullgraph=True, dynamic=False)
    outputs = []
    for step in (48, 49, 50, 51, 60):
        qat.set_progress(at_step(step))
        net.zero_grad()
        outputs.append(net(x))
        assert torch.allclose(outputs[-1], eager(x, net.quantise, net.softness), atol=1e-6)
        outputs[-1].square().sum().backward()
        gradients = [p.grad.clone() for p in net.parameters()]
        net.zero_grad()
        eager(x, net.quantise, net.softness).square().sum().backward()
        for ours, parameter in zip(gradients, net.parameters()):
            assert torch.allclose(ours, parameter.grad, atol=1e-4)
    assert torch.equal(outputs[0], outputs[1])
    assert (outputs[2] - outputs[1]).abs().max() > 1e-5
    assert torch.equal(outputs[2], outputs[3]) is (rounding == "ste")
    assert torch.equal(outputs[3], outputs[4]) is (rounding == "ste")


def test_each_matrix_has_the_format_of_its_export():
    net = Toy()
    plan = QuantPlan(
        matrix=ClipSearch(5), small_numel=0, overrides={r"blocks\.1": "int8_rows", r"blocks\.2": "float16"}
    )
    qat = Qat(plan, at=0.5, linears="blocks|projection")
    qat.attach(net)
    assert {name: (fmt.bits, fmt.code_min) for name, fmt in qat.formats.items()} == {
        "blocks.0.fc.weight": (5, -15),
        "blocks.1.fc.weight": (8, -127),
        "projection.weight": (5, -15),
    }
    _, named = attached(format="training_int6_floor_rows")
    assert set(named.formats) == {f"blocks.{i}.fc.weight" for i in range(3)}
    assert named.formats["blocks.0.fc.weight"].scale_dtype == "float32"


def test_all_starts_that_are_given_have_to_be_reached():
    _, qat = attached(at=None, lr_below=0.15, lr=WarmdownSteps(50), start_step=95)
    assert [qat.is_on(at_step(step)) for step in (0, 93, 94, 95, 99)] == [False, False, False, True, True]
    _, qat = attached(at=None, lr_below=0.15, lr=WarmdownFraction(0.5, warmup_fraction=0.2))
    assert not qat.is_on(at_step(1))  # a small rate in the warm-up is no start
    assert [qat.is_on(at_step(step)) for step in (92, 93, 99)] == [False, True, True]
    assert qat.forwards() == (False, True)
    assert attached(at=0.0)[1].forwards() == (True,)
    assert attached(at=0.25)[1].activation_fractions() == [0.25]


def test_the_slope_depends_on_progress_alone():
    net, qat = attached(at=0.5, rounding="soft", alpha_steps=20)
    assert [qat.alpha(at_step(step)) for step in (50, 60, 70, 99)] == [1.0, 8.5, 16.0, 16.0]
    in_seconds = Progress(60, seconds=30.0, max_seconds=50.0)  # half a second per step: on since step 50
    assert qat.alpha(in_seconds) == 8.5
    qat.set_progress(at_step(60))
    assert float(net.softness) == 8.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"at": None}, "no start"),
        ({"at": 1.5}, r"qat\.at=1\.5 must be at least 0 and below 1"),
        ({"at": None, "lr_below": 0.1}, r"schedule\.lr"),
        ({"rounding": "hard"}, r"qat\.rounding=ste"),
        ({"linears": "["}, "not a regular expression"),
        ({"linears": "decoder"}, "matches no linear map"),
        ({"format": "int9_rows"}, r"qat\.format=int9_rows is not known"),
        ({"plan": QuantPlan(matrix="int6_rows")}, r"quant\.small_numel=0"),
        ({"plan": QuantPlan(matrix="float16", small_numel=0)}, "qat=none"),
    ],
)
def test_what_would_do_nothing_is_refused(settings, message):
    with pytest.raises(UserError, match=message):
        attached(**settings)


def test_a_network_that_reads_no_switch_is_refused():
    with pytest.raises(UserError, match="Linear has no forward with fake-quantised weights"):
        Qat(int6_plan(), at=0.5).attach(Linear(4, 4))


def test_ternary_maps_are_quantised_already():
    net = Toy()
    TernaryLinears(32)(net)
    with pytest.raises(UserError, match="qat=none"):
        Qat(int6_plan(), at=0.5).attach(net)


def test_starts_that_no_run_reaches_are_configuration_errors():
    good = {
        "qat": {"_target_": "golf.quant.qat.Qat", "at": 0.85, "lr_below": None, "start_step": None, "format": None},
        "schedule": {"lr": {"_target_": "golf.optim.schedules.Cosine", "floor": 0.1}},
        "budget": {"max_steps": 100},
        "quant": {"matrix": "int6_rows", "overrides": {}},
    }
    assert qat_start({}) == qat_start(good) == []
    for changes, message in (
        ({"at": 1.2}, "qat.at=1.2 must be at least 0 and below 1"),
        ({"at": None}, "qat has no start"),
        ({"at": None, "lr_below": 0.05}, "schedule.lr.floor=0.1"),
        ({"start_step": 100}, "type qat.start_step=85"),
    ):
        assert any(message in line for line in qat_start({**good, "qat": {**good["qat"], **changes}})), message
    assert "qat has no grid" in qat_start({**good, "quant": {"matrix": "as_is", "overrides": {}}})[0]
