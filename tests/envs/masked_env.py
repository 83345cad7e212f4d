"""Environments with rules about which actions are allowed, that end with an error if a rule is broken."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np


class Ruled(gym.Env[Any, int]):
    """Only two of the actions are allowed at a time: those of the numbers shown and, modulo n, the next.

    Numbers are drawn; the reward is 1 for the first of the two. Episodes take seven steps.
    """

    def __init__(self, n: int = 5):
        self.observation_space, self.action_space = gym.spaces.Box(0, 1, (n,)), gym.spaces.Discrete(n)
        self.n = n

    def _show(self) -> Any:
        self.first = int(self.np_random.integers(self.n))
        return np.eye(self.n, dtype=np.float32)[self.first]

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self._show(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_masks()[action], f"{action} is not allowed at {self.first}"
        self.steps += 1
        reward = float(action == self.first)
        return self._show(), reward, self.steps == 7, False, {}

    def action_masks(self) -> Any:
        allowed = np.zeros(self.n, bool)
        allowed[[self.first, (self.first + 1) % self.n]] = True
        return allowed


class Misruled(Ruled):
    """Its masks have one entry too many."""

    def action_masks(self) -> Any:
        return np.ones(self.n + 1, bool)


class Few(gym.Env[Any, int]):
    """Two actions, no masks of its own. A third ends with an error."""

    observation_space, action_space = gym.spaces.Box(0, 1, (5,)), gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(5, np.float32), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return np.zeros(5, np.float32), float(action), bool(self.np_random.random() < 0.2), False, {}


RULED, MISRULED, FEW = "Ruled-v0", "Misruled-v0", "Few-v0"
for name, cls in ((RULED, Ruled), (MISRULED, Misruled), (FEW, Few)):
    if name not in gym.registry:
        gym.register(name, cls, disable_env_checker=True)
