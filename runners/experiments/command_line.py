"""The command line: presets by name, every setting of what is chosen as an option, and errors that help."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
from collections.abc import Sequence
from typing import Any, NoReturn

import yaml

from neoteny import configs
from neoteny.agents import config_of
from neoteny.configs import ConfigError
from neoteny.plasticity import METHODS, Method
from neoteny.runners.experiments import regs
from neoteny.runners.experiments.compose import KINDS, compose, find_agent, load_presets
from neoteny.runners.experiments.experiment import Experiment, Run, plain

#: A range written with a dash has at most so many numbers.
MOST_NUMBERS = 10_000


def parse_value(text: str) -> Any:
    """A value as in the YAML files.

    Raises:
        ConfigError: it is not YAML.
    """
    try:
        return configs.parse_yaml(text)
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{text!r} is not a value that YAML can read") from error


def parse_count(text: str) -> int:
    """A whole number, which may be written as ``1e5``.

    Raises:
        ValueError: it is something else.
    """
    value = parse_value(text)
    if type(value) is not int:
        raise ValueError(text)
    return value


def parse_numbers(text: str) -> list[int]:
    """``0-4`` or ``0,3,7`` or both.

    Raises:
        ValueError: it is something else, or no number is in it, or one range has more than :data:`MOST_NUMBERS`.
    """
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        numbers = range(int(first), int(last or first) + 1)
        if numbers.stop - numbers.start > MOST_NUMBERS:
            raise ValueError(text)
        found += numbers
    if not found:
        raise ValueError(text)
    return found


parse_numbers.__name__ = "list of numbers"
parse_value.__name__, parse_count.__name__ = "YAML", "int"  # what argparse calls them in errors


class More(argparse.Action):
    """An option with several words, which may be given several times: the first time replaces the default."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        before = getattr(namespace, self.dest)
        setattr(namespace, self.dest, (*(() if before is self.default else before), *values))


class Parser(argparse.ArgumentParser):
    """argparse, with the nearest option suggested for one that does not exist."""

    def error(self, message: str) -> NoReturn:
        if message.startswith("unrecognized arguments: "):
            given = message.removeprefix("unrecognized arguments: ").split()
            option = next((word for word in given if word.startswith("--")), given[0]).split("=")[0]
            message = f"{option}: there is no such option{configs.suggestion(option, self._option_string_actions)}"
        self.exit(2, f"{self.prog}: {message}\n")


def parser_of(prog: str, doc: str | None, more: str = "") -> Parser:
    """The parser of a program, whose module's docstring is the help: its first paragraph above the options.

    Args:
        prog: what the program is called.
        doc: the module's docstring.
        more: what is said below it.
    """
    description, _, rest = (doc or "").partition("\n\n")
    return Parser(
        prog=prog,
        description=description,
        epilog=rest + more,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def parse(argv: Sequence[str], description: str = "", prog: str | None = None) -> tuple[Experiment, argparse.Namespace]:
    """The experiment that a command line describes. Exits with code 2 on a wrong one, and 0 on ``--help``.

    Args:
        argv: the words after the program's name.
        description: of the program, for ``--help``.
        prog: what the program is called; by default, as it was started.
    """
    configs.import_from_here()
    parser = Parser(
        prog=prog,
        description=description,
        allow_abbrev=False,
        add_help=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        epilog="Every setting of the chosen env, agent and reg can be replaced: --reg.strength 3e-4, "
        "--agent.network.hidden '[128, 128]', --reg.critic.strength 0, --env.cycles 3. "
        "Methods joined by + go by their names: --reg spectral+l2-init --reg.methods.spectral.strength 3e-4.",
    )
    presets = _add_presets(parser, argv)
    parser.add_argument("-h", "--help", action="store_true", default=argparse.SUPPRESS, help="show this and exit")
    try:
        for kind, (name, settings) in presets.items():
            _add_overrides(parser, kind, name, settings)
        _add_run(parser, presets["env"][1].get("segment_steps"))
        if {"-h", "--help"} & set(argv):
            parser.print_help()
            parser.exit(0)
        options, rest = parser.parse_known_args(list(argv))
        overrides = {key: value for key, value in vars(options).items() if "." in key}
        overrides |= _free_overrides(parser, rest)
        if options.num_envs is not None:
            overrides["agent.num_envs"] = options.num_envs
        run = {f.name: getattr(options, f.name) for f in dataclasses.fields(Run)}
        run["segment_steps"] = overrides.get("env.segment_steps", run["segment_steps"])
        experiment = compose(presets, overrides, run, options.steps_per_task, options.num_tasks)
        experiment.check()
    except ConfigError as error:
        options_named = r"^(?:--\.|(?=steps_per_task:|num_tasks:))(\w+)"
        message = re.sub(options_named, lambda m: f"--{m[1].replace('_', '-')}", str(error), flags=re.MULTILINE)
        parser.exit(2, "".join(f"{parser.prog}: {line}\n" for line in message.splitlines()))
    return experiment, options


def _add_presets(parser: Parser, argv: Sequence[str]) -> dict[str, tuple[str, dict[str, Any]]]:
    group = parser.add_argument_group(
        "what to run (a name from configs/, or the path of a .yaml file; agent and reg also as module:Class)"
    )
    defaults = {"env": "minigrid-seq", "agent": "ppo", "reg": "none"}
    texts = {"env": "the task sequence", "agent": "who learns", "reg": "the plasticity method, or several joined by +"}
    for kind in KINDS:
        known = ", ".join(configs.names(f"{kind}s"))
        group.add_argument(f"--{kind}", default=defaults[kind], metavar="NAME", help=f"{texts[kind]}: {known};")
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for kind in KINDS:
        early.add_argument(f"--{kind}", default=defaults[kind])
    try:
        chosen, _ = early.parse_known_args(list(argv))
        return load_presets({kind: getattr(chosen, kind) for kind in KINDS})
    except (ConfigError, argparse.ArgumentError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


def _add_overrides(parser: Parser, kind: str, name: str, settings: dict[str, Any]) -> None:
    """An option for every setting of the chosen agent or method, so that --help lists them."""
    if kind.startswith("reg"):
        _add_of_agent(parser, kind, name, settings)
    parts = settings.get("methods")
    if kind == "reg" and isinstance(parts, dict):
        for part, own in parts.items():
            _add_overrides(parser, f"reg.methods.{part}", part, own)
        return
    if kind == "agent":
        cls: type = find_agent(settings)
        shown: type = config_of(cls)
    elif kind.startswith("reg") and settings.get("method", "none") != "none":
        cls = shown = configs.find_class(f"{kind}.method", str(settings["method"]), METHODS, Method)
    else:
        return
    group = parser.add_argument_group(f"settings of {kind.partition('.')[0]} {name} ({cls.__module__}.{cls.__name__})")
    documented = _attribute_docs(shown)
    defaults = {f.name: f.default for f in dataclasses.fields(shown)} | settings
    for field in configs.fields(shown):
        required = defaults[field] is dataclasses.MISSING
        default = "required" if required else f"default: {plain(defaults[field])}"
        text = f"{documented.get(field, '')} ({default})".replace("%", "%%").strip()
        path = f"{kind}.{field}"
        group.add_argument(
            f"--{path}", dest=path, type=parse_value, default=argparse.SUPPRESS, metavar="VALUE", help=text
        )


def _add_of_agent(parser: Parser, kind: str, name: str, settings: dict[str, Any]) -> None:
    """An option for all that a reg asks of the agent."""
    wanted = regs.of_agent(settings)
    group = parser.add_argument_group(f"settings of reg {name}, which are the agent's") if wanted else parser
    for key, value in wanted.items():
        text = f"in place of --agent.{key} (default: {plain(value)})".replace("%", "%%")
        path = f"{kind}.{key}"
        group.add_argument(
            f"--{path}", dest=path, type=parse_value, default=argparse.SUPPRESS, metavar="VALUE", help=text
        )


def _attribute_docs(cls: type) -> dict[str, str]:
    """The lines of the ``Attributes:`` sections of a class and its bases, by attribute."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        name = ""
        for line in inspect.cleandoc(base.__doc__ or "").partition("Attributes:\n")[2].splitlines():
            if not line.startswith("    "):
                break
            if line[4] != " ":
                name, _, line = line.strip().partition(": ")
                found[name] = line
            else:
                found[name] += f" {line.strip()}"
    return found


def _add_run(parser: Parser, segment_steps: Any) -> None:
    """An option for every setting of a run, of which the sequence can say how long its segments are."""
    group = parser.add_argument_group("how to run it")
    documented = _attribute_docs(Run)
    for field in dataclasses.fields(Run):
        option = f"--{field.name.replace('_', '-')}"
        if field.default is False:
            group.add_argument(option, action="store_true", help=documented[field.name])
        elif isinstance(field.default, tuple):
            group.add_argument(
                option, nargs="+", action=More, default=field.default, metavar="X", help=documented[field.name]
            )
        else:
            read = parse_value if isinstance(field.default, int) else str
            default = segment_steps if field.name == "segment_steps" and segment_steps else field.default
            group.add_argument(option, type=read, default=default, metavar="X", help=documented[field.name])
    group.add_argument("--num-envs", type=parse_value, metavar="N", help="short for --agent.num_envs")
    group.add_argument("--steps-per-task", type=parse_count, metavar="N", help="replaces every task's budget")
    group.add_argument(
        "--num-tasks", type=parse_count, metavar="N", help="visits: the sequence is cut, or cycled through"
    )
    group.add_argument("--print-config", action="store_true", help="print the complete resolved settings and exit")


def _free_overrides(parser: Parser, rest: list[str]) -> dict[str, Any]:
    """Dotted options that have no option of their own: ``--env.cycles 3``, ``--reg.critic.strength=0``."""
    found: dict[str, Any] = {}
    words = iter(rest)
    for word in words:
        option, equals, value = word.partition("=")
        kind, _, path = option.removeprefix("--").partition(".")
        if not (option.startswith("--") and kind in KINDS and path):
            parser.error(f"unrecognized arguments: {word}")
        if not equals:
            following = next(words, None)
            if following is None:
                parser.error(f"{option}: a value is expected")
            value = following
        found[f"{kind}.{path}"] = parse_value(value)
    return found
