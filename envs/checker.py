"""Does a task sequence keep its promises? Run it on a sequence of your own:

python -m neoteny.envs.checker my-seq.yaml
"""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from neoteny import configs
from neoteny.configs import ConfigError
from neoteny.envs.backends import EnvironmentFault
from neoteny.envs.shifts import Array, describe
from neoteny.envs.tasks import TaskSequence
from neoteny.envs.vector import ContinualVectorEnv

#: How many steps of each task are taken, per environment: a whole episode of most environments.
STEPS = 500


class CheckError(AssertionError):
    """A sequence does not behave as promised; the message says where and how."""


def _require(holds: object, message: str) -> None:
    if not holds:
        raise CheckError(message)


def check_sequence(
    sequence: TaskSequence, num_envs: int = 2, steps: int = STEPS, progress: Callable[[str], None] | None = None
) -> int:
    """Step through every task, and one switch more, and hold the sequence to what it promises.

    - Observations, rewards and endings have the declared spaces, shapes and types, and are finite.
    - Two copies of the same seed, given the same actions, agree in everything.
    - A switch comes after exactly the budget; in its step every running episode ends truncated, not terminated, with
      its last observation in ``final_obs``.
    - What comes after a switch is what the next segment begins with, whoever begins it.
    - The task that runs is the task of the sequence's plan.
    - Missions that differ between episodes are seen by the agent, unless the task says that they are hidden.

    Args:
        sequence: what to check; its tasks are shortened.
        num_envs: parallel environments.
        steps: how many steps of each task are taken, per environment. What goes wrong only later is not found.
        progress: called with a line of text for each visit that is checked.

    Returns:
        How many environment steps were checked.

    Raises:
        CheckError: a promise is broken.
        ConfigError: an environment cannot be made.
    """
    visits = len(sequence.tasks) + 1
    short = sequence.resized(steps_per_task=steps * num_envs, num_tasks=visits)
    first, second = (ContinualVectorEnv(short, num_envs, seed=7) for _ in range(2))
    try:
        _require(not first.overlooked, "; ".join(first.overlooked))
        _check_visits(first, second, steps, progress or (lambda line: None))
    except EnvironmentFault as fault:
        raise CheckError(str(fault)) from fault
    finally:
        first.close()
        second.close()
    return visits * steps * num_envs


def _check_visits(
    first: ContinualVectorEnv, second: ContinualVectorEnv, steps: int, progress: Callable[[str], None]
) -> None:
    visits = len(first.sequence.visits)
    first.action_space.seed(7)
    observations, _ = first.reset()
    again, _ = second.reset()
    _alike(observations, again, "reset()")
    for index in range(visits):
        visit = first.sequence.visit(index)
        progress(f"{index + 1} of {visits}: {visit.label}")
        _require(first.segment.visit == visit, f"visit {index}: {first.segment.visit} runs, {visit} was planned")
        for step in range(1, steps + 1):
            place = f"visit {index} ({visit.label}), step {step}"
            observations = _check_step(first, second, place, switch=step == steps and index + 1 < visits)
        if index + 1 < visits:
            _alike(observations, second.start(index + 1), f"beginning segment {index + 1} anew")


def _check_step(first: ContinualVectorEnv, second: ContinualVectorEnv, place: str, switch: bool) -> Array:
    actions = first.action_space.sample()
    results, others = first.step(actions), second.step(actions.copy())
    observations, rewards, terminated, truncated, info = results
    for name, mine, theirs in zip(
        ("observations", "rewards", "terminated", "truncated"), results, others, strict=False
    ):
        _alike(mine, theirs, f"{place}: {name}")
    space = first.observation_space
    _require(space.contains(observations), f"{place}: the observations are not in {describe(space)}")
    shape = (first.num_envs,)
    _require(rewards.shape == shape and np.isfinite(rewards).all(), f"{place}: the rewards are {rewards}")
    for name, ends in (("terminated", terminated), ("truncated", truncated)):
        _require(ends.shape == shape and ends.dtype == bool, f"{place}: {name} is {ends!r}")
    ended = terminated | truncated
    if ended.any():
        _require((info["_final_obs"] == ended).all(), f"{place}: final_obs is given for other episodes than ended")
        for i in np.flatnonzero(ended):
            inside = first.single_observation_space.contains(info["final_obs"][i])
            _require(inside, f"{place}: the last observation is not in {describe(first.single_observation_space)}")
    if switch:
        _require(
            (truncated ^ terminated).all(), f"{place}: a switch must truncate every episode that has not terminated"
        )
    return observations


def _alike(mine: Any, theirs: Any, place: str) -> None:
    _require(np.array_equal(mine, theirs), f"{place}: two copies of the same seed differ")


def _show(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(argv: list[str], prog: str = "python -m neoteny.envs.checker") -> int:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Does a task sequence keep its promises?\n\n"
        + (inspect.getdoc(check_sequence) or "").partition("\n\n")[2].partition("\n\nArgs")[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--steps", type=int, default=STEPS, help=f"of each task, in each of two environments (default: {STEPS})"
    )
    parser.add_argument("sequence", help=f"the path of a .yaml file, or one of {', '.join(configs.names('envs'))}")
    options = parser.parse_args(argv)
    if options.steps < 1:
        parser.error(f"--steps: at least 1 is needed, got {options.steps}")
    configs.import_from_here()
    try:
        sequence = TaskSequence.load(options.sequence)
        steps = check_sequence(sequence, steps=options.steps, progress=_show)
    except ConfigError as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 2
    except CheckError as error:
        print(f"{sequence.name}: {error}", file=sys.stderr)
        return 1
    print(f"{sequence.name}: {len(sequence.tasks)} tasks, {steps} steps, all promises kept")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
