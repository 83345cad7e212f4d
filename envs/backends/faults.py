"""Faults of environments, and how they are found."""

from __future__ import annotations

import numpy as np

from neoteny import configs
from neoteny.envs.shifts import Array


class EnvironmentFault(RuntimeError):
    """An environment has broken: what it gives is not finite or has another shape, it raised an error, or its process
    has ended or does not answer.

    Args:
        what: what is wrong.
        index: which of the environments side by side it is; None if that is not known.

    Attributes:
        place: the task, the environment and the step, once known.
    """

    def __init__(self, what: str, index: int | None = None):
        super().__init__(what, index)
        self.what, self.index, self.place = what, index, ""

    def __str__(self) -> str:
        return f"{self.place}: {self.what}" if self.place else self.what


def raised(call: str, error: Exception) -> EnvironmentFault:
    """The fault of an environment whose method ``call`` has raised ``error``."""
    if isinstance(error, EnvironmentFault):
        return error
    fault = EnvironmentFault(f"{call}() raised {configs.raised(error)}")
    fault.__cause__ = error
    return fault


class FiniteCheck:
    """Whether arrays of real numbers are finite: 0 · x is 0 for each number, and NaN for NaN and ±∞.

    One product of vectors, in place of the array of truth values that ``np.isfinite`` makes: 1 µs for small arrays.
    """

    def __init__(self) -> None:
        self._zeros: Array = np.zeros(0)

    def __call__(self, values: Array) -> bool:
        """Whether all ``values`` are finite; arrays of whole numbers are, without a look."""
        if values.dtype.kind != "f":
            return True
        if (self._zeros.size, self._zeros.dtype) != (values.size, values.dtype):
            self._zeros = np.zeros(values.size, values.dtype)
        return bool(np.vdot(self._zeros, values) == 0)


def not_finite(name: str, values: Array) -> EnvironmentFault:
    """The fault of the first environment whose ``values``, (num_envs, ...), are not all finite."""
    index, *entry = (int(i) for i in np.argwhere(~np.isfinite(values))[0])
    value = {"nan": "NaN"}.get(text := str(values[index, *entry]), text)
    where = f" in entry {', '.join(map(str, entry))}" if entry else ""
    return EnvironmentFault(f"the {name} is {value}{where}", index)
