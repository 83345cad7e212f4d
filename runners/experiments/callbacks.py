"""Users' own stable-baselines3 callbacks, beside what a run measures itself."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence

from stable_baselines3.common.callbacks import BaseCallback, CallbackList

from neoteny import configs


class StoppedByCallback(Exception):
    """A callback has returned False: the run stops where it is, and can go on from its last checkpoint."""


def find_callback(name: str) -> type[BaseCallback]:
    """A callback's class by ``module:Class``.

    Raises:
        ConfigError: there is none, it is no callback, or it cannot be made without arguments.
    """
    if ":" not in name:
        raise configs.ConfigError(f"{name!r}: module:Class is expected, of a stable-baselines3 callback of your own")
    found: type[BaseCallback] = configs.find_class("callback", name, {}, BaseCallback)
    try:
        inspect.signature(found).bind()
    except TypeError as error:
        raise configs.ConfigError(
            f"{name!r} is made without arguments, and cannot be ({error}); give them defaults, in a subclass"
        ) from error
    if inspect.isabstract(found):
        raise configs.ConfigError(f"{name!r} has no {', '.join(sorted(found.__abstractmethods__))}")
    return found


class Callbacks(CallbackList):
    """Callbacks one after the other; the first that returns False stops the run.

    Args:
        callbacks: by name.
    """

    def __init__(self, callbacks: Mapping[str, BaseCallback]):
        super().__init__([*callbacks.values()])
        self.by_name = callbacks

    def _on_step(self) -> bool:
        for name, callback in self.by_name.items():
            if not (said := callback.on_step()):
                raise StoppedByCallback(f"{name} returned {said} at {self.num_timesteps:,} environment steps")
        return True


def make_callbacks(names: Sequence[str]) -> dict[str, BaseCallback]:
    """A callback of each class, by ``module:Class``.

    Raises:
        ConfigError: one cannot be made.
    """
    made = {}
    for name in names:
        cls = find_callback(name)
        try:
            made[name] = cls()
        except Exception as error:  # in the user's code: whatever it is
            reason = f"{type(error).__name__}: {error}"
            raise configs.ConfigError(f"--callback: {name!r} cannot be made ({reason})") from error
    return made
