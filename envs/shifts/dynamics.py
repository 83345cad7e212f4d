"""Shifts of the dynamics: gravity, masses, friction, ..."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from pydantic import model_validator
from pydantic.dataclasses import dataclass

from neoteny.envs.shifts.base import Shift, Site, Transform, brief, need_parameter
from neoteny.envs.shifts.draw import Drawn
from neoteny.envs.shifts.settings import Ramp


@dataclass(frozen=True)
class Dynamics(Shift):
    """Sets parameters of the environment, see :func:`~neoteny.envs.shifts.parameters.get_parameter`.

    Attributes:
        set: the parameters by name, each a number or a distribution from which each visit draws a number:
            ``{uniform: [low, high]}``, ``{log-uniform: [low, high]}``, ``{normal: [mean, std]}``, ``{choice: [...]}``;
            or ``{per-seed: file.csv}``, numbers written down, of which each run takes the row of its seed and each
            visit the next one in it.
        ramp: environment steps over which each parameter changes linearly from the environment's value to the new one.
    """

    name: ClassVar[str] = "dynamics"
    needs_parameters: ClassVar[bool] = True

    set: Mapping[str, Drawn]
    ramp: Ramp = 0

    @model_validator(mode="after")
    def _some(self) -> Dynamics:
        if not self.set:
            raise ValueError("set: one or more parameters are needed, got none")
        return self

    def in_words(self, rng: np.random.Generator | None) -> tuple[str, bool]:
        values = {name: self.set[name].foreseen(rng) for name in sorted(self.set)}
        texts = [name if value is None else f"{name} {brief(value)}" for name, value in values.items()]
        return ", ".join(text.replace("_", " ") for text in texts), None not in values.values()

    def bind(self, site: Site) -> Transform:
        own = {name: need_parameter(site, f"{self.name}.set", name) for name in sorted(self.set)}
        new = {name: self.set[name].value(site, f"{self.name}.set.{name}") for name in own}

        def now() -> dict[str, float]:
            level = site.clock.level(self.ramp)
            return new if level == 1 else {name: (1 - level) * own[name] + level * new[name] for name in own}

        return Transform(parameters=now)
