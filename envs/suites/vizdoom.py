"""ViZDoom (Wydmuch et al., 2019, arXiv 1809.03470): scenarios of Doom, as ``Vizdoom/<Scenario>-v1``.

EnvPool (1.2.5) runs them too, but pays rewards of its own instead of the scenarios'.
"""

from __future__ import annotations

import contextlib
from tempfile import TemporaryDirectory
from typing import Any

import gymnasium as gym
import numpy as np
import vizdoom.gymnasium_wrapper  # noqa: F401  (registers the scenarios with Gymnasium)
from gymnasium import spaces
from vizdoom import ScreenFormat, ScreenResolution

from neoteny.envs.shifts import Array

SCENARIOS = (
    "Basic", "DeadlyCorridor", "DefendCenter", "DefendLine", "HealthGathering", "HealthGatheringSupreme", "MyWayHome",
    "PredictPosition", "TakeCover",
)  # fmt: skip


class Screen(gym.Wrapper[Any, Any, Any, Any]):
    """The screen alone, in grey: 60×80 pixels, uint8, each the mean of four of the game's.

    After its end a game has no screen any more: the last observation of an episode is the one before it. ViZDoom calls
    an episode that its time limit ends both truncated and terminated; here it is truncated.

    The game writes its settings to the folder in which the first reset starts it: here a temporary one.
    """

    def __init__(self, env: gym.Env[Any, Any]):
        super().__init__(env)
        self._folder = TemporaryDirectory(prefix="vizdoom-")
        self.observation_space = spaces.Box(0, 255, (60, 80), np.uint8)

    def _shrunk(self, observation: dict[str, Array]) -> Array:
        self._last = observation["screen"].reshape(60, 2, 80, 2).mean(axis=(1, 3)).astype(np.uint8)
        return self._last

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        with contextlib.chdir(self._folder.name):
            observation, info = self.env.reset(seed=seed, options=options)
        return self._shrunk(observation), info

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        seen = self._last if terminated or truncated else self._shrunk(observation)
        return seen, float(reward), terminated and not truncated, truncated, info

    def close(self) -> None:
        super().close()
        self._folder.cleanup()


def scenario(name: str, frame_skip: int = 4, stack: int = 4, **kwargs: Any) -> gym.Env[Array, Any]:
    """A scenario with its own rewards. Observations are the last ``stack`` screens, (stack, 60, 80).

    Args:
        name: one of :data:`SCENARIOS`.
        frame_skip: an action is repeated for so many frames.
        stack: number of screens.
        kwargs: for ViZDoom's own environment: ``max_buttons_pressed`` (1: an action is one button, or none), ...
    """
    look: dict[str, Any] = {"screen_format": ScreenFormat.GRAY8, "screen_resolution": ScreenResolution.RES_160X120}
    env = gym.make(f"Vizdoom{name}-v1", frame_skip=frame_skip, **look, **kwargs)
    return gym.wrappers.FrameStackObservation(Screen(env.unwrapped), stack)


for _name in SCENARIOS:
    gym.register(f"Vizdoom/{_name}-v1", entry_point="neoteny.envs.suites.vizdoom:scenario", kwargs={"name": _name})
