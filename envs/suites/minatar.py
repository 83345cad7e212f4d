"""MinAtar (Young and Tian, 2019, arXiv 1903.03176): five Atari games on a grid of 10×10 cells.

The ids are those of the package ``minatar``: ``MinAtar/<Game>-v0`` has all six actions, ``-v1`` only those the game
uses, unless it is created with ``use_minimal_action_set=False``.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from minatar import Environment

from neoteny.envs.shifts import Array

GAMES = ("asterix", "breakout", "freeway", "seaquest", "space_invaders")


class MinAtar(gym.Env[Array, Any]):
    """One game. Observations are (10, 10, channels), uint8, with a 1 where the channel's object is.

    The package's own Gymnasium environments have bool observations. They also carry the last action, which sticky
    actions repeat, over to the next episode, so the same seed need not give the same episode.

    Args:
        game: one of :data:`GAMES`.
        use_minimal_action_set: whether to offer only the actions the game uses.
        idle_limit: truncate an episode with a return of 0 after this many steps. In Seaquest, an episode in which the
            agent stays at the surface would never end.
        sticky_action_prob: probability of repeating the last action.
        difficulty_ramping: whether games get harder over time.
        render_mode: ``rgb_array``, or None.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(
        self,
        game: str,
        use_minimal_action_set: bool = False,
        idle_limit: int | None = None,
        render_mode: str | None = None,
        **kwargs: Any,
    ):
        self.render_mode = render_mode
        self._game = Environment(game, **kwargs)
        self._seeded = False
        self._idle_limit = idle_limit
        every = list(range(self._game.num_actions()))
        self._actions = self._game.minimal_action_set() if use_minimal_action_set else every
        self.action_space = spaces.Discrete(len(self._actions))
        self.observation_space = spaces.Box(0, 1, self._game.state_shape(), np.uint8)

    def _observe(self) -> Array:
        return self._game.state().astype(np.uint8)

    def render(self) -> Array:
        """The cells, each 16×16 pixels in the colour of its last object, (160, 160, 3), uint8."""
        from matplotlib import colormaps  # half a second, for those who look only

        state = self._observe()
        channels = np.arange(1, state.shape[-1] + 1)
        colors = colormaps["turbo"](channels / len(channels), bytes=True)[:, :3]
        palette = np.concatenate([np.zeros((1, 3), np.uint8), colors])
        return palette[(state * channels).max(-1)].repeat(16, 0).repeat(16, 1)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None or not self._seeded:
            self._game.seed(int(self.np_random.integers(2**31)))
            self._seeded = True
        self._game.reset()
        self._game.last_action = 0
        self._steps, self._return = 0, 0.0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        reward, terminated = self._game.act(self._actions[action])
        self._steps += 1
        self._return += reward
        idle = self._idle_limit is not None and self._steps >= self._idle_limit and self._return == 0
        return self._observe(), float(reward), bool(terminated), idle, {}


for _game in GAMES:
    for _version, _minimal in enumerate((False, True)):
        gym.register(
            f"MinAtar/{_game.title().replace('_', '')}-v{_version}",
            entry_point="neoteny.envs.suites.minatar:MinAtar",
            kwargs={"game": _game, "use_minimal_action_set": _minimal},
        )
