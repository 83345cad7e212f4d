"""A penalty that joins in the loss, in whole agents: held to λ·R(θ) added to the loss of stable-baselines3."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import stable_baselines3 as sb3
import torch
from agent_zoo import CASES, difference, learned_state, weights
from stable_baselines3.common.base_class import BaseAlgorithm
from thinning import one_in
from torch import Tensor

from neoteny.plasticity import L2, Method, Penalty, Spectral, spectral_norms

#: A norm that every gradient exceeds, and one that none does. SAC does not clip.
NORMS = {"clipped": 0.02, "not clipped": 1e9}
RUNS = [(name, norm) for name in ("ppo", "ppo-continuous", "a2c", "dqn", "qrdqn") for norm in NORMS] + [
    ("sac", "not clipped")
]
#: Few updates: float32 rounds, and Adam makes much of a small gradient's sign.
STEPS = {"ppo": 64, "ppo-continuous": 64, "a2c": 64, "dqn": 36, "qrdqn": 36, "sac": 32}
PENALTIES = {"spectral": Spectral(strength=0.1), "l2": L2(strength=0.1)}


@pytest.fixture(autouse=True)
def _no_late_joining() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*joins.*")
        yield


def arguments(name: str, norm: str) -> dict[str, Any]:
    """No orthogonal weights: of equal singular values, rounding decides which pair is pulled."""
    on_policy = {"policy_kwargs": {"net_arch": [16, 16], "ortho_init": False}} if "q" not in name else {}
    return {} if name == "sac" else {"max_grad_norm": NORMS[norm], **on_policy}


def term(method: Penalty) -> Tensor:
    """λ·R(θ), after its tracked state has moved on as in an update. No gradient is left behind."""
    parameters = [p for layer in method.layers for p in (layer.weight, layer.bias) if p is not None]
    method.add_grad_()
    for p in parameters:
        p.grad = None
    return method.strength * method.value()


def oracle(name: str, norm: str, reg: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[BaseAlgorithm, dict[str, Method]]:
    """The agent, trained without hooks: each loss has the terms of the optimizer whose gradients were zeroed last."""
    agent = CASES[name].make(reg=reg, **arguments(name, norm), **CASES[name].to_the_bit)
    for handle in agent._handles:
        handle.remove()
    zeroed: list[torch.optim.Optimizer] = []
    for optimizer in {id(m.optimizer): m.optimizer for m in agent.methods.values()}.values():

        def zero_grad(set_to_none: bool = True, *, it: Any = optimizer) -> None:
            type(it).zero_grad(it, set_to_none)
            zeroed.append(it)

        optimizer.zero_grad = zero_grad
    original = torch.Tensor.backward

    def backward(loss: Tensor, *rest: Any, **more: Any) -> None:
        mine = [m for m in agent.methods.values() if zeroed and m.optimizer is zeroed[-1]]
        zeroed.clear()
        original(loss + sum(term(m) for m in mine), *rest, **more)
        for method in mine:
            if isinstance(method, Spectral):  # the gradient tells where the weights will move
                method._tracker.follow({layer.name: layer.weights.grad.flatten(1) for layer in method.layers})

    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "backward", backward)
        agent.learn(STEPS[name])
    return agent, agent.methods


def trained(name: str, norm: str, reg: Any) -> BaseAlgorithm:
    return CASES[name].make(reg=reg, **arguments(name, norm)).learn(STEPS[name])


def distance(one: BaseAlgorithm, other: BaseAlgorithm) -> float:
    pairs = zip(weights(one).values(), weights(other).values(), strict=True)
    return max(float((a - b).abs().max()) for a, b in pairs)


#: What rounding comes to in the updates here: 2e-6 with AVX2, less with AVX-512.
CLOSE = 4e-6


def joining(joins: str, penalty: Penalty) -> Penalty:
    return type(penalty)(strength=penalty.strength, joins=joins)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("penalty", one_in(2, PENALTIES))
@pytest.mark.parametrize(("name", "norm"), RUNS)
def test_in_loss_is_the_loss_term(name: str, norm: str, penalty: Penalty, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, states = oracle(name, norm, penalty, monkeypatch)
    ours = trained(name, norm, joining("in-loss", penalty))
    assert ours._n_updates == expected._n_updates > 0
    assert distance(ours, expected) < CLOSE
    for key, method in ours.methods.items():
        its = states[key].state()
        for part, mine in method.state().items():
            if part.startswith(("sigma", "tracker")):  # vectors may differ in their signs
                torch.testing.assert_close(mine, its[part], rtol=1e-4, atol=1e-4)
    after = distance(trained(name, norm, penalty), expected)
    assert after > 1e-4 if norm == "clipped" else after < CLOSE
    assert distance(trained(name, norm, None), expected) > 1e-4


@pytest.mark.parametrize("name", ["ppo", "sac"])
def test_each_role_joins_in_its_own_way(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    norm = "clipped"
    late, early = Spectral(strength=0.1), Spectral(strength=0.1, joins="in-loss")
    both, actor, critic, none = (
        trained(name, norm, {"actor": a, "critic": c})
        for a, c in ((early, early), (early, late), (late, early), (late, late))
    )
    assert {key.partition(".")[0]: m.joins for key, m in actor.methods.items()} == {
        "actor": "in-loss",
        "critic": "after-clipping",
    }
    runs = [both, actor, critic, none]
    for i, one in enumerate(runs):
        for other in runs[:i]:
            assert (distance(one, other) > 1e-5) == (name == "ppo")  # SAC does not clip
    expected, _ = oracle(name, norm, {"actor": late, "critic": late}, monkeypatch)
    assert distance(both, expected) < 1e-6


@pytest.mark.parametrize("name", CASES)
def test_at_strength_0_it_is_stable_baselines3_bit_for_bit(name: str) -> None:
    ours = CASES[name].make(reg=Spectral(strength=0, joins="in-loss")).learn(CASES[name].steps)
    stock = CASES[name].make_stock().learn(CASES[name].steps)
    ours.methods = {}
    assert difference(learned_state(ours), learned_state(stock)) is None


@pytest.mark.parametrize("name", ["ppo", "dqn", "sac"])
def test_it_is_saved_and_the_loaded_agent_goes_on_exactly(name: str, tmp_path: Any) -> None:
    case = CASES[name]
    agent = case.make(reg=Spectral(strength=0.1, joins="in-loss"))
    agent.learn(STEPS[name])
    agent.save(tmp_path / "agent", replay=True)
    ends = []
    for one in (agent, case.ours.load(tmp_path / "agent", env=copy.deepcopy(case.env))):
        assert [m.joins for m in one.methods.values()] == ["in-loss"] * len(one.methods)
        one.set_random_seed(7)
        one.learn(STEPS[name])
        ends.append(weights(one))
    for key in ends[0]:
        assert torch.equal(ends[0][key], ends[1][key]), key


# The size of the difference, as docs/methods.md has it --------------------------------------------------------------


def stock(algorithm: type[BaseAlgorithm], monkeypatch: pytest.MonkeyPatch, *methods: Penalty) -> Any:
    """The algorithm with its own settings after 20,480 steps of CartPole-v1; norms of its gradients ÷ max_grad_norm."""
    norms = []
    original = torch.nn.utils.clip_grad_norm_

    def clip(*args: Any, **kwargs: Any) -> Tensor:
        norms.append(original(*args, **kwargs))
        return norms[-1]

    agent = algorithm("MlpPolicy", "CartPole-v1", seed=0, device="cpu")
    for method in methods:
        method.attach(agent.policy, agent.policy.optimizer)
    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.utils, "clip_grad_norm_", clip)
        agent.learn(20_480)
    return agent, torch.stack(norms) / agent.max_grad_norm


@pytest.mark.skipif("TRACKING" not in os.environ, reason="takes a minute; make tracking runs it")
@pytest.mark.slow
def test_stock_ppo_clips_every_gradient_to_a_fiftieth_and_dqn_clips_none(monkeypatch: pytest.MonkeyPatch) -> None:
    _, factors = stock(sb3.PPO, monkeypatch)
    assert len(factors) == 3200
    assert (factors > 1).all()
    low, median, high = factors.quantile(torch.tensor([0.05, 0.5, 0.95])).tolist()
    assert 10 < low < 20 < 40 < median < 60 < 90 < high < 140
    _, factors = stock(sb3.DQN, monkeypatch)
    assert len(factors) > 5000
    assert factors.max() < 1


@pytest.mark.skipif("TRACKING" not in os.environ, reason="takes a minute; make tracking runs it")
@pytest.mark.slow
def test_after_clipping_pulls_singular_values_down_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = {}
    for joins in ("after-clipping", "in-loss"):
        method = Spectral(strength=1e-3, joins=joins)
        agent, _ = stock(sb3.PPO, monkeypatch, method)
        norms = spectral_norms(agent.policy)
        ends[joins] = [norms[layer.name] for layer in method.layers]
    assert len(ends["in-loss"]) == 4
    assert all(late < early - 0.2 for late, early in zip(*ends.values(), strict=True))
