"""How an agent follows the tasks that its environment goes through."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from neoteny.agents import normalization
from neoteny.agents.replay import count_from_empty
from neoteny.agents.switch import AtSwitch


class FollowsTasks(BaseAlgorithm):
    """The part of :class:`~neoteny.agents.continual.Continual` that hears of tasks and acts on them.

    Environments with signalled switches say in ``info`` that a task begins: ``new_task``, the index of the visit, and
    ``new_task_steps``, the steps of each environment in it. The agent acts on it between two rollouts: after the
    updates on the rollout in which the switch came, which belong to the old task, and before the next one is collected.
    Its very first task is no switch. ARS collects no rollouts, and is told of its first task only.

    Attributes:
        at_switch: see :class:`~neoteny.agents.continual.Continual`.
    """

    at_switch: AtSwitch

    #: The task that the agent is in, if it has heard of one; and what it has heard and not yet acted on.
    _task: int | None = None
    _new_task: int | None = None
    _new_task_steps: int = 0
    _tasks_begun: int = 0
    _task_start: int = 0
    _task_steps: int = 0

    def on_switch(self) -> None:
        """Handle a task switch."""
        raise NotImplementedError

    def begin_task(self, steps: int) -> None:
        """Begin a task of ``steps`` environment steps: schedules (learning rate, exploration) run over the task.

        Called where an environment says that a task begins. Otherwise they run over each call of ``learn``, as in
        stable-baselines3.
        """
        self._tasks_begun += 1
        self._task_start, self._task_steps = self.num_timesteps, steps
        self._update_current_progress_remaining(self.num_timesteps, self._total_timesteps)

    def stretch_task(self, steps: int) -> None:
        """The running task takes so many steps, as if :meth:`begin_task` had said so.

        Raises:
            ValueError: a schedule runs over the task, and would have been another from its first step on.
        """
        names = ("lr_schedule", "clip_range", "clip_range_vf", "exploration_schedule")
        schedules = {name: value for name in names if callable(value := getattr(self, name, None))}
        moving = [name for name, value in schedules.items() if len({value(left) for left in (1.0, 0.5, 0.0)}) > 1]
        if moving and steps != self._task_steps:
            raise ValueError(
                f"{moving[0]} runs over all {self._task_steps:,} steps of a task, or of all tasks where switches are "
                f"hidden; with {steps:,} steps it would have been another from the first one on"
            )
        self._task_steps = steps

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        if self._task_steps:
            done = min(max(num_timesteps - self._task_start, 0), self._task_steps)
            num_timesteps, total_timesteps = done, self._task_steps
        super()._update_current_progress_remaining(num_timesteps, total_timesteps)

    def _setup_learn(
        self, total_timesteps: int, callback: Any = None, reset_num_timesteps: bool = True, *args: Any, **kwargs: Any
    ) -> Any:
        resets = reset_num_timesteps or self._last_obs is None
        ready = super()._setup_learn(total_timesteps, callback, reset_num_timesteps, *args, **kwargs)
        if isinstance(self, OffPolicyAlgorithm):
            count_from_empty(self)
        self._task_start = min(self._task_start, self.num_timesteps)
        if resets and self.env is not None:
            self._hear(self.env.unwrapped.reset_infos)
        self._follow()
        return ready

    def _update_info_buffer(self, infos: list[dict[str, Any]], dones: np.ndarray[Any, Any] | None = None) -> None:
        super()._update_info_buffer(infos, dones)
        self._hear(infos)

    def collect_rollouts(self, *args: Any, **kwargs: Any) -> Any:
        """The algorithm's, after acting on a switch that came in the rollout before."""
        self._follow()
        if isinstance(self, OffPolicyAlgorithm):
            kwargs["learning_starts"] = self.learning_starts  # a buffer that was cleared has put it off
        return super().collect_rollouts(*args, **kwargs)  # type: ignore[misc]

    def _hear(self, infos: list[dict[str, Any]]) -> None:
        """Take down what ``infos`` say of a task that begins; of several environments, one will do."""
        for info in infos:
            if "new_task" in info:
                self._new_task, self._new_task_steps = info["new_task"], info["new_task_steps"] * self.n_envs
                return

    def _follow(self) -> None:
        """Go into the task that was heard of, if it is another one."""
        index, self._new_task = self._new_task, None
        if index is None or index == self._task:
            return
        if self._task is not None:
            self.on_switch()
            normalizer = self._vec_normalize_env
            if self.at_switch.normalization == "reset" and normalizer is not None and normalizer is self.env:
                self._last_obs = normalization.see_again(normalizer)
        self._task = index
        self.begin_task(self._new_task_steps)
