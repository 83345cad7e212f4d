"""Shifts of the actions."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from gymnasium import spaces
from pydantic.dataclasses import dataclass

from neoteny.configs import ConfigError
from neoteny.envs.shifts.base import Array, Shift, Site, Transform, brief, describe, identity
from neoteny.envs.shifts.settings import Actions, Probability, Ramp


@dataclass(frozen=True)
class PermuteAction(Shift):
    """Actions are permuted at random, in the same way for the whole visit.

    In a Discrete space the actions are permuted; in a Box the components of the action vector.
    """

    name: ClassVar[str] = "permute-action"

    def in_words(self, rng: np.random.Generator | None) -> tuple[str, bool]:
        return "actions permuted", False

    def bind(self, site: Site) -> Transform:
        space = site.action_space
        if isinstance(space, spaces.Discrete):
            start, order = space.start, site.rng.permutation(int(space.n))
            return Transform(
                action=lambda actions: (start + order[actions - start]).astype(actions.dtype),
                mask=lambda masks: masks[:, order],
            )
        if not isinstance(space, spaces.Box) or not space.shape:
            raise ConfigError(f"{self.name}: a Discrete or a Box action is needed, the task has {describe(space)}")
        low, high = space.low.reshape(-1), space.high.reshape(-1)
        if (low != low[0]).any() or (high != high[0]).any():
            raise ConfigError(
                f"{self.name}: components can only be exchanged where all have the same bounds; the task has "
                f"{describe(space)}"
            )
        order = site.rng.permutation(low.size)
        return Transform(action=lambda actions: actions.reshape(len(actions), -1)[:, order].reshape(actions.shape))


@dataclass(frozen=True)
class StickyActions(Shift):
    """With some probability, each environment repeats its last action instead of taking the agent's.

    As in the Arcade Learning Environment (Machado et al., 2018, arXiv 1709.06009, section 5). The first action of an
    episode is always the agent's.

    Attributes:
        probability: probability of repeating.
        ramp: environment steps over which the probability grows from 0.
    """

    name: ClassVar[str] = "sticky-actions"

    probability: Probability
    ramp: Ramp = 0

    def in_words(self, rng: np.random.Generator | None) -> tuple[str, bool]:
        return f"sticky {brief(self.probability)}", True

    def bind(self, site: Site) -> Transform:
        first = np.ones(site.num_envs, bool)
        last: Array | None = None

        def act(actions: Array) -> Array:
            nonlocal last
            sticks = site.noise.random(site.num_envs) < site.clock.level(self.ramp) * self.probability
            sticks &= ~first
            taken = actions.copy()
            if last is not None:
                taken[sticks] = last[sticks]
            first[:] = False
            last = taken
            return taken.copy()

        def restart(begun: Array) -> None:
            first[begun] = True

        return Transform(action=act, mask=identity, restart=restart)


@dataclass(frozen=True)
class Slip(Shift):
    """With some probability, an action is replaced by a random one.

    Attributes:
        probability: probability of a slip.
        among: the actions that can slip, and from which the new action is drawn uniformly, the chosen one included; by
            default all actions. ``[0, 1, 2]`` are the moves of MiniGrid.
        ramp: environment steps over which the probability grows from 0.
    """

    name: ClassVar[str] = "slip"

    probability: Probability
    among: Actions | None = None
    ramp: Ramp = 0

    def in_words(self, rng: np.random.Generator | None) -> tuple[str, bool]:
        return f"slip {brief(self.probability)}", True

    def bind(self, site: Site) -> Transform:
        space = site.action_space
        if not isinstance(space, spaces.Discrete):
            raise ConfigError(f"{self.name}: a Discrete action is needed, the task has {describe(space)}")
        every = range(int(space.start), int(space.start + space.n))
        among = np.array(self.among or every)
        for action in among:
            if action not in every:
                raise ConfigError(f"{self.name}.among: {action} is not an action; they are {every[0]} to {every[-1]}")

        def act(actions: Array) -> Array:
            slips = site.noise.random(actions.shape) < site.clock.level(self.ramp) * self.probability
            drawn = among[site.noise.integers(among.size, size=actions.shape)]
            return np.where(slips & np.isin(actions, among), drawn, actions).astype(actions.dtype)

        return Transform(action=act, mask=identity)
