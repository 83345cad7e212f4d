"""A task sequence as a stable-baselines3 ``VecEnv``."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from neoteny.envs.info import NEW_TASK, of_one
from neoteny.envs.shifts import Array
from neoteny.envs.tasks import Segment, TaskSequence
from neoteny.envs.vector import ContinualVectorEnv


class ContinualVecEnv(VecEnv):
    """:class:`~neoteny.envs.vector.ContinualVectorEnv` behind stable-baselines3's ``VecEnv`` interface.

    Takes the same arguments. At the end of an episode ``infos[i]`` has ``terminal_observation``,
    ``TimeLimit.truncated`` and, unless a task switch truncated the episode, ``episode`` with its return ``r``, its
    length ``l`` and ``segment``, the index of the segment it ended in. Where a game is over, it has ``game`` with its
    score ``r`` and its length ``l`` and, if the environment says it, ``is_success``; see
    :class:`~neoteny.envs.tally.Tally`. Where a task begins, ``infos`` or, after a reset, ``reset_infos`` have
    ``new_task`` and ``new_task_steps``.
    """

    def __init__(self, sequence: TaskSequence, num_envs: int = 1, seed: int = 0, **kwargs: Any):
        self.vector = ContinualVectorEnv(sequence, num_envs, seed, **kwargs)
        self._actions: Array = np.empty(0)
        self._nothing: list[dict[str, Any]] = [{} for _ in range(num_envs)]
        super().__init__(num_envs, self.vector.single_observation_space, self.vector.single_action_space)

    @property
    def segment(self) -> Segment:
        """The current segment of the sequence."""
        return self.vector.segment

    def start(self, index: int) -> Array:
        """Start the ``index``-th segment with fresh environments. Returns the first observations."""
        return self.vector.start(index)

    def seek(self, index: int) -> None:
        """Make the next :meth:`reset` start the ``index``-th segment."""
        self.vector.seek(index)
        self._seeds = [None] * self.num_envs

    def enter(self, segment: Segment) -> None:
        """Make the next :meth:`reset` start ``segment``, which may be one of your own."""
        self.vector.enter(segment)
        self._seeds = [None] * self.num_envs

    def reset(self) -> VecEnvObs:
        seed, self._seeds = self._seeds[0], [None] * self.num_envs
        observations, info = self.vector.reset(seed=seed)
        self.reset_infos = [of_one(info, NEW_TASK, i) for i in range(self.num_envs)]
        return observations

    def step_async(self, actions: Array) -> None:
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        segment = self.vector.segment
        observations, rewards, terminated, truncated, info = self.vector.step(self._actions)
        rewards = rewards.astype(np.float32, copy=False)
        if "final_obs" not in info:
            return observations, rewards, terminated, self._nothing
        infos = self._nothing.copy()
        cut = truncated & ~terminated
        for i in np.flatnonzero(info["_final_obs"]):
            infos[i] = {"terminal_observation": info["final_obs"][i], "TimeLimit.truncated": bool(cut[i])}
            infos[i] |= of_one(info, NEW_TASK, int(i))
            if info["_return"][i]:
                infos[i]["episode"] = {"r": info["return"][i].item(), "l": info["length"][i].item()}
                infos[i]["episode"]["segment"] = segment.index
        for i in np.flatnonzero(info["_score"]):
            game = {"r": info["score"][i].item(), "l": info["game_length"][i].item()}
            solved = {"is_success": info["success"][i].item()} if "success" in info else {}
            infos[i] = {**infos[i], "game": game, **solved}
        return observations, rewards, terminated | truncated, infos

    def close(self) -> None:
        self.vector.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        value = None if attr_name == "render_mode" else getattr(self.vector, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        raise NotImplementedError("the environments of a task sequence are set by its tasks")

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        if method_name != "action_masks":
            raise NotImplementedError(
                f"{method_name}: of the environments of a task sequence, only action_masks can be called"
            )
        masks = self.vector.action_masks()
        return [masks[i] for i in self._get_indices(indices)]

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        return [False for _ in self._get_indices(indices)]
