"""A mixin that chooses between updates in closed form and an algorithm's own ``train``."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from neoteny.agents.learners import UnreadableError
from neoteny.agents.saving import Saved


class ClosedForm(Saved):
    """Mixin that computes updates in closed form where it can: ``class PPO(ClosedForm, Continual, sb3.PPO)``.

    The networks are read anew when a method, a hook or a new layer has changed them.

    Args:
        closed_form: False for the algorithm's own updates, which differ by rounding only.
    """

    #: The class of stable-baselines3 whose updates these are.
    stock: ClassVar[Any]
    _update: Any = None

    def __init__(self, policy: Any, env: Any, *args: Any, closed_form: bool = True, **kwargs: Any):
        self.closed_form = closed_form
        super().__init__(policy, env, *args, **kwargs)
        self._arguments["closed_form"] = closed_form

    def __getstate__(self) -> dict[str, Any]:
        """A copy reads its networks anew."""
        return vars(self) | {"_update": None}

    def make_update(self) -> Any:
        """The closed form of this agent's updates.

        Raises:
            UnreadableError: it has none.
        """
        raise NotImplementedError

    def _closed_form(self) -> tuple[Any, str]:
        """The closed form, or None, and why there is none."""
        if not self.closed_form:
            return None, "closed_form is false"
        if super().train.__func__ is not self.stock.train:  # type: ignore[misc]
            return None, "another class has its own train()"
        if torch.is_autocast_enabled(self.device.type):
            return None, "autocast is on"
        if self._update is None or not self._update.intact():
            self._update = None
            try:
                self._update = self.make_update()
            except UnreadableError as error:
                return None, str(error)
        return self._update, ""

    @property
    def updates(self) -> str:
        """How updates are computed: in ``closed form``, or by stable-baselines3 and why."""
        _, why = self._closed_form()
        return f"stable-baselines3's, since {why}" if why else "closed form"

    def train(self, *args: Any, **kwargs: Any) -> None:
        """Update the networks."""
        update, _ = self._closed_form()
        if update is None:
            super().train(*args, **kwargs)  # type: ignore[misc]
        else:
            update.train(super().train, *args, **kwargs)  # type: ignore[misc]
