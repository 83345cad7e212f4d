"""The sequence as one vector environment, which goes from task to task by step count."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from configs import ConfigError
from envs.backends import Backend, make_backend
from envs.sequence import Segment, Task, TaskSequence
from envs.shifts import Array, Transform


class ContinualVectorEnv(VectorEnv[Array, Array, Array]):
    """``num_envs`` copies of the current task of a :class:`TaskSequence`, as a Gymnasium vector environment.

    At the end of a segment every running episode ends *truncated*, with its last observation in
    ``info["final_obs"]``, and the observations returned are the first ones of the next segment. After the last
    segment the last task goes on.

    Episodes reset in the step in which they end (Gymnasium's ``SAME_STEP``). ``info["episode"]`` holds the return
    ``r`` and the length ``l`` of the episodes that came to their own end, where ``info["_episode"]`` is true: an
    episode cut short by a switch has no return.

    Args:
        sequence: the tasks.
        num_envs: parallel copies.
        seed: of the run. Each segment's environments are seeded from it and the segment's place in the chain.
        segment_steps: cut tasks into segments of at most this many steps; by default one per task.
        multiple_of: round each segment up to a multiple of this many steps (a rollout).
        threads: EnvPool's worker threads; they do not change the trajectories.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(
        self,
        sequence: TaskSequence,
        num_envs: int = 1,
        seed: int = 0,
        segment_steps: int | None = None,
        multiple_of: int | None = None,
        threads: int = 1,
    ):
        if num_envs < 1:
            raise ConfigError(f"num_envs: at least 1 is needed, got {num_envs}")
        self.sequence = sequence
        self.num_envs = num_envs
        self.run_seed = seed
        self.threads = threads
        self.segments = sequence.segments(segment_steps, multiple_of or num_envs)
        self._backend: Backend | None = None
        self._transforms: list[Transform] = []
        self._check_spaces()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.segment: Segment = self.segments[0]
        self.steps_left = self.segment.steps

    def _check_spaces(self) -> None:
        """One environment of each different task is made, so that whatever cannot run says so before anything does."""
        checked: list[Task] = []
        for visit in self.sequence.visits:
            if visit.task in checked:
                continue
            checked.append(visit.task)
            backend = make_backend(visit.task, 1, 0)
            self._bind(visit.task.shifts, backend, visit.rng(self.sequence.seed))
            backend.close()
            spaces = {"observation": backend.observation_space, "action": backend.action_space}
            for kind, space in spaces.items():
                if not isinstance(space, (Box, Discrete, MultiBinary, MultiDiscrete)):
                    raise ConfigError(f"tasks: {visit.task.env} has the {kind} space {space}; one array is needed")
            if len(checked) == 1:
                shared = spaces
            for kind, space in spaces.items():
                if space != shared[kind]:
                    raise ConfigError(
                        f"tasks: all tasks of a sequence need one {kind} space; "
                        f"{checked[0].env} has {shared[kind]}, {visit.task.env} has {space}"
                    )
        self.single_observation_space, self.single_action_space = shared["observation"], shared["action"]

    @staticmethod
    def _bind(shifts: tuple[Any, ...], backend: Backend, rng: np.random.Generator) -> list[Transform]:
        return [shift.bind(backend.observation_space, rng) for shift in shifts]

    def seek(self, index: int) -> None:
        """Let the next :meth:`reset` begin the ``index``-th segment."""
        self.close_extras()
        self.segment = self.segments[index]

    def start(self, index: int) -> Array:
        """Begin the ``index``-th segment anew; its first observations."""
        self.seek(index)
        visit = self.segment.visit
        seed = self.segment.seed(self.run_seed)
        self._backend = make_backend(visit.task, self.num_envs, seed, self.threads)
        self._transforms = self._bind(visit.task.shifts, self._backend, visit.rng(self.sequence.seed))
        self.steps_left = self.segment.steps
        return self._begin(self._backend.reset())

    def _begin(self, observations: Array) -> Array:
        self._returns = np.zeros(self.num_envs)
        self._lengths = np.zeros(self.num_envs, np.int64)
        return self._observe(observations)

    def _observe(self, observations: Array) -> Array:
        for transform in self._transforms:
            observations = transform.observation(observations)
        return observations

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """New episodes. With a seed, or the first time, also a new beginning of the current segment."""
        if seed is not None:
            self.run_seed = seed
        if seed is not None or self._backend is None:
            return self.start(self.segment.index), {}
        return self._begin(self._backend.reset()), {}

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        assert self._backend is not None, "reset() comes before step()"
        for transform in reversed(self._transforms):
            actions = transform.action(actions)
        observations, rewards, terminated, truncated = self._backend.step(actions)
        for transform in self._transforms:
            rewards = transform.reward(rewards)
        self._returns += rewards
        self._lengths += 1
        self.steps_left -= self.num_envs
        ended = terminated | truncated
        switch = self.steps_left <= 0 and self.segment.index + 1 < len(self.segments)
        if not switch and not ended.any():
            return self._observe(observations), rewards, terminated, truncated, {}
        if switch:
            truncated = ~terminated
        info = self._ending(observations, ended, terminated | truncated)
        if switch:
            return self.start(self.segment.index + 1), rewards, terminated, truncated, info
        self._backend.reset_where(ended, observations)
        return self._observe(observations), rewards, terminated, truncated, info

    def _ending(self, observations: Array, ended: Array, last: Array) -> dict[str, Any]:
        """The info of a step in which episodes came to their end (``ended``) or were cut short (others in ``last``)."""
        final = np.full(self.num_envs, None, dtype=object)
        rows = np.flatnonzero(last)
        final[rows] = list(self._observe(observations[rows]))
        episode = {"r": self._returns.copy(), "l": self._lengths.copy()}
        self._returns[last] = 0.0
        self._lengths[last] = 0
        return {"final_obs": final, "_final_obs": last, "episode": episode, "_episode": ended}

    def close_extras(self, **kwargs: Any) -> None:
        if self._backend is not None:
            self._backend.close()
            self._backend = None
