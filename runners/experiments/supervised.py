"""An experiment in supervised learning: a network, the tasks that it learns, and how it is run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from pydantic import ConfigDict, field_validator
from pydantic.dataclasses import dataclass

from neoteny import configs
from neoteny.agents.supervised import NETS, Learner, Net, OwnNet, find_net
from neoteny.configs import ConfigError
from neoteny.envs import Segment
from neoteny.envs.supervised import Stream
from neoteny.envs.supervised.changes import find_change
from neoteny.envs.supervised.sources import find_source, load_source
from neoteny.plasticity import Method
from neoteny.runners.experiments import regs
from neoteny.runners.experiments.base import AnyExperiment, AnyRun, plain
from neoteny.runners.experiments.compose import deep_copy, override
from neoteny.runners.experiments.program import REG, Option, Presets, Program, method_of
from neoteny.runners.measures import OF_NETWORKS, chosen

#: Groups of settings beside those of :class:`SupervisedRun`.
GROUPS = ("env", "agent", "reg", "labels")


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class SupervisedRun(AnyRun):
    """How an experiment is run.

    Attributes:
        seed: of the run: of the initial weights, of the order of examples, of dropout.
        fresh: begin every task with a new network instead of the one that learned the tasks before it.
        segment_steps: a checkpoint is written at least this often, in examples learned from; in whole passes.
        metrics: functions of your own that read numbers off the learner several times in each task, as module:function.
        keep_agents: keep the network of each task's end in the run's folder, as agents/task-0001.safetensors, …
        instruments: what is measured of the network: default, none, or some of spectra, units, gradients, updates.
            Training is the same with and without.
    """

    instruments: tuple[str, ...] = ("default",)

    @field_validator("instruments")
    @classmethod
    def _are_there(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        chosen(names, OF_NETWORKS)
        return names


@dataclasses.dataclass(frozen=True)
class SupervisedExperiment(AnyExperiment):
    """Everything that decides a run's numbers.

    Attributes:
        sequence: the tasks.
        net: the network's settings.
        reg: a plasticity method, or None.
        run: how it is run.
        labels: what tasks (``env``), network (``agent``) and method (``reg``) are called, overrides included: the run
            folder's path; and apart what the tasks are of, ``data`` and ``change``.
    """

    sequence: Stream
    net: Net
    reg: Method | None
    run: SupervisedRun
    labels: dict[str, str]

    @cached_property
    def plain(self) -> dict[str, Any]:
        """The experiment as nested plain data, complete: what ``config.yaml`` holds; :func:`from_plain` is the way
        back."""
        own = isinstance(self.net, OwnNet)
        network = {} if own else {"network": configs.class_name(type(self.net), NETS)}
        return {
            "env": {
                "fingerprint": self.sequence.fingerprint(),
                "examples": self.sequence.of_examples,
                **plain(self.sequence),
            },
            "agent": {**network, **plain(self.net)},
            "reg": plain(regs.settings(self.reg)),
            **plain(self.run),
            "labels": dict(self.labels),
        }

    @property
    def budgets(self) -> Iterable[tuple[int, int]]:
        return ((visit.task.steps, self.sequence.size(visit.index)) for visit in self.sequence.visits)

    @cached_property
    def segments(self) -> list[Segment]:
        return self.sequence.segments(self.run.segment_steps)

    def make_learner(self, seed: int) -> Learner:
        """A network that has learned nothing.

        Raises:
            ConfigError: it cannot be made with its settings, for these examples.
        """
        stream = self.sequence
        try:
            return Learner(self.net, stream.shape, stream.outputs, self.reg, seed, self.device)
        except ConfigError:
            raise
        except (ValueError, AssertionError, TypeError, MemoryError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"net: cannot be made with these settings: {reason}") from error

    def check(self) -> None:
        self.sequence.check()
        super().check()


def load_presets(names: Mapping[str, str]) -> Presets:
    """The settings of data, change, net and reg, by kind, each with its name.

    Raises:
        ConfigError: there is no such preset.
    """
    return {
        "data": load_source(names["data"]),
        "change": configs.load("changes", names["change"]),
        "net": configs.load("nets", names["net"]),
        "reg": regs.load(names["reg"]),
    }


def compose(
    presets: Presets, overrides: Mapping[str, Any], run: Mapping[str, Any], options: Mapping[str, Any]
) -> SupervisedExperiment:
    """An experiment from named settings, and dotted overrides such as ``change.share``.

    Raises:
        ConfigError: a setting is unknown or wrong.
    """
    data = {kind: deep_copy(settings) for kind, (_, settings) in presets.items()}
    names = {kind: name + override(data[kind], kind, overrides) for kind, (name, _) in presets.items() if kind != "net"}
    methods, of_net = regs.split(data["reg"])
    _check_wanted(names["reg"], of_net.get("network", {}), data["net"])
    data["net"] |= of_net.get("network", {}) | {key: value for key, value in of_net.items() if key == "optimizer"}
    names["net"] = presets["net"][0] + override(data["net"], "net", overrides)
    given = {key: value for key, value in options.items() if value is not None}
    more = "".join(f",{key}={value}" for key, value in given.items() if key != "num_tasks")
    env = f"{names['data']}-{names['change']}"
    settings = {"data": data["data"], "change": data["change"], "name": env, **given}
    labels = {"env": env + more, "agent": names["net"], "reg": names["reg"]}
    labels |= {"data": names["data"], "change": names["change"]}
    return assemble(settings, data["net"], methods, configs.build(SupervisedRun, run, "--"), labels, "--")


def _check_wanted(reg: str, wanted: Mapping[str, Any], net: Mapping[str, Any]) -> None:
    """Raises:
    ConfigError: a method is also a network's setting, and this network has none such.
    """
    cls, _ = find_net(net)
    if missing := [key for key in wanted if key not in configs.fields(cls)]:
        have = [name for name, each in NETS.items() if missing[0] in configs.fields(each)]
        raise ConfigError(
            f"--reg: {reg} sets {missing[0]} in the network, which this one has not; --net {' or '.join(have)} has"
        )


def assemble(
    env: Mapping[str, Any],
    net: Mapping[str, Any],
    reg: Mapping[str, Any],
    run: SupervisedRun,
    labels: dict[str, str],
    called: str = "env",
) -> SupervisedExperiment:
    """An experiment from the settings of its tasks (``called`` so in errors), its network and its method.

    Raises:
        ConfigError: a setting is unknown or wrong.
    """
    source, own = find_source(env["data"])
    data = configs.build(source, own, "data")
    kind, own = find_change(env["change"])
    change = configs.build(kind, own, "change")
    stream = configs.build(Stream, {**env, "data": data, "change": change}, called)
    cls, own = find_net(net)
    built = regs.build(reg)
    if isinstance(built, dict):
        raise ConfigError("reg: one network learns here, so there is no actor and no critic to be set apart")
    return SupervisedExperiment(stream, configs.build(cls, own, "net"), built, run, labels)


def from_plain(data: Mapping[str, Any]) -> SupervisedExperiment:
    """The experiment whose :attr:`~SupervisedExperiment.plain` is ``data``.

    Raises:
        ConfigError: a setting is missing, unknown or wrong, or the tasks are others than those that ``data`` has the
            fingerprint of.
    """
    if missing := [group for group in GROUPS if not isinstance(data.get(group), Mapping)]:
        raise ConfigError(f"{missing[0]}: these settings are missing")
    env = {key: value for key, value in data["env"].items() if key not in ("fingerprint", "examples", "score")}
    run = {key: value for key, value in data.items() if key not in GROUPS}
    built = configs.build(SupervisedRun, run, "run")
    experiment = assemble(env, data["agent"], data["reg"], built, dict(data["labels"]))
    if (found := experiment.sequence.fingerprint()) != data["env"].get("fingerprint"):
        raise ConfigError(
            f"env.fingerprint: {data['env'].get('fingerprint')} is not that of the tasks, which is {found}"
        )
    return experiment


def _settings_of(kind: str, settings: Mapping[str, Any]) -> tuple[type, type] | None:
    finders = {"data": find_source, "change": find_change, "net": find_net}
    if kind not in finders:
        return method_of(kind, settings)
    cls, _ = finders[kind](settings)
    return cls, cls


#: Networks on examples.
SUPERVISED = Program(
    file="continual_supervised.py",
    choices={
        "data": ("data", "digits", "the examples"),
        "change": ("changes", "random-labels", "what changes from task to task"),
        "net": ("nets", "mlp", "the network"),
        "reg": REG,
    },
    names_also="the path of a .yaml file; data also as an .npz file or a folder of IDX files, change and reg as "
    "module:Class, net as module:function",
    examples="--net.hidden '[128, 128]', --data.samples 1000, --change.share 0.5",
    run=SupervisedRun,
    options=(
        Option("num_tasks", "how many tasks are learned (default: 14)"),
        Option("epochs", "passes through the examples of each task (default: 40)"),
        Option("tasks_seed", "of what is drawn for the tasks, which runs of all seeds share (default: 0)"),
    ),
    load=load_presets,
    settings_of=_settings_of,
    compose=compose,
)
