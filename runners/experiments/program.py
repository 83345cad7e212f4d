"""What the programs that run experiments have of their own: what is chosen by name, settings, options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from neoteny import configs
from neoteny.agents import config_of
from neoteny.plasticity import METHODS, Method
from neoteny.runners.experiments.base import AnyExperiment
from neoteny.runners.experiments.compose import compose, find_agent, load_presets
from neoteny.runners.experiments.experiment import Run

Presets = dict[str, tuple[str, dict[str, Any]]]


class Option(NamedTuple):
    """An option of a program's own.

    Attributes:
        name: with underscores.
        text: for ``--help``.
        whole: whether it is a whole number.
    """

    name: str
    text: str
    whole: bool = True


class Program(NamedTuple):
    """A program that runs experiments.

    Attributes:
        file: under runners/.
        choices: by kind, the folder under configs/, the default, and what it is.
        names_also: what else than a name may be given there.
        examples: of overrides, for ``--help``.
        run: the dataclass of how an experiment is run.
        options: its own.
        load: the settings of what is chosen, by kind, each with its name.
        settings_of: by a kind and the settings of what is chosen, a class and the dataclass of its settings; None where
            they have no list.
        compose: the experiment of presets, dotted overrides, settings of the run, and options.
    """

    file: str
    choices: dict[str, tuple[str, str, str]]
    names_also: str
    examples: str
    run: type
    options: tuple[Option, ...]
    load: Callable[[Mapping[str, str]], Presets]
    settings_of: Callable[[str, Mapping[str, Any]], tuple[type, type] | None]
    compose: Callable[[Presets, Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]], AnyExperiment]

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(self.choices)


#: Every program's; the last of what is chosen.
REG = ("regs", "none", "the plasticity method, or several joined by +")


def method_of(kind: str, settings: Mapping[str, Any]) -> tuple[type, type] | None:
    """The class of a method, which is a dataclass; None where there is none."""
    if not kind.startswith("reg") or settings.get("method", "none") == "none":
        return None
    cls = configs.find_class(f"{kind}.method", str(settings["method"]), METHODS, Method)
    return cls, cls


def _agent_or_method(kind: str, settings: Mapping[str, Any]) -> tuple[type, type] | None:
    if kind != "agent":
        return method_of(kind, settings)
    cls = find_agent(settings)
    return cls, config_of(cls)


def _composed(
    presets: Presets, overrides: Mapping[str, Any], run: Mapping[str, Any], options: Mapping[str, Any]
) -> AnyExperiment:
    more = {} if options["num_envs"] is None else {"agent.num_envs": options["num_envs"]}
    return compose(presets, {**overrides, **more}, run, options["steps_per_task"], options["num_tasks"])


#: Agents in environments.
REINFORCEMENT = Program(
    file="continual_rl.py",
    choices={
        "env": ("envs", "minigrid-seq", "the task sequence"),
        "agent": ("agents", "ppo", "who learns"),
        "reg": REG,
    },
    names_also="the path of a .yaml file; agent and reg also as module:Class",
    examples="--agent.network.hidden '[128, 128]', --reg.critic.strength 0, --env.cycles 3",
    run=Run,
    options=(
        Option("num_envs", "short for --agent.num_envs", whole=False),
        Option("steps_per_task", "replaces every task's budget"),
        Option("num_tasks", "visits: the sequence is cut, or cycled through"),
    ),
    load=load_presets,
    settings_of=_agent_or_method,
    compose=_composed,
)
