"""The runs of a sweep: each a command line of the program that runs it, none of them twice."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from neoteny import configs
from neoteny.configs import ConfigError
from neoteny.runners.experiments import regs
from neoteny.runners.experiments.base import AnyExperiment
from neoteny.runners.experiments.command_line import parse, parse_value
from neoteny.runners.experiments.ranges import Range
from neoteny.runners.experiments.sweeps import FRESH, Choice, Sweep, listed

#: Settings of a sequence that are options of their own.
LENGTHS = ("steps_per_task", "num_tasks")

#: A sweep has at most so many runs.
MOST_RUNS = 10_000


class Point(NamedTuple):
    """A place in the grid: what is run with every seed.

    Attributes:
        names: of env, agent and reg, or of data, change, net and reg; reg is ``fresh`` for the reference.
        settings: in place of the presets', by dotted name.
    """

    names: dict[str, str]
    settings: dict[str, Any]

    @property
    def is_reference(self) -> bool:
        return self.names["reg"] == FRESH

    @property
    def programs_names(self) -> dict[str, str]:
        """The names, the reference being what it is to the program: no method."""
        return self.names | ({"reg": "none"} if self.is_reference else {})

    @property
    def ranges(self) -> dict[str, Range]:
        """Those among the settings, of which a search tries values.

        Raises:
            ConfigError: a range is one of nothing, or of the length of runs.
        """
        found = {key: Range.read(key, value) for key, value in self.settings.items()}
        ranges = {key: range_ for key, range_ in found.items() if range_ is not None}
        for key in (f"env.{length}" for length in LENGTHS):
            if key in ranges:
                raise ConfigError(f"{key}: runs of other lengths cannot be compared, got the range {ranges[key]}")
        return ranges

    def at(self, values: Mapping[str, float]) -> Point:
        """The point with these values, rounded, in place of the ranges."""
        found = {key: range_.rounded(values[key]) for key, range_ in self.ranges.items()}
        return self._replace(settings=self.settings | found)

    @property
    def usual(self) -> Point:
        """The point with what the presets have in place of the ranges."""
        return self._replace(settings={key: value for key, value in self.settings.items() if key not in self.ranges})

    def matches(self, rule: Mapping[str, Any], seed: int | None = None) -> bool:
        """Whether all that ``rule`` says is true here; of seeds it is, if none is given."""
        here = {**self.settings, **self.names}
        here |= {"seed": seed} if seed is not None else {key: rule[key] for key in rule if key == "seed"}
        return all(key in here and here[key] in [*listed(wanted), wanted] for key, wanted in rule.items())

    def words(self) -> list[str]:
        """The command line, without a seed."""
        words = [word for kind, name in self.programs_names.items() for word in (f"--{kind}", name)]
        for key, value in self.settings.items():
            kind, _, path = key.partition(".")
            option = path.replace("_", "-") if kind == "env" and path in LENGTHS else key
            words.append(f"--{option}={configs.dump_value(value)}")
        return words + ["--fresh"] * self.is_reference


@dataclasses.dataclass(frozen=True)
class PlannedRun:
    """A run, the words after the program's name that make it, and where in the grid it is."""

    experiment: AnyExperiment
    arguments: list[str]
    point: Point

    @property
    def folder(self) -> str:
        return str(self.experiment.folder)


class Plan:
    """All runs of a sweep.

    Args:
        sweep: what is swept.
        words: options of the program for all runs. Those of a method go to the methods that have such a setting.
        grid: alternatives by setting, in place of the sweep's own.
        only: names by kind, of which alone runs are wanted.
        prog: what the program is called, in errors.

    Attributes:
        program: whose runs they are.
        points: the grid.
        notes: what was left out or put together, for the console.

    Raises:
        ConfigError: a name or a setting is wrong.
    """

    def __init__(
        self,
        sweep: Sweep,
        words: Sequence[str] = (),
        *,
        grid: Mapping[str, list[Any]] | None = None,
        only: Mapping[str, list[str]] | None = None,
        prog: str = "",
    ):
        self.sweep, self.program = sweep, sweep.program
        self.prog = prog
        self.notes: list[str] = []
        of_all, options = split_settings(_options(sweep.options), self.program.kinds)
        given, others = split_settings(words, self.program.kinds)
        self.words = [*options, *others]
        self.layers = (of_all | {key: listed(value) for key, value in sweep.grid.items()}, {**(grid or {}), **given})
        self._check_keys()
        points = [*itertools.islice(self._points(), MOST_RUNS + 1)]
        if len(points) * len(sweep.seeds) > MOST_RUNS:
            raise ConfigError(f"a sweep has at most {MOST_RUNS:,} runs, these are more")
        points = self._without_excluded(points)
        for kind, names in (only or {}).items():
            there = dict.fromkeys(point.names[kind] for point in points)
            for name in names:
                configs.choose(f"--{kind}", name, there)
            # The reference is compared with whatever is left.
            points = [point for point in points if point.names[kind] in (*names, FRESH)]
        self.points = points

    @cached_property
    def runs(self) -> list[PlannedRun]:
        """All runs, each folder once, as :meth:`runs_of` has them."""
        return self.runs_of(self.points)

    def _check_keys(self) -> None:
        """Whether all settings are of somebody."""
        names = {choice.name for choices in self.sweep.choices.values() for choice in choices}
        for key in itertools.chain(*self.layers):
            if key.partition(".")[0] not in self.program.kinds and not any(
                key.startswith(f"{name}.") for name in names
            ):
                allowed = [*self.program.kinds, *sorted(names)]
                near = configs.suggestion(key.partition(".")[0], allowed)
                raise ConfigError(f"grid: {key!r} begins with none of {', '.join(allowed)}{near}")

    def _points(self) -> Iterator[Point]:
        choices = self.sweep.choices
        choices = {kind: self._with_layers(kind, choices[kind]) for kind in choices}
        if self.sweep.reference == FRESH:
            choices["reg"].append(Choice(FRESH, {}))
        for chosen in itertools.product(*choices.values()):
            names = dict(zip(choices, (choice.name for choice in chosen), strict=True))
            for variants in itertools.product(*(choice.variants() for choice in chosen)):
                pairs = zip(choices, variants, strict=True)
                yield Point(names, {f"{kind}.{key}": value for kind, found in pairs for key, value in found.items()})

    def _with_layers(self, kind: str, choices: Sequence[Choice]) -> list[Choice]:
        """Each choice with what the grid and the options for all say of it; its own go before the grid's."""
        found = {id(choice): [dict[str, list[Any]](), dict[str, list[Any]]()] for choice in choices}
        for number, layer in enumerate(self.layers):
            for key, values in layer.items():
                for choice, path in self._takers(kind, key, choices):
                    found[id(choice)][number][path] = values
        return [Choice(c.name, found[id(c)][0] | c.settings | found[id(c)][1]) for c in choices]

    def _takers(self, kind: str, key: str, choices: Sequence[Choice]) -> list[tuple[Choice, str]]:
        """Those that a setting is for, each with what it is called there."""
        first, _, path = key.partition(".")
        if first != kind:
            return [(c, key.removeprefix(f"{c.name}.")) for c in choices if key.startswith(f"{c.name}.")]
        takers = [c for c in choices if self._has(kind, c, path)]
        if takers and len(takers) < len(choices):
            names = dict.fromkeys(choice.name for choice in choices if choice not in takers)
            self.notes.append(f"{key}: {', '.join(names)} {'has' if len(names) == 1 else 'have'} no such setting")
        # Where nobody has it, the error that the program has for it is more to the point than ours.
        return [(c, path) for c in takers or [c for c in choices if c.name != "none"] or choices]

    def _has(self, kind: str, choice: Choice, path: str) -> bool:
        if kind == "reg":
            own = {key: values[0] for key, values in choice.settings.items()}
            return regs.has(regs.load(choice.name)[1] | own, path.split("."))
        names = {each: choices[0].name for each, choices in self.sweep.choices.items()}
        _, settings = self.program.load({**names, "reg": "none", kind: choice.name})[kind]
        found = self.program.settings_of(kind, settings)
        return found is None or path.partition(".")[0] in configs.fields(found[1])

    def _without_excluded(self, points: list[Point]) -> list[Point]:
        for rule in self.sweep.exclude:
            if not any(point.matches(rule) for point in points):
                raise ConfigError(f"exclude: {rule} is true of no run")
        whole = [rule for rule in self.sweep.exclude if "seed" not in rule]
        return [point for point in points if not any(point.matches(rule) for rule in whole)]

    def runs_of(self, points: Sequence[Point], *words: str) -> list[PlannedRun]:
        """The runs of these points, each folder once.

        Args:
            points: of the grid.
            words: options of the program beside those of all runs.

        Raises:
            ConfigError: two of them would be in one folder. Settings of one run that are wrong exit with code 2, as
                :func:`~neoteny.runners.experiments.parse` does.
        """
        folders: dict[str, str] = {}
        settings: dict[str, str] = {}
        found: list[PlannedRun] = []
        for point in points:
            if point.ranges:
                setting, range_ = next(iter(point.ranges.items()))
                raise ConfigError(f"{setting}: {range_} is a range, of which a search tries values: --search optuna")
            arguments = [*point.words(), *self.words, *words]
            experiment, _ = parse(arguments, prog=self.prog or None, program=self.program)
            label = "/".join(experiment.folder.parts[-3:-1])
            plain = {key: value for key, value in experiment.plain.items() if key not in ("labels", "seed")}
            same = json.dumps([plain, experiment.run.out], sort_keys=True, default=str)
            if same in settings:
                if settings[same] != label:
                    self.notes.append(f"{label} has the settings of {settings[same]}, which is run")
                continue
            if label in folders:
                raise ConfigError(f"two different runs would be in one folder, {label}: {folders[label]} and {point}")
            folders[label], settings[same] = str(point), label
            found += self._with_seeds(experiment, arguments, point)
        return found

    def _with_seeds(self, experiment: AnyExperiment, arguments: list[str], point: Point) -> Iterator[PlannedRun]:
        for seed in self.sweep.seeds:
            if any(point.matches(rule, seed) for rule in self.sweep.exclude):
                continue
            keep = self.attributes(point, seed)
            names = 2 * len(point.names)
            words = [*arguments[:names], "--seed", str(seed), *arguments[names:]]
            run = experiment.with_run(seed=seed, keep_agents=experiment.run.keep_agents or keep)
            yield PlannedRun(run, [*words, *["--keep-agents"] * keep], point)

    def attributes(self, point: Point, seed: int) -> bool:
        """Whether a run is attributed once it is done."""
        wanted = self.sweep.attribution
        return wanted is not None and not point.is_reference and point.matches(wanted.of, seed)


def split_settings(words: Sequence[str], kinds: Sequence[str]) -> tuple[dict[str, list[Any]], list[str]]:
    """Settings of these ``kinds`` by dotted name, each a list of one; and the other words.

    Raises:
        ConfigError: an option has no value.
    """
    dotted: dict[str, list[Any]] = {}
    others = []
    following = iter(words)
    for word in following:
        option, equals, value = word.partition("=")
        if not (option.startswith("--") and option[2:].partition(".")[0] in kinds and "." in option):
            others.append(word)
            continue
        given = value if equals else next(following, None)
        if given is None:
            raise ConfigError(f"{option}: a value is expected")
        dotted[option[2:]] = [parse_value(given)]
    return dotted, others


def _options(options: Mapping[str, Any]) -> list[str]:
    """Options by name as words."""
    words: list[str] = []
    for key, value in options.items():
        option = f"--{key if '.' in key else key.replace('_', '-')}"
        if isinstance(value, bool) and "." not in key:
            words += [option] * value
        elif isinstance(value, list) and "." not in key:
            words += [option, *map(str, value)]
        else:
            words.append(f"{option}={configs.dump_value(value)}")
    return words
