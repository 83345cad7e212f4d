"""Shifts of the observations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from pydantic import field_validator, model_validator
from pydantic.dataclasses import dataclass

from neoteny.configs import ConfigError
from neoteny.envs.shifts.base import Array, Shift, Site, Transform, brief, describe
from neoteny.envs.shifts.settings import Deviation, Numbers, Ramp


@dataclass(frozen=True)
class PermuteObservation(Shift):
    """Observations are permuted at random, in the same way for the whole visit.

    In an image of shape (height, width, channels) the cells are permuted, and each cell keeps its channels together; in
    a vector the entries are permuted. The observation space does not change.
    """

    name: ClassVar[str] = "permute-observation"

    def in_words(self, rng: np.random.Generator | None) -> tuple[str, bool]:
        return "permuted", False

    def bind(self, site: Site) -> Transform:
        space = site.observation_space
        if not isinstance(space, spaces.Box) or not space.shape:
            raise ConfigError(f"{self.name}: a Box observation is needed, the task has {describe(space)}")
        channels = space.shape[-1] if len(space.shape) > 1 else 1
        low, high = (b.reshape(-1, channels) for b in (space.low, space.high))
        if (low != low[0]).any() or (high != high[0]).any():
            raise ConfigError(
                f"{self.name}: positions can only be exchanged where all have the same bounds; the task has "
                f"{describe(space)}"
            )
        order = site.rng.permutation(len(low))

        def permute(observations: Array) -> Array:
            cells = observations.reshape(len(observations), -1, channels)
            return cells[:, order].reshape(observations.shape)

        return Transform(observation=permute)


@dataclass(frozen=True)
class OffsetObservation(Shift):
    """A constant is added to every observation: x + level · offset.

    Exactly one of ``std`` and ``value`` is given.

    Attributes:
        std: each visit draws every entry of the offset from a normal distribution with this standard deviation.
        value: the offset itself: one number for all entries, or a list of numbers along the last axis.
        ramp: environment steps over which the offset grows from 0.
    """

    name: ClassVar[str] = "offset-observation"

    std: Deviation | None = None
    value: Numbers | None = None
    ramp: Ramp = 0

    @model_validator(mode="after")
    def _one_of_two(self) -> OffsetObservation:
        if (self.std is None) == (self.value is None):
            raise ValueError(f"std: exactly one of std and value is needed, got std={self.std}, value={self.value}")
        return self

    def in_words(self, rng: np.random.Generator | None) -> tuple[str, bool]:
        return ("offset", False) if self.value is None else (f"offset {brief(self.value)}", True)

    def bind(self, site: Site) -> Transform:
        space = _arithmetic(self.name, site.observation_space)
        if self.std is not None:
            offset = site.rng.normal(0, self.std, space.shape)
        else:
            offset = _entries(f"{self.name}.value", self.value, space)
        offset = offset.astype(_computed(space))

        def shift(observations: Array) -> Array:
            return observations + site.clock.level(self.ramp) * offset

        ends = [0 * offset, offset] if self.ramp else [offset]
        return _transform(space, shift, [bound + end for bound in (space.low, space.high) for end in ends])


@dataclass(frozen=True)
class NoiseObservation(Shift):
    """Normal noise is added, independently at every step and for every entry: x + level · ε.

    Attributes:
        std: the standard deviation of ε.
        ramp: environment steps over which the noise grows from 0.
    """

    name: ClassVar[str] = "noise-observation"

    std: Deviation
    ramp: Ramp = 0

    def in_words(self, rng: np.random.Generator | None) -> tuple[str, bool]:
        return f"noise {brief(self.std)}", True

    def bind(self, site: Site) -> Transform:
        space = _arithmetic(self.name, site.observation_space)
        dtype = np.float32 if _computed(space) == np.float32 else np.float64

        def shift(observations: Array) -> Array:
            noise = site.noise.standard_normal(observations.shape, dtype)
            return observations + site.clock.level(self.ramp) * self.std * noise

        return _transform(space, shift, [np.full(space.shape, bound) for bound in (-np.inf, np.inf)])


@dataclass(frozen=True)
class ScaleObservation(Shift):
    """Every observation is multiplied by a constant: x · ((1 − level) + level · factor).

    Attributes:
        factor: one number for all entries, or a list of numbers along the last axis.
        ramp: environment steps over which the factor goes from 1 to its value.
    """

    name: ClassVar[str] = "scale-observation"

    factor: Numbers
    ramp: Ramp = 0

    def in_words(self, rng: np.random.Generator | None) -> tuple[str, bool]:
        return f"observations ×{brief(self.factor)}", True

    def bind(self, site: Site) -> Transform:
        space = _arithmetic(self.name, site.observation_space)
        factor = _entries(f"{self.name}.factor", self.factor, space).astype(_computed(space))
        least, most = np.minimum(1, factor), np.maximum(1, factor)

        def shift(observations: Array) -> Array:
            level = site.clock.level(self.ramp)
            now = np.clip((1 - level) + level * factor, least, most)  # no rounding error beyond its range
            return observations * now

        ends = [np.ones_like(factor), factor] if self.ramp else [factor]
        with np.errstate(invalid="ignore", over="ignore"):  # infinite bound times zero, overflow
            corners = [np.nan_to_num(bound * end, nan=0.0, posinf=np.inf, neginf=-np.inf)
                       for bound in (space.low, space.high) for end in ends]  # fmt: skip
        return _transform(space, shift, corners)


@dataclass(frozen=True)
class RotateObservation(Shift):
    """Every observation is divided by constants, then rotated at random: Q · (x / scales).

    Each visit draws Q anew, uniformly from the orthogonal matrices (the Haar measure), by the QR decomposition of a
    matrix of normal numbers, with the signs of R's diagonal (Mezzadri, 2007, arXiv math-ph/0609050). Rotations keep
    lengths and angles, so that with entries of about one size every visit is as hard as the next.

    Attributes:
        scales: the typical size of the entries: one number for all, or a list with one for each; not 0.
    """

    name: ClassVar[str] = "rotate-observation"

    scales: Numbers

    @field_validator("scales")
    @classmethod
    def _divide(cls, scales: float | tuple[float, ...]) -> float | tuple[float, ...]:
        if not np.all(scales):
            raise ValueError(f"numbers other than 0 are needed, got {scales}")
        return scales

    def in_words(self, rng: np.random.Generator | None) -> tuple[str, bool]:
        return "rotated", False

    def bind(self, site: Site) -> Transform:
        space = site.observation_space
        if not isinstance(space, spaces.Box) or len(space.shape) != 1 or space.dtype.kind != "f":
            raise ConfigError(f"{self.name}: a vector of real numbers is needed, the task has {describe(space)}")
        scales = _entries(f"{self.name}.scales", self.scales, space)
        q, r = np.linalg.qr(site.rng.standard_normal((len(scales), len(scales))))
        matrix = (q * np.sign(np.diag(r)) / scales[:, None]).astype(space.dtype)
        return Transform(
            lambda observations: observations @ matrix,
            observation_space=spaces.Box(-np.inf, np.inf, space.shape, space.dtype.type),
        )


def _is_pixels(space: spaces.Box) -> bool:
    return bool(space.dtype == np.uint8 and (space.low == 0).all() and (space.high == 255).all())


def _computed(space: spaces.Box) -> np.dtype[Any]:
    """The dtype for computations: that of the observations, but float32 for pixels."""
    return np.dtype(np.float32) if _is_pixels(space) else np.dtype(space.dtype)


def _arithmetic(name: str, space: spaces.Space[Any]) -> spaces.Box:
    """Returns ``space``, if arithmetic on its observations makes sense.

    Raises:
        ConfigError: it does not.
    """
    if not isinstance(space, spaces.Box):
        raise ConfigError(
            f"{name}: a Box observation of real numbers or pixels is needed, the task has {describe(space)}"
        )
    if not np.issubdtype(space.dtype, np.floating) and not _is_pixels(space):
        raise ConfigError(
            f"{name}: real numbers or pixels from 0 to 255 are needed; integers of other bounds stand for kinds of "
            f"things, which cannot be calculated with; the task has {describe(space)}"
        )
    return space


def _entries(setting: str, value: Any, space: spaces.Box) -> Array:
    """``value`` for each entry of an observation.

    Raises:
        ConfigError: a list is not as long as the observation's last axis.
    """
    try:
        return np.broadcast_to(np.asarray(value, np.float64), space.shape)
    except ValueError:
        raise ConfigError(
            f"{setting}: one number, or one for each along the last axis of observations of shape {space.shape}, is "
            f"needed; got {np.size(value)}"
        ) from None


def _transform(space: spaces.Box, shift: Callable[[Array], Array], corners: list[Array]) -> Transform:
    """The transform ``shift`` on observations of ``space``. Its results lie between the extremes of ``corners``.

    Pixels are rounded and clipped, and stay pixels. Real numbers keep their dtype. Rounding is monotone, so no shifted
    observation exceeds a bound that was shifted with the same arithmetic.
    """
    if _is_pixels(space):
        return Transform(lambda pixels: np.rint(shift(pixels.astype(np.float32))).clip(0, 255).astype(np.uint8))
    low, high = (extreme(corners, axis=0).astype(space.dtype) + 0.0 for extreme in (np.min, np.max))  # no −0
    return Transform(
        lambda observations: shift(observations).astype(observations.dtype, copy=False),
        observation_space=spaces.Box(low, high, dtype=space.dtype.type),
    )
