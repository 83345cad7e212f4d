"""A run from its folder, while it runs or afterwards: its experiment, one of its agents, and environments."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

from stable_baselines3.common.vec_env import VecEnv

from neoteny.agents import CheckpointError, Continual
from neoteny.configs import ConfigError
from neoteny.runners.experiments import Experiment, find_device, read_experiment
from neoteny.runners.measures import generators_kept
from neoteny.runners.runs.checkpoints import Checkpoints
from neoteny.runners.runs.folder import kept_agent


class LoadedRun(NamedTuple):
    """What is in a run's folder.

    Attributes:
        experiment: what is run.
        agent: one of its agents, ready to predict and to learn on in ``env``.
        env: new environments of the run's tasks as the agent sees them, normalized if it normalizes;
            ``env.unwrapped`` is the :class:`~neoteny.envs.ContinualVecEnv`.
    """

    experiment: Experiment
    agent: Continual
    env: VecEnv


def load_run(folder: str | Path, task: int | None = None, device: str | None = None, replay: bool = True) -> LoadedRun:
    """The run in ``folder``; nothing in it is changed, and no global random generator.

    .. code-block:: python

        experiment, agent, env = neoteny.load_run("runs/minigrid-seq/ppo-spectral/seed-0")

    Args:
        folder: of a run that is finished, was stopped or still runs.
        task: take the agent as it was after this task, the first being 1, of a run with ``--keep-agents``. By default
            that of the last checkpoint.
        device: of the agent's networks; by default, the run's, or another where that is not there.
        replay: also load the replay buffer, if there is one; an agent that is not to learn on needs none.

    Raises:
        ConfigError: this is no run's folder, it cannot be read by this version or without a module that is not here,
            or the agent or the device is not there.
    """
    experiment = read_experiment(folder)
    try:
        find_device(device or experiment.run.device)
    except ConfigError:
        if device is not None:
            raise
        device = "auto"
    if device is not None:
        experiment = dataclasses.replace(experiment, run=dataclasses.replace(experiment.run, device=device))
    find_agent_file(folder, task)
    env = experiment.make_env()
    try:
        with generators_kept(experiment.device):
            agent = _load(experiment, folder, task, experiment.as_seen(env), replay)
    except (CheckpointError, ConfigError) as error:
        env.close()
        raise ConfigError(f"{folder}: {error}") from error
    seen = agent.get_env()
    assert seen is not None
    return LoadedRun(experiment, agent, seen)


def _load(experiment: Experiment, folder: str | Path, task: int | None, env: VecEnv, replay: bool) -> Continual:
    """The agent; where a running run drops its last checkpoint for the next meanwhile, that of the next."""
    while True:
        path = find_agent_file(folder, task)
        try:
            return experiment.algorithm.load(path, env, experiment.device, replay)
        except CheckpointError:
            if path.exists():
                raise


def find_agent_file(folder: str | Path, task: int | None = None) -> Path:
    """The file of the agent after a task, or of the last checkpoint's.

    Raises:
        ConfigError: there is none.
    """
    if task is None:
        return _last_agent(folder)
    if (path := kept_agent(Path(folder), task)).is_file():
        return path
    kept = sorted(int(file.stem.removeprefix("task-")) for file in path.parent.glob("task-*.safetensors"))
    there = f"those after tasks {', '.join(map(str, kept))} are" if kept else "none is (--keep-agents keeps them)"
    raise ConfigError(f"{folder}: the agent after task {task} is not kept; {there}")


def _last_agent(folder: str | Path) -> Path:
    """The agent's file of the last checkpoint; a running run may drop it meanwhile, for the next."""
    checkpoints = Checkpoints(Path(folder) / "checkpoints")
    while (last := checkpoints.last()) is not None:
        path = checkpoints.agent_path(last["segment"])
        if checkpoints.is_whole(last):
            return path
        if last == checkpoints.last():
            what = "damaged" if path.exists() else "gone"
            raise ConfigError(f"{folder}: checkpoints/{path.name} is {what}; the run's own command makes it again")
    raise ConfigError(f"{folder}: there is no checkpoint yet, and so no agent")
