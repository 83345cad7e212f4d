"""What an agent does at a task switch, besides its plasticity methods."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from pydantic.dataclasses import dataclass

from neoteny.agents.config import STRICT


@dataclass(frozen=True, config=STRICT, kw_only=True)
class AtSwitch:
    """What every agent can do at a task switch.

    A setting other than ``keep`` calls the agent's method ``<value>_<setting>``.

    Attributes:
        optimizer: reset clears the state of every optimizer (Adam's moments and step count), as in a new agent.
        normalization: reset clears the running statistics of observations and rewards.
    """

    optimizer: Literal["keep", "reset"] = "keep"
    normalization: Literal["keep", "reset"] = "keep"

    def plain(self) -> dict[str, Any]:
        """The settings by name."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, config=STRICT, kw_only=True)
class ReplayAtSwitch(AtSwitch):
    """What an agent with a replay buffer can do at a task switch.

    Attributes:
        replay: clear empties the replay buffer; learning then waits for learning_starts new steps.
    """

    replay: Literal["keep", "clear"] = "keep"
