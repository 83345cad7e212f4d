"""What a method acts on is said, and a warning names what it does not support."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import sb3_contrib
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from neoteny.agents import PPO
from neoteny.plasticity import L2, METHODS, Compose, Method, ReDo, Spectral, WeightClipping


def attached(method: Method, module: nn.Module) -> Method:
    method.attach(module, torch.optim.Adam(module.parameters()))
    return method


def test_every_matrix_is_listed_with_what_is_done_to_it() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = attached(Spectral(), module).coverage()
    assert found == {"0.weight": "acted on", "2.weight": "acted on", "4.weight": "output head"}
    assert set(attached(Spectral(heads="include"), module).coverage().values()) == {"acted on"}


def recurrent() -> nn.Module:
    return sb3_contrib.RecurrentPPO("MlpLstmPolicy", "CartPole-v1", seed=0, device="cpu").policy


def before_two_layers(first: nn.Module) -> nn.Module:
    return nn.Sequential(first, nn.Linear(4, 4), nn.Linear(4, 2))


OTHERS: dict[str, tuple[Callable[[], nn.Module], str, set[str]]] = {
    "LSTM policy": (recurrent, "LSTM", {f"lstm_{who}.weight_{x}h_l0" for who in ("actor", "critic") for x in "ih"}),
    "attention": (
        lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
        "MultiheadAttention",
        {"self_attn.in_proj_weight"},
    ),
    "GRU": (lambda: before_two_layers(nn.GRU(3, 4)), "GRU", {"0.weight_ih_l0", "0.weight_hh_l0"}),
    "Embedding": (lambda: before_two_layers(nn.Embedding(5, 4)), "Embedding", {"0.weight"}),
    "ConvTranspose": (
        lambda: nn.Sequential(nn.ConvTranspose2d(2, 3, 2), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 1, 1)),
        "ConvTranspose2d",
        {"0.weight"},
    ),
    "RMSNorm": (lambda: before_two_layers(nn.RMSNorm(4)), "RMSNorm", {"0.weight"}),
    "InstanceNorm": (lambda: before_two_layers(nn.InstanceNorm1d(4, affine=True)), "InstanceNorm1d", {"0.weight"}),
    "weight norm": (
        lambda: before_two_layers(weight_norm(nn.Linear(3, 4))),
        "ParametrizationList",
        {"0.parametrizations.weight.original0", "0.parametrizations.weight.original1"},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("make", "kind", "names"), OTHERS.values(), ids=OTHERS)
def test_what_is_not_supported_is_named_in_a_warning(make: Callable[[], nn.Module], kind: str, names: set[str]) -> None:
    module = make()
    with pytest.warns(UserWarning, match=r"spectral leaves out .*% of the weights") as caught:
        method = attached(Spectral(), module)
    (message,) = [str(each.message) for each in caught]
    assert all(f"{name} ({kind})" in message for name in names)
    found = method.coverage()
    assert {name for name, what in found.items() if what == f"not supported ({kind})"} == names
    sizes = {name: p.numel() for name, p in module.named_parameters() if p.ndim > 1 or name in names}
    assert found.keys() == sizes.keys()
    share = sum(sizes[name] for name in names) / sum(sizes.values())
    assert f"leaves out {share:.1%}" in message


@pytest.mark.parametrize("name", METHODS)
def test_our_agents_have_no_gaps(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        agent = PPO("ActorCritic", "CartPole-v1", reg=METHODS[name](), device="cpu")
    (found,) = [method.coverage() for method in agent.methods.values()]
    assert set(found.values()) <= {"acted on", "output head", "no layer for this method"}
    assert "acted on" in found.values()
    assert len(found) == 6


def test_roles_and_frozen_layers_are_not_listed() -> None:
    agent = PPO("ActorCritic", "CartPole-v1", reg={"actor": Spectral(), "critic": L2()}, device="cpu")
    assert {name.split(".")[1] for name in agent.methods["actor"].coverage() if "extractor" in name} == {"policy_net"}
    assert {name.split(".")[1] for name in agent.methods["critic"].coverage() if "extractor" in name} == {"value_net"}
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    module[0].requires_grad_(False)
    assert attached(L2(), module).coverage() == {"2.weight": "acted on"}


def test_a_composition_acts_where_one_of_its_methods_does() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    method = attached(Compose(methods=(Spectral(), WeightClipping(), ReDo())), module)
    assert method.coverage() == {"0.weight": "acted on", "2.weight": "acted on"}
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    assert attached(Compose(methods=(Spectral(), ReDo())), module).coverage()["2.weight"] == "output head"
