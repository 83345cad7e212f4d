"""What ``reg`` says: plasticity methods, and what else they ask of the agent, its network or its optimizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neoteny import configs
from neoteny.configs import ConfigError
from neoteny.plasticity import METHODS, Compose, Method

ROLES = ("actor", "critic")
#: Settings of the agent that a reg may have beside a method, or instead of one.
OF_AGENT = ("network", "optimizer")

Reg = Method | dict[str, Method | None] | None


def load(name: str) -> tuple[str, dict[str, Any]]:
    """The settings of a plasticity method or, of several joined by ``+``, ``{"methods": {name: settings, ...}}``.

    Raises:
        ConfigError: there is no such preset, or one is named twice.
    """
    if "+" not in name or Path(name).is_file():
        return configs.load("regs", name)
    loaded = [configs.load("regs", part) for part in name.split("+")]
    parts = [part for part, _ in loaded]
    if twice := [part for part in parts if parts.count(part) > 1]:
        raise ConfigError(f"--reg: {twice[0]!r} is named twice in {name!r}")
    return "+".join(parts), {"methods": dict(loaded)}


def split(data: Mapping[str, Any], setting: str = "reg") -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """What is for methods, to be given to :func:`build`; and what is for the agent, by :data:`OF_AGENT`.

    Raises:
        ConfigError: two parts want different things of the agent, or a role wants something for itself.
    """
    methods = {key: value for key, value in data.items() if key not in OF_AGENT}
    wanted: dict[str, dict[str, Any]] = {}
    own = {key: data[key] for key in OF_AGENT if key in data}
    _agree(wanted, own, setting)
    if own and not {"method", "methods"} & methods.keys() and (odd := [key for key in methods if key not in ROLES]):
        there = [f"{setting}.{key}" for key in of_agent(data)]
        near = configs.suggestion(f"{setting}.{next(iter(own))}.{odd[0]}", there)
        raise ConfigError(f"{setting}.{odd[0]}: there is no method to be set here, but {', '.join(there)}{near}")
    for role in ROLES:
        if isinstance(mine := data.get(role), Mapping) and (odd := [key for key in OF_AGENT if key in mine]):
            raise ConfigError(
                f"{setting}.{role}.{odd[0]}: an agent has one {odd[0]}; "
                f"say {setting}.network.layer_norm: {role} (or crelu, fourier) to have it in one role"
            )
    if called := _called(data.get("methods")):
        pieces = {name: split(part, f"{setting}.methods.{name}") for name, part in called.items()}
        for _, more in pieces.values():
            _agree(wanted, more, setting)
        left = {name: rest for name, (rest, more) in pieces.items() if rest or not more}
        methods["methods"] = left
        if len(left) < len(called) and len(left) < 2 and not any(role in data for role in ROLES):  # no composition
            methods |= next(iter(left.values()), {})
            del methods["methods"]
    return methods, wanted


def _called(parts: Any) -> dict[Any, Any]:
    """The parts of several methods by what they are called; nothing if these are no such parts."""
    called = dict(enumerate(parts)) if isinstance(parts, list) else parts
    good = isinstance(called, Mapping) and all(isinstance(part, Mapping) for part in called.values())
    return dict(called) if good else {}


def of_agent(data: Mapping[str, Any]) -> dict[str, Any]:
    """What a reg itself, without its parts, wants of the agent, by dotted setting."""
    groups = {kind: data[kind] for kind in OF_AGENT if isinstance(data.get(kind), Mapping)}
    return {f"{kind}.{key}": value for kind, settings in groups.items() for key, value in settings.items()}


def _agree(wanted: dict[str, dict[str, Any]], more: Mapping[str, Any], setting: str) -> None:
    """Add what more is wanted of the agent.

    Raises:
        ConfigError: something else is wanted already.
    """
    for kind, settings in more.items():
        if not isinstance(settings, Mapping):
            raise ConfigError(f"{setting}.{kind}: a mapping of settings is expected, got {settings!r}")
        for key, value in settings.items():
            if (first := wanted.setdefault(kind, {}).setdefault(key, value)) != value:
                raise ConfigError(f"{setting}: agent.{kind}.{key} cannot be both {first!r} and {value!r}")


def build(data: Mapping[str, Any]) -> Reg:
    """One method for the whole agent or, where ``actor`` or ``critic`` is given, one for each role.

    What a role does not set it takes from beside it: ``{method: spectral, strength: 1e-3, critic: {strength: 0}}``.
    """
    shared = {key: value for key, value in data.items() if key not in ROLES}
    if not any(role in data for role in ROLES):
        return build_method(shared)
    roles: dict[str, Method | None] = {}
    for role in ROLES:
        own = data.get(role, {})
        if own is not None and not isinstance(own, Mapping):
            raise ConfigError(f"reg.{role}: a mapping of settings is expected, got {own!r}")
        roles[role] = None if own is None else build_method(_merged(shared, own), f"reg.{role}")
    return roles


def _merged(shared: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """``shared`` with the settings in ``own`` instead of its own, also those of the parts of several methods."""
    groups = [key for key in shared.keys() & own.keys() if isinstance(shared[key], Mapping)]
    both = {key: _merged(shared[key], own[key]) for key in groups if isinstance(own[key], Mapping)}
    return {**shared, **own, **both}


def build_method(data: Mapping[str, Any], setting: str = "reg") -> Method | None:
    """A method from ``{method: name, settings...}``, or from ``{methods: [such, such, ...]}``; None for ``none``.

    Instead of the list there may be a mapping, from whatever the parts are called.
    """
    settings = dict(data)
    if "methods" in settings:
        parts = settings.pop("methods")
        if settings:
            raise ConfigError(f"{setting}: beside methods nothing else can be set, got {', '.join(map(str, settings))}")
        if not (called := _called(parts)):
            raise ConfigError(f"{setting}.methods: a list of mappings is expected, got {parts!r}")
        built = [build_method(part, f"{setting}.methods.{name}") for name, part in called.items()]
        return Compose(methods=tuple(method for method in built if method is not None))
    name = str(settings.pop("method", "none"))
    if name == "none":
        if settings:
            raise ConfigError(f"{setting}: method none has no settings, got {', '.join(map(str, settings))}")
        return None
    cls = configs.find_class(f"{setting}.method", name, METHODS | {"none": Method}, Method)
    return configs.build(cls, settings, setting)


def has(data: Mapping[str, Any], path: Sequence[str]) -> bool:
    """Whether a reg with these settings has the setting at ``path`` (``strength``, ``critic.strength``, …)."""
    first, *rest = path
    if first in ROLES:
        return not rest or has(data, rest)
    if first in ("method", "methods", *OF_AGENT):
        part = data.get(first)
        if first == "methods" and isinstance(part, Mapping) and len(rest) > 1:
            return rest[0] in part and has(part[rest[0]], rest[1:])
        return part is not None
    name = str(data.get("method", "none"))
    return name != "none" and first in configs.fields(configs.find_class("reg.method", name, METHODS, Method))


def parts(reg: Reg) -> list[Method]:
    """The single methods in it, of all roles and compositions."""
    if isinstance(reg, dict):
        return [part for method in reg.values() for part in parts(method)]
    if isinstance(reg, Compose):
        return [inner for part in reg.methods for inner in parts(part)]
    return [] if reg is None else [reg]


def settings(reg: Reg) -> dict[str, Any]:
    """The opposite of :func:`build`."""
    if isinstance(reg, dict):
        return {role: settings(method) for role, method in reg.items()}
    if reg is None:
        return {"method": "none"}
    if isinstance(reg, Compose):
        return {"methods": [settings(part) for part in reg.methods]}
    return {
        "method": configs.class_name(type(reg), METHODS),
        **{key: getattr(reg, key) for key in configs.fields(type(reg))},
    }
