"""Where a shift is bound in a test, and what a chain of them does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from gymnasium import spaces

from neoteny.configs import ConfigError
from neoteny.envs.shifts import Clock, Shift, Site, Transform

PIXELS = spaces.Box(0, 255, (2, 2, 3), np.uint8)
CELLS = spaces.Box(0, np.broadcast_to(np.array([10, 5, 2], np.uint8), (7, 7, 3)), dtype=np.uint8)


def real(low: Any, high: Any, dtype: Any = np.float32) -> spaces.Box:
    return spaces.Box(np.array(low, dtype), np.array(high, dtype), dtype=dtype)


def out_of_reach(name: str) -> float:
    raise ConfigError(f"{name}: this backend cannot change it")


def site(
    observation: Any = None,
    action: Any = None,
    num_envs: int = 2,
    seed: int = 0,
    rng: np.random.Generator | None = None,
    noise: int = 0,
    steps: int = 0,
    parameter: Callable[[str], float] = out_of_reach,
) -> Site:
    return Site(
        observation_space=spaces.Box(-np.inf, np.inf, (3,)) if observation is None else observation,
        action_space=spaces.Discrete(4) if action is None else action,
        num_envs=num_envs,
        rng=np.random.default_rng(seed) if rng is None else rng,
        noise=np.random.default_rng([1, noise]),
        clock=Clock(steps),
        parameter=parameter,
    )


def chain(shifts: list[Shift], where: Site) -> tuple[list[Transform], spaces.Space[Any]]:
    """Each shift bound to what the ones before it leave, and the space that the agent sees at last."""
    transforms = []
    for shift in shifts:
        transforms.append(shift.bind(where))
        where = replace(where, observation_space=transforms[-1].observation_space or where.observation_space)
    return transforms, where.observation_space
