"""What every method holds to, and the seam through which it acts."""

import copy
import random
from typing import Any

import numpy as np
import pytest
import torch
from method_network import (
    Network,
    Recorder,
    adam,
    assert_same,
    attached,
    before_step,
    every_method,
    grads,
    plain,
    train,
)
from method_zoo import IN_USE, RETURNING, make, parts
from torch import nn

from neoteny.plasticity import L2, METHODS


def test_names_are_those_of_the_registry():
    assert {name: cls.name for name, cls in METHODS.items()} == {name: name for name in METHODS}
    assert METHODS.keys() >= {"spectral", "l2", "l2-init"}


@every_method
def test_training_is_another_with_it(name: str):
    network, optimizer, _ = attached(name)
    train(network, optimizer, range(5))
    assert not torch.equal(network.first[0].weight, plain().first[0].weight)


@every_method
def test_idle_is_training_without_bit_for_bit(name: str):
    """A penalty of strength 0, a projection onto everything, a reset that is never due."""
    network, optimizer, _ = attached(name, idle=True)
    train(network, optimizer, range(5))
    reference = plain()
    assert_same(grads(network), grads(reference))
    assert_same(network.state_dict(), reference.state_dict())
    assert network.second[0].weight.grad is None
    assert not any(p is q for p in network.second.parameters() for q in optimizer.state)


# Frozen layers


@every_method
def test_layer_frozen_before_is_left_alone_until_it_is_trained(name: str):
    network = Network(seed=0)
    network.first[0].requires_grad_(False)
    method, optimizer = make(name, heads="include"), adam(network)
    method.attach(network, optimizer)
    for part in parts(method):
        chosen = {layer.name for layer in part.layers}
        expected = {"first.3", "first.5", "second.0", "second.3", "second.4"}
        if part.name == "plasticity-injection":  # which leaves a Sequential with convolutions alone
            expected = {"first.3", "first.5"}
        assert expected <= chosen
        assert part.coverage()["first.0"] == "frozen"
    train(network, optimizer, range(3))
    assert torch.equal(network.first[0].weight, Network(seed=0).first[0].weight)
    network.first[0].requires_grad_(True)
    train(network, optimizer, range(3, 5))
    for part in parts(method) if name != "compose" else []:  # in which plasticity injection freezes all of them
        assert part.coverage()["first.0"] == "acted on"


@every_method
def test_layer_frozen_after_is_not_touched(name: str):
    network, optimizer, method = attached(name)
    train(network, optimizer, range(3))
    optimizer.zero_grad()
    frozen = network.first[:2].requires_grad_(False)
    stale = frozen[0].bias.grad = torch.full((8,), 7.0)
    before = copy.deepcopy(network.state_dict())
    before_step(method)
    assert frozen[0].weight.grad is frozen[1].weight.grad is frozen[1].bias.grad is None
    assert torch.equal(stale, torch.full((8,), 7.0))
    frozen[0].bias.grad = None
    train(network, optimizer, range(3, 6))
    after = network.state_dict()
    for key in ("first.0.weight", "first.0.bias", "first.1.weight", "first.1.bias"):
        assert torch.equal(after[key], before[key])
    injected = name in ("plasticity-injection", "compose")  # which froze the rest, for new parts to learn instead
    assert injected == torch.equal(after["first.3.weight"], before["first.3.weight"])


@every_method
def test_training_goes_on_with_everything_frozen(name: str):
    network, optimizer, method = attached(name)
    network.first.requires_grad_(False)
    network.second.requires_grad_(False)
    optimizer.zero_grad()
    optimizer.step()
    assert all(gradient is None for gradient in grads(network).values())
    assert all(value.isfinite() for value in method.scalars().values())


# Random state


def random_states() -> list[Any]:
    _, numpy, *rest = np.random.get_state()  # noqa: NPY002
    return [random.getstate(), numpy.tolist(), rest, torch.get_rng_state().tolist()]


@every_method
def test_global_random_state_is_neither_read_nor_written(name: str):
    states = []
    for seed in (1, 2):
        network = Network(seed=0)
        optimizer = adam(network)
        random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)  # noqa: NPY002
        before = random_states()
        method = make(name)
        method.attach(network, optimizer)
        train(network, optimizer, range(2))
        method.on_switch()
        method.load_state_dict(method.state_dict())
        assert random_states() == before
        states.append(method.state_dict() | network.state_dict())
    assert_same(*states)


@every_method
def test_seed_is_that_of_the_methods_own_generator(name: str):
    states = []
    for seed in (3, 3, 4):
        network, method = Network(seed=0), make(name)
        method.attach(network, adam(network), seed=seed)
        states.append({k: t for k, t in method.state_dict().items() if k.endswith("generator")})
    assert_same(states[0], states[1])
    assert not any(torch.equal(states[0][key], states[2][key]) for key in states[0])


# Attaching and detaching


@every_method
def test_removed_handle_leaves_training_as_it_was_without(name: str):
    network = Network(seed=0)
    optimizer = adam(network)
    handle = make(name).attach(network, optimizer)
    handle.remove()
    handle.remove()
    train(network, optimizer, range(5))
    assert_same(network.state_dict(), plain().state_dict())


def test_attached_within_a_context():
    network = Network(seed=0)
    optimizer = adam(network)
    train(network, optimizer, range(3))
    with make("compose").attach(network, optimizer):
        optimizer.zero_grad()
    with pytest.raises(RuntimeError), make("compose").attach(network, optimizer):
        raise RuntimeError
    train(network, optimizer, range(3, 5))
    assert_same(network.state_dict(), plain().state_dict())


@every_method
def test_attaching_twice_is_refused(name: str):
    network, _, method = attached(name)
    other = adam(network)
    with pytest.raises(ValueError, match="attached already; make one per network"):
        method.attach(network, other)
    optimizer_hooks = [*other._optimizer_step_pre_hooks, *other._optimizer_step_post_hooks]
    assert not optimizer_hooks


@every_method
@pytest.mark.parametrize("why", ["no layers", "another's parameters", "only", "frozen"])
def test_nothing_to_act_on(name: str, why: str):
    module = nn.PReLU(2) if why == "no layers" else nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    optimizer = adam(nn.Linear(1, 1) if why == "another's parameters" else module)
    module.requires_grad_(why != "frozen")
    only = (lambda name: name == "2") if why == "only" else None
    method = make(name)
    with pytest.raises(ValueError, match="the optimizer trains no layer of this module that it acts on"):
        method.attach(module, optimizer, only=only)
    network = Network(seed=0)
    method.attach(network, adam(network))


def test_l2_has_nothing_to_act_on_in_a_norm():
    module = nn.LayerNorm(3)
    with pytest.raises(ValueError, match=r"^l2: the optimizer trains no layer"):
        L2().attach(module, adam(module))


@every_method
def test_only(name: str):
    network, method = Network(seed=0), make(name)
    optimizer = adam(network)
    if name in ("plasticity-injection", "compose"):
        with pytest.raises(ValueError, match="none of the layers chosen in this Network is in one"):
            method.attach(network, optimizer, only=lambda layer: layer.startswith("second"))
        return
    method.attach(network, optimizer, only=lambda layer: layer.startswith("second"))
    train(network, optimizer, range(5))
    assert_same(network.first.state_dict(), plain().first.state_dict())
    assert name in RETURNING | IN_USE or not torch.equal(network.second[0].weight, Network(seed=0).second[0].weight)


@every_method
def test_copies_of_a_template_are_independent(name: str):
    template, ends = make(name), []
    for _ in range(2):
        network = Network(seed=0)
        optimizer = adam(network)
        copy.deepcopy(template).attach(network, optimizer)
        train(network, optimizer, range(3))
        ends.append(network.state_dict())
    assert_same(*ends)
    assert not template.layers


def test_hooks_run_around_the_step_and_not_once_removed():
    module = nn.Linear(1, 1, bias=False)
    module.weight.data.fill_(3)
    module.weight.grad = torch.full((1, 1), 2.0)
    optimizer, recorder = torch.optim.SGD(module.parameters(), lr=1.0), Recorder(events=[], heads="include")
    handle = recorder.attach(module, optimizer)
    optimizer.step()
    assert recorder.events == [("setup", [""]), ("before", 3, 2), ("after", 1)]
    handle.remove()
    optimizer.step()
    assert len(recorder.events) == 3


# Draws of their own


@pytest.mark.parametrize("name", ["layer-reset", "redo", "plasticity-injection", "shrink-and-perturb"])
def test_new_weights_are_not_those_that_the_seed_gave_the_network(name: str):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(30, 40), nn.ReLU(), nn.Linear(40, 30))
    began = network[0].weight.detach().clone()
    optimizer = adam(network)
    settings = {"redo": {"every": 1, "tau": 9.0}, "layer-reset": {"last": 2}, "shrink-and-perturb": {"shrink": 0.0}}
    method = METHODS[name](**settings.get(name, {}), **({} if name == "redo" else {"heads": "include"}))
    method.attach(network, optimizer, seed=0)
    network(torch.randn(8, 30)).square().sum().backward()
    optimizer.step()
    method.on_switch()
    now = network.added[0][0].weight if name == "plasticity-injection" else network[0].weight
    both = torch.stack([began.flatten(), now.detach().flatten()])
    assert abs(torch.corrcoef(both)[0, 1]) < 0.2
