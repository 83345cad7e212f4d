"""Methods in training loops of other kinds: closures, line searches, scaled losses."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neoteny.plasticity import (
    L2,
    Compose,
    L2Init,
    Method,
    NormalizeAndProject,
    Penalty,
    ShrinkAndPerturb,
    Spectral,
    WeightClipping,
)

INPUTS, TARGETS = (torch.randn(32, n, generator=torch.Generator().manual_seed(n), dtype=torch.float64) for n in (5, 2))

PENALTIES: dict[str, Callable[[], Penalty]] = {
    "l2": lambda: L2(strength=0.05),
    "l2-init": lambda: L2Init(strength=0.05),
    "spectral": lambda: Spectral(strength=0.05, heads="include"),
}
OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "lbfgs": lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=4),
    "lbfgs, line search": lambda p: torch.optim.LBFGS(p, max_iter=4, line_search_fn="strong_wolfe"),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
}


def network() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 2)).double()


def loss_of(net: nn.Module) -> Tensor:
    return nn.functional.mse_loss(net(INPUTS), TARGETS)


def weights(net: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def as_loss_term(net: nn.Module, optimizer: torch.optim.Optimizer, penalty: Penalty) -> Callable[[], Tensor]:
    """A closure that has the penalty in its loss, and no hook. ``penalty`` is attached to a stand-in for its layers."""
    handle = penalty.attach(net, torch.optim.SGD(net.parameters(), lr=0))
    handle.remove()

    def closure() -> Tensor:
        optimizer.zero_grad()
        if isinstance(penalty, Spectral):
            assert penalty._tracker.due()
            penalty._tracker.renew(penalty._matrices())
        loss = loss_of(net) + penalty.strength * penalty.value()
        loss.backward()
        return loss

    return closure


@pytest.mark.parametrize("make_optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("make", PENALTIES.values(), ids=PENALTIES)
@pytest.mark.parametrize("by_name", [False, True], ids=["positional", "by name"])
def test_a_closure_gives_the_weights_of_the_loss_term(
    make: Callable[[], Penalty], make_optimizer: Callable[[Any], torch.optim.Optimizer], by_name: bool
) -> None:
    ours, theirs, plain = network(), network(), network()
    optimizer, other, third = (make_optimizer(net.parameters()) for net in (ours, theirs, plain))
    make().attach(ours, optimizer)
    reference = as_loss_term(theirs, other, make())

    def closure(net: nn.Module, opt: torch.optim.Optimizer) -> Callable[[], Tensor]:
        def compute() -> Tensor:
            opt.zero_grad()
            loss = loss_of(net)
            loss.backward()
            return loss

        return compute

    for _ in range(5):
        mine = closure(ours, optimizer)
        found = optimizer.step(closure=mine) if by_name else optimizer.step(mine)
        expected = other.step(reference)
        assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-9)
        third.step(closure(plain, third))
    assert (weights(ours) - weights(theirs)).abs().max() < 1e-6
    assert (weights(ours) - weights(plain)).abs().max() > 1e-5


def test_several_methods_in_a_closure() -> None:
    net = network()
    optimizer = torch.optim.LBFGS(net.parameters(), lr=0.1, max_iter=3)
    calls: list[str] = []

    class Witness(Method):
        name = "witness"

        def before_step(self) -> None:
            assert all(p.grad is not None for p in net.parameters())
            calls.append("before")

        def after_step(self) -> None:
            calls.append("after")

    method: Method = Compose(methods=(L2(strength=0.1), WeightClipping(kappa=0.5), Witness()))
    method.attach(net, optimizer)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(net)
        loss.backward()
        calls.append("closure")
        return loss

    optimizer.step(closure)
    passes = calls.count("closure")
    assert passes > 1
    assert calls == ["closure", "before"] * passes + ["after"]


def scaled(net: nn.Module, method: Method | None, steps: int = 5, unscale: bool = False, **options: Any) -> Tensor:
    """The weights after training with a scaled loss."""
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01, **options)
    if method is not None:
        method.attach(net, optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    for _ in range(steps):
        optimizer.zero_grad()
        scaler.scale(loss_of(net)).backward()
        if unscale:
            scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
    return weights(net)


@pytest.mark.parametrize("make", PENALTIES.values(), ids=PENALTIES)
def test_a_scaled_loss_does_not_scale_the_penalty(make: Callable[[], Penalty]) -> None:
    plain, net = network(), network()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    make().attach(net, optimizer)
    for _ in range(5):
        optimizer.zero_grad()
        loss_of(net).backward()
        optimizer.step()
    expected = weights(net)
    for options in ({}, {"fused": True}, {"fused": True, "unscale": True}):
        assert (scaled(network(), make(), **options) - expected).abs().max() < 1e-12, options
    assert (scaled(plain, None, fused=True) - expected).abs().max() > 1e-4


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("method", [L2(strength=0.1), ShrinkAndPerturb(every=1)], ids=lambda method: method.name)
def test_a_step_that_the_scaler_skips_moves_nothing(method: Method, fused: bool) -> None:
    net, method = network(), copy.deepcopy(method)
    before = copy.deepcopy(weights(net))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01, fused=fused)
    method.attach(net, optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    scaler.scale(loss_of(net) * float("inf")).backward()
    scaler.step(optimizer)
    assert torch.equal(weights(net), before)


class Derived(torch.optim.SGD):
    """An optimizer whose step calls that of the class it derives from: torch calls the hooks of both."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        return super().step(closure)


@pytest.mark.parametrize("with_closure", [False, True])
def test_methods_act_once_in_a_step_that_calls_that_of_its_base(with_closure: bool) -> None:
    found = []
    for make in (torch.optim.SGD, Derived):
        net = network()
        optimizer = make(net.parameters(), lr=0.1)
        penalty, projection = L2(strength=0.5), NormalizeAndProject(every=3)
        for method in (penalty, projection):
            method.attach(net, optimizer)

        def closure(net: nn.Module = net, optimizer: torch.optim.Optimizer = optimizer) -> Tensor:
            optimizer.zero_grad()
            loss = loss_of(net)
            loss.backward()
            return loss

        for _ in range(2):
            if not with_closure:
                closure()
            optimizer.step(*[closure] * with_closure)
        found.append(weights(net))
        assert int(projection._updates) == 2
    assert torch.equal(*found)
