"""What a change is: it makes tasks of examples."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import PositiveInt
from pydantic.dataclasses import dataclass

from neoteny.configs import ConfigError
from neoteny.envs.supervised.data import Data
from neoteny.envs.supervised.sources import STRICT


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Change:
    """Makes the tasks of data. Subclasses override :meth:`task`, and whatever of the rest is different for them.

    Attributes:
        recur: after so many tasks the first one comes again; null for never. With 1 nothing ever changes.
    """

    name: ClassVar[str]
    #: Whether tasks have different numbers of examples.
    changes_size: ClassVar[bool] = False

    recur: PositiveInt | None = None

    def task(self, data: Data, number: int, seed: int) -> Data:
        """The examples of a task: a function of what is given.

        Args:
            data: all examples.
            number: of the task, the first being 0.
            seed: of the tasks.
        """
        raise NotImplementedError

    def rng(self, number: int, seed: int) -> np.random.Generator:
        """The generator for what is drawn for a task."""
        return np.random.default_rng([seed, number, 1])

    def place(self, index: int) -> int:
        """The number of the task that is the ``index``-th to be learned."""
        return index % self.recur if self.recur else index

    def label(self, number: int) -> str:
        """What a task is called."""
        return f"{self.name.replace('-', ' ')} #{number + 1}"

    def outputs(self, data: Data) -> int:
        """The outputs of a network for all tasks."""
        return data.outputs

    def check(self, data: Data, tasks: int) -> None:
        """Raises:
        ConfigError: this data cannot be changed so, or not into so many tasks.
        """
        if not data.has_classes:
            raise ConfigError(f"change: {self.name} needs data with classes, and these have numbers as targets")
