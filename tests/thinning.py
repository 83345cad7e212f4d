"""Of tests that are alike some run, for time; `make full` runs all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest


def some(cases: Iterable[str], *run: str) -> list[Any]:
    """The parameters of a test by name; all but these are left to `make full`. Of a mapping, its values."""
    values = cases if isinstance(cases, Mapping) else {case: case for case in cases}
    assert {*run} <= values.keys()
    left = {name: [] if name in run else [pytest.mark.full] for name in values}
    tuples = {name: value if isinstance(value, tuple) else (value,) for name, value in values.items()}
    return [pytest.param(*value, id=name, marks=left[name]) for name, value in tuples.items()]


def one_in(count: int, cases: Iterable[Any]) -> list[Any]:
    """Every so many-th of many cases, the first included. Of a mapping, its values by name."""
    cases = cases if isinstance(cases, Mapping) else {str(case): case for case in cases}
    return some(cases, *[*cases][::count])
