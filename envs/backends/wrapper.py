"""What stands between a Python environment and its backend, also in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from neoteny.configs import ConfigError
from neoteny.envs.backends.faults import EnvironmentFault, raised
from neoteny.envs.shifts import Array, get_parameter, set_parameters
from neoteny.envs.suites import minigrid

#: The key of ``info`` under which an environment's fault comes, also from another process.
FAULT = "neoteny_fault"


class Adjustable(gym.Wrapper[Any, Any, Any, Any]):
    """A wrapper to read and change an environment's dynamics and to read its masks, also from another process.

    What the environment gives is held to its space. A fault comes as ``info[FAULT]``, with an observation of zeros: an
    error raised in a worker process would end it, with a traceback.
    """

    def __init__(self, env: gym.Env[Any, Any]):
        super().__init__(env)
        space = env.observation_space
        self._blank = np.zeros(space.shape or (), space.dtype)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        try:
            observation, info = self.env.reset(seed=seed, options=options)
            return self._checked(observation), info
        except ConfigError:
            raise
        except Exception as error:
            return self._blank, {FAULT: raised("reset", error)}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        try:
            observation, reward, terminated, truncated, info = self.env.step(action)
            return self._checked(observation), _number(reward), terminated, truncated, info
        except ConfigError:
            raise
        except Exception as error:
            return self._blank, 0.0, False, True, {FAULT: raised("step", error)}

    def _checked(self, observation: Any) -> Array:
        found, space = np.asarray(observation), self._blank
        if found.shape != space.shape:
            raise EnvironmentFault(f"the observation has the shape {found.shape}, its space has {space.shape}")
        if found.dtype != space.dtype and not np.can_cast(found.dtype, space.dtype, "same_kind"):
            raise EnvironmentFault(f"the observation is of {found.dtype}, its space of {space.dtype}")
        return found

    def masks(self) -> Array | None:
        """What the environment's own ``action_masks()`` gives; None if it has no such method."""
        return self.env.get_wrapper_attr("action_masks")() if self.env.has_wrapper_attr("action_masks") else None

    def mission(self) -> str | None:
        """The text of a MiniGrid environment."""
        return self.env.mission if isinstance(self.env, minigrid.CellImage) else None

    def parameter(self, name: str) -> float | ConfigError:
        """The value, or the error: raised in a worker process, an error would end it with a traceback."""
        try:
            return get_parameter(self.unwrapped, name)
        except ConfigError as error:
            return error

    def set_parameters(self, values: Mapping[str, float]) -> None:
        set_parameters(self.unwrapped, values)


def _number(reward: Any) -> float:
    try:
        return float(reward)
    except (TypeError, ValueError) as error:
        raise EnvironmentFault(f"the reward is {reward!r}, a number is needed") from error


def raise_fault(info: dict[str, Any]) -> None:
    """Raise the fault in ``info``, if there is one."""
    if FAULT in info:
        index = int(np.flatnonzero(info[f"_{FAULT}"])[0])
        fault: EnvironmentFault = info.pop(FAULT)[index]  # out of the array: arrays in a circle are never collected
        fault.index = index
        raise fault
