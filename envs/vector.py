"""A task sequence as one vectorized environment, which switches tasks by step count."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from neoteny.configs import ConfigError
from neoteny.envs.backends import Backend, Step, make_backend, why_not_rendered
from neoteny.envs.backends.faults import EnvironmentFault, FiniteCheck, not_finite
from neoteny.envs.info import everywhere
from neoteny.envs.interface import Interface
from neoteny.envs.sharing import shared_spaces
from neoteny.envs.shifts import Array
from neoteny.envs.tally import Tally
from neoteny.envs.tasks import Segment, TaskSequence

log = logging.getLogger("neoteny.envs")


class ContinualVectorEnv(VectorEnv[Array, Array, Array]):
    """``num_envs`` copies of the current task of a :class:`TaskSequence`, as a Gymnasium vector environment.

    At the end of a segment every running episode is *truncated*, with its last observation in ``info["final_obs"]``,
    and the returned observations are the first of the next segment. After the last segment the last task continues.

    Episodes are reset in the step in which they end (Gymnasium's ``SAME_STEP``). ``info`` has ``task``, the index of
    the visit, and ``env_id``, its environment, of each step; and where episodes end what
    :meth:`Tally.close() <neoteny.envs.tally.Tally.close>` says: ``return`` and ``length`` where ``info["_return"]`` is
    true, ``score`` where ``info["_score"]`` is, ... An episode truncated by a switch has none. Where a task begins
    with what is observed, ``info`` has :data:`~neoteny.envs.info.NEW_TASK`, unless switches are hidden.

    Args:
        sequence: the tasks.
        num_envs: number of parallel environments.
        seed: seed of the run. Each segment's environments are seeded from it and the segment's position.
        segment_steps: split tasks into segments of at most this many steps; by default one segment per task.
        multiple_of: round each segment up to a multiple of this many steps (a rollout).
        threads: worker threads of EnvPool and ALE; they do not change the trajectories.
        advance: go on with the next segment in the step in which one ends. If false, that step only truncates the
            episodes, and the caller starts the next segment with :meth:`seek` and :meth:`reset`.
        copies: how many environments like this one the agent steps side by side. They share the budgets: each step of
            this one counts for all of them.
        timeout: seconds within which worker processes (``backend: async``) have to answer.
        render_mode: ``rgb_array``, to see the environments with :meth:`render`. Tasks run in Python then.

    Attributes:
        overlooked: complaints, also logged: missions that differ between episodes and are not shown.

    Raises:
        ConfigError: a task cannot be created, or not rendered.
        EnvironmentFault: an environment has broken. Observations and rewards are checked at every step: they have to
            be finite and to have their shapes.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012

    def __init__(
        self,
        sequence: TaskSequence,
        num_envs: int = 1,
        seed: int = 0,
        segment_steps: int | None = None,
        multiple_of: int | None = None,
        threads: int = 1,
        advance: bool = True,
        copies: int = 1,
        timeout: float = 300.0,
        render_mode: str | None = None,
    ):
        for name, value in (("num_envs", num_envs), ("copies", copies)):
            if value < 1:
                raise ConfigError(f"{name}: at least 1 is needed, got {value}")
        if render_mode not in (None, "rgb_array"):
            raise ConfigError(f"render_mode: 'rgb_array' or None is needed, got {render_mode!r}")
        self.sequence = sequence
        self.num_envs = num_envs
        self.run_seed = seed
        self.threads = threads
        self.advance = advance
        self.timeout = timeout
        self.render_mode = render_mode
        self._pace = num_envs * copies
        self._multiple = multiple_of or self._pace
        self._coming = sequence.iter_segments(segment_steps, self._multiple)
        self.segments: list[Segment] = [] if sequence.length is None else list(self._coming)
        self._backend: Backend | None = None
        self.shared, self.overlooked = shared_spaces(sequence, seed, render_mode)
        for complaint in self.overlooked:
            log.warning(complaint)
        if any(map(why_not_rendered, sequence.tasks)):
            self.metadata = {**self.metadata, "render_modes": []}
        self.single_observation_space, self.single_action_space = self.shared.observation, self.shared.action
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._finite = {name: FiniteCheck() for name in ("observation", "reward")}
        self._stepping = False  # between a step of the environments and its count
        self.seek(0)

    def _segment(self, index: int) -> Segment | None:
        """The ``index``-th segment, if the sequence is that long."""
        self.segments += itertools.islice(self._coming, max(0, index + 1 - len(self.segments)))
        return self.segments[index] if index < len(self.segments) else None

    def seek(self, index: int) -> None:
        """Make the next :meth:`reset` start the ``index``-th segment.

        Raises:
            IndexError: the sequence has fewer segments.
        """
        segment = self._segment(index)
        if segment is None:
            raise IndexError(f"the sequence has {len(self.segments)} segments, there is none with index {index}")
        self.enter(segment)

    def enter(self, segment: Segment) -> None:
        """Make the next :meth:`reset` start ``segment``, which may be one of your own."""
        self.close_extras()
        self.segment = segment
        self.steps_left = segment.steps

    def start(self, index: int | None = None) -> Array:
        """Start the ``index``-th segment, or the current one, with fresh environments. Returns their observations."""
        self.enter(self.segment) if index is None else self.seek(index)
        visit = self.segment.visit
        seed = self.segment.seed(self.run_seed)
        self.tally = Tally(self.num_envs)
        self._place = everywhere(self.num_envs, task=visit.index, env_id=visit.task.env)
        self._news = {}
        if self.segment.start == 0 and self.sequence.switches != "hidden":
            steps = -(-visit.budget(self._multiple) // self._pace)
            self._news = everywhere(self.num_envs, new_task=visit.index, new_task_steps=steps)
        with self._placing():
            self._backend = make_backend(
                visit.task, self.num_envs, seed, self.threads, render_mode=self.render_mode, timeout=self.timeout
            )
        noise = np.random.default_rng([seed, 1])
        rng = visit.rng(self.sequence.seed)
        self._interface = Interface(visit.task, self._backend, self.num_envs, rng, noise, self.run_seed, visit.index)
        self._interface.fit(self.shared, visit.task_id)
        self._interface.clock.steps = self.segment.start
        self._interface.adjust()
        return self._begin()

    def _begin(self) -> Array:
        assert self._backend is not None
        self.tally.begin(everyone := np.ones(self.num_envs, bool), everyone)
        with self._placing():
            observations = self._backend.reset()
            self._interface.restart(everyone)
            return self._observe(observations)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Start new episodes. With a seed, or the first time, also restart the current segment."""
        if seed is not None or self._backend is None:
            self.run_seed = self.run_seed if seed is None else seed
            return self.start(), self._place | self._news
        return self._begin(), dict(self._place)

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        with self._placing():
            return self._step(actions)

    def _step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        assert self._backend is not None, "reset() comes before step()"
        interface = self._interface
        interface.adjust()
        self._stepping = True
        step = self._backend.step(interface.act(actions))
        terminated, truncated = step.terminated, step.truncated
        rewards = self._checked_rewards(interface.reward(step.rewards))
        self.tally.add(step, rewards)
        self._stepping = False
        self.steps_left -= self._pace
        interface.clock.steps += self._pace
        observations = self._observe(step.observations)
        ended = terminated | truncated
        counted = ended if step.games_over is None else ended | step.games_over
        over = self.steps_left <= 0 < self.steps_left + self._pace
        switch = over and (not self.advance or self._segment(self.segment.index + 1) is not None)
        info = dict(self._place)
        if not switch and not counted.any():
            return observations, rewards, terminated, truncated, info
        if switch:
            truncated = ~terminated
        info |= self._ending(step, observations, terminated | truncated)
        if switch:
            if self.advance:
                observations = self.start(self.segment.index + 1)
                info |= self._news
            return observations, rewards, terminated, truncated, info
        if not ended.any():  # just a game, since the step before
            return observations, rewards, terminated, truncated, info
        self._backend.reset_where(ended, step.observations)
        interface.restart(ended)
        return self._observe(step.observations), rewards, terminated, truncated, info

    def _observe(self, observations: Array) -> Array:
        """What the environments show, as the agent gets it."""
        assert self._backend is not None
        needed = self._backend.observation_space.shape or ()
        if observations.shape[1:] != needed:
            raise EnvironmentFault(
                f"the observations have the shape {observations.shape[1:]}, their space has {needed}"
            )
        return self._checked("observation", self._interface.observe(observations))

    def _checked_rewards(self, rewards: Array) -> Array:
        """Rewards that float32 can hold, in which agents take them."""
        with np.errstate(over="ignore"):
            narrow = rewards.astype(np.float32, copy=False)
        if not self._finite["reward"](narrow):
            fine = np.isfinite(rewards).all()
            raise not_finite("reward as float32", narrow) if fine else not_finite("reward", rewards)
        return rewards

    def _checked(self, name: str, values: Array) -> Array:
        if not self._finite[name](values):
            raise not_finite(name, values)
        return values

    @contextmanager
    def _placing(self) -> Iterator[None]:
        """Faults get their place."""
        try:
            yield
        except EnvironmentFault as fault:
            fault.place = fault.place or self._where(fault.index)
            raise

    def _where(self, index: int | None) -> str:
        visit = self.segment.visit
        now = self.segment.start + self.segment.steps - self.steps_left + self._pace * self._stepping
        place = f"task {visit.index + 1} ({visit.label})"
        if index is None:
            return f"{place}, step {now}"
        own = self.tally.lengths[index] + self._stepping
        return f"{place}, environment {index}, step {now}, step {own} of its episode"

    def _ending(self, step: Step, observations: Array, last: Array) -> dict[str, Any]:
        """The info of a step in which episodes ended by themselves or, at a switch, all others too (``last``)."""
        final = np.full(self.num_envs, None, dtype=object)
        rows = np.flatnonzero(last)
        final[rows] = list(observations[rows])
        if self.render_mode:
            self.final_frames = self.render()
        return {"final_obs": final, "_final_obs": last, **self.tally.close(step, last)}

    def action_masks(self) -> Array:
        """The actions allowed next in each environment: booleans, (num_envs, actions).

        An action that the task lacks is never allowed; all others are, unless the environment has a method
        ``action_masks()`` of its own that forbids it. Named and shaped as sb3-contrib's MaskablePPO asks for them.

        Raises:
            ConfigError: the actions are real-valued, the environments' masks do not fit them, or a shift does not map
                masks.
        """
        assert self._backend is not None, "reset() comes before action_masks()"
        return self._interface.masks(self.num_envs)

    def render(self) -> tuple[Array, ...]:
        """A frame of each environment, (height, width, 3), uint8."""
        assert self._backend is not None, "reset() comes before render()"
        return tuple(self._backend.render())

    def close_extras(self, **kwargs: Any) -> None:
        if self._backend is not None:
            self._backend.close()
            self._backend = None
