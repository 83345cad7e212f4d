"""Throughput of PPO against stock stable-baselines3, and what each regularizer costs.

    python runners/benchmark.py

All contenders take turns, slice by slice, in one process; each round compares them under the same conditions, and the
table gives the median over rounds with the range of the middle half. The hyper-parameters and the shape of the network
are the same for all; stock stable-baselines3 runs its own policy class, with our one-hot encoder before it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import stable_baselines3 as sb3
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

import configs
from agents import PPO, OneHot, PPOConfig
from envs import ContinualVecEnv, Task, TaskSequence
from envs.minigrid import CellImage
from plasticity import Method, Penalty, Spectral
from plasticity.spectral import power_iteration_
from runners.experiment import build_method


@dataclasses.dataclass(kw_only=True, eq=False)
class PlainSpectral(Spectral):
    """The same penalty as one would first write it: power iteration and autograd, layer by layer."""

    def add_grad_(self) -> None:
        for layer, u, v in zip(self._matrix_layers(), self._u, self._v, strict=True):
            power_iteration_([layer.matrix.detach()], [u], [v])
        Penalty.add_grad_(self)


def python_minigrid(env_id: str, num_envs: int) -> VecEnv:
    """MiniGrid as stable-baselines3 users run it: Python environments in a DummyVecEnv."""
    return DummyVecEnv([lambda: Monitor(CellImage(gym.make(env_id)))] * num_envs)


def envpool_minigrid(env_id: str, num_envs: int) -> VecEnv:
    return ContinualVecEnv(TaskSequence(tasks=(Task(env_id, 10**12),)), num_envs)


def contenders(env_id: str, num_envs: int, config: PPOConfig) -> dict[str, Callable[[], BaseAlgorithm]]:
    """Who takes part, by name; the first is what the others are compared with."""
    # With early stopping, contenders would do different amounts of work.
    arguments = dataclasses.replace(config, target_kl=None).arguments() | {"device": "cpu", "seed": 0}
    network = arguments["policy_kwargs"]
    stock = arguments | {
        "policy_kwargs": {key: network[key] for key in ("net_arch", "activation_fn")}
        | {"features_extractor_class": OneHot, "normalize_images": False}
    }

    def ours(method: Method | None) -> Callable[[], BaseAlgorithm]:
        return lambda: PPO("ActorCritic", envpool_minigrid(env_id, num_envs), reg=method, **arguments)

    regularized = {
        name: ours(method)
        for name in configs.names("regs")
        if (method := build_method(configs.load("regs", name)[1])) is not None
    }
    plain: dict[str, Any] = configs.load("regs", "spectral")[1]
    plain.pop("method")
    return {
        "neoteny": ours(None),
        "sb3, Python MiniGrid": lambda: sb3.PPO("MlpPolicy", python_minigrid(env_id, num_envs), **stock),
        "sb3, our EnvPool backend": lambda: sb3.PPO("MlpPolicy", envpool_minigrid(env_id, num_envs), **stock),
        **{f"neoteny + {name}": make for name, make in regularized.items()},
        "neoteny + spectral by autograd": ours(PlainSpectral(**plain)),
    }


def measure(makers: dict[str, Callable[[], BaseAlgorithm]], rounds: int) -> dict[str, np.ndarray[Any, Any]]:
    """Seconds per environment step of each contender in each round, interleaved, after one round of warming up."""
    agents = {name: make() for name, make in makers.items()}
    seconds: dict[str, list[float]] = {name: [] for name in agents}
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("measuring", total=(rounds + 1) * len(agents))
        for round_ in range(rounds + 1):
            order = list(agents) if round_ % 2 else list(reversed(agents))
            for name in order:
                agent = agents[name]
                steps = agent.n_steps * agent.n_envs  # type: ignore[attr-defined]
                begun = time.perf_counter()
                agent.learn(steps, reset_num_timesteps=False)
                if round_:
                    seconds[name].append((time.perf_counter() - begun) / steps)
                progress.advance(bar)
    return {name: np.array(values) for name, values in seconds.items()}


def report(seconds: dict[str, np.ndarray[Any, Any]], title: str) -> dict[str, dict[str, float]]:
    """Print the table, and return its numbers."""
    first = next(iter(seconds))
    table = Table(title=title, title_justify="left")
    for column in ("", "steps/s", "time, as a multiple of neoteny's", "middle half of rounds"):
        table.add_column(column, justify="left" if not column else "right")
    numbers = {}
    for name, values in seconds.items():
        low, middle, high = np.percentile(values / seconds[first], [25, 50, 75])
        speed = 1 / np.median(values)
        share = f"  ({middle - 1:+.1%})" if name.startswith("neoteny +") else ""
        table.add_row(name, f"{speed:,.0f}", f"{middle:.3f}{share}", f"{low:.3f} – {high:.3f}")
        numbers[name] = {"steps_per_second": speed, "ratio": middle, "ratio_25": low, "ratio_75": high}
    Console(width=None if sys.stdout.isatty() else 110).print(table)
    return numbers


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--env-id", default="MiniGrid-DoorKey-5x5-v0", help="a MiniGrid environment")
    parser.add_argument("--num-envs", type=int, default=64, help="environments stepped in parallel")
    parser.add_argument("--rounds", type=int, default=15, help="slices of one rollout and its update, per contender")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    options = parser.parse_args(argv)
    for name in ("num_envs", "rounds", "threads"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')}: at least 1 is needed, got {getattr(options, name)}")
    if options.env_id not in gym.registry:
        known = [name for name in gym.registry if name.startswith("MiniGrid")]
        parser.error(f"--env-id: {options.env_id!r} is not known{configs.suggestion(options.env_id, known)}")
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore", message=".*to run PPO on the GPU.*")
    agent = configs.load("agents", "ppo")[1]
    agent.pop("algorithm")
    config = configs.build(PPOConfig, agent, "agent")
    seconds = measure(contenders(options.env_id, options.num_envs, config), options.rounds)
    title = (
        f"PPO on {options.env_id}, {options.num_envs} environments, torch threads {options.threads}, "
        f"{options.rounds} interleaved rounds"
    )
    numbers = report(seconds, title)
    if options.json:
        machine = {"python": platform.python_version(), "torch": torch.__version__, "sb3": sb3.__version__}
        options.json.write_text(json.dumps({"title": title, **machine, "contenders": numbers}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
