"""What learns: reports speak of agents, and of networks where there is no environment."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from neoteny.runners.measures.visit import OF_EXAMPLES

T = TypeVar("T")
#: The word, and no part of a path or of a setting's name.
AGENT = re.compile(r"(?<![\w./-])(?:([Aa])n )?([Aa])gent(s?)\b(?![/-]|\.\w)")


def in_its_words(value: T, headline: str) -> T:
    """Texts, or what has texts in it, that are written for agents: of networks, if those are what was measured.

    Args:
        value: a text; or lists, mappings, tuples and dataclasses of anything, whose texts are meant.
        headline: what was measured.
    """
    return _of_networks(value) if headline in OF_EXAMPLES else value


def _of_networks(value: Any) -> Any:
    if isinstance(value, str):
        return AGENT.sub(_network, value)
    if isinstance(value, Mapping):
        return {key: _of_networks(each) for key, each in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_make"):
        return value._make(map(_of_networks, value))
    if isinstance(value, list | tuple):
        return type(value)(map(_of_networks, value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        texts = {field.name: _of_networks(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **texts)
    return value


def _network(found: re.Match[str]) -> str:
    article, first, plural = found.groups()
    return f"{article} " * bool(article) + ("Network" if first == "A" else "network") + plural
