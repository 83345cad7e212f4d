"""What has ended of late, for logs while a run goes on."""

from __future__ import annotations

from collections.abc import Mapping


class Recent:
    """Collects what episodes and games came to, without the bias of counting them when they end.

    In a short stretch those that end are the short ones: of an untrained agent in a maze, the lucky ones. So an episode
    waits until all that began no later than it have ended.

    Attributes:
        ended: the returns of all episodes that have ended since they were last asked for.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, list[tuple[int, float]]] = {}
        self.ended: list[float] = []

    def add(self, name: str, began: int, value: float) -> None:
        """Something that began at this step, of one environment, has ended."""
        self._waiting.setdefault(name, []).append((began, value))
        if name == "return":
            self.ended.append(value)

    def take(self, oldest: Mapping[str, int]) -> dict[str, float]:
        """The means, by name, over all that no longer wait. Names of which there is none are missing.

        Args:
            oldest: by name, when the oldest began that has not ended.
        """
        found = {}
        for name, waiting in self._waiting.items():
            ready = [value for began, value in waiting if began < oldest[name]]
            self._waiting[name] = [each for each in waiting if each[0] >= oldest[name]]
            if ready:
                found[name] = sum(ready) / len(ready)
        self.ended = []
        return found
