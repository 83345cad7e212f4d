"""Backends that run the environments: :func:`make_backend` chooses between EnvPool and Gymnasium."""

from __future__ import annotations

import dataclasses
import inspect
import logging
from functools import cache

import gymnasium as gym
from gymnasium.envs.registration import load_env_creator

from neoteny.configs import ConfigError, raised, suggestion
from neoteny.envs.backends.atari import AtariBackend, check_alike, is_atari, settings
from neoteny.envs.backends.base import Backend, Step
from neoteny.envs.backends.faults import EnvironmentFault
from neoteny.envs.backends.missions import MissionBackend, overlooked
from neoteny.envs.backends.pool import EnvPoolBackend, envpool_ids, pool_limit
from neoteny.envs.backends.python import AsyncBackend, GymnasiumBackend, VectorBackend, importable, vector_class
from neoteny.envs.suites import extras
from neoteny.envs.tasks import Task

__all__ = [
    "BACKENDS", "AsyncBackend", "AtariBackend", "Backend", "EnvPoolBackend", "EnvironmentFault", "GymnasiumBackend",
    "Step", "VectorBackend", "check_alike", "choose", "envpool_ids", "make_backend", "overlooked", "time_limit",
    "why_not_rendered",
]  # fmt: skip

log = logging.getLogger("neoteny.envs")

#: Environments whose layouts in EnvPool (1.2.5) differ from Python MiniGrid. In MultiRoom the door between two rooms
#: can also be in the next room's corner, with a wall behind it, so that a third of N2-S4's episodes cannot be solved.
#: In ObstructedMaze the boxes are blue, not grey, and the start of Full differs. In SynthS5R2 one seed of ten looks for
#: a layout for ever.
ENVPOOL_DIFFERS = ("MiniGrid-MultiRoom-", "MiniGrid-ObstructedMaze-", "BabyAI-SynthS5R2-")

#: Environments broken in EnvPool (1.2.5), and what to use instead. In MetaWorld each reset adds to the goal position.
ENVPOOL_BROKEN = {"MetaWorld/": "its goals drift away from reset to reset; Meta-World/<task> has the original"}

#: The values of ``backend``, besides ``auto``.
BACKENDS: dict[str, type[Backend]] = {
    "envpool": EnvPoolBackend,
    "vector": VectorBackend,
    "gymnasium": GymnasiumBackend,
    "async": AsyncBackend,
}


@cache
def _say(message: str) -> None:
    log.info(message)


def _why_not_envpool(task: Task) -> str:
    """Why a task does not run in EnvPool, although EnvPool has its environment; empty if it does run there."""
    if task.env not in gym.registry:
        return ""
    if any(shift.needs_parameters for shift in task.shifts):
        return "EnvPool cannot change its dynamics"
    if task.env.startswith(ENVPOOL_DIFFERS):
        return "EnvPool builds other layouts than Gymnasium"
    if "render_mode" in task.kwargs:
        return "EnvPool does not render"
    return "EnvPool reads kwargs otherwise than Gymnasium" if task.kwargs else ""


def why_not_rendered(task: Task) -> str:
    """Why there are no frames of the task's environments; empty if there are."""
    extras.prepare(task.env)
    importable(task.env)
    spec = gym.registry.get(task.env.rpartition(":")[2])
    if task.backend == "envpool" or spec is None:
        other = "" if spec else ", and an id that Gymnasium has"
        return f"EnvPool does not render; choose backend: gymnasium{other}"
    vector = vector_class(task) if task.backend in ("auto", "vector") else None
    if vector and "render_mode" not in inspect.signature(vector).parameters:
        return "its vector environment does not render; choose backend: gymnasium"
    creator = load_env_creator(spec.entry_point) if isinstance(spec.entry_point, str) else spec.entry_point
    metadata = getattr(creator, "metadata", None)  # a function has none, and a property says nothing of itself
    known = isinstance(metadata, dict) and "rgb_array" not in metadata.get("render_modes", ["rgb_array"])
    return "it does not render as rgb_array" if known else ""


def choose(task: Task) -> str:
    """The name of the backend for the task, of :data:`BACKENDS`.

    Raises:
        ConfigError: there is no such environment, or the forced backend does not have it.
    """
    extras.prepare(task.env)
    pooled = task.env in envpool_ids()
    for beginning, why in ENVPOOL_BROKEN.items():
        if task.env.startswith(beginning):
            raise ConfigError(f"env: {task.env!r} is EnvPool's, and {why}")
    if task.backend == "envpool" and not pooled:
        raise ConfigError(f"backend: EnvPool has no {task.env!r}{suggestion(task.env, envpool_ids())}")
    reason = "EnvPool does not have it"
    if pooled and task.backend in ("auto", "envpool"):
        reason = _why_not_envpool(task) if task.backend == "auto" else ""
        if not reason:
            return "envpool"
    importable(task.env)
    if task.env.rpartition(":")[2] not in gym.registry:
        known = set(gym.registry) | (envpool_ids() if task.backend == "auto" else set())
        near = suggestion(task.env, known, cutoff=0.75)
        own = "" if ":" in task.env else f" (one of your own is named with its module, my_env:{task.env})"
        raise ConfigError(f"env: no environment {task.env!r} is registered{near}{own}")
    vector = vector_class(task)
    if task.backend == "vector" and vector is None:
        raise ConfigError(
            f"backend: {task.env!r} has no vector environment that can be used; choose gymnasium or async"
        )
    if task.backend != "auto":
        return task.backend
    name = "vector" if vector else "gymnasium"
    _say(f"{task.env}: {reason}; running it in {'its own vector environment' if vector else 'Python'}")
    return name


def time_limit(task: Task) -> int | None:
    """The steps after which an episode is cut, where that is known without making the environment.

    Raises:
        ConfigError: as of :func:`choose`.
    """
    backend = choose(task)
    known = settings(task) if is_atari(task.env) else task.kwargs
    limit = known.get("max_episode_steps")
    if limit is None:
        pooled = backend == "envpool"
        limit = pool_limit(task) if pooled else gym.registry[task.env.rpartition(":")[2]].max_episode_steps
    return limit if isinstance(limit, int) and limit > 0 else None


def make_backend(
    task: Task,
    num_envs: int,
    seed: int,
    threads: int = 1,
    render_mode: str | None = None,
    timeout: float = 300.0,
) -> Backend:
    """Create the environments of ``task``: in EnvPool if it has the same ones, else with the environment's own vector
    environment, else in Gymnasium. The latter two are logged.

    A task with ``kwargs`` runs in Gymnasium if possible, since they are written for its constructors: in EnvPool the
    same name may have another meaning (a larger MiniGrid keeps the time limit of the smaller one). A task with changing
    dynamics runs in a backend that can change them.

    Args:
        task: the task; its ``backend`` can force one of :data:`BACKENDS`.
        num_envs: number of parallel environments.
        seed: the i-th environment is seeded with ``seed + i``.
        threads: worker threads of EnvPool and ALE.
        render_mode: how the environments are to be rendered, if at all.
        timeout: seconds within which worker processes have to answer.

    Raises:
        ConfigError: no backend has the environment, the forced backend does not have it, the ``kwargs`` are not
            accepted, or an extra or a system package is missing.
        EnvironmentFault: a worker process has ended while it made its environment.
    """
    if render_mode:
        task = dataclasses.replace(task, kwargs={**task.kwargs, "render_mode": render_mode})
    name = choose(task)
    if render_mode and (why := why_not_rendered(task)):
        raise ConfigError(f"render_mode: {task.env}: {why}")
    backend = AtariBackend if name in ("envpool", "vector") and is_atari(task.env) else BACKENDS[name]
    try:
        made = backend(task, num_envs, seed, threads)
        if isinstance(made, AsyncBackend):
            made.wait(timeout)
        return MissionBackend(made, task) if task.mission in ("shown", "blank") else made
    except (gym.error.DependencyNotInstalled, ImportError) as error:
        raise ConfigError(extras.explain(task.env, error)) from error
    except (ConfigError, EnvironmentFault):
        raise
    except Exception as error:
        where = (
            f"kwargs: {task.env} cannot be made with {task.kwargs}"
            if task.kwargs
            else f"env: {task.env} cannot be made"
        )
        plain = isinstance(error, (TypeError, AssertionError, ValueError, gym.error.Error))
        raise ConfigError(f"{where}: {error if plain else raised(error)}") from error
