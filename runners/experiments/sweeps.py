"""What is swept: environments × agents × methods × settings × seeds, as a file says it or the command line."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BeforeValidator, ConfigDict, Field, NonNegativeInt, PositiveInt, field_validator, model_validator
from pydantic.dataclasses import dataclass

from neoteny import configs
from neoteny.configs import ConfigError
from neoteny.runners.experiments.command_line import MOST_NUMBERS, parse_numbers, parse_value
from neoteny.runners.experiments.program import REINFORCEMENT, Program
from neoteny.runners.experiments.supervised import SUPERVISED

#: The name of the method in runs of the fresh reference, to be excluded or attributed by.
FRESH = "fresh"


class Choice(NamedTuple):
    """An environment, agent or method that is swept over, with the alternatives of its settings by dotted name."""

    name: str
    settings: dict[str, list[Any]]

    def variants(self) -> Iterator[dict[str, Any]]:
        """Every combination of the alternatives."""
        for values in itertools.product(*self.settings.values()):
            yield dict(zip(self.settings, values, strict=True))


def listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def parse_seeds(value: Any) -> list[int]:
    """``10`` is ten seeds, 0 to 9; ``0-4``, ``0,3,7`` and lists are what they say.

    Raises:
        ConfigError: it is something else, or no seed.
    """
    words = ",".join(map(str, [*value, ""])) if isinstance(value, (list, tuple)) else str(value).strip()
    try:
        seeds = parse_numbers(f"0-{int(words) - 1}" if words.isdigit() else words.strip(","))
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0:
        raise ConfigError(
            f"seeds: {value!r} is no list of seeds; "
            f"10 is ten of them (0 to 9), 0-4 or 0,3,7 are these, [3] or --seed 3 is that one; at most {MOST_NUMBERS:,}"
        )
    return list(dict.fromkeys(seeds))


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Attributed:
    """What is attributed once the runs are done: attribute.py's settings.

    Attributes:
        tasks: the tasks before which one thing is made fresh, the first being 1.
        seeds: trials of each; at least two, for an interval.
        only: interventions, beside ``nothing`` and ``everything``; none named is all.
        of: which runs, by env, agent, reg, seed or a dotted setting. Nothing named is all but the fresh ones.
    """

    tasks: list[PositiveInt]
    seeds: Annotated[int, Field(ge=2)] = 5
    only: list[str] = field(default_factory=list)
    of: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Search:
    """How values of ranges are searched for.

    Attributes:
        trials: of each method (of each point of the grid that has a range); a trial is a run with every seed.
        at_once: trials of a method that are chosen together and run at a time.
        look_after: so many tasks are learned before it is looked which trials go on; None: a third of them.
        seed: of what is tried.
    """

    trials: Annotated[PositiveInt, Field(le=10_000)] = 20
    at_once: PositiveInt = 2
    look_after: list[PositiveInt] | None = None
    seed: NonNegativeInt = 0


#: Alternatives, each a name, or a name with settings.
Names = list[str | dict[str, dict[str, Any]]]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Sweep:
    """Environments × agents × methods × seeds, or data × changes × networks × methods × seeds. A list is a list of
    alternatives.

    Attributes:
        about: what is asked, for the reader.
        env, agent, reg: names, as for continual_rl.py, or ``{name: {setting: value or alternatives}}``. A value that is
            itself a list is written in another one: ``{ppo: {network.hidden: [[64, 64], [128, 128]]}}``.
        data, change, net: the same, as for continual_supervised.py, which then runs, in place of env and agent.
        seeds: a number of them, ``0-4`` or a list.
        grid: alternatives by ``env.…``, ``agent.…`` or ``reg.…`` for all that have such a setting, or by
            ``NAME.…`` for one of those named above.
        options: of the program, by name: ``num_tasks: 5``, ``keep_agents: true``, ``agent.learning_rate: 1e-3``.
        exclude: what is left out, by env, agent, reg (``fresh`` for the reference), seed or a dotted setting; a run is,
            if all that one entry says is true of it.
        reference: ``fresh`` adds agents that begin every task anew, without a method.
        attribution: what is attributed once the runs are done.
        search: values of ranges are searched for, such as ``strength: log 1e-6 .. 1e-1``.
    """

    about: str = ""
    env: Names | None = None
    agent: Names | None = None
    data: Names | None = None
    change: Names | None = None
    net: Names | None = None
    reg: Names = field(default_factory=lambda: ["none", "spectral"])
    seeds: Annotated[list[int], BeforeValidator(parse_seeds)] = field(default_factory=lambda: [0])
    grid: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    exclude: list[dict[str, Any]] = field(default_factory=list)
    reference: Literal["fresh", "none"] = "none"
    attribution: Attributed | None = None
    search: Search | None = None

    @field_validator("env", "agent", "data", "change", "net", "reg", "exclude", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> list[Any] | None:
        return None if value is None else listed(value)

    @field_validator("env", "agent", "data", "change", "net", "reg")
    @classmethod
    def _are_named_once(cls, value: list[Any] | None) -> list[Any] | None:
        for item in value or ():
            if isinstance(item, dict) and len(item) != 1:
                raise ValueError(f"a name, or one name with its settings, is expected, got {item!r}")
        if value == []:
            raise ValueError("at least one is needed")
        return value

    @model_validator(mode="after")
    def _is_of_one_program(self) -> Self:
        if self.program is SUPERVISED and (self.env or self.agent):
            raise ValueError("env: data, change and net are of supervised learning, which has no env and no agent")
        if self.program is SUPERVISED and self.attribution:
            raise ValueError("attribution: agents in environments can be attributed, networks on examples cannot")
        return self

    @property
    def program(self) -> Program:
        """The program whose runs they are: that of what is named."""
        return SUPERVISED if self.data or self.change or self.net else REINFORCEMENT

    @property
    def choices(self) -> dict[str, list[Choice]]:
        """What is swept over, by kind; settings of :attr:`grid` are not in it."""
        defaults = {kind: [default] for kind, (_, default, _) in self.program.choices.items()}
        return {kind: [_choice(item) for item in getattr(self, kind) or defaults[kind]] for kind in defaults}


def _choice(item: str | Mapping[str, Mapping[str, Any]]) -> Choice:
    if isinstance(item, str):
        return Choice(item, {})
    ((name, settings),) = item.items()
    return Choice(name, {key: [*{repr(one): one for one in listed(value)}.values()] for key, value in settings.items()})


def load_sweep(name: str) -> tuple[str, Sweep]:
    """An experiment of configs/experiments by name, or anybody's by the path of its YAML file; and what it is called.

    Raises:
        ConfigError: there is none, or a setting in it is unknown or wrong.
    """
    called, data = configs.load("experiments", name)
    return called, configs.build(Sweep, data, called)


def split_names(words: Sequence[str]) -> list[str]:
    """Names that commas or spaces separate. A file whose name has a comma is one name."""
    found = [[word] if Path(word).is_file() else word.split(",") for word in words]
    return [name for names in found for name in names if name]


def parse_grid(words: Sequence[str]) -> dict[str, list[Any]]:
    """``reg.strength=1e-5,1e-4`` or, as separate words, ``reg.strength=1e-5 1e-4``: alternatives by setting.

    Commas inside of brackets and quotes separate nothing: ``agent.network.hidden=[64,64],[128,128]``.

    Raises:
        ConfigError: it is something else.
    """
    found: dict[str, list[Any]] = {}
    key = ""
    for word in words:
        name, equals, text = word.partition("=")
        if equals and "." in name:
            key = name
        else:
            text = word
        values = parse_value(f"[{text}]")
        if not key or not values:
            raise ConfigError(
                f"--grid: SETTING=VALUE,VALUE,… is expected, such as reg.strength=1e-5,1e-4, got {word!r}"
            )
        found.setdefault(key, []).extend(values)
    return found
