"""Our agents name their output layers, whatever the widths."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import sb3_contrib
import stable_baselines3 as sb3
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from thinning import some
from torch import nn

from neoteny import agents
from neoteny.agents import Continual
from neoteny.agents.networks import ActorCritic
from neoteny.plasticity import Compose, PlasticityInjection, Spectral
from neoteny.plasticity.optimizers import Muon


class Still(gym.Env[Any, Any]):
    """An environment of given spaces where nothing happens."""

    def __init__(self, observations: int, actions: spaces.Space[Any]):
        self.observation_space, self.action_space = spaces.Box(-1, 1, (observations,), np.float32), actions

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), 0.0, False, False, {}


@pytest.fixture(autouse=True)
def no_doubt() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "heads: ")
        yield


ACTOR_CRITIC = {"action_net", "value_net"}
ACTOR = {"actor.mu", "actor.log_std"}
#: Each algorithm that learns by an optimizer, with its output layers for discrete and for continuous actions.
ALGORITHMS: dict[type[BaseAlgorithm], tuple[set[str], set[str]]] = {
    sb3.PPO: (ACTOR_CRITIC, ACTOR_CRITIC),
    sb3.A2C: (ACTOR_CRITIC, ACTOR_CRITIC),
    sb3.DQN: ({"q_net.q_net.4"}, set()),
    sb3.SAC: (set(), {*ACTOR, "critic.qf0.4", "critic.qf1.4"}),
    sb3.TD3: (set(), {"actor.mu.4", "critic.qf0.4", "critic.qf1.4"}),
    sb3.DDPG: (set(), {"actor.mu.4", "critic.qf0.4"}),
    sb3_contrib.TRPO: (ACTOR_CRITIC, ACTOR_CRITIC),
    sb3_contrib.MaskablePPO: (ACTOR_CRITIC, set()),
    sb3_contrib.RecurrentPPO: (ACTOR_CRITIC, ACTOR_CRITIC),
    sb3_contrib.QRDQN: ({"quantile_net.quantile_net.4"}, set()),
    sb3_contrib.TQC: (set(), {*ACTOR, "critic.qf0.4", "critic.qf1.4"}),
    sb3_contrib.CrossQ: (set(), {*ACTOR, "critic.qf0.7", "critic.qf1.7"}),
}
#: Observations and actions: 64 actions beside hidden layers of 64 units, as many actions as observations, and one.
SIZES = {"64 actions": (8, 64), "6 and 6": (6, 6), "one observation": (1, 2), "one of each": (1, 1)}


def agent_of(algorithm: type[BaseAlgorithm], observations: int, actions: spaces.Space[Any], **settings: Any) -> Any:
    """The algorithm with the mixin, and hidden layers of 64 units."""
    cls: Any = type(algorithm.__name__, (Continual, algorithm), {})
    policy = settings.pop("policy", "MlpLstmPolicy" if algorithm is sb3_contrib.RecurrentPPO else "MlpPolicy")
    kwargs = {"net_arch": [64, 64], **settings.pop("policy_kwargs", {})}
    if issubclass(algorithm, OffPolicyAlgorithm):
        settings["buffer_size"] = 1
    return cls(policy, Still(observations, actions), policy_kwargs=kwargs, device="cpu", seed=0, **settings)


def check(agent: Continual, heads: set[str]) -> None:
    """The methods act on every Linear layer that an optimizer trains, except on ``heads``."""
    trained = {id(p) for o in agent.optimizers().values() for group in o.param_groups for p in group["params"]}
    linear = {n for n, m in agent.policy.named_modules() if isinstance(m, nn.Linear) and id(m.weight) in trained}
    assert heads < linear
    assert {layer.name for method in agent.methods.values() for layer in method.layers} & linear == linear - heads


@pytest.mark.sampled(3)
@pytest.mark.parametrize("size", some([*SIZES], "64 actions"))
@pytest.mark.parametrize(
    ("algorithm", "heads", "discrete"),
    [(a, heads[i], not i) for a, heads in ALGORITHMS.items() for i in (0, 1) if heads[i]],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_every_algorithm_names_its_heads_whatever_the_widths(
    algorithm: type[BaseAlgorithm], heads: set[str], discrete: bool, size: str
) -> None:
    observations, count = SIZES[size]
    actions = spaces.Discrete(max(count, 2)) if discrete else spaces.Box(-1, 1, (count,), np.float32)
    agent = agent_of(algorithm, observations, actions, reg=Spectral())
    assert agent.heads() == heads
    check(agent, heads)


def test_no_algorithm_is_missing() -> None:
    everything = {cls for room in (sb3, sb3_contrib) for cls in vars(room).values() if isinstance(cls, type)}
    algorithms = {cls for cls in everything if issubclass(cls, BaseAlgorithm)}
    assert algorithms - ALGORITHMS.keys() == {sb3_contrib.ARS}  # which has no optimizer


@pytest.mark.parametrize(
    ("algorithm", "policy", "heads"),
    [
        (sb3.PPO, {"use_expln": True}, ACTOR_CRITIC),
        (sb3.PPO, {"net_arch": []}, ACTOR_CRITIC),
        (sb3.DQN, {"net_arch": []}, {"q_net.q_net.0"}),
        (sb3.SAC, {"net_arch": [8]}, {*ACTOR, "critic.qf0.2", "critic.qf1.2"}),
        (sb3.TD3, {"net_arch": [8], "n_critics": 3}, {"actor.mu.2", *(f"critic.qf{i}.2" for i in range(3))}),
    ],
)
def test_other_shapes_of_policies(algorithm: type[BaseAlgorithm], policy: dict[str, Any], heads: set[str]) -> None:
    actions = spaces.Discrete(6) if algorithm is sb3.DQN else spaces.Box(-1, 1, (6,), np.float32)
    assert agent_of(algorithm, 6, actions, policy_kwargs=policy).heads() == heads


def test_state_dependent_exploration_has_its_own_head() -> None:
    agent = agent_of(sb3.SAC, 6, spaces.Box(-1, 1, (6,), np.float32), use_sde=True, reg=Spectral())
    assert agent.heads() == {"actor.mu.0", "critic.qf0.4", "critic.qf1.4"}


@pytest.mark.parametrize("cls", [agents.PPO, agents.DQN, agents.SAC])
def test_our_presets_name_theirs(cls: Any) -> None:
    actions = spaces.Box(-1, 1, (6,), np.float32) if cls is agents.SAC else spaces.Discrete(6)
    agent = cls(env=Still(6, actions), reg=Spectral(), device="cpu", **cls.Config().arguments())
    check(agent, agent.heads())


def test_the_optimizer_that_needs_hidden_layers_is_told_too() -> None:
    agent = agent_of(sb3.PPO, 6, spaces.Discrete(64), policy_kwargs={"optimizer_class": Muon})
    (group,) = [group for group in agent.policy.optimizer.param_groups if "ns_steps" in group]
    assert len(group["params"]) == 4
    assert not {id(agent.policy.action_net.weight), id(agent.policy.value_net.weight)} & {
        id(p) for p in group["params"]
    }


def test_plasticity_injection_beside_a_penalty_does_not_move_the_heads() -> None:
    method = Compose(methods=(Spectral(), PlasticityInjection()))
    agent = agent_of(sb3.DQN, 6, spaces.Discrete(6), reg=method)
    agent.on_switch()
    assert agent.policy.q_net.q_net.injections == 1
    assert agent.heads() == {"q_net.q_net.4"}
    spectral, _ = agent.methods["all"].methods
    assert {name for name, what in spectral.coverage().items() if what == "output head"} == {"q_net.q_net.added.0.4"}
    assert spectral.coverage()["q_net.q_net.added.0.2"] == "acted on"
    assert spectral.coverage()["q_net.q_net.2"] == "frozen"


class Plain(ActorCriticPolicy):
    """A policy whose output layers have other names."""

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        self.pi, self.v = self.action_net, self.value_net
        del self.action_net, self.value_net
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1))


def test_a_policy_with_other_names_is_read_like_any_network_with_its_warning() -> None:
    agent = agent_of(sb3.PPO, 8, spaces.Discrete(4), policy=Plain, reg=Spectral())
    assert agent.heads() == set()
    check(agent, {"pi", "v"})
    with pytest.warns(UserWarning, match="^heads: .*'pi' was taken as an output head, but may be hidden"):
        agent_of(sb3.PPO, 8, spaces.Discrete(64), policy=Plain, reg=Spectral())


class Named(Continual, sb3.PPO):
    def heads(self) -> set[str]:
        return {"pi", "v"}


def test_an_override_holds() -> None:
    agent = Named(Plain, Still(8, spaces.Discrete(64)), reg=Spectral(), device="cpu")
    check(agent, {"pi", "v"})
    with pytest.raises(ValueError, match=r"^heads\(\): the policy has no layer 'pi'"):
        Named(ActorCritic, Still(8, spaces.Discrete(64)), reg=Spectral(), device="cpu")
