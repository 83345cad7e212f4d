"""Networks side by side, held to the modules themselves and to autograd, in float64."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neoteny.agents.learners.flat import Flat
from neoteny.agents.learners.lanes import Lanes, Shape, UnreadableError
from neoteny.agents.networks import CReLU, Fourier, LeakyReLU01


class Square(nn.Module):
    """An activation of one's own, with its derivative."""

    def forward(self, x: Tensor) -> Tensor:
        return x.square()

    def backward(self, gradient: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return 2 * x * gradient


class Cube(nn.Module):
    """One without."""

    def forward(self, x: Tensor) -> Tensor:
        return x**3


NETWORKS: dict[str, list[nn.Module]] = {
    "one layer": [nn.Linear(5, 3)],
    "relu": [nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2)],
    "ends in an activation": [nn.Linear(5, 4), nn.Tanh()],
    "two activations in a row": [nn.Linear(5, 4), nn.ReLU(), nn.Tanh(), nn.ReLU(), nn.Linear(4, 2)],
    "begins with an activation": [nn.ReLU(), nn.Linear(5, 4), nn.Identity(), nn.Sequential(nn.Tanh())],
    "begins with a norm": [nn.LayerNorm(5), nn.Linear(5, 4)],
    "norms": [nn.Linear(5, 8), nn.LayerNorm(8, eps=1e-3), nn.ReLU(), nn.Linear(8, 4), nn.LayerNorm(4)],
    "wide": [nn.Linear(5, 4), CReLU(), nn.Linear(8, 3), Fourier(), nn.Linear(6, 2)],
    "others": [nn.Linear(5, 4), nn.ELU(0.7), nn.Linear(4, 4), nn.GELU("tanh"), nn.Linear(4, 4), LeakyReLU01()],
    "one's own": [nn.Linear(5, 4), Square(), nn.Linear(4, 2)],
}


def lanes_of(network: list[nn.Module], count: int) -> tuple[Lanes, list[nn.Sequential], Flat]:
    networks = [copy.deepcopy(nn.Sequential(*network)).double() for _ in range(count)]
    for each in networks:
        for p in each.parameters():
            nn.init.normal_(p, std=0.5)
    lanes = Lanes(networks, Shape())
    flat = Flat(lanes.groups(), torch.optim.Adam([p for each in networks for p in each.parameters()]))
    lanes.bind(flat.values, flat.gradients)
    return lanes, networks, flat


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_and_gradients_are_autograds(name: str, count: int) -> None:
    torch.manual_seed(0)
    lanes, networks, flat = lanes_of(NETWORKS[name], count)
    x = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)
    expected = torch.stack([network(x) for network in networks])
    outputs = lanes.forward(x.detach().clone())
    assert torch.allclose(outputs, expected, atol=1e-13)
    to_outputs = torch.randn_like(expected)
    gradients = torch.autograd.grad(expected, [x, *flat.parameters], to_outputs)
    to_inputs = lanes.backward(to_outputs.clone(), inputs=True)
    assert torch.allclose(to_inputs.sum(0), gradients[0], atol=1e-12)
    for found, wanted in zip(Flat.rows(flat.gradients), gradients[1:], strict=True):
        assert torch.allclose(found, wanted, atol=1e-12)


def test_inputs_of_each_lane_and_only_the_gradient_of_the_inputs() -> None:
    lanes, networks, flat = lanes_of(NETWORKS["relu"], 2)
    x = torch.randn(2, 7, 5, dtype=torch.float64, requires_grad=True)
    expected = torch.stack([network(row) for network, row in zip(networks, x, strict=True)])
    assert torch.allclose(lanes.forward(x.detach()), expected)
    (gradient,) = torch.autograd.grad(expected.sum(), x)
    assert torch.allclose(lanes.backward(torch.ones_like(expected), inputs=True, weights=False), gradient)
    assert not flat.gradient.any()


def test_inputs_that_are_zero_may_be_left_out() -> None:
    lanes, networks, flat = lanes_of(NETWORKS["relu"], 2)
    flat.gradient.fill_(9.0)
    x = torch.randn(7, 5, dtype=torch.float64)
    x[:, [0, 3]] = 0
    lanes.columns = torch.tensor([1, 2, 4])
    expected = torch.stack([network(x) for network in networks])
    assert torch.allclose(lanes.forward(x[:, lanes.columns]), expected)
    gradients = torch.autograd.grad(expected.sum(), flat.parameters)
    lanes.backward(torch.ones_like(expected))
    for found, wanted in zip(Flat.rows(flat.gradients), gradients, strict=True):
        assert torch.allclose(found, wanted)


@pytest.mark.parametrize(
    ("networks", "why"),
    [
        ([[nn.Linear(5, 4), Cube()]], "a layer Cube"),
        ([[nn.Linear(5, 4), nn.Dropout()]], "a layer Dropout"),
        ([[nn.Linear(5, 4), nn.PReLU()]], "a layer PReLU"),
        ([[nn.Linear(5, 4, bias=False)]], "Linear without biases"),
        ([[nn.Linear(5, 4)], [nn.Linear(5, 3)]], "different layers"),
        ([[nn.Linear(5, 4), nn.LeakyReLU(0.1)], [nn.Linear(5, 4), nn.LeakyReLU(0.2)]], "different layers"),
        ([[nn.Linear(5, 4), nn.ReLU()], [nn.Linear(5, 4)]], "different layers"),
        ([[nn.utils.parametrizations.weight_norm(nn.Linear(5, 4))]], "ParametrizedLinear"),
    ],
)
def test_what_cannot_be_read_is_refused(networks: list[list[nn.Module]], why: str) -> None:
    with pytest.raises(UnreadableError, match=why):
        Lanes([nn.Sequential(*network) for network in networks], Shape())


@pytest.mark.parametrize("settings", [{}, {"weight_decay": 0.1}, {"betas": (0.5, 0.9), "eps": 1e-3}, {"amsgrad": True}])
def test_a_step_is_that_of_the_optimizer(settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    _, networks, flat = lanes_of(NETWORKS["norms"], 2)
    own = [p for network in copy.deepcopy(networks) for p in network.parameters()]
    theirs = torch.optim.Adam(own, lr=0.01, **settings)
    flat.optimizer = torch.optim.Adam([p for network in networks for p in network.parameters()], lr=0.01, **settings)
    for _ in range(5):
        for gradient in flat.gradients:
            gradient.normal_()
        by_id = {id(p): g for p, g in zip(flat.parameters, Flat.rows(flat.gradients), strict=True)}
        for p, mine in zip(own, [p for network in networks for p in network.parameters()], strict=True):
            p.grad = by_id[id(mine)].clone()
        torch.nn.utils.clip_grad_norm_(own, 1.0)
        flat.clip_(1.0)
        flat.step()
        theirs.step()
    for p, mine in zip(own, [p for network in networks for p in network.parameters()], strict=True):
        assert torch.allclose(p, mine, rtol=1e-12, atol=1e-14)
