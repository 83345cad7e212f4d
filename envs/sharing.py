"""What all tasks of a sequence share, found by looking at one environment of each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
from gymnasium.spaces import Box

from neoteny.configs import ConfigError
from neoteny.envs.backends import Backend, check_alike, make_backend, overlooked
from neoteny.envs.backends.faults import raised
from neoteny.envs.interface import Interface
from neoteny.envs.spaces import SharedSpaces
from neoteny.envs.tasks import Task, TaskSequence, Visit


@contextmanager
def _one_of(task: Task, render_mode: str | None) -> Iterator[Backend]:
    """One environment of a task, to be looked at."""
    backend = make_backend(task, 1, 0, render_mode=render_mode)
    try:
        yield backend
    except BaseException:
        with suppress(Exception):
            backend.close()
        raise
    try:
        backend.close()
    except Exception as error:
        raise raised("close", error) from error


def shared_spaces(
    sequence: TaskSequence, run_seed: int = 0, render_mode: str | None = None
) -> tuple[SharedSpaces, list[str]]:
    """The shared spaces of all tasks of ``sequence``, and complaints of what agents need and do not see.

    One environment of each task is created, so that errors are found before the run starts. The spaces of two visits to
    each task are used, since a shift's random draw may change the space: the first and the last of the sequence.

    Raises:
        ConfigError: a task cannot be created, a shift does not fit, or the spaces cannot be shared.
    """
    check_alike(sequence.tasks)
    names, found, seen, complaints = [], [], [], []
    last = (sequence.length or 2) - 1
    for task in sequence.tasks:
        if task in seen:
            continue
        seen.append(task)
        with _one_of(task, render_mode) as backend:
            for index in (0, max(1, last)):
                rng = Visit(index, task).rng(sequence.seed)
                interface = Interface(task, backend, 1, rng, np.random.default_rng(0), run_seed, min(index, last))
                names.append(task.env)
                found.append((interface.observation_space, interface.action_space))
                if isinstance(interface.observation_space, Box) and interface.observation_space.shape == ():
                    raise ConfigError(f"env: {task.env}: observations need a dimension, such as (1,); theirs has none")
            if complaint := overlooked(task, backend):
                complaints.append(complaint)
    shared = SharedSpaces.of(names, found, len(sequence.tasks) if sequence.switches == "task-id" else 0)
    for task, (_, action) in zip(seen, found[::2], strict=True):
        shared.act(action, task.noop)
    return shared, complaints
