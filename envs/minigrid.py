"""MiniGrid: its observation as the agents see it."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import minigrid  # noqa: F401  (registers the MiniGrid environments with Gymnasium)
import numpy as np
from gymnasium import spaces
from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX, STATE_TO_IDX
from minigrid.minigrid_env import MiniGridEnv

from configs import ConfigError
from envs.shifts import Array

#: The 7×7 cells in front of the agent, each an (object, colour, state) of indices. The bounds are the true ones, so
#: that an encoder knows how many values each entry takes, and nobody mistakes the cells for the pixels of a picture.
SPACE = spaces.Box(
    low=0,
    high=np.broadcast_to(
        np.array([max(d.values()) for d in (OBJECT_TO_IDX, COLOR_TO_IDX, STATE_TO_IDX)], np.uint8), (7, 7, 3)
    ),
    dtype=np.uint8,
)


def is_minigrid(env: gym.Env[Any, Any]) -> bool:
    return isinstance(env.unwrapped, MiniGridEnv)


def cells(image: spaces.Space[Any]) -> spaces.Box:
    """:data:`SPACE`, where it is what the environment shows.

    Raises:
        ConfigError: the agent's view has another size.
    """
    if image.shape != SPACE.shape:
        raise ConfigError(f"kwargs: an agent sees {SPACE.shape} cells, here it would be {image.shape}")
    return SPACE


class CellImage(gym.ObservationWrapper[Array, Any, dict[str, Any]]):
    """A Python MiniGrid environment's ``image`` alone, in :data:`SPACE`."""

    def __init__(self, env: gym.Env[Any, Any]):
        super().__init__(env)
        assert isinstance(env.observation_space, spaces.Dict)
        self.observation_space = cells(env.observation_space["image"])

    def observation(self, observation: dict[str, Any]) -> Array:
        return observation["image"]
