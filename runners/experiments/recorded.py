"""The way back: an experiment from its plain data, and so from the folder of its run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neoteny import configs
from neoteny.configs import ConfigError
from neoteny.envs import TaskSequence
from neoteny.runners.experiments import supervised
from neoteny.runners.experiments.base import AnyExperiment
from neoteny.runners.experiments.compose import assemble
from neoteny.runners.experiments.experiment import Experiment, Run

#: Groups of settings beside those of :class:`Run`.
GROUPS = ("env", "agent", "reg", "labels")


def from_plain(data: Mapping[str, Any]) -> Experiment:
    """The experiment whose :attr:`~Experiment.plain` is ``data``: with the same data, fingerprint and folder.

    Settings of a run that ``data`` does not name have their defaults: later versions have more of them.

    Raises:
        ConfigError: ``data`` is not complete, a setting is unknown or wrong, a class cannot be imported, or the tasks
            are others than those that ``data`` has the fingerprint of.
    """
    if missing := [group for group in GROUPS if not isinstance(data.get(group), Mapping)]:
        raise ConfigError(f"{missing[0]}: these settings are missing")
    env = dict(data["env"])
    fingerprint = env.pop("fingerprint", None)
    run = {key: value for key, value in data.items() if key not in GROUPS}
    if odd := [key for key in run if key not in {field.name for field in dataclasses.fields(Run)}]:
        raise ConfigError(f"{odd[0]}: there is no such setting{configs.suggestion(odd[0], configs.fields(Run))}")
    sequence = configs.build(TaskSequence, env, "env")
    built = configs.build(Run, run, "run")
    experiment = assemble(sequence, data["agent"], data["reg"], built, dict(data["labels"]))
    if sequence.fingerprint() != fingerprint:
        raise ConfigError(
            f"env.fingerprint: {fingerprint} is not that of the tasks below it, which is {sequence.fingerprint()}"
        )
    return experiment


def read_experiment(folder: str | Path) -> Experiment:
    """The experiment of an agent in environments that runs, or has run, in ``folder``.

    Raises:
        ConfigError: it is another program's, or what :func:`read_any` raises.
    """
    experiment = read_any(folder)
    if not isinstance(experiment, Experiment):
        raise ConfigError(f"{folder} has a network that learns from examples; this is for agents in environments")
    return experiment


def read_any(folder: str | Path) -> AnyExperiment:
    """The experiment that runs, or has run, in ``folder``, whatever program's it is.

    Raises:
        ConfigError: it is no run's folder, or what :func:`from_plain` raises: the run was begun by a version with other
            settings, or needs a module that is not here.
    """
    file = Path(folder) / "config.yaml"
    if not file.is_file():
        below = [str(path.parent) for depth in range(1, 5) for path in Path(folder).glob("*/" * depth + "config.yaml")]
        near = f"; there are runs in {', '.join(sorted(below)[:3])}{', …' * (len(below) > 3)}" if below else ""
        raise ConfigError(f"{folder} is not the folder of a run: it has no config.yaml{near}")
    data = configs.read_yaml(file)
    try:
        env = data.get("env")
        return supervised.from_plain(data) if isinstance(env, Mapping) and "data" in env else from_plain(data)
    except ConfigError as error:
        if "cannot be imported" in str(error):
            hint = "go to the folder that has this module, or put that on PYTHONPATH"
        else:
            hint = "a run that was begun by another version of Neoteny can be read by that version"
        raise ConfigError(f"{file}: {error} ({hint})") from error
