"""Meta-World v3 (McLean et al., 2025, arXiv 2505.11289): fifty tasks of a robot arm, as ``Meta-World/<task>-v3``.

EnvPool (1.2.5) has them under other names, but adds the drawn position to the previous one at each reset, so that the
nail of Hammer and the shelf of ShelfPlace are out of reach from the second episode on.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import metaworld
import numpy as np
from gymnasium import spaces
from metaworld.env_dict import ALL_V3_ENVIRONMENTS


class RandomPlaces(gym.Wrapper[Any, Any, Any, Any]):
    """Draws new object and goal positions in each episode, from the seed given to ``reset``."""

    def __init__(self, task: str, **kwargs: Any):
        env = ALL_V3_ENVIRONMENTS[task](**kwargs)
        env.set_task(metaworld.MT1(task, seed=1).train_tasks[0])  # makes the goal observable
        env._freeze_rand_vec = False
        env.seeded_rand_vec = True
        super().__init__(env)
        # The environment computed its own space while the goal was hidden, so that has no goal in it.
        self.observation_space = spaces.Box(-np.inf, np.inf, env.observation_space.shape, np.float64)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        if seed is not None:
            self.unwrapped.seed(seed)  # type: ignore[attr-defined]
        return self.env.reset(options=options)


for _task in ALL_V3_ENVIRONMENTS:
    gym.register(
        f"Meta-World/{_task}", entry_point="neoteny.envs.suites.metaworld:RandomPlaces", kwargs={"task": _task}
    )
