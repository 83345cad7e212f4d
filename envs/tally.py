"""What the running episodes and games have come to: returns, lengths, scores and successes."""

from __future__ import annotations

from typing import Any

import numpy as np

from neoteny.envs.backends import Step
from neoteny.envs.shifts import Array


class Tally:
    """Counts of ``num_envs`` environments side by side.

    An *episode* is what the agent sees, its *return* the sum of the rewards that the agent gets. A *game* is what the
    environment's field scores: it goes on when a life is lost, and its *score* is the sum of the task's own rewards,
    unclipped and without the task's shifts. Without lives, games are episodes.

    Attributes:
        paid: the sum of the task's own rewards since the beginning of the segment, (num_envs).
        lengths: the steps of the running episodes, (num_envs).
    """

    def __init__(self, num_envs: int):
        self.paid = np.zeros(num_envs)
        self._returns, self._scores = np.zeros(num_envs), np.zeros(num_envs)
        self.lengths, self._game_lengths = np.zeros(num_envs, np.int64), np.zeros(num_envs, np.int64)
        self._successes = np.zeros(num_envs, bool)
        self._told = False  # of successes
        self._cut = 0, 0

    def add(self, step: Step, rewards: Array) -> None:
        """Count a step of the environments, for which the agent gets ``rewards``."""
        own = step.rewards if step.own_rewards is None else step.own_rewards
        self.paid += own
        self._returns += rewards
        self._scores += own
        self.lengths += 1
        self._game_lengths += 1
        if step.success is not None:
            self._successes |= step.success
            self._told = True

    @property
    def ages(self) -> tuple[int, int]:
        """The steps since the oldest running episode began, and the oldest game; of those that are cut too."""
        return max(int(self.lengths.max()), self._cut[0]), max(int(self._game_lengths.max()), self._cut[1])

    def close(self, step: Step, last: Array) -> dict[str, Any]:
        """Episodes have ended by themselves, as ``step`` says, or are cut; ``last`` is true for both.

        Returns:
            Gymnasium's ``info``: ``return`` and ``length`` of the episodes, ``score``, ``game_length`` and, if the
            environment says it, ``success`` of the games that ended by themselves; each with its mask ``_return``, ….
        """
        ended = step.terminated | step.truncated
        over = ended if step.games_over is None else step.games_over
        info: dict[str, Any] = {}
        for name, values, mask in (
            ("return", self._returns, ended),
            ("length", self.lengths, ended),
            ("score", self._scores, over),
            ("game_length", self._game_lengths, over),
            ("success", self._successes, over),
        ):
            if name != "success" or self._told:
                info[name], info[f"_{name}"] = values.copy(), mask
        if (cut := last & ~ended).any():
            self._cut = int(self.lengths[cut].max()), int(self._game_lengths[cut].max())
        self.begin(last, over | cut)
        return info

    def begin(self, episodes: Array, games: Array) -> None:
        """Episodes and games begin where these masks are true."""
        self._returns[episodes] = 0.0
        self.lengths[episodes] = 0
        self._scores[games] = 0.0
        self._game_lengths[games] = 0
        self._successes[games] = False
