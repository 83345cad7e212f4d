"""What a method acts on is said, and a warning names what it does not support."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from neoteny.agents import PPO
from neoteny.plasticity import (
    L2,
    METHODS,
    VIEWS,
    Compose,
    ContinualBackprop,
    LayerReset,
    Method,
    ReDo,
    SelfNormalizedResets,
    Spectral,
    SpectralNorm,
    View,
    WeightClipping,
)


def attached(method: Method, module: nn.Module) -> Method:
    method.attach(module, torch.optim.Adam(module.parameters()))
    return method


def test_every_matrix_is_listed_with_what_is_done_to_it() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method = attached(Spectral(), module)
    assert method.coverage() == {"0": "acted on", "2": "acted on", "4": "output head"}
    assert method.matrix_sizes() == {"0": 18, "2": 32, "4": 8}
    assert method.share() == (18 + 32) / (18 + 32 + 8)
    assert set(attached(Spectral(heads="include"), module).coverage().values()) == {"acted on"}


class Positions(nn.Module):
    """Adds a table of its own, which no type of module tells anything about; its scale is no matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(1, 3, 4))
        self.scale = nn.Parameter(torch.ones(1, 1, 4))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.table


def before_two_layers(first: nn.Module) -> nn.Module:
    return nn.Sequential(first, nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))


NOT_SUPPORTED: dict[str, tuple[Callable[[], nn.Module], str, set[str]]] = {
    "a parameter of one's own": (lambda: before_two_layers(Positions()), "Positions", {"0.table"}),
    "Bilinear": (lambda: before_two_layers(nn.Bilinear(2, 3, 4)), "Bilinear", {"0.weight"}),
}


@pytest.mark.parametrize(("make", "kind", "names"), NOT_SUPPORTED.values(), ids=NOT_SUPPORTED)
def test_what_is_not_supported_is_named_in_a_warning(make: Callable[[], nn.Module], kind: str, names: set[str]) -> None:
    module = make()
    with pytest.warns(UserWarning, match=r"spectral does not support .*% of the weights") as caught:
        method = attached(Spectral(), module)
    (message,) = [str(each.message) for each in caught]
    assert all(f"{name} ({kind})" in message for name in names)
    assert {name for name, what in method.coverage().items() if what == f"not supported ({kind})"} == names
    sizes = {name: p.numel() for name, p in module.named_parameters() if p.ndim > 1 and "scale" not in name}
    assert sum(method.matrix_sizes().values()) == sum(sizes.values())
    share = sum(sizes[name] for name in names) / sum(sizes.values())
    assert f"not support {share:.1%}" in message


@pytest.mark.parametrize(
    ("method", "module", "gaps"),
    [
        (WeightClipping, nn.Embedding(5, 4), {"0": "embedding"}),
        (Spectral, nn.Embedding(5, 4, sparse=True), {"0": "its gradients are sparse"}),
        (SpectralNorm, weight_norm(nn.Linear(3, 4)), {"0": "its weight is computed, and this method writes it"}),
        *(
            (method, nn.RNN(3, 4), {"0.weight_ih_l0": "units of RNN", "0.weight_hh_l0": "units of RNN"})
            for method in (ReDo, ContinualBackprop, SelfNormalizedResets, LayerReset)
        ),
    ],
)
def test_what_a_method_refuses_is_named_too(method: type[Method], module: nn.Module, gaps: dict[str, str]) -> None:
    network = before_two_layers(module)
    with pytest.warns(UserWarning, match=f"^{method.name} does not support") as caught:
        found = attached(method(), network).coverage()
    assert found.items() >= gaps.items()
    assert all(f"{name} ({why})" in str(caught[0].message) for name, why in gaps.items())
    assert found["1"] == "acted on"


def test_a_view_of_ones_own_makes_a_module_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VIEWS, Positions, lambda module: [View("table", None)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method = attached(Spectral(), module := before_two_layers(Positions()))
    assert method.coverage()["0"] == "acted on"
    assert method.layers[0].matrix.shape == (1, 12)
    assert method.layers[0].weight is module[0].table


@pytest.mark.parametrize("name", METHODS)
def test_our_agents_have_no_gaps(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        agent = PPO("ActorCritic", "CartPole-v1", reg=METHODS[name](), device="cpu")
    (found,) = [method.coverage() for method in agent.methods.values()]
    assert set(found.values()) <= {"acted on", "output head", "no layer for this method"}
    assert "acted on" in found.values()
    assert len(found) == 6


def test_roles_are_listed_apart_and_frozen_layers_do_not_count() -> None:
    agent = PPO("ActorCritic", "CartPole-v1", reg={"actor": Spectral(), "critic": L2()}, device="cpu")
    assert {name.split(".")[1] for name in agent.methods["actor"].coverage() if "extractor" in name} == {"policy_net"}
    assert {name.split(".")[1] for name in agent.methods["critic"].coverage() if "extractor" in name} == {"value_net"}
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    module[0].requires_grad_(False)
    assert attached(L2(), module).coverage() == {"0": "frozen", "2": "acted on"}
    assert attached(L2(), module).share() == 1


def test_a_composition_acts_where_one_of_its_methods_does() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    method = attached(Compose(methods=(Spectral(), WeightClipping(), ReDo())), module)
    assert method.coverage() == {"0": "acted on", "2": "acted on"}
    assert method.share() == 1
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    assert attached(Compose(methods=(Spectral(), ReDo())), module).coverage()["2"] == "output head"
