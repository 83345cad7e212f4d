"""YAML as it is read and written here."""

from __future__ import annotations

import re
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """``1e5`` and ``2.5e6`` are whole numbers and ``1e-3`` is a real one, where YAML 1.1 has three strings.

    There are mappings, lists, texts, numbers, true, false and null. Dates are texts.
    """


def _whole_number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int | str:
    """``1:30`` is no 90."""
    return str(node.value) if ":" in node.value else int(loader.construct_yaml_int(node))


def _number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float | str:
    if ":" in node.value:
        return str(node.value)
    value = loader.construct_yaml_float(node)
    return int(value) if "e" in node.value.lower() and value.is_integer() else value


class _Dumper(yaml.SafeDumper):
    """Quotes the texts that :class:`_Loader` would take for numbers."""


_OTHERS = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("timestamp", "binary", "set", "omap", "pairs"))
_Loader.yaml_constructors = {tag: made for tag, made in _Loader.yaml_constructors.items() if tag not in _OTHERS}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, text) for tag, text in found if tag not in _OTHERS]
    for first, found in _Loader.yaml_implicit_resolvers.items()
}
_EXPONENT = re.compile(r"[-+]?\d[\d_]*(\.[\d_]*)?[eE][-+]?\d+$")
for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+0123456789"))
_Loader.add_constructor("tag:yaml.org,2002:float", _number)
_Loader.add_constructor("tag:yaml.org,2002:int", _whole_number)

#: A YAML text may hold so many values; anchors can make a short one endless.
VALUES = 1_000_000


def parse_yaml(text: str) -> Any:
    """What a YAML text says.

    Raises:
        yaml.YAMLError, ValueError: it is not YAML, or too much of it.
    """
    try:
        data = yaml.load(text, _Loader)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except (LookupError, AttributeError, TypeError) as error:  # of PyYAML, over `!!bool x`
        raise ValueError("a tag has a value that is not of its kind") from error
    waiting, count = [data], 0
    while waiting:
        value = waiting.pop()
        count += 1
        if count > VALUES:
            raise ValueError(f"it holds more than {VALUES:,} values, or an anchor that holds itself")
        waiting += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return data


def dump_yaml(data: Any) -> str:
    """Plain data as YAML, which :func:`parse_yaml` reads as the same data."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def dump_value(value: Any) -> str:
    """A value on one line, as YAML: what is given on a command line for it."""
    return yaml.dump([value], Dumper=_Dumper, default_flow_style=True, allow_unicode=True, width=10**9)[1:-2]
