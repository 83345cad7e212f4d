"""Registers the presets of ``configs/envs`` as Gymnasium ids.

.. code-block:: python

    import gymnasium as gym
    import neoteny.envs

    env = gym.make("neoteny/minigrid-seq-v0", seed=1)  # one environment that switches tasks
    vector = gym.make_vec("neoteny/minigrid-seq-v0", num_envs=8, vectorization_mode="vector_entry_point")

Both take ``seed``, ``steps_per_task``, ``num_tasks``, ``copies`` (how many of them share the budgets) and
``render_mode="rgb_array"``.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from neoteny import configs
from neoteny.envs.info import NEW_TASK, of_one
from neoteny.envs.shifts import Array
from neoteny.envs.tasks import Segment, TaskSequence
from neoteny.envs.vector import ContinualVectorEnv

#: What ``info`` says at the end of an episode or a game.
ENDS = ("return", "length", "score", "game_length", "success")


def make_vec(
    num_envs: int, preset: str, steps_per_task: int | None = None, num_tasks: int | None = None, **kwargs: Any
) -> ContinualVectorEnv:
    """The entry point of ``gym.make_vec``. ``kwargs`` go to :class:`~neoteny.envs.vector.ContinualVectorEnv`."""
    sequence = TaskSequence.load(preset).resized(steps_per_task, num_tasks)
    return ContinualVectorEnv(sequence, num_envs, **kwargs)


class ContinualEnv(gym.Env[Array, Any]):
    """A task sequence as one Gymnasium environment, which switches tasks by step count.

    At a switch the running episode is truncated. After its budget, the last task continues.
    ``info["task"]`` is the index of the visit, ``info["env_id"]`` its environment, and ``info["task_id"]`` the index of
    the task in the sequence. At a switch, and at the first reset, ``info["new_task"]`` is the index of the visit that
    begins and ``info["new_task_steps"]`` its steps; not if the sequence's switches are hidden. At the end of an episode
    ``info`` also has its ``return`` and ``length`` and, if the game is over, ``score``, ``game_length`` and
    ``success``, see :class:`~neoteny.envs.tally.Tally`.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012

    def __init__(self, **kwargs: Any):
        self._vector = make_vec(num_envs=1, **kwargs)
        self.metadata = {**self.metadata, "render_modes": self._vector.metadata["render_modes"]}
        self.render_mode = self._vector.render_mode
        self.observation_space = self._vector.single_observation_space
        self.action_space = self._vector.single_action_space
        self._waiting: Array | None = None  # the first observation of the next episode, once one has ended

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Start the next episode. A seed re-creates the current task's environments, but not its step count."""
        super().reset(seed=seed)
        begins: dict[str, Any] = {}
        if seed is not None or self._waiting is None:
            steps_left = self._vector.steps_left
            self._waiting, info = self._vector.reset(seed=seed)
            if self._vector.steps_left == steps_left:
                begins = of_one(info, NEW_TASK)
            self._vector.steps_left = steps_left
        observations, self._waiting = self._waiting, None
        return observations[0], self._info(self._vector.segment) | begins

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        if self._waiting is not None:
            raise gym.error.ResetNeeded("the episode has ended: call reset() before the next step()")
        segment = self._vector.segment
        observations, rewards, terminations, truncations, info = self._vector.step(np.asarray(action)[None])
        terminated, truncated = bool(terminations[0]), bool(truncations[0])
        if terminated or truncated:
            self._waiting, observations = observations, info["final_obs"]
        more = of_one(info, ENDS + NEW_TASK)
        return observations[0], float(rewards[0]), terminated, truncated, self._info(segment) | more

    def render(self) -> Array:
        """A frame, (height, width, 3), uint8; once an episode has ended, its last one."""
        frames = self._vector.render() if self._waiting is None else self._vector.final_frames
        return frames[0]

    def action_masks(self) -> Array:
        """The actions allowed next, see :meth:`~neoteny.envs.vector.ContinualVectorEnv.action_masks`."""
        masks: Array = self._vector.action_masks()[0]
        return masks

    @staticmethod
    def _info(segment: Segment) -> dict[str, Any]:
        return {"task": segment.visit.index, "env_id": segment.visit.task.env, "task_id": segment.visit.task_id}

    def close(self) -> None:
        self._vector.close()


def register() -> None:
    """Register every preset as ``neoteny/<preset>-v0``."""
    for name in configs.names("envs"):
        gym.register(
            f"neoteny/{name}-v0",
            entry_point="neoteny.envs.registration:ContinualEnv",
            vector_entry_point="neoteny.envs.registration:make_vec",
            kwargs={"preset": name},
        )
