"""What each plasticity method adds to the time that PPO trains, at several widths of its hidden layers."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from neoteny import configs
from neoteny.configs import ConfigError
from neoteny.envs import ContinualVecEnv, Task, TaskSequence
from neoteny.plasticity import Compose, ContinualBackprop, Method
from neoteny.runners.benchmarks.agents import past_the_start
from neoteny.runners.benchmarks.timing import Seconds, Slice, figures, measure, show
from neoteny.runners.experiments import Experiment, compose, load_presets

WIDTHS = (64, 256, 1024)
ENV = "minigrid-permute"
#: Longer than any measurement takes, in updates.
NEVER = 10**9


def experiment(reg: str, width: int) -> Experiment:
    """PPO on MiniGrid with two hidden layers of ``width``; without early stopping, so that all do equal work."""
    presets = load_presets({"env": ENV, "agent": "ppo", "reg": reg})
    return compose(presets, {"agent.network.hidden": [width, width], "agent.target_kl": None}, {"device": "cpu"})


def training(settings: Experiment, method: Any) -> Slice:
    """One rollout and its updates; a switch after the first, for what changes the network there."""
    config = settings.agent
    task = Task(settings.sequence.tasks[0].env, 10**12)
    agent = past_the_start(
        settings.algorithm(
            env=ContinualVecEnv(TaskSequence(tasks=(task,)), config.num_envs),
            reg=method,
            seed=0,
            device="cpu",
            **config.arguments(),
        )
    )

    def train() -> int:
        before = agent.num_timesteps
        agent.learn(settings.rollout, reset_num_timesteps=False)
        if not before:
            agent.on_switch()
        return agent.num_timesteps - before

    return train


def updates(settings: Experiment) -> int:
    """In a slice."""
    config = settings.agent
    return int(config.n_epochs * -(-settings.rollout // config.batch_size))


def contenders(regs: list[str], width: int) -> tuple[dict[str, Slice], dict[str, float]]:
    """Who takes turns; and the share of slices in which those act that act more rarely than once a slice.

    Of these there are two: one that never acts, and one, called ``<reg>, acting``, that does once in each slice.
    """
    slices: dict[str, Slice] = {}
    shares: dict[str, float] = {}
    for reg in regs:
        settings = experiment(reg, width)
        method, often = settings.reg, updates(settings)
        if isinstance(method, ContinualBackprop):
            method = _with(method, maturity=1)  # else it would replace nothing within the measurement
        if isinstance(method, Method) and (every := getattr(method, "every", 0)) > often:
            shares[reg] = often / every
            slices[f"{reg}, acting"] = training(settings, _with(method, every=often))
            method = _with(method, every=NEVER)
        slices[reg] = training(settings, method)
    return slices, shares


def _with(method: Method, **settings: Any) -> Method:
    own = {name: getattr(method, name) for name in configs.fields(type(method))}
    return type(method)(**own | settings)


def ratios(seconds: Seconds, shares: Mapping[str, float]) -> Seconds:
    """Time as a multiple of that without a method, round by round, rare events counted as often as they happen."""
    plain = {name: values / seconds["none"] for name, values in seconds.items()}
    rare = {name: plain[name] + share * (plain[f"{name}, acting"] - plain[name]) for name, share in shares.items()}
    return {name: rare.get(name, values) for name, values in plain.items() if not name.endswith(", acting")}


def compare_methods(options: argparse.Namespace) -> dict[str, Any]:
    """Measure methods, print the table, and return its numbers.

    Raises:
        ConfigError: a method is not known.
    """
    regs = ["none", *(reg for reg in options.methods or configs.names("regs") if reg != "none")]
    for reg in regs:
        if isinstance(experiment(reg, 2).reg, (Compose, dict)):
            raise ConfigError(f"--methods: {reg!r} is several; what rarely acts is timed for one method at a time")
    title = f"Time added to PPO's training on {ENV}, {options.rounds} interleaved rounds [middle half]"
    table = Table("", title=title, title_justify="left")
    numbers: dict[str, dict[str, Any]] = {reg: {} for reg in regs[1:]}
    with Progress(console=Console(stderr=True)) as progress:
        for width in options.widths or WIDTHS:
            slices, shares = contenders(regs, width)
            seconds = measure(slices, options.rounds, progress, f"width {width}")
            found = ratios(seconds, shares)
            table.add_column(f"width {width}", justify="right")
            for reg in numbers:
                numbers[reg][str(width)] = figures(np.array(seconds[reg]), found[reg])
    for reg, by_width in numbers.items():
        table.add_row(reg, *(share(found) for found in by_width.values()))
    show(table)
    return {"title": title, "methods": numbers}


def share(found: Mapping[str, float]) -> str:
    """A ratio and its range as what is added, in percent."""
    middle, low, high = ((found[key] - 1) * 100 for key in ("ratio", "ratio_25", "ratio_75"))
    return f"{middle:+.1f} % [{low:+.1f}, {high:+.1f}]"
