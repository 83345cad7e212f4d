"""Weights that begin to be trained after a method was attached are acted on, or a warning names them."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import nn

from neoteny.plasticity import TRAC, UPGD, L2Init, Method, Muon, Spectral
from neoteny.plasticity.late_weights import _watches


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))


def step(module: nn.Module, optimizer: torch.optim.Optimizer, times: int = 1) -> None:
    for _ in range(times):
        optimizer.zero_grad()
        module(torch.ones(4, 3)).square().mean().backward()
        optimizer.step()


def quiet(call: Callable[[], None]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        call()


@pytest.mark.parametrize("method", [Spectral(strength=0.1, heads="include"), L2Init(strength=0.1)], ids=repr)
def test_an_unfrozen_layer_is_acted_on_from_then_on(method: Method) -> None:
    module, plain = network(), network()
    pairs = []
    for net in (module, plain):
        net[0].requires_grad_(False)
        pairs.append((net, torch.optim.SGD(net.parameters(), lr=0.1)))
    method.attach(*pairs[0])
    quiet(lambda: step(*pairs[0], 2))
    for net, optimizer in pairs:
        net.load_state_dict(module.state_dict())
        net[0].requires_grad_(True)
        net[0].weight.data.mul_(3)
        quiet(lambda pair=(net, optimizer): step(*pair))  # type: ignore[misc]
    assert not torch.allclose(module[0].weight, plain[0].weight)


def test_a_new_parameter_group_is_named_once() -> None:
    module = network()
    optimizer = torch.optim.Adam(module[:3].parameters())
    handle = Spectral(heads="include").attach(module, optimizer)
    quiet(lambda: step(module, optimizer))
    optimizer.add_param_group({"params": module[4].parameters()})
    with pytest.warns(UserWarning, match="spectral was attached before its optimizer got 4, and does not act on them"):
        step(module, optimizer)
    quiet(lambda: step(module, optimizer))
    handle.remove()
    again = Spectral(heads="include")
    quiet(lambda: again.attach(module, optimizer) and step(module, optimizer))  # type: ignore[arg-type, return-value]
    assert [layer.name for layer in again.layers] == ["0", "2", "4"]


def test_a_layer_put_in_the_place_of_another_is_named() -> None:
    module = network()
    optimizer = torch.optim.Adam(module.parameters())
    Spectral().attach(module, optimizer)
    module[2] = nn.Linear(8, 8)
    optimizer.param_groups[0]["params"] = list(module.parameters())
    with pytest.warns(
        UserWarning, match="spectral was attached before its optimizer got 2, and does not act"
    ) as caught:
        step(module, optimizer)
    assert [warning.filename for warning in caught] == [__file__]
    quiet(lambda: step(module, optimizer))


def test_a_layer_that_is_not_trained_any_more_is_named() -> None:
    module = network()
    optimizer = torch.optim.Adam(module.parameters())
    Spectral().attach(module, optimizer)
    optimizer.param_groups[0]["params"] = list(module[2:].parameters())
    with pytest.warns(UserWarning, match="spectral still acts on 0, which its optimizer does not train any more"):
        step(module, optimizer)


def test_an_output_head_that_comes_late_is_left_alone_silently() -> None:
    module = network()
    optimizer = torch.optim.Adam(module[:4].parameters())
    Spectral(heads=["2"]).attach(module, optimizer)
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(2, 2))]})  # of no network
    quiet(lambda: step(module, optimizer))


def test_an_optimizer_made_anew_is_named_once() -> None:
    module = network()
    first, second = torch.optim.Adam(module.parameters()), torch.optim.AdamW(module.parameters())
    handle = Spectral().attach(module, first)
    quiet(lambda: step(module, first))
    with pytest.warns(UserWarning, match=r"spectral does not act when another optimizer \(AdamW\) trains 0, 2\."):
        step(module, second)
    quiet(lambda: step(module, second))
    handle.remove()
    third = torch.optim.SGD(module.parameters(), lr=0.1)
    quiet(lambda: step(module, third))


def test_other_networks_are_none_of_a_methods_business() -> None:
    one, other = network(), network()
    optimizer = torch.optim.Adam(one.parameters())
    Spectral().attach(one, optimizer)
    quiet(lambda: step(other, torch.optim.Adam(other.parameters())))
    critic_only = torch.optim.Adam(one[4].parameters())  # the head, which the method leaves alone
    quiet(lambda: step(one, critic_only))


@pytest.mark.parametrize("make", [TRAC, Muon, UPGD], ids=lambda make: make.__name__)
def test_optimizers_made_of_others_are_one(make: type[torch.optim.Optimizer]) -> None:
    module = network()
    optimizer = make(module.parameters())
    if isinstance(optimizer, Muon):
        optimizer.choose_hidden(module)
    Spectral().attach(module, optimizer)
    quiet(lambda: step(module, optimizer, 3))


def test_a_watch_does_not_keep_a_method_alive() -> None:
    gc.collect()
    before = len(_watches)
    module = network()
    optimizer = torch.optim.Adam(module.parameters())
    method = Spectral()
    method.attach(module, optimizer)
    assert len(_watches) == before + 1
    del module, optimizer, method
    gc.collect()
    assert len(_watches) == before
