"""The Gymnasium backends: Python environments, in this process or in worker processes, and vector environments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.envs.registration import load_env_creator
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from neoteny.configs import ConfigError
from neoteny.envs.backends.base import Step, tidy
from neoteny.envs.backends.faults import raised
from neoteny.envs.backends.workers import Workers
from neoteny.envs.backends.wrapper import Adjustable, raise_fault
from neoteny.envs.shifts import Array, get_parameter, set_parameters
from neoteny.envs.suites import minigrid
from neoteny.envs.tasks import Task


def maker(task: Task) -> Callable[[], gym.Env[Any, Any]]:
    """A function that creates one of the task's environments, with a single array as observation."""

    def make() -> gym.Env[Any, Any]:
        env = gym.make(task.env, **task.kwargs)
        if minigrid.is_minigrid(env):
            env = minigrid.CellImage(env)
        elif isinstance(env.observation_space, (spaces.Dict, spaces.Tuple)):
            env = gym.wrappers.FlattenObservation(env)
        return Adjustable(env)

    return make


def success(info: Mapping[str, Any]) -> Array | None:
    """Where ``info`` says that the task is solved, by the names that environments use; None if it does not say."""
    found = info.get("success", info.get("is_success"))
    return None if found is None else np.asarray(found, bool)


class VectorEnvBackend:
    """Base class of the backends on a Gymnasium vector environment."""

    def __init__(self, envs: VectorEnv[Any, Any, Any], seed: int):
        self._envs = envs
        self._seed: int | None = seed
        self.observation_space = tidy(envs.single_observation_space)
        self.action_space = tidy(envs.single_action_space)
        self._action_dtype = envs.single_action_space.dtype

    def _observe(self, observations: Array) -> Array:
        return observations.astype(self.observation_space.dtype, copy=False)

    def _step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        return self._envs.step(actions.astype(self._action_dtype, copy=False))

    def _reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        return self._envs.reset(seed=seed, options=options)

    def reset(self) -> Array:
        observations, _ = self._reset(seed=self._seed)
        self._seed = None
        return self._observe(observations)

    def step(self, actions: Array) -> Step:
        observations, rewards, terminated, truncated, info = self._step(actions)
        return Step(self._observe(observations), rewards, terminated, truncated, success=success(info))

    def reset_where(self, mask: Array, observations: Array) -> None:
        observations[mask] = self._reset(options={"reset_mask": mask})[0][mask]

    def missions(self) -> list[str] | None:
        return None

    def action_masks(self) -> Array | None:
        own = getattr(self._envs.unwrapped, "action_masks", None)
        return None if own is None else np.asarray(own(), bool)

    def render(self) -> Sequence[Array]:
        frames: Any = self._envs.render()
        return frames

    def close(self) -> None:
        self._envs.close()


class GymnasiumBackend(VectorEnvBackend):
    """Any Gymnasium id, in this process."""

    vectorized: Callable[..., SyncVectorEnv | AsyncVectorEnv] = SyncVectorEnv
    _envs: SyncVectorEnv | AsyncVectorEnv

    def __init__(self, task: Task, num_envs: int, seed: int, threads: int):
        makers = [maker(task)] * num_envs
        super().__init__(type(self).vectorized(makers, copy=True, autoreset_mode=AutoresetMode.DISABLED), seed)
        self._masked = True

    def _step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        out = super()._step(actions)
        raise_fault(out[-1])
        return out

    def _reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        observations, info = super()._reset(seed, options)
        raise_fault(info)
        return observations, info

    def missions(self) -> list[str] | None:
        missions = self._envs.call("mission")
        return None if None in missions else list(missions)

    def action_masks(self) -> Array | None:
        masks = self._envs.call("masks") if self._masked else [None]
        self._masked = masks[0] is not None
        return np.asarray(masks, bool) if self._masked else None

    def parameter(self, name: str) -> float:
        value = self._envs.call("parameter", name)[0]
        if isinstance(value, ConfigError):
            raise value
        return value

    def set_parameters(self, values: Mapping[str, float]) -> None:
        self._envs.call("set_parameters", values)


class AsyncBackend(GymnasiumBackend):
    """Any Gymnasium id, with one process per environment: for environments with slow steps."""

    vectorized = Workers
    _envs: Workers

    def wait(self, seconds: float) -> None:
        """From now on, wait so long for an answer of a process."""
        self._envs.timeout = seconds


class CartPoleVector(CartPoleVectorEnv):
    """Gymnasium's vectorized CartPole, with resets of single environments."""

    metadata = CartPoleVectorEnv.metadata | {"autoreset_mode": AutoresetMode.DISABLED}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        if not options or "reset_mask" not in options:
            return super().reset(seed=seed, options=options)
        assert self.state is not None
        mask = options["reset_mask"]
        self.state[:, mask] = self.np_random.uniform(self.low, self.high, size=(4, mask.sum()))
        self.steps[mask] = 0
        self.prev_done[mask] = False  # else the next step would be a reset
        return self.state.T.astype(np.float32), {}


def vector_class(task: Task) -> Callable[..., VectorEnv[Any, Any, Any]] | None:
    """The vector environment registered for the id, if its autoreset mode suits a backend."""
    spec = gym.registry.get(task.env.rpartition(":")[2])
    entry = spec.vector_entry_point if spec else None
    if entry is None:
        return None
    cls: Any = load_env_creator(entry) if isinstance(entry, str) else entry
    if cls is CartPoleVectorEnv:
        return CartPoleVector
    mode = getattr(cls, "metadata", {}).get("autoreset_mode")
    settable = "autoreset_mode" in inspect.signature(cls).parameters
    return cls if settable or mode in (AutoresetMode.SAME_STEP, AutoresetMode.DISABLED) else None


class VectorBackend(VectorEnvBackend):
    """The vector environment registered for an id, such as Gymnasium's CartPole in numpy."""

    def __init__(self, task: Task, num_envs: int, seed: int, threads: int):
        cls = vector_class(task)
        spec = gym.registry[task.env.rpartition(":")[2]]
        assert cls is not None
        taken = inspect.signature(cls).parameters
        options: dict[str, Any] = {"max_episode_steps": spec.max_episode_steps}
        options = {key: value for key, value in options.items() if key in taken and value is not None}
        if "autoreset_mode" in taken:
            options["autoreset_mode"] = AutoresetMode.SAME_STEP
        super().__init__(cls(num_envs=num_envs, **(options | spec.kwargs | task.kwargs)), seed)
        self._same_step = self._envs.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
        self._fresh: Array = np.empty(0)

    def _step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        try:
            return super()._step(actions)
        except Exception as error:
            raise raised("step", error) from error

    def step(self, actions: Array) -> Step:
        observations, rewards, terminated, truncated, info = self._step(actions)
        solved = success(info)
        if self._same_step and (ended := terminated | truncated).any():
            self._fresh = observations
            observations = observations.copy()
            observations[ended] = np.stack(list(info["final_obs"][ended]))
            if (last := success(info.get("final_info", {}))) is not None:
                solved = last if solved is None else np.where(ended, last, solved)
        return Step(self._observe(observations), rewards, terminated, truncated, success=solved)

    def reset_where(self, mask: Array, observations: Array) -> None:
        if self._same_step:
            observations[mask] = self._fresh[mask]
        else:
            super().reset_where(mask, observations)

    def parameter(self, name: str) -> float:
        return get_parameter(self._envs.unwrapped, name)

    def set_parameters(self, values: Mapping[str, float]) -> None:
        set_parameters(self._envs.unwrapped, values)


def importable(env_id: str) -> None:
    """Import the module named in an id such as ``my_module:MyEnv-v0``.

    Raises:
        ConfigError: it cannot be imported.
    """
    module, _, _ = env_id.rpartition(":")
    if module:
        try:
            __import__(module)
        except ImportError as error:
            raise ConfigError(f"env: {env_id!r}: the module {module!r} cannot be imported ({error})") from error
