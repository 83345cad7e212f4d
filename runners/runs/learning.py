"""What a chain of segments asks of the program whose run it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from stable_baselines3.common.logger import Logger

from neoteny.envs import Segment
from neoteny.runners.runs.display import Display
from neoteny.runners.runs.folder import RunFolder, Savable


class Recording(Protocol):
    """Measures and logs while segments are learned."""

    display: Display
    headline: str

    def begin_visit(self, **state: Any) -> None:
        """A visit begins, or goes on after what :meth:`state` gave."""

    def state(self) -> dict[str, Any]:
        """What :meth:`begin_visit` takes, to go on in another process."""

    def end_segment(self) -> None:
        """A segment has come to its end."""

    def row(self, step: int) -> dict[str, Any]:
        """The line of the visit that is over in tasks.csv."""


class Covered(Savable, Protocol):
    """Whoever learns."""

    def coverage(self) -> dict[str, str]:
        """What methods do with each matrix, by name."""


class Learning:
    """Agents in environments, or networks on examples.

    Attributes:
        coverage: what methods do with each matrix of one that has learned nothing.
    """

    coverage: dict[str, str]

    def claim(self, folder: RunFolder) -> None:
        """The run's folder is this process's."""

    def notices(self) -> list[str]:
        """What is said when a run begins, a line each."""
        raise NotImplementedError

    def recorder(self, display: Display) -> Any:
        """Measures and logs, see :class:`Recording`."""
        raise NotImplementedError

    def load(self, path: Path) -> Any:
        """Whoever learned up to a checkpoint, see :class:`Covered`.

        Raises:
            ValueError: the checkpoint cannot be gone on from.
        """
        raise NotImplementedError

    def learn(self, segment: Segment, agent: Any, recorder: Any, logger: Logger) -> Any:
        """Whoever has learned a segment: a function of the experiment, the segment and the one before.

        Args:
            segment: what to learn.
            agent: as it was before; None at the beginning of the run.
            recorder: measures and logs meanwhile.
            logger: where it is logged.
        """
        raise NotImplementedError

    @property
    def unevaluated(self) -> bool:
        """Whether evaluations that are wanted are missing."""
        return False

    @property
    def evaluated(self) -> list[dict[str, str]]:
        """The rows of evaluations.csv."""
        return []

    def evaluate(self, logger: Logger, display: Display) -> None:
        """Make up for them."""

    def close(self) -> None:
        """Nothing more is learned."""
