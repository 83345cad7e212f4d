"""Shifts of the reward and the goal."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic.dataclasses import dataclass

from neoteny.envs.shifts.base import Shift, Site, Transform, brief, need_parameter
from neoteny.envs.shifts.settings import Finite, Ramp


def _scaled(site: Site, factor: float, ramp: int) -> Transform:
    def now() -> float:
        level = site.clock.level(ramp)
        return (1 - level) + level * factor

    return Transform(reward=lambda rewards: rewards * now())


@dataclass(frozen=True)
class ScaleReward(Shift):
    """Every reward is multiplied by a constant.

    Attributes:
        factor: the constant.
        ramp: environment steps over which the factor goes from 1 to its value.
    """

    name: ClassVar[str] = "scale-reward"

    factor: Finite
    ramp: Ramp = 0

    def in_words(self, rng: np.random.Generator | None) -> tuple[str, bool]:
        return f"reward ×{brief(self.factor)}", True

    def bind(self, site: Site) -> Transform:
        return _scaled(site, self.factor, self.ramp)


@dataclass(frozen=True)
class FlipReward(Shift):
    """The sign of every reward is flipped.

    Attributes:
        ramp: environment steps over which the factor goes from 1 through 0 to −1.
    """

    name: ClassVar[str] = "flip-reward"

    ramp: Ramp = 0

    def in_words(self, rng: np.random.Generator | None) -> tuple[str, bool]:
        return "reward flipped", True

    def bind(self, site: Site) -> Transform:
        return _scaled(site, -1.0, self.ramp)


@dataclass(frozen=True)
class Goal(Shift):
    """Sets the environment's attribute ``goal``.

    Attributes:
        goal: the new value.
    """

    name: ClassVar[str] = "goal"
    needs_parameters: ClassVar[bool] = True

    goal: int

    def in_words(self, rng: np.random.Generator | None) -> tuple[str, bool]:
        return f"goal {self.goal}", True

    def bind(self, site: Site) -> Transform:
        need_parameter(site, self.name, "goal")
        return Transform(parameters=lambda: {"goal": self.goal})
