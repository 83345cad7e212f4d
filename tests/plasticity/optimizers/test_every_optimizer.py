"""What holds for every optimizer: saving, hooks, random state, graphs, and every method under it."""

import copy
import random

import pytest
import torch
from torch import nn

from neoteny.plasticity import METHODS, OPTIMIZERS, UPGD
from neoteny.plasticity.optimizers import Prepared


def network() -> nn.Sequential:
    torch.manual_seed(0)
    torso = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU())
    return nn.Sequential(torso, nn.Linear(8, 2))


def make(name: str, module: nn.Module) -> torch.optim.Optimizer:
    settings = {"upgd": {"sigma": 0.1}, "trac": {"s_init": 0.1}}.get(name, {})
    optimizer = OPTIMIZERS[name](module.parameters(), lr=1e-2, **settings)
    if isinstance(optimizer, Prepared):
        optimizer.prepare(module, seed=3)
    return optimizer


def train(module: nn.Module, optimizer: torch.optim.Optimizer, steps: int, first: int = 0) -> None:
    for step in range(first, first + steps):
        x = torch.randn(16, 4, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        (module(x) - x[:, :2]).square().mean().backward()
        optimizer.step()


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_learns(name: str):
    module = network()
    optimizer = make(name, module)
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))

    def loss() -> float:
        with torch.no_grad():
            return float((module(x) - x[:, :2]).square().mean())

    before = loss()
    train(module, optimizer, 60)
    assert loss() < 0.6 * before


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_saved_and_loaded_it_goes_on_the_same(name: str):
    """Also after training on: a state dict is not touched by what comes after it was loaded elsewhere."""
    module = network()
    optimizer = make(name, module)
    train(module, optimizer, 5)
    saved = copy.deepcopy(optimizer.state_dict())
    twin = copy.deepcopy(module)
    other = make(name, twin)
    other.load_state_dict(saved)
    train(module, optimizer, 5, first=5)
    train(twin, other, 5, first=5)
    assert same(module, twin)


@pytest.mark.parametrize("name", ["upgd", "trac"])
def test_state_beside_the_parameters_is_not_shared_with_who_loads_it(name: str):
    module = network()
    optimizer = make(name, module)
    train(module, optimizer, 3)
    saved = optimizer.state_dict()
    held = {"chance": saved["chance"]} if name == "upgd" else saved["state"]["trac"]
    before = {key: value.clone() for key, value in held.items()}
    train(module, optimizer, 3, first=3)
    assert all(torch.equal(held[key], before[key]) for key in before)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_copy_goes_on_the_same(name: str):
    module = network()
    optimizer = make(name, module)
    train(module, optimizer, 3)
    twin, other = copy.deepcopy((module, optimizer))
    train(module, optimizer, 3, first=3)
    train(twin, other, 3, first=3)
    assert same(module, twin)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_hooks_fire_once_a_step(name: str):
    torch.optim.Adam([nn.Parameter(torch.ones(1))])  # an instance makes torch wrap the class's step
    module = network()
    optimizer = make(name, module)
    calls: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: calls.append("pre"))
    optimizer.register_step_post_hook(lambda *_: calls.append("post"))
    train(module, optimizer, 2)
    assert calls == ["pre", "post"] * 2


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_global_random_state_and_graphs_are_left_alone(name: str):
    module = network()
    optimizer = make(name, module)
    states = torch.get_rng_state(), random.getstate()
    train(module, optimizer, 2)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    tensors = [t for state in optimizer.state.values() for t in state.values() if isinstance(t, torch.Tensor)]
    assert tensors
    assert not any(t.requires_grad or t.grad_fn is not None for t in tensors)
    assert all(p.is_leaf and p.grad_fn is None for p in module.parameters())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_closures_and_zero_grad(name: str):
    module = network()
    optimizer = make(name, module)
    before = copy.deepcopy(module)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = module(torch.ones(2, 4)).square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure) > 0
    assert not same(module, before)
    optimizer.zero_grad()
    assert all(p.grad is None for p in module.parameters())
    moved = copy.deepcopy(module)
    optimizer.step()  # nothing has a gradient
    assert same(module, moved)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_group_heeds_its_learning_rate(name: str):
    module = network()
    optimizer = make(name, module)
    before = copy.deepcopy(module)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    train(module, optimizer, 3)
    assert same(module, before)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_cleared_it_begins_anew(name: str):
    """After state.clear() it goes on as a new optimizer would on the present weights, but with noise of its own."""
    module = network()
    optimizer = make(name, module)
    train(module, optimizer, 5)
    optimizer.state.clear()
    twin = copy.deepcopy(module)
    other = make(name, twin)
    if isinstance(optimizer, UPGD) and isinstance(other, UPGD):
        assert not torch.equal(optimizer.chance.get_state(), other.chance.get_state())
        other.chance.set_state(optimizer.chance.get_state())
    train(module, optimizer, 3)
    train(twin, other, 3)
    assert same(module, twin)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_method_under_it(name: str, method: str):
    module = network()
    optimizer = make(name, module)
    cls = METHODS[method]
    every = {"every": 2} if "every" in cls.__dataclass_fields__ else {}
    attached = cls(**every)
    attached.attach(module, optimizer)
    before = copy.deepcopy(dict(module.named_parameters()))
    train(module, optimizer, 4)
    attached.on_switch()
    train(module, optimizer, 3, first=4)
    for key, p in module.named_parameters():
        assert torch.isfinite(p).all(), key
    assert any(not torch.equal(p, before[key]) for key, p in module.named_parameters())
