"""Shifts: changes that a task makes to observations, actions, rewards or dynamics.

A shift is a small frozen dataclass. :meth:`Shift.bind` makes all random draws that define it, and returns functions
that transform batches of observations, actions and rewards.
"""

from __future__ import annotations

from neoteny.configs import ConfigError, build, find_class
from neoteny.envs.shifts.action import PermuteAction, Slip, StickyActions
from neoteny.envs.shifts.base import Array, Clock, Shift, Site, Transform, describe, identity
from neoteny.envs.shifts.draw import Draw, Drawn, Table, parse_draw
from neoteny.envs.shifts.dynamics import Dynamics
from neoteny.envs.shifts.observation import (
    NoiseObservation,
    OffsetObservation,
    PermuteObservation,
    RotateObservation,
    ScaleObservation,
)
from neoteny.envs.shifts.parameters import get_parameter, set_parameters
from neoteny.envs.shifts.reward import FlipReward, Goal, ScaleReward

SHIFTS: dict[str, type[Shift]] = {
    shift.name: shift
    for shift in (
        PermuteObservation, RotateObservation, OffsetObservation, NoiseObservation, ScaleObservation, PermuteAction,
        StickyActions, Slip, ScaleReward, FlipReward, Goal, Dynamics,
    )
}  # fmt: skip


def parse_shift(value: object) -> Shift:
    """A shift from YAML: its name, or a mapping of ``shift: name`` and its options. Your own is ``module:Class``."""
    if isinstance(value, Shift):
        return value
    options = {"shift": value} if isinstance(value, str) else dict(value) if isinstance(value, dict) else {}
    if "shift" not in options:
        raise ConfigError(f"a shift is a name or a mapping with the key 'shift', got {value!r}")
    name = str(options.pop("shift"))
    return build(find_class("shift", name, SHIFTS, Shift), options, name)


__all__ = [
    "SHIFTS", "Array", "Clock", "Draw", "Drawn", "Dynamics", "FlipReward", "Goal", "NoiseObservation",
    "OffsetObservation", "PermuteAction", "PermuteObservation", "RotateObservation", "ScaleObservation", "ScaleReward",
    "Shift", "Site", "Slip", "StickyActions", "Table", "Transform", "describe", "get_parameter", "identity",
    "parse_draw", "parse_shift", "set_parameters",
]  # fmt: skip
