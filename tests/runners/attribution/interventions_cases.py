"""Agents to intervene in: the algorithms of the tests of ``agents``, and networks of other kinds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from agent_zoo import CASES, OFF_POLICY, PPO
from gymnasium import spaces
from stable_baselines3.common.torch_layers import NatureCNN
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from neoteny import agents


class Pictures(gym.Env[Any, Any]):
    """Random pictures; what is done does not matter."""

    observation_space = spaces.Box(0, 255, (1, 36, 36), np.uint8)

    def __init__(self, continuous: bool = False):
        self.action_space = spaces.Box(-1, 1, (2,), np.float32) if continuous else spaces.Discrete(3)
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return self.observation_space.sample(), 1.0, self.steps >= 10, False, {}


def _of_pictures(cls: Any, settings: Any, continuous: bool = False, **policy: Any) -> Callable[..., Any]:
    def make(seed: int = 0, **more: Any) -> Any:
        kwargs = {"net_arch": [16], "features_extractor_class": NatureCNN, **policy}
        arguments = {**settings, "policy_kwargs": kwargs, "device": "cpu", "seed": seed, **more}
        return cls("CnnPolicy", Pictures(continuous), **arguments)

    return make


def _normalized(seed: int = 0, **more: Any) -> Any:
    env = VecNormalize(DummyVecEnv([lambda: gym.make("Pendulum-v1")]))
    arguments = {**PPO, "policy_kwargs": {"net_arch": [16, 16], "activation_fn": torch.nn.ReLU}, "seed": seed, **more}
    return agents.PPO("ActorCritic", env, device="cpu", **arguments)


#: Functions that make a new agent, given a seed and a ``reg``; all learn within 60 steps.
MAKERS: dict[str, Callable[..., Any]] = {
    **{name: case.make for name, case in CASES.items()},
    "ppo-normalized": _normalized,
    "ppo-shared-cnn": _of_pictures(agents.PPO, PPO),
    "ppo-two-cnns": _of_pictures(agents.PPO, PPO, share_features_extractor=False),
    "dqn-cnn": _of_pictures(agents.DQN, OFF_POLICY),
    "sac-cnn": _of_pictures(agents.SAC, OFF_POLICY, continuous=True),
}

PARTS = {
    "ppo": "actor-head critic-head actor-torso critic-torso",
    "ppo-continuous": "actor-head critic-head actor-torso critic-torso",
    "ppo-normalized": "actor-head critic-head actor-torso critic-torso",
    "recurrent-ppo": "actor-head critic-head actor-torso critic-torso",
    "a2c": "actor-head critic-head actor-torso critic-torso",
    "dqn": "critic-head critic-torso",
    "qrdqn": "critic-head critic-torso",
    "sac": "actor-head critic-head actor-torso critic-torso",
    "ppo-shared-cnn": "actor-head critic-head actor-torso critic-torso encoder",
    "ppo-two-cnns": "actor-head critic-head actor-torso critic-torso encoder",
    "dqn-cnn": "critic-head critic-torso encoder",
    "sac-cnn": "actor-head critic-head actor-torso critic-torso encoder",
}
#: What each can do beside making fresh its parts, the optimizer's state, and what is asked of spectra.
MORE = {
    "dqn": "replay",
    "qrdqn": "replay",
    "dqn-cnn": "replay",
    "sac": "replay coefficients",
    "sac-cnn": "replay coefficients",
    "ppo-normalized": "normalization",
}


def trained(name: str, **more: Any) -> Any:
    """An agent that has learned for 60 steps."""
    agent = MAKERS[name](**more)
    agent.learn(60)
    return agent
