"""What every penalty holds to: its strength, its gradient, and where that joins."""

import copy
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from method_network import (
    Network,
    adam,
    assert_same,
    attached,
    every_penalty,
    grads,
    train,
)
from method_zoo import RETURNING, make
from torch import Tensor, nn

from neoteny.plasticity import L2, METHODS, Penalty


@every_penalty
@pytest.mark.parametrize("strength", [-1.0, -1e-12, float("nan"), float("inf"), float("-inf")])
def test_strength_must_be_finite_and_not_negative(name: str, strength: float):
    with pytest.raises(ValueError, match=rf"^strength: a finite number of at least 0 is needed, got {strength}$"):
        METHODS[name](strength=strength)


@every_penalty
def test_added_gradient_is_that_of_value(name: str):
    """Held to autograd and to central differences in float64, after weights and state have moved."""
    network = Network(seed=0).double()
    optimizer = adam(network)
    penalty = make(name, heads="include")
    penalty.attach(network, optimizer)
    train(network, optimizer, range(5))
    parameters = dict(network.named_parameters())
    before = {name: torch.full_like(p, 2.0) for name, p in parameters.items()}
    for name, p in parameters.items():
        p.grad = before[name].clone()
    penalty.add_grad_()
    added = {name: p.grad - before[name] for name, p in parameters.items()}
    expected = torch.autograd.grad(
        penalty.strength * penalty.value(), parameters.values(), allow_unused=True, materialize_grads=True
    )
    torch.testing.assert_close(added, dict(zip(parameters, expected, strict=True)), rtol=1e-10, atol=1e-10)
    with torch.no_grad():
        for name, p in parameters.items():
            flat, index, ends = p.view(-1), p.numel() // 2, []
            start = flat[index].item()
            for moved in (start + 1e-5, start - 1e-5):
                flat[index] = moved
                ends.append(penalty.strength * penalty.value().item())
            flat[index] = start
            difference = (ends[0] - ends[1]) / 2e-5
            assert added[name].view(-1)[index].item() == pytest.approx(difference, rel=1e-6, abs=1e-6), name


@every_penalty
def test_layer_without_a_gradient_receives_exactly_the_penalty(name: str):
    network, optimizer, method = attached(name)
    train(network, optimizer, range(3))
    optimizer.zero_grad()
    fresh, twin = copy.deepcopy((network, method.state_dict()))
    other = make(name)
    other.attach(fresh, adam(fresh))
    other.load_state_dict(twin)
    other.add_grad_()
    train(network, optimizer, range(3, 4))
    assert_same(grads(network.second), grads(fresh.second))
    assert network.second[0].weight.grad.abs().sum() > 0 or name in RETURNING


def test_penalty_joins_after_clipping():
    """A gradient of norm 5 is clipped to norm 1; the gradient of ‖W‖² joins it whole."""
    module = nn.Linear(1, 2, bias=False)
    module.weight.data.copy_(torch.tensor([[8.0], [16.0]]))
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    L2(strength=0.25).attach(module, optimizer)
    module.weight.grad = torch.tensor([[3.0], [4.0]])
    nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    optimizer.step()
    torch.testing.assert_close(module.weight.data, torch.tensor([[8 - 0.6 - 4], [16 - 0.8 - 8]]))


@pytest.mark.parametrize(
    ("optimizer_class", "settings"),
    [
        (torch.optim.SGD, {"momentum": 0.9}),
        (torch.optim.Adam, {"fused": True}),
        (torch.optim.AdamW, {"foreach": True}),
        (torch.optim.RMSprop, {}),
    ],
)
def test_without_clipping_it_is_the_same_as_in_the_loss(
    optimizer_class: type[torch.optim.Optimizer], settings: dict[str, Any]
):
    ends = []
    for attach in (True, False):
        network = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)).double()
        for i, p in enumerate(network.parameters()):
            p.data.copy_(torch.linspace(-1, 1 + i, p.numel()).view_as(p))
        optimizer = optimizer_class(network.parameters(), lr=0.01, **settings)
        l2 = L2(strength=0.5 if attach else 0.0)
        l2.attach(network, optimizer)
        for _ in range(5):
            optimizer.zero_grad()
            loss = (network(torch.eye(2, dtype=torch.float64)) - 1).square().sum()
            (loss if attach else loss + 0.5 * l2.value()).backward()
            optimizer.step()
        ends.append(network.state_dict())
    torch.testing.assert_close(*ends, rtol=1e-12, atol=1e-12)


@dataclass(kw_only=True, eq=False)
class FourthPower(Penalty):
    """Has no closed form."""

    def value(self) -> Tensor:
        return sum((layer.weight**4).sum() for layer in self.layers)


def test_penalty_without_a_closed_form_is_differentiated():
    module = nn.Linear(2, 1, dtype=torch.float64)
    module.weight.data.copy_(torch.tensor([[1.0, -2.0]]))
    penalty = FourthPower(strength=0.5, heads="include")
    penalty.attach(module, torch.optim.SGD(module.parameters(), lr=1.0))
    module.weight.grad = torch.ones_like(module.weight)
    penalty.before_step()
    assert module.weight.grad.tolist() == [[1 + 2, 1 - 16]]
    assert module.bias.grad.tolist() == [0]
    module.requires_grad_(False)
    penalty.before_step()
    assert module.weight.grad.tolist() == [[3, -15]]


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (lambda weight: (weight**2).sum(0), r"a tensor of \[2\]"),
        (lambda weight: 1.0, "a float"),
        (lambda weight: weight.detach().sum(), r"a tensor of \[\] without a gradient"),
    ],
)
def test_a_value_that_is_no_scalar_of_the_weights_names_its_method(value: Any, got: str):
    @dataclass(kw_only=True, eq=False)
    class Mistaken(Penalty):
        def value(self) -> Tensor:
            return value(self.layers[0].weight)

    module = nn.Linear(2, 1)
    penalty = Mistaken(strength=0.5, heads="include")
    penalty.attach(module, torch.optim.SGD(module.parameters(), lr=1.0))
    with pytest.raises(
        TypeError, match=rf"Mistaken\.value\(\): a scalar that depends on weights is needed, got {got}$"
    ):
        penalty.before_step()
