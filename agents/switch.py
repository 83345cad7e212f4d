"""What happens to an agent when the task switches, beside what its plasticity methods do."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

from pydantic.dataclasses import dataclass

from neoteny.agents.config import STRICT

if TYPE_CHECKING:
    from neoteny.agents.continual import Continual


@dataclass(frozen=True, config=STRICT, kw_only=True)
class AtSwitch:
    """What every agent can do at a switch.

    Each setting other than ``keep`` is carried out by the agent's method ``<value>_<setting>``.

    Attributes:
        optimizer: reset empties the state of every optimizer (Adam's moments and step count), as in a new agent.
        normalization: reset forgets the running statistics of observations and rewards.
    """

    optimizer: Literal["keep", "reset"] = "keep"
    normalization: Literal["keep", "reset"] = "keep"

    def apply(self, agent: Continual) -> None:
        """Do to ``agent`` what the settings say."""
        for name, value in self.plain().items():
            if value != "keep":
                getattr(agent, f"{value}_{name}")()

    def plain(self) -> dict[str, Any]:
        """The settings by name."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, config=STRICT, kw_only=True)
class ReplayAtSwitch(AtSwitch):
    """What an agent with a replay buffer can do besides.

    Attributes:
        replay: clear empties the replay buffer; learning then waits for learning_starts new steps.
    """

    replay: Literal["keep", "clear"] = "keep"
