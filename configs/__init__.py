"""Where the YAML files live, and how they become validated objects.

A setting that cannot be used raises :class:`ConfigError`, whose message names the setting, what was given, what
is allowed and the nearest valid name. The programs in ``runners/`` print it and exit with code 2.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from neoteny.configs.yaml_text import dump_value as dump_value
from neoteny.configs.yaml_text import dump_yaml as dump_yaml
from neoteny.configs.yaml_text import parse_yaml as parse_yaml

FOLDER = Path(__file__).parent

#: A user's class may be named in place of a preset; it then is the value of this setting.
CLASS_SETTINGS = {"agents": "algorithm", "regs": "method", "changes": "change", "nets": "network"}

T = TypeVar("T")


class ConfigError(ValueError):
    """A setting is wrong; the message is written for the person who gave it."""


def suggestion(given: object, allowed: Iterable[str], cutoff: float = 0.5) -> str:
    """``"; did you mean 'spectral'?"`` for the nearest of ``allowed``, or nothing when none is near.

    ``cutoff`` is how alike they must be, from 0 to 1 (equal): the more names there are, the nearer the nearest is by
    chance.
    """
    near = difflib.get_close_matches(str(given), list(allowed), n=1, cutoff=cutoff)
    return f"; did you mean {near[0]!r}?" if near else ""


def choose(setting: str, given: str, allowed: Mapping[str, T]) -> T:
    """``allowed[given]``.

    Raises:
        ConfigError: ``given`` is not among ``allowed``; the nearest name is suggested.
    """
    if given in allowed:
        return allowed[given]
    raise ConfigError(
        f"{setting}: {given!r} is not known; choose from {', '.join(sorted(allowed))}{suggestion(given, allowed)}"
    )


def find_class(setting: str, name: str, known: Mapping[str, type], base: type) -> type:
    """A class by its name in ``known``, or anybody's by ``module:Class``.

    Raises:
        ConfigError: there is none, or it is no subclass of ``base``.
    """
    if ":" not in name:
        return choose(setting, name, known)
    found = find_object(setting, name)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ConfigError(f"{setting}: {name!r} is no subclass of {base.__module__}.{base.__name__}")
    if dataclasses.is_dataclass(base) and (wrong := _not_settings(found, base)):
        raise ConfigError(f"{setting}: {name!r} {wrong}")
    return found


def _not_settings(cls: type, base: type) -> str:
    """What somebody's dataclass, derived from ``base``, says that would not be heard, in words."""
    for each in (each for each in cls.__mro__ if issubclass(each, base) and each is not base):
        said, decorated = each.__dict__, "__dataclass_fields__" in each.__dict__
        annotated = [name for name, hint in inspect.get_annotations(each).items() if "ClassVar" not in str(hint)]
        if annotated and not decorated:
            return f"has {', '.join(annotated)} as if they were settings, which takes @dataclass above the class"
        inherited = {*fields(each)} - {*annotated}
        if lost := [name for name in said if name in inherited and not callable(said[name])]:
            return f"sets {lost[0]} without a type, which makes no default of it: {lost[0]}: ... = {said[lost[0]]!r}"
        own = getattr(said.get("__init__"), "__code__", None)
        if own is not None and own.co_filename == getattr(sys.modules.get(each.__module__), "__file__", None):
            return "has an __init__, which is not called: settings are fields of a @dataclass, setup() begins the rest"
    return ""


def raised(error: BaseException) -> str:
    """An error that somebody's code has raised, in words: of which kind, what it says, and where."""
    *_, last = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__}: {' '.join(str(error).split())} ({last.filename}, line {last.lineno})"


def import_from_here() -> None:
    """Let what is named ``module:Name`` be looked for in the working directory first."""
    here = os.getcwd()
    if sys.path[:1] not in ([""], [here]):
        sys.path.insert(0, here)


def find_object(setting: str, name: str) -> Any:
    """What ``module:Name`` names.

    Raises:
        ConfigError: it cannot be imported.
    """
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise ConfigError(f"{setting}: {name!r} cannot be imported ({error})") from error


def import_extra(option: str, module: str, extra: str) -> Any:
    """A module that needs an extra.

    Raises:
        ConfigError: the extra, which ``option`` asks for, is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(f"{option}: needs the extra {extra!r}: pip install 'neoteny[{extra}]' ({error})") from error


def class_name(cls: type, known: Mapping[str, type]) -> str:
    """What :func:`find_class` finds ``cls`` by."""
    names = [name for name, value in known.items() if value is cls]
    return names[0] if names else f"{cls.__module__}:{cls.__qualname__}"


def names(kind: str) -> list[str]:
    """The presets of ``kind`` (``envs``, ``agents``, ``regs``), by name."""
    return sorted(path.stem for path in (FOLDER / kind).glob("*.yaml"))


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or holds something other than a mapping.
    """
    try:
        data = parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: a mapping of settings is expected, got {type(data).__name__}")
    return data


def load(kind: str, name_or_path: str) -> tuple[str, dict[str, Any]]:
    """A preset by name, any YAML file by path, or a class by ``module:Class``: its short name and its settings.

    ``kind`` is the folder under ``configs/``; its singular is the name of the setting in error messages.
    """
    path = Path(name_or_path)
    if path.suffix in {".yaml", ".yml"}:
        return path.stem, read_yaml(path)
    if kind in CLASS_SETTINGS and ":" in name_or_path:
        return name_or_path.rpartition(":")[2], {CLASS_SETTINGS[kind]: name_or_path}
    presets = {name: FOLDER / kind / f"{name}.yaml" for name in names(kind)}
    return name_or_path, read_yaml(choose(f"--{kind.removesuffix('s')}", name_or_path, presets))


def build(cls: type[T], data: Mapping[str, Any], setting: str) -> T:
    """An instance of the dataclass ``cls`` from plain data, every field checked.

    Raises:
        ConfigError: one line per wrong field: its full name, what was given, and what is allowed.
    """
    try:
        built = TypeAdapter(cls).validate_python(dict(data))
    except ValidationError as error:
        problems = error.errors()
        wrong = {problem["loc"][:depth] for problem in problems for depth in range(len(problem["loc"]))}
        # What only contains a wrong setting is not itself to blame (pydantic also calls it too short).
        raise ConfigError(
            "\n".join(_explain(cls, problem, setting) for problem in problems if problem["loc"] not in wrong)
        ) from None
    if wrongly := [
        f"{where}: a number is expected, got {given}" for where, given in _taken_for_numbers(data, built, setting)
    ]:
        raise ConfigError("\n".join(wrongly))
    return built


def _taken_for_numbers(given: Any, built: Any, where: str) -> Iterator[tuple[str, bool]]:
    """What was given as true or false, and has been read as 1 or 0."""
    if isinstance(given, bool):
        if type(built) in (int, float):
            yield where, given
    elif isinstance(given, Mapping):
        for key, value in given.items():
            inner = built.get(key) if isinstance(built, Mapping) else getattr(built, str(key), None)
            yield from _taken_for_numbers(value, inner, f"{where}.{key}")
    elif isinstance(given, (list, tuple)) and isinstance(built, (list, tuple)):
        for place, (value, inner) in enumerate(zip(given, built, strict=False)):
            yield from _taken_for_numbers(value, inner, f"{where}.{place}")


def fields(cls: type) -> list[str]:
    """The names that settings of the dataclass ``cls`` may have."""
    return [field.name for field in dataclasses.fields(cls) if field.init]


def _dataclass_in(hint: Any) -> type | None:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return hint
    return next((found for part in get_args(hint) if (found := _dataclass_in(part))), None)


def _owner(cls: type, loc: Iterable[str | int]) -> type | None:
    """The dataclass whose settings are at ``loc`` inside ``cls``, if it is one."""
    owner: type | None = cls
    for name in loc:
        if owner and isinstance(name, str):
            owner = _dataclass_in(get_type_hints(owner).get(name))
    return owner


def _explain(cls: type, problem: Any, setting: str) -> str:
    where = ".".join([setting, *map(str, problem["loc"])])
    if problem["type"] in {"unexpected_keyword_argument", "extra_forbidden"}:
        key = problem["loc"][-1]
        owner = _owner(cls, problem["loc"][:-1])
        allowed = fields(owner) if owner else []
        listed = f"; the settings here are {', '.join(allowed)}" if allowed else ""
        return f"{where}: there is no such setting{listed}{suggestion(key, allowed)}"
    if problem["type"] in {"missing", "missing_argument", "missing_keyword_only_argument"}:
        return f"{where}: this setting is required"
    message = str(problem["msg"]).removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if problem["type"] == "value_error":
        if not problem["loc"]:
            return f"{setting}.{message}"
        return f"{where}: {message.removeprefix(str(problem['loc'][-1]) + ': ')}"
    return f"{where}: {message}, got {problem['input']!r}"
