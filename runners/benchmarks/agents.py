"""The throughput of agents against stock stable-baselines3's."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import stable_baselines3 as sb3
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv
from torch import Tensor
from torch.nn.functional import normalize

from neoteny import configs
from neoteny.agents import AGENTS, AgentConfig, OneHot, config_of
from neoteny.configs import ConfigError
from neoteny.envs import ContinualVecEnv, Task, TaskSequence
from neoteny.envs.suites.minigrid import CellImage
from neoteny.plasticity import Method, Penalty, Spectral
from neoteny.runners.benchmarks.timing import Slice, figures, measure, show, texts
from neoteny.runners.experiments import find_agent

#: Environment steps of an agent's slice, at least: rounded up to whole rollouts with their updates.
SLICE = 2048


@dataclasses.dataclass(frozen=True)
class Stock:
    """What an algorithm of ours is compared with.

    Attributes:
        algorithm: stable-baselines3's own.
        same_work: settings with which all contenders do the same amount of work in every slice.
    """

    algorithm: type[BaseAlgorithm]
    same_work: Callable[[Any], dict[str, Any]]


STOCK: dict[str, Stock] = {
    "ppo": Stock(sb3.PPO, lambda config: {"target_kl": None}),  # no early stopping
    "dqn": Stock(
        sb3.DQN,
        lambda config: {
            "double": False,
            "learning_starts": config.buffer_size,
            "exploration_initial_eps": config.exploration_final_eps,
        },
    ),
}


@dataclasses.dataclass(kw_only=True, eq=False)
class PlainSpectral(Spectral):
    """The same penalty as one would first write it: one step of power iteration and autograd, layer by layer."""

    def setup(self) -> None:
        self._left = {name: torch.ones(len(matrix)) for name, matrix in self._matrices().items()}

    def value(self) -> Tensor:
        found = []
        for layer in self._live()[0]:
            v = normalize(layer.matrix.detach().T @ self._left[layer.name], dim=0)
            self._left[layer.name] = u = normalize(layer.matrix.detach() @ v, dim=0)
            found.append(u @ layer.matrix @ v)
        return self._penalty(found)

    def add_grad_(self) -> None:
        Penalty.add_grad_(self)

    def state(self) -> dict[str, Tensor]:
        return self._left


def python_minigrid(env_id: str, num_envs: int) -> VecEnv:
    """MiniGrid as stable-baselines3 users run it: Python environments in a DummyVecEnv."""
    return DummyVecEnv([lambda: Monitor(CellImage(gym.make(env_id)))] * num_envs)


def envpool_minigrid(env_id: str, num_envs: int) -> VecEnv:
    return ContinualVecEnv(TaskSequence(tasks=(Task(env_id, 10**12),)), num_envs)


def contenders(name: str, env_id: str, num_envs: int, config: AgentConfig) -> dict[str, Callable[[], BaseAlgorithm]]:
    """Who takes part, by name; the first is what the others are compared with."""
    stock = STOCK[name].algorithm
    arguments = config.arguments() | STOCK[name].same_work(config) | {"device": "cpu", "seed": 0}
    network = arguments["policy_kwargs"]
    plain = {key: value for key, value in arguments.items() if key in inspect.signature(stock).parameters} | {
        "policy": "MlpPolicy",
        "policy_kwargs": {key: network[key] for key in ("net_arch", "activation_fn")}
        | {"features_extractor_class": OneHot, "normalize_images": False},
    }

    def ours(method: Method | None) -> Callable[[], BaseAlgorithm]:
        return lambda: AGENTS[name](env=envpool_minigrid(env_id, num_envs), reg=method, **arguments)

    spectral: dict[str, Any] = configs.load("regs", "spectral")[1]
    spectral.pop("method")
    return {
        "neoteny": ours(None),
        "sb3, Python MiniGrid": lambda: stock(env=python_minigrid(env_id, num_envs), **plain),
        "sb3, our EnvPool backend": lambda: stock(env=envpool_minigrid(env_id, num_envs), **plain),
        "neoteny + spectral": ours(Spectral(**spectral)),
        "neoteny + spectral by autograd": ours(PlainSpectral(**spectral)),
    }


def training(agent: BaseAlgorithm, steps: int) -> Slice:
    """``steps`` environment steps and the updates that belong to them; the first time, the random ones before these."""

    def train() -> int:
        before = agent.num_timesteps
        first = 0 if before else getattr(agent, "learning_starts", 0)
        agent.learn(first + steps, reset_num_timesteps=False)
        return agent.num_timesteps - before

    return train


def compare_agents(options: argparse.Namespace) -> dict[str, Any]:
    """Measure agents, print the table, and return its numbers.

    Raises:
        ConfigError: the environment or the agent is not known.
    """
    if options.env_id not in gym.registry:
        known = [name for name in gym.registry if name.startswith("MiniGrid")]
        raise ConfigError(f"--env-id: {options.env_id!r} is not known{configs.suggestion(options.env_id, known)}")
    configs.choose("--agent", options.agent, STOCK)
    settings = configs.load("agents", options.agent)[1]
    algorithm = find_agent(settings)
    settings.pop("algorithm")
    config: AgentConfig = configs.build(config_of(algorithm), settings, "agent")
    num_envs = options.num_envs or config.num_envs
    rollout = config.rollout_length * num_envs
    steps = -(-SLICE // rollout) * rollout
    makers = contenders(options.agent, options.env_id, num_envs, config)
    slices = {name: training(make(), steps) for name, make in makers.items()}
    with Progress(console=Console(stderr=True)) as progress:
        seconds = measure(slices, options.rounds, progress)
    title = (
        f"{options.agent.upper()} on {options.env_id}, {num_envs} environments, torch threads {options.threads}, "
        f"{options.rounds} interleaved rounds"
    )
    first = next(iter(seconds))
    table = Table("", title=title, title_justify="left")
    for column in ("steps/s", f"time, as a multiple of {first}'s", "middle half of rounds"):
        table.add_column(column, justify="right")
    numbers = {}
    for name, values in seconds.items():
        numbers[name] = figures(values, values / seconds[first])
        speed, ratio, range_ = texts(numbers[name])
        share = f"  ({numbers[name]['ratio'] - 1:+.1%})" if name.startswith("neoteny +") else ""
        table.add_row(name, speed, ratio + share, range_)
    show(table)
    return {"title": title, "contenders": numbers}
