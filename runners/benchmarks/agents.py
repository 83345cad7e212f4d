"""The throughput of agents against stock stable-baselines3's."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

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
from neoteny.agents import AGENTS, AgentConfig, Continual, OneHot, config_of
from neoteny.configs import ConfigError
from neoteny.envs import ContinualVecEnv, Task, TaskSequence
from neoteny.envs.suites.minigrid import CellImage
from neoteny.plasticity import Method, Penalty, Spectral
from neoteny.plasticity.singular_values import EARLY
from neoteny.runners.benchmarks.timing import Seconds, Slice, figures, measure, show, texts
from neoteny.runners.experiments import find_agent, find_device

Agent = TypeVar("Agent", bound=Continual)


@dataclasses.dataclass(frozen=True)
class Stock:
    """What an algorithm of ours is compared with.

    Attributes:
        algorithm: stable-baselines3's own.
        env_id: where they are compared by default.
        slice: environment steps of a slice, at least: rounded up to whole rollouts with their updates.
        same_work: settings with which all contenders do the same amount of work in every slice.
    """

    algorithm: type[BaseAlgorithm]
    env_id: str
    slice: int
    same_work: Callable[[Any], dict[str, Any]]


DOORKEY = "MiniGrid-DoorKey-5x5-v0"

STOCK: dict[str, Stock] = {
    "ppo": Stock(sb3.PPO, DOORKEY, 2048, lambda config: {"target_kl": None}),  # no early stopping
    "dqn": Stock(
        sb3.DQN,
        DOORKEY,
        2048,
        lambda config: {
            "double": False,
            "learning_starts": config.buffer_size,
            "exploration_initial_eps": config.exploration_final_eps,
        },
    ),
    "sac": Stock(sb3.SAC, "WalkerWalk-v1", 256, lambda config: {"learning_starts": 1000}),
}


@dataclasses.dataclass(kw_only=True, eq=False)
class PlainSpectral(Spectral):
    """The same penalty as one would first write it: one step of power iteration and autograd, layer by layer."""

    def setup(self) -> None:
        self._left = {name: matrix.new_ones(len(matrix)) for name, matrix in self._matrices().items()}

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


def our_env(env_id: str, num_envs: int) -> VecEnv:
    return ContinualVecEnv(TaskSequence(tasks=(Task(env_id, 10**12),)), num_envs)


def contenders(
    name: str, env_id: str, num_envs: int, config: AgentConfig, device: str = "cpu"
) -> dict[str, Callable[[], BaseAlgorithm]]:
    """Who takes part, by name; the first is what the others are compared with."""
    stock = STOCK[name].algorithm
    arguments = config.arguments() | STOCK[name].same_work(config) | {"device": device, "seed": 0}
    network = arguments["policy_kwargs"]
    is_minigrid = env_id.startswith("MiniGrid")
    one_hot = {"features_extractor_class": OneHot, "normalize_images": False}
    plain = {key: value for key, value in arguments.items() if key in inspect.signature(stock).parameters} | {
        "policy": "MlpPolicy",
        "policy_kwargs": {key: network[key] for key in ("net_arch", "activation_fn")}
        | (one_hot if is_minigrid else {}),
    }

    def ours(method: Method | None) -> Callable[[], BaseAlgorithm]:
        return lambda: past_the_start(AGENTS[name](env=our_env(env_id, num_envs), reg=method, **arguments))

    spectral: dict[str, Any] = configs.load("regs", "spectral")[1]
    spectral.pop("method")
    python = {"sb3, Python MiniGrid": lambda: stock(env=python_minigrid(env_id, num_envs), **plain)}
    return {
        "neoteny": ours(None),
        **(python if is_minigrid else {}),
        "sb3, our EnvPool backend": lambda: stock(env=our_env(env_id, num_envs), **plain),
        "neoteny + spectral": ours(Spectral(**spectral)),
        "neoteny + spectral by autograd": ours(PlainSpectral(**spectral)),
    }


def past_the_start(agent: Agent) -> Agent:
    """``agent``, with the first updates, in which the tracking of singular values takes more steps, counted as done."""
    for method in agent.methods.values():
        if tracker := getattr(method, "_tracker", None):
            tracker.updates += EARLY
    return agent


def training(agent: BaseAlgorithm, steps: int) -> Slice:
    """``steps`` environment steps and the updates that belong to them; the first time, the random ones before these."""

    def train() -> int:
        before = agent.num_timesteps
        first = 0 if before else getattr(agent, "learning_starts", 0)
        agent.learn(first + steps, reset_num_timesteps=False)
        if agent.device.type == "cuda":
            torch.cuda.synchronize(agent.device)
        return agent.num_timesteps - before

    return train


def compare_agents(options: argparse.Namespace) -> dict[str, Any]:
    """Measure agents, print a table per width of their hidden layers, and return their numbers.

    Raises:
        ConfigError: the environment or the agent is not known, or the device not there.
    """
    settings = configs.load("agents", options.agent)[1]
    algorithm = find_agent(settings)
    name = settings.pop("algorithm")
    stock = configs.choose("--agent: algorithm", name, STOCK)
    env_id = options.env_id or stock.env_id
    device = str(find_device(options.device))
    try:
        our_env(env_id, 1).close()
    except ConfigError as error:
        raise ConfigError(f"--env-id: {str(error).removeprefix('env: ')}") from error
    found = []
    for width in options.widths or [None]:
        given = settings if width is None else settings | {"network": settings["network"] | {"hidden": [width, width]}}
        config: AgentConfig = configs.build(config_of(algorithm), given, "agent")
        num_envs = options.num_envs or config.num_envs
        rollout = config.rollout_length * num_envs
        steps = -(-stock.slice // rollout) * rollout
        makers = contenders(name, env_id, num_envs, config, device)
        slices = {contender: training(make(), steps) for contender, make in makers.items()}
        with Progress(console=Console(stderr=True)) as progress:
            seconds = measure(slices, options.rounds, progress)
        title = (
            f"{options.agent.upper()} on {env_id}, {num_envs} environments, hidden layers {[*config.network.hidden]}, "
            f"{device}, torch threads {options.threads}, {options.rounds} rounds"
        )
        found.append({"title": title, "contenders": tabulate(title, seconds)})
    return found[0] if len(found) == 1 else {"widths": found}


def tabulate(title: str, seconds: Seconds) -> dict[str, dict[str, float]]:
    """Print the contenders' times, and return their numbers."""
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
    return numbers
