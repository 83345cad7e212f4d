"""Several methods on one network."""

from typing import Any

import pytest
import torch
from method_network import (
    Network,
    Recorder,
    adam,
    before_step,
    grads,
)
from torch import nn

from neoteny.plasticity import L2, Compose, Spectral
from neoteny.plasticity.seeding import own_seed


def test_compose_acts_in_the_order_given():
    module = nn.Linear(1, 1, bias=False)
    module.weight.data.fill_(3)
    module.weight.grad = torch.full((1, 1), 2.0)
    events: list[tuple[Any, ...]] = []
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    parts = tuple(Recorder(events=events, sign=sign, heads="include") for sign in "ab")
    compose = Compose(methods=parts)
    handle = compose.attach(module, optimizer)
    optimizer.step()
    compose.on_switch()
    assert [event[0] for event in events] == [
        "asetup", "bsetup", "abefore", "bbefore", "aafter", "bafter", "aswitch", "bswitch"
    ]  # fmt: skip
    handle.remove()
    optimizer.step()
    assert len(events) == 8


def test_compose_adds_both_gradients_exactly():
    """With a power of two as strength, L2's gradient is exact, and so the sum is, however the addition is fused."""
    settings = {"heads": "include", "strength": 2**-4}
    both = Compose(methods=(Spectral(**settings), L2(**settings)))
    written = []
    for method in (Spectral(**settings), L2(**settings), both):
        network = Network(seed=0)
        method.attach(network, adam(network), seed=0 if method is both else own_seed("0", 0))
        before_step(method)
        written.append(grads(network))
    spectral, l2, total = written
    for name, gradient in total.items():
        parts = [g for g in (spectral[name], l2[name]) if g is not None]
        assert torch.equal(gradient, sum(parts)) if parts else gradient is None, name
    assert total["log_std"] is l2["first.1.weight"] is None
    assert spectral["first.1.weight"] is not None


def test_compose_has_no_heads_of_its_own():
    with pytest.raises(TypeError, match="heads"):
        Compose(methods=(L2(),), heads="include")


def test_scalars_of_composed_methods_stand_beside_each_other():
    module = nn.Linear(2, 2)
    module.weight.data.copy_(torch.tensor([[3.0, 0.0], [0.0, 1.0]]))
    module.bias.data.zero_()
    spectral, l2 = Spectral(strength=0.5, heads="include"), L2(strength=0.25)
    compose = Compose(methods=(spectral, l2))
    compose.attach(module, adam(module))
    assert {k: v.item() for k, v in compose.scalars().items()} == pytest.approx(
        {"spectral.penalty": 32, "spectral.sigma_max": 3, "l2.penalty": 2.5}
    )
    assert spectral.scalars()["penalty"].item() == pytest.approx(32)
