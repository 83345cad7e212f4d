"""Networks that the methods were not written for: what is acted on, and that it is."""

from __future__ import annotations

import warnings

import pytest
import sb3_contrib
import torch
from method_zoo import PENALTIES
from network_zoo import NETWORKS, Case, normal
from thinning import one_in
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from neoteny.plasticity import METHODS, Penalty, Spectral
from neoteny.plasticity.layers import layers_of

every_network = pytest.mark.parametrize("case", NETWORKS.values(), ids=NETWORKS)


def attach(case: Case, network: nn.Module, optimizer: torch.optim.Optimizer, method: Spectral) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        method.attach(network, optimizer)
    messages = [str(each.message) for each in caught]
    assert len(messages) == bool(case.others), messages
    assert all(name in messages[0] for name in case.others)


def task_loss(outputs: Tensor | tuple[Tensor, ...]) -> Tensor:
    parts = [outputs] if isinstance(outputs, Tensor) else outputs
    return torch.stack([(part - 1).square().mean() for part in parts]).sum()


def norms(module: nn.Module, names: list[str]) -> dict[str, float]:
    """σ₁ by singular value decomposition."""
    found = {layer.name: layer.matrix.detach().double() for layer in layers_of(module) if not layer.is_norm}
    return {name: float(torch.linalg.svdvals(found[name])[0]) for name in names}


def far_from_one(module: nn.Module, names: list[str]) -> dict[str, float]:
    return {name: sigma for name, sigma in norms(module, names).items() if abs(sigma - 1) > 0.02}


@pytest.mark.sampled(3)
@every_network
def test_exactly_these_matrices_are_acted_on(case: Case) -> None:
    network = case.make()
    method = Spectral()
    attach(case, network, torch.optim.Adam(network.parameters()), method)
    assert [layer.name for layer in method.layers if not layer.is_norm] == case.acted_on
    coverage = method.coverage()
    assert sorted(name for name, what in coverage.items() if what == "output head") == sorted(case.heads)
    assert {name for name, what in coverage.items() if what.startswith("not supported")} == set(case.others)
    assert coverage.keys() == {*case.acted_on, *case.heads, *case.others}


@pytest.mark.parametrize("case", one_in(12, NETWORKS))
def test_a_large_strength_brings_each_of_them_to_one(case: Case) -> None:
    torch.manual_seed(0)
    network, generator = case.make(), torch.Generator().manual_seed(1)
    before = norms(network, case.acted_on)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    small = max(before.values()) < 3  # else k = 2 has too large a gradient for this learning rate
    attach(case, network, optimizer, Spectral(strength=3.0) if small else Spectral(strength=20.0, k=1))
    for _ in range(300):
        optimizer.zero_grad()
        task_loss(network(case.data(generator))).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 0.5)
        optimizer.step()
    assert any(abs(sigma - 1) > 0.02 for sigma in before.values())
    assert not far_from_one(network, case.acted_on)


GATES = [
    f"lstm_{who}.weight_{side}_l0.{gate}" for who in ("actor", "critic") for side in ("ih", "hh") for gate in "ifgo"
]
TORSOS = [f"mlp_extractor.{who}_net.{i}" for who in ("policy", "value") for i in (0, 2)]


@pytest.mark.full
def test_recurrent_ppo_as_a_whole() -> None:
    model = sb3_contrib.RecurrentPPO(
        "MlpLstmPolicy",
        "CartPole-v1",
        n_steps=64,
        batch_size=64,
        learning_rate=lambda left: 3e-3 * left,  # at a constant one Adam jitters by a few percent
        policy_kwargs={"lstm_hidden_size": 32},
        seed=0,
        device="cpu",
    )
    method = Spectral(strength=30.0)  # 8 λ (σ₁ − 1) is to outweigh a gradient clipped at 0.5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method.attach(model.policy, model.policy.optimizer)
    assert sorted(layer.name for layer in method.layers) == sorted(GATES + TORSOS)
    assert set(method.coverage().values()) == {"acted on", "output head"}
    assert method.share() > 0.98
    model.learn(4096)
    assert not far_from_one(model.policy, GATES + TORSOS)


OTHERS = {name: NETWORKS[name] for name in ("LSTM", "GRU", "ViT", "Transformer", "mixture", "ResNet-18")}
OTHERS["weight norm"] = Case(
    lambda: nn.Sequential(weight_norm(nn.Conv1d(2, 3, 2)), nn.Flatten(), weight_norm(nn.Linear(9, 5)), nn.Linear(5, 2)),
    normal(4, 2, 4),
    ["0", "2"],
    ["3"],
)


@pytest.mark.sampled(3)
@pytest.mark.filterwarnings("ignore:.*does not support")
@pytest.mark.parametrize("joins", ["after-clipping", "in-loss"])
@pytest.mark.parametrize("name", PENALTIES)
@pytest.mark.parametrize("case", OTHERS.values(), ids=OTHERS)
def test_the_gradient_added_is_that_of_the_value(case: Case, name: str, joins: str) -> None:
    torch.manual_seed(0)
    network = case.make().double()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    method = METHODS[name](strength=0.3, joins=joins)
    assert isinstance(method, Penalty)
    method.attach(network, optimizer)
    for p in network.parameters():
        p.data.add_(torch.randn_like(p), alpha=0.05)
    data = case.data(torch.Generator().manual_seed(0))
    inputs = data if data.dtype == torch.int64 else data.double()
    optimizer.zero_grad()
    task_loss(network(inputs)).backward()
    if joins == "after-clipping":
        method.before_step()
    found = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    loss = task_loss(network(inputs)) + method.strength * method.value()
    expected = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
    for (key, _), gradient in zip(network.named_parameters(), expected, strict=True):
        nothing = torch.zeros(())
        one, other = found.get(key, nothing), nothing if gradient is None else gradient
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-8, msg=key, check_dtype=False)
