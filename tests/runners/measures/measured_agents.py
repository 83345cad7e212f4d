"""Small agents of every algorithm, and a run of theirs in which instruments are read after every rollout."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable
from types import ModuleType
from typing import Any

import gymnasium as gym
import numpy as np
import sb3_contrib
import stable_baselines3 as sb3
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor, nn

from neoteny import agents
from neoteny.agents import Continual
from neoteny.runners.measures import Panel

VECTOR, IMAGE = spaces.Box(-1, 1, (3,)), spaces.Box(0, 255, (3, 36, 36), np.uint8)
DICT = spaces.Dict({"one": spaces.Box(-1, 1, (2,)), "two": spaces.Discrete(3)})
BOX, DISCRETE = spaces.Box(-1, 1, (2,)), spaces.Discrete(3)


class Signs(gym.Env[Any, Any]):
    """Random observations; the reward is the first entry of the action; episodes are cut after five steps, or end."""

    def __init__(self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any], ends: bool):
        self.observation_space, self.action_space, self.ends = observation_space, action_space, ends

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        over = self.steps == 5
        return (
            self.observation_space.sample(),
            float(np.ravel(action)[0]),
            over and self.ends,
            over and not self.ends,
            {},
        )

    def action_masks(self) -> Any:
        return np.array([True, self.steps % 2 == 0, True])


def environment(observations: spaces.Space[Any] = VECTOR, actions: spaces.Space[Any] = BOX) -> DummyVecEnv:
    """Two, of which the episodes of one are cut and those of the other end."""
    return DummyVecEnv([lambda: Signs(observations, actions, False), lambda: Signs(observations, actions, True)])


def algorithms(package: ModuleType) -> list[type[BaseAlgorithm]]:
    exported = [getattr(package, name) for name in package.__all__]
    return [cls for cls in exported if isinstance(cls, type) and issubclass(cls, BaseAlgorithm)]


#: All that the packages export and that learn with an optimizer, so that a new one has to pass too.
STOCK = [cls for package in (sb3, sb3_contrib) for cls in algorithms(package) if cls is not sb3_contrib.ARS]

#: Settings of a small run, each for the algorithms that take it.
SMALL = {
    "n_steps": 16, "batch_size": 16, "n_epochs": 2, "buffer_size": 200, "learning_starts": 10, "train_freq": 8,
    "target_update_interval": 10, "gradient_steps": 2,
}  # fmt: skip


class Odd(BaseFeaturesExtractor):
    """A user's encoder: a GRU cell and a functional activation, shared by actor and critic."""

    def __init__(self, space: spaces.Space[Any]):
        super().__init__(space, 6)
        self.cell, self.linear = nn.GRUCell(3, 5), nn.Linear(5, 6)

    def forward(self, observations: Tensor) -> Tensor:
        return torch.sin(self.linear(self.cell(observations)))


class Blind(ActorCriticPolicy):
    """A user's policy that cannot be asked for a distribution."""

    def get_distribution(self, obs: Any) -> Any:
        raise ValueError("this policy is asked for actions only")


def make(stock: type[BaseAlgorithm], **more: Any) -> Continual:
    """A continual agent of a stock algorithm, with a policy for vectors."""
    observations, actions = more.pop("observations", VECTOR), more.pop("actions", None)
    if actions is None:
        names = {"DQN", "QRDQN", "MaskablePPO"}
        actions = DISCRETE if names & {cls.__name__ for cls in stock.__mro__} else BOX
    name = more.pop("policy", None) or next(name for name in stock.policy_aliases if name.startswith("Mlp"))
    cls = stock if issubclass(stock, Continual) else type(f"My{stock.__name__}", (Continual, stock), {})
    taken = {name for each in cls.__mro__ if "__init__" in vars(each) for name in inspect.signature(each).parameters}
    if issubclass(cls, OffPolicyAlgorithm):
        taken.discard("n_steps")  # of returns there
    settings = {key: value for key, value in SMALL.items() if key in taken} | {"policy_kwargs": {"net_arch": [8, 8]}}
    return cls(name, environment(observations, actions), seed=0, **settings | more)


def _lstm(**more: Any) -> Continual:
    return make(
        agents.RecurrentPPO,
        policy="RecurrentActorCritic",
        policy_kwargs={"net_arch": [8], "lstm_hidden_size": 6} | more,
    )


#: Further agents, by name.
OTHERS: dict[str, Callable[[], Continual]] = {
    "our PPO": lambda: make(agents.PPO, policy="ActorCritic"),
    "our PPO, discrete": lambda: make(agents.PPO, policy="ActorCritic", actions=DISCRETE),
    "our PPO, several discrete": lambda: make(agents.PPO, actions=spaces.MultiDiscrete([2, 3])),
    "our PPO, bits": lambda: make(agents.PPO, actions=spaces.MultiBinary(3)),
    "our PPO, gSDE": lambda: make(agents.PPO, use_sde=True),
    "our PPO, LayerNorm": lambda: make(
        agents.PPO, policy="ActorCritic", policy_kwargs={"net_arch": [8], "layer_norm": True}
    ),
    "our PPO, CReLU": lambda: make(agents.PPO, policy="ActorCritic", policy_kwargs={"net_arch": [8], "crelu": True}),
    "our PPO, CNN": lambda: make(agents.PPO, policy="CnnPolicy", observations=IMAGE, actions=DISCRETE),
    "our PPO, dicts": lambda: make(agents.PPO, policy="MultiInputPolicy", observations=DICT),
    "our PPO, odd encoder": lambda: make(agents.PPO, policy_kwargs={"net_arch": [8], "features_extractor_class": Odd}),
    "our PPO, no hidden layers": lambda: make(agents.PPO, policy="ActorCritic", policy_kwargs={"net_arch": []}),
    "our DQN": lambda: make(agents.DQN, policy="QPolicy", double=True),
    "our DQN, dicts": lambda: make(agents.DQN, policy="MultiInputPolicy", observations=DICT),
    "our DQN, one array": lambda: make(
        agents.DQN, policy="QPolicy", optimize_memory_usage=True,
        replay_buffer_kwargs={"handle_timeout_termination": False},
    ),
    "our SAC": lambda: make(agents.SAC, policy="SoftActorCritic"),
    "our recurrent PPO": lambda: _lstm(),
    "our recurrent PPO, one LSTM": lambda: _lstm(shared_lstm=True, enable_critic_lstm=False),
    "our recurrent PPO, blind critic": lambda: _lstm(enable_critic_lstm=False),
    "blind": lambda: make(agents.PPO, policy=Blind),
}  # fmt: skip

EVERY: dict[str, Callable[[], Continual]] = OTHERS | {f"sb3 {cls.__name__}": lambda cls=cls: make(cls) for cls in STOCK}  # type: ignore[misc]


class Reader(BaseCallback):
    """Reads a panel's instruments as a run does: begun when a rollout ends, ended when it has been learned from.

    Attributes:
        found: what was read, look by look, and at the first rollout.
    """

    def __init__(self, names: tuple[str, ...] = ("default",)):
        super().__init__()
        self.panel, self.found, self.switch, self.steps = (
            Panel(names, 0),
            list[dict[str, float]](),
            dict[str, float](),
            0,
        )

    def _on_step(self) -> bool:
        self.steps += 1
        return True

    def _on_rollout_end(self) -> None:
        if self.steps == 16:
            self.switch = self.panel.at_switch(self.model, self.steps)  # type: ignore[arg-type]
        self.panel.begin(self.model)  # type: ignore[arg-type]

    def _on_rollout_start(self) -> None:
        if self.panel.begun:
            self.found.append(self.panel.end(self.model))  # type: ignore[arg-type]

    _on_training_end = _on_rollout_start


def global_state() -> list[Any]:
    """All global random states."""
    return [random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()]  # noqa: NPY002


def learn(
    make_agent: Callable[[], Continual], names: tuple[str, ...] = ("default",), steps: int = 96
) -> tuple[Continual, Reader]:
    agent, reader = make_agent(), Reader(names)
    agent.learn(steps, callback=reader)
    return agent, reader
