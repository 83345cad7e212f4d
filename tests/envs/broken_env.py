"""An environment that breaks in a stated way, at a stated step of an episode, in one of several side by side."""

from __future__ import annotations

import os
import time
from typing import Any

import gymnasium as gym
import numpy as np

#: What is wrong with (observation, reward), by name; some do not return at all.
WAYS = {
    "none": lambda observation, reward: (observation, reward),
    "nan": lambda observation, reward: (observation * np.float32([1, np.nan, 1]), reward),
    "infinite": lambda observation, reward: (observation - np.float32([0, 0, np.inf]), reward),
    "reward": lambda observation, reward: (observation, float("nan")),
    "no reward": lambda observation, reward: (observation, None),
    "shape": lambda observation, reward: (observation[:2], reward),
    "one number": lambda observation, reward: (observation[:1], reward),
    "type": lambda observation, reward: (observation.astype(complex), reward),
    "error": lambda observation, reward: ([][3], reward),
    "exit": lambda observation, reward: os._exit(7),
    "hang": lambda observation, reward: time.sleep(600),
}


class Broken(gym.Env[np.ndarray, Any]):
    """Episodes of 60 steps; the observation is (drawn, step, 1).

    Args:
        way: one of ``WAYS``.
        at: the step of an episode in which it breaks; 0 is the reset.
        beside: it breaks only in the environment whose first seed is a multiple of this.
        real: whether the actions are real numbers.
    """

    observation_space = gym.spaces.Box(-100, 100, (3,), np.float32)

    def __init__(self, way: str = "none", at: int = 45, beside: int = 1, real: bool = False, length: int = 60):
        self.way, self.at, self.beside, self.length = way, at, beside, length
        self.action_space = gym.spaces.Box(-1, 1, (1,), np.float32) if real else gym.spaces.Discrete(2)
        self.breaks = False

    def _now(self, reward: float = 0.0) -> tuple[np.ndarray, float]:
        observation = np.array([self.drawn, self.count, 1], np.float32)
        way = self.way if self.breaks and self.count == self.at else "none"
        return WAYS[way](observation, reward)  # type: ignore[return-value]

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.breaks = seed % self.beside == 0
        self.drawn, self.count = self.np_random.uniform(), 0
        return self._now()[0], {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.count += 1
        observation, reward = self._now(1.0)
        return observation, reward, self.count == self.length, False, {}


ID = "Broken-v0"
if ID not in gym.registry:
    gym.register(ID, Broken, disable_env_checker=True)
