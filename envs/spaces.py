"""Shared observation and action spaces for all tasks of a sequence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces

from neoteny.configs import ConfigError
from neoteny.envs.shifts import Array, describe, identity


@dataclass(frozen=True)
class SharedSpaces:
    """The spaces the agent uses for all tasks, and the mappings from and to each task's own spaces.

    Observations of different shapes are padded with zeros at the end of each axis. Discrete actions that a task does
    not have act as its no-op. A task with fewer action components uses the first ones. If action bounds differ, actions
    lie in [−1, 1] and are scaled to the task's bounds. If the bounds of real-valued observations differ, the shared
    bounds are infinite, so that they do not depend on the number of tasks visited.

    Attributes:
        observation: the observation space, including the one-hot task id if it is shown.
        action: the action space.
        padded: the observation space without the task id.
        task_ids: number of task ids in the observation; 0 if the task id is not shown.
    """

    observation: spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary
    action: spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary
    padded: Any
    task_ids: int = 0

    @classmethod
    def of(cls, names: Sequence[str], tasks: Sequence[tuple[Any, Any]], task_ids: int = 0) -> SharedSpaces:
        """The shared spaces of ``tasks``, given as pairs of observation and action space.

        Raises:
            ConfigError: the spaces cannot be shared. The message says which and why.
        """
        padded = _unify("observation", names, [observation for observation, _ in tasks], _unify_boxes)
        action = _unify("action", names, [action for _, action in tasks], _unify_actions)
        return cls(_with_task_id(padded, task_ids) if task_ids else padded, action, padded, task_ids)

    def observe(self, own: Any, task_id: int) -> Callable[[Array], Array]:
        """A function that maps observations of the space ``own`` to the shared space."""
        if own.shape == self.padded.shape and not self.task_ids:
            return identity
        own_part = tuple(slice(n) for n in (None, *own.shape))
        shape = self.observation.shape or ()
        shown = _task_id_block(self.padded, self.task_ids, task_id)

        def fit(observations: Array) -> Array:
            fitted = np.zeros((len(observations), *shape), self.observation.dtype)
            fitted[own_part] = observations
            if shown is not None:
                block, axis = shown
                np.moveaxis(fitted, axis + 1, -1)[..., self.padded.shape[axis] :] = np.moveaxis(block, axis, -1)
            return fitted

        return fit

    def act(self, own: Any, noop: int) -> Callable[[Array], Array]:
        """A function that maps shared actions to the space ``own``.

        Raises:
            ConfigError: the no-op is not one of the task's actions.
        """
        if isinstance(own, spaces.Discrete):
            if noop >= own.n:
                raise ConfigError(f"noop: one of the actions 0 to {own.n - 1} is needed, got {noop}")
            if own == self.action:
                return identity
            return lambda actions: np.where(actions < own.n, actions, noop)
        if own == self.action:
            return identity
        n = own.shape[0]
        middle, half = (own.high + own.low) / 2, (own.high - own.low) / 2

        def scale(actions: Array) -> Array:
            scaled = middle + half * actions[:, :n]
            return np.clip(scaled, own.low, own.high).astype(own.dtype)

        return scale


def mask_width(space: Any) -> int:
    """The entries of an action mask, as in sb3-contrib: one for every value of every component.

    Raises:
        ConfigError: the actions are real-valued and have no masks.
    """
    match space:
        case spaces.Discrete():
            return int(space.n)
        case spaces.MultiDiscrete():
            return int(space.nvec.sum())
        case spaces.MultiBinary():
            return 2 * int(np.prod(space.shape))
    raise ConfigError(f"action_masks: there are none for actions of {describe(space)}")


def _unify(kind: str, names: Sequence[str], found: list[Any], unify: Callable[..., Any]) -> Any:
    for name, space in zip(names, found, strict=True):
        if not isinstance(space, (spaces.Box, spaces.Discrete, spaces.MultiBinary, spaces.MultiDiscrete)):
            raise ConfigError(f"tasks: {name} has the {kind} space {describe(space)}; one array is needed")
    first = found[0]
    others = [
        (space, f"tasks: no {kind} space holds both {names[0]}'s {describe(first)} and {name}'s {describe(space)}")
        for name, space in zip(names, found, strict=True)
        if space != first
    ]
    if not others:
        return first
    for space, refusal in others:
        if type(space) is not type(first):
            raise ConfigError(refusal)
        if isinstance(first, spaces.Discrete) and (first.start or space.start):
            raise ConfigError(f"{refusal}: Discrete spaces can be shared where they start at 0")
    if isinstance(first, spaces.Discrete):
        return spaces.Discrete(max(int(space.n) for space in found))
    return unify(found, others)


def _unify_boxes(found: list[Any], others: list[tuple[Any, str]]) -> spaces.Box:
    first = found[0]
    for space, refusal in others:
        if not isinstance(space, spaces.Box) or len(space.shape) != len(first.shape):
            raise ConfigError(f"{refusal}: they differ in more than the length of axes")
        if space.dtype != first.dtype:
            raise ConfigError(f"{refusal}: their types of number differ")
    shape = tuple(max(sizes) for sizes in zip(*(space.shape for space in found), strict=True))
    lows, highs = (np.stack([_pad(getattr(s, side), shape) for s in found]) for side in ("low", "high"))
    if first.dtype.kind == "f":
        low = np.where((lows == lows[0]).all(0), lows[0], -np.inf)
        high = np.where((highs == highs[0]).all(0), highs[0], np.inf)
    else:
        low, high = lows.min(0), highs.max(0)
    return spaces.Box(low.astype(first.dtype), high.astype(first.dtype), dtype=first.dtype.type)


def _unify_actions(found: list[Any], others: list[tuple[Any, str]]) -> spaces.Box:
    for space, refusal in others:
        for either in (found[0], space):
            if not isinstance(either, spaces.Box) or len(either.shape) != 1 or not either.is_bounded():
                raise ConfigError(f"{refusal}: vectors with finite bounds are needed")
    return spaces.Box(-1.0, 1.0, (max(space.shape[0] for space in found),), np.float32)


def _pad(bound: Array, shape: tuple[int, ...]) -> Array:
    return np.pad(bound, [(0, most - n) for most, n in zip(shape, bound.shape, strict=True)])


def _with_task_id(space: Any, task_ids: int) -> spaces.Box:
    if not isinstance(space, spaces.Box) or not space.shape:
        raise ConfigError(
            f"switches: task-id needs Box observations to put the task's index in, the tasks have {describe(space)}"
        )
    blocks = [_task_id_block(space, task_ids, i) for i in range(task_ids)]
    axis = blocks[0][1]  # type: ignore[index]
    extra = np.stack([block for block, _ in blocks])  # type: ignore[misc]
    low = np.concatenate([space.low, extra.min(0) * 0], axis)
    high = np.concatenate([space.high, extra.max(0)], axis)
    return spaces.Box(low, high, dtype=space.dtype.type)


def _task_id_block(space: Any, task_ids: int, task_id: int) -> tuple[Array, int] | None:
    """The one-hot task id, and the axis to append it to: more entries of a vector, more channels of an image.

    An image's channels are on the shorter of its first and last axis. The active channel has the image's highest value,
    so that it has the same scale as the other channels.
    """
    if not task_ids:
        return None
    if len(space.shape) == 1:
        return np.eye(task_ids, dtype=space.dtype)[task_id], 0
    axis = 0 if space.shape[0] < space.shape[-1] else len(space.shape) - 1
    on = space.high.max() if space.dtype == np.uint8 and (space.high == 255).all() else 1
    shape = list(space.shape)
    shape[axis] = task_ids
    block = np.zeros(shape, space.dtype)
    np.moveaxis(block, axis, 0)[task_id] = on
    return block, axis
