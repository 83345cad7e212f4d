"""MiniGrid: the observation that the agents get, and additional environments.

Registered here: ``neoteny/TwoGoals-v0``, and ``fixed/<id>`` for every MiniGrid id, which always has the same layout.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import minigrid  # noqa: F401  (registers the MiniGrid environments with Gymnasium)
import numpy as np
from gymnasium import spaces
from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX, STATE_TO_IDX
from minigrid.core.grid import Grid
from minigrid.core.mission import MissionSpace
from minigrid.core.world_object import Goal
from minigrid.minigrid_env import MiniGridEnv

from neoteny.configs import ConfigError
from neoteny.envs.shifts import Array

#: The 7×7 cells in front of the agent, each an (object, colour, state) of indices. The bounds are exact, so that an
#: encoder knows how many values each entry takes and does not mistake the cells for pixels.
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
    """Returns :data:`SPACE`, if the environment's image space ``image`` has its shape.

    Raises:
        ConfigError: the agent's view has another size.
    """
    if image.shape != SPACE.shape:
        raise ConfigError(f"kwargs: an agent sees {SPACE.shape} cells, here it would be {image.shape}")
    return SPACE


class CellImage(gym.ObservationWrapper[Array, Any, dict[str, Any]]):
    """Keeps only the ``image`` of a Python MiniGrid environment's observation, in :data:`SPACE`.

    Attributes:
        mission: the text beside the last observation.
    """

    def __init__(self, env: gym.Env[Any, Any]):
        super().__init__(env)
        self.mission = ""
        assert isinstance(env.observation_space, spaces.Dict)
        self.observation_space = cells(env.observation_space["image"])

    def observation(self, observation: dict[str, Any]) -> Array:
        self.mission = observation["mission"]
        return observation["image"]


class TwoGoals(MiniGridEnv):
    """A map with two goals, of which only one is rewarded. :attr:`goal` says which; it cannot be observed.

    An 8×8 room with a pillar of 2×2 walls in its middle and the goals in opposite corners: goal 0 is green and at the
    top right, goal 1 is blue and at the bottom left. An episode starts at a random position and direction and ends at
    either goal. The rewarded goal gives MiniGrid's 1 − 0.9 · steps / ``max_steps``, the other one 0. After the two
    goals of Anand and Precup (2023, arXiv 2312.11669), on a map of our own.

    Args:
        goal: the rewarded goal, 0 or 1. The attribute of this name can be set at any time, also within an episode; it
            is checked when an episode starts.
        max_steps: an episode is truncated after this many steps.

    Raises:
        ConfigError: there is no such goal.
    """

    PLACES = ((6, 1), (1, 6))
    COLORS = ("green", "blue")

    def __init__(self, goal: int = 0, max_steps: int = 100, **kwargs: Any):
        self.goal = goal
        self._check_goal()
        mission = MissionSpace(mission_func=lambda: "go to the goal that pays")
        super().__init__(mission_space=mission, grid_size=8, max_steps=max_steps, **kwargs)

    def _check_goal(self) -> None:
        if self.goal not in (0, 1):
            raise ConfigError(f"goal: there are two, 0 and 1, got {self.goal!r}")

    def _gen_grid(self, width: int, height: int) -> None:
        self._check_goal()
        self.grid = Grid(width, height)
        self.grid.wall_rect(0, 0, width, height)
        self.grid.wall_rect(3, 3, 2, 2)
        for place, color in zip(self.PLACES, self.COLORS, strict=True):
            tile = Goal()
            tile.color = color
            self.put_obj(tile, *place)
        self.place_agent()
        self.mission = "go to the goal that pays"

    def _reward(self) -> float:
        return super()._reward() if tuple(self.agent_pos) == self.PLACES[self.goal] else 0.0


class OneLayout(gym.Wrapper[Any, Any, Any, Any]):
    """Starts every episode in the same state, given by the seed ``layout``. Other seeds are ignored."""

    def __init__(self, env: gym.Env[Any, Any], layout: int):
        super().__init__(env)
        self.layout = layout

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        return self.env.reset(seed=self.layout, options=options)


def one_layout(env: str, layout: int = 0, **kwargs: Any) -> OneLayout:
    """The MiniGrid environment ``env``, always with the layout of the seed ``layout``."""
    return OneLayout(gym.make(env, **kwargs).unwrapped, layout)


gym.register("neoteny/TwoGoals-v0", entry_point="neoteny.envs.suites.minigrid:TwoGoals")
for _id in [name for name in gym.registry if name.startswith("MiniGrid-")]:
    gym.register(f"fixed/{_id}", entry_point="neoteny.envs.suites.minigrid:one_layout", kwargs={"env": _id})
