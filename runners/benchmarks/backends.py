"""The throughput of the backends against a plain Gymnasium ``SyncVectorEnv``."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import gymnasium as gym
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from neoteny import configs
from neoteny.configs import ConfigError
from neoteny.envs import ContinualVectorEnv, Task, TaskSequence
from neoteny.envs.suites import extras
from neoteny.runners.benchmarks.timing import Seconds, Slice, figures, measure, show, texts

#: What the backends are compared with.
PLAIN = "SyncVectorEnv"
#: Seconds that a slice of random play takes.
SLICE = 0.25


def python_atari() -> gym.Env[Any, Any]:
    """Breakout as Gymnasium's wrappers make it: four grey frames of 84x84, each the fourth of the game's."""
    extras.prepare("ALE/Breakout-v5")
    env = gym.make("ALE/Breakout-v5", frameskip=1)
    return FrameStackObservation(AtariPreprocessing(env, scale_obs=False), 4)


@dataclasses.dataclass(frozen=True)
class Race:
    """Who runs the same environment.

    Attributes:
        backends: the id that each backend knows it by.
        plain: makes one of it in Python; None where no Gymnasium environment is the same.
    """

    backends: Mapping[str, str]
    plain: Callable[[], gym.Env[Any, Any]] | None


def _race(env_id: str, *backends: str) -> Race:
    return Race(dict.fromkeys(backends, env_id), lambda: gym.make(env_id))


#: By the environment's name in the table.
RACES: dict[str, Race] = {
    "MiniGrid-DoorKey-5x5-v0": _race("MiniGrid-DoorKey-5x5-v0", "envpool", "gymnasium", "async"),
    "CartPole-v1": _race("CartPole-v1", "envpool", "vector", "gymnasium", "async"),
    "Acrobot-v1": _race("Acrobot-v1", "envpool", "gymnasium", "async"),
    "LunarLander-v3": _race("LunarLander-v3", "envpool", "gymnasium", "async"),
    "Ant-v5": _race("Ant-v5", "envpool", "gymnasium", "async"),
    "WalkerWalk-v1": Race({"envpool": "WalkerWalk-v1"}, None),
    "Breakout": Race({"envpool": "Breakout-v5", "vector": "ALE/Breakout-v5"}, python_atari),
}


def random_play(env: VectorEnv[Any, Any, Any]) -> Slice:
    """Random actions, drawn beforehand, for :data:`SLICE` seconds."""
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(256)]
    env.reset(seed=0)

    def play() -> int:
        end = time.perf_counter() + SLICE
        steps = 0
        while time.perf_counter() < end:
            env.step(actions[steps % len(actions)])
            steps += 1
        return steps * env.num_envs

    return play


def run_race(race: Race, num_envs: int, rounds: int, progress: Progress, name: str) -> tuple[Seconds, dict[str, str]]:
    """Each contender's seconds per environment step, the plain one's first; and why some did not take part."""
    makers: dict[str, Callable[[], VectorEnv[Any, Any, Any]]] = {}
    absent: dict[str, str] = {}
    if (plain := race.plain) is None:
        absent[PLAIN] = "no Gymnasium environment is the same"
    else:
        makers[PLAIN] = lambda: SyncVectorEnv([plain] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP)
    for backend, env_id in race.backends.items():
        sequence = TaskSequence(tasks=(Task(env_id, 10**12, backend=backend),))  # type: ignore[arg-type]
        makers[backend] = lambda sequence=sequence: ContinualVectorEnv(sequence, num_envs)  # type: ignore[misc]
    with ExitStack() as stack:
        slices = {}
        for contender, make in makers.items():
            try:
                env = make()
                stack.callback(env.close)
                slices[contender] = random_play(env)
            except (ConfigError, gym.error.DependencyNotInstalled) as error:
                absent[contender] = str(error)
        return measure(slices, rounds, progress, name), absent


def compare_backends(options: argparse.Namespace) -> dict[str, Any]:
    """Measure backends, print the table, and return its numbers.

    Raises:
        ConfigError: an environment is not among those to choose from.
    """
    races = {name: configs.choose("--backends", name, RACES) for name in options.backends or RACES}
    num_envs = options.num_envs or 8
    title = f"Random actions, {num_envs} environments, {options.rounds} interleaved rounds"
    table = Table("", "backend", title=title, title_justify="left")
    for column in ("steps/s", f"speed, as a multiple of {PLAIN}'s", "middle half of rounds"):
        table.add_column(column, justify="right")
    numbers: dict[str, Any] = {}
    notes = []
    with Progress(console=Console(stderr=True)) as progress:
        for name, race in races.items():
            seconds, absent = run_race(race, num_envs, options.rounds, progress, name)
            plain = seconds.get(PLAIN)
            numbers[name] = {key: figures(v, None if plain is None else plain / v) for key, v in seconds.items()}
            for key, found in numbers[name].items():
                table.add_row(name, key, *texts(found), end_section=key == list(seconds)[-1])
            notes += [f"{name}: no {key}; {why}" for key, why in absent.items()]
    show(table, *notes)
    return {"title": title, "environments": numbers, "left_out": notes}
