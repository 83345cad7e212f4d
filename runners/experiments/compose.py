"""An experiment from YAML presets and what replaces their settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from neoteny import configs
from neoteny.agents import AGENTS, AtSwitch, Continual, config_of
from neoteny.configs import ConfigError
from neoteny.envs import TaskSequence
from neoteny.plasticity import Method
from neoteny.plasticity.resets.occasional import Occasional
from neoteny.runners.experiments import regs
from neoteny.runners.experiments.experiment import Experiment, Run

#: How long a sequence is cannot be seen from the run's folder, so that a run goes on there when it is made longer.
LENGTH = "env.num_tasks"


def load_presets(chosen: Mapping[str, str]) -> dict[str, tuple[str, dict[str, Any]]]:
    """The settings of the chosen env, agent and reg, by kind, each with its name.

    An agent's settings for the sequence's family of environments are taken where there are some: ``ppo`` becomes
    ``ppo-atari`` on Atari games. A path is taken as it is.

    Raises:
        ConfigError: there is no such preset.
    """
    names = dict(chosen)
    presets = {"env": configs.load("envs", names["env"])}
    special = f"{names['agent']}-{presets['env'][1].get('family', '')}"
    if special in configs.names("agents"):
        names["agent"] = special
    return presets | {"agent": configs.load("agents", names["agent"]), "reg": regs.load(names["reg"])}


def find_agent(settings: Mapping[str, Any]) -> type[Continual]:
    """The class that ``algorithm`` names.

    Raises:
        ConfigError: there is none.
    """
    if "algorithm" not in settings:
        raise ConfigError(f"agent.algorithm: this setting is required; choose from {', '.join(AGENTS)}")
    return configs.find_class("agent.algorithm", str(settings["algorithm"]), AGENTS, Continual)


def compose(
    presets: Mapping[str, tuple[str, dict[str, Any]]],
    overrides: Mapping[str, Any],
    run: Mapping[str, Any],
    steps_per_task: int | None = None,
    num_tasks: int | None = None,
) -> Experiment:
    """An experiment from named settings of env, agent and reg, and dotted overrides such as ``reg.strength``.

    Raises:
        ConfigError: a setting is unknown or wrong.
    """
    data = {kind: deep_copy(settings) for kind, (_, settings) in presets.items()}
    labels = {kind: name for kind, (name, _) in presets.items()}
    for kind in ("env", "reg"):
        labels[kind] += override(data[kind], kind, overrides)
    methods, of_agent = regs.split(data["reg"])
    for key, value in of_agent.get("network", {}).items():
        put(data["agent"], ["network", key], value, "agent.network")
    data["agent"] |= {key: value for key, value in of_agent.items() if key == "optimizer"}
    labels["agent"] += override(data["agent"], "agent", overrides)
    env = {"name": presets["env"][0], **data["env"]}
    sequence = dataclasses.replace(configs.build(TaskSequence, env, "env"), segment_steps=None)  # the run has its own
    if steps_per_task is not None:
        labels["env"] += f",steps_per_task={steps_per_task}"
    sequence = sequence.resized(steps_per_task, num_tasks)
    return assemble(sequence, data["agent"], methods, configs.build(Run, run, "--"), labels)


def assemble(
    sequence: TaskSequence, agent: Mapping[str, Any], reg: Mapping[str, Any], run: Run, labels: dict[str, str]
) -> Experiment:
    """An experiment from the settings of its agent, ``algorithm`` included, and of its methods.

    Raises:
        ConfigError: a setting is unknown or wrong.
    """
    _ = sequence.visits  # a run needs an end
    algorithm = find_agent(agent)
    settings = {key: value for key, value in agent.items() if key != "algorithm"}
    agent_config = configs.build(config_of(algorithm), settings, "agent")
    built = regs.build(reg)
    if sequence.switches == "hidden":
        _check_hidden(getattr(agent_config, "at_switch", AtSwitch()), regs.parts(built))
    return Experiment(sequence, algorithm, agent_config, built, run, labels)


def override(data: dict[str, Any], kind: str, overrides: Mapping[str, Any]) -> str:
    """Replace what is given as ``kind.setting``; returns what that adds to the label."""
    label = ""
    for key, value in sorted(overrides.items()):
        first, *path = key.split(".")
        if first != kind:
            continue
        if path[0] == "methods" and len(path) > 1 and isinstance(data.get("methods"), dict):
            configs.choose(f"--{kind}.methods", path[1], data["methods"])
        put(data, path, deep_copy(value), key)
        if key == LENGTH:
            continue
        label += f",{'.'.join(path)}={value}".replace("/", "_").replace(" ", "")
    return label


def _check_hidden(at_switch: AtSwitch, methods: Sequence[Method]) -> None:
    """Raises:
    ConfigError: the agent or a method is told to do something at switches that are hidden from it.
    """
    usual = type(at_switch)().plain()  # DQN restarts exploration; a schedule then runs once, over all tasks
    for name, value in at_switch.plain().items():
        if value not in ("keep", usual[name]):
            raise ConfigError(
                f"agent.at_switch.{name}: {value!r} cannot be done, since env.switches is 'hidden'; "
                f"choose 'keep' here, or 'signalled' there"
            )
    for method in methods:
        if isinstance(method, Occasional) and method.at_switch and not method.every:
            raise ConfigError(
                f"reg.at_switch: {method.name} acts at switches only, and env.switches is 'hidden'; "
                f"set reg.every to a number of updates here, or choose 'signalled' there"
            )


def deep_copy(data: Any) -> Any:
    return {key: deep_copy(value) for key, value in data.items()} if isinstance(data, dict) else data


def put(data: dict[str, Any], path: Sequence[str], value: Any, key: str) -> None:
    *parents, last = path
    for parent in parents:
        data = data.setdefault(parent, {})
        if not isinstance(data, dict):
            raise ConfigError(f"{key}: {parent!r} is a value, not a group of settings")
    data[last] = value
