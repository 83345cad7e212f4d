"""What is measured of one visit to a task."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from neoteny.runners.measures.curves import Curve, Rate

#: The column of tables and logs that a sequence's ``score`` makes the headline.
HEADLINES = {
    "return": "return",
    "game": "score",
    "success": "success",
    "reward-rate": "reward_rate",
    "accuracy": "accuracy",
    "r-squared": "r_squared",
}
#: Those of supervised learning.
OF_EXAMPLES = ("accuracy", "r_squared")


def in_words(measure: str) -> str:
    """A measure's name as people read it."""
    return "R²" if measure == "r_squared" else measure.replace("_", " ")


def logged(measure: str) -> str:
    """The column of progress.csv that a measure is in while it is learned."""
    return f"{'train' if measure in OF_EXAMPLES else 'rollout'}/{measure}"


def steps_of(measure: str) -> str:
    """What the steps are, where a measure is the headline."""
    return "examples learned from" if measure in OF_EXAMPLES else "environment steps"


CURVES = ("return", "score", "success")


class VisitMeasures:
    """The learning curves of a visit.

    - ``return``: the sum of the rewards that the agent gets in an episode: clipped and shifted, and a lost life ends it
      where the task says so.
    - ``score``: the sum of the task's own rewards in a whole game.
    - ``success``: the share of games in which the task was solved, if the environment says it.
    - ``reward_rate``: the task's own reward per environment step.
    """

    def __init__(self, state: Mapping[str, Any] | None = None):
        state = state or {}
        cuts: Sequence[int] = state.get("cuts", ())
        ended: Mapping[str, Any] = state.get("ended", {})
        ages: Mapping[str, Any] = state.get("ages", {})
        self.curves = {name: Curve(ended.get(name, ()), cuts, ages.get(name, ())) for name in CURVES}
        self.rate = Rate(state.get("rate", ()))

    def state(self) -> dict[str, Any]:
        """What the constructor takes, to go on in another process."""
        ended = {name: curve.ended for name, curve in self.curves.items()}
        ages = {name: curve.ages for name, curve in self.curves.items()}
        return {"ended": ended, "cuts": self.curves["return"].cuts, "ages": ages, "rate": self.rate.stretches}

    def add(self, now: int, info: Mapping[str, Any]) -> dict[str, float]:
        """Count what ``info`` says that an environment's step ``now`` has ended. Returns it, by name."""
        found: dict[str, float] = {}
        if episode := info.get("episode"):
            found |= {"return": episode["r"], "length": episode["l"]}
            self.curves["return"].add(now, episode["l"], episode["r"])
        if game := info.get("game"):
            found["score"] = game["r"]
            self.curves["score"].add(now, game["l"], game["r"])
            if "is_success" in info:
                found["success"] = float(info["is_success"])
                self.curves["success"].add(now, game["l"], found["success"])
        return found

    def cut(self, now: int, ages: tuple[int, int] = (0, 0)) -> None:
        """The running episodes are cut at step ``now``; the last cut is the end of the visit.

        Args:
            now: in steps of one environment since the visit began.
            ages: of the oldest running episode, and of the oldest game.
        """
        for name, curve in self.curves.items():
            curve.cut(now, ages[name != "return"])

    def row(self) -> dict[str, Any]:
        """The visit in tasks.csv: what :meth:`Curve.summary` says of each measure."""
        found: dict[str, Any] = {
            "episodes": len(self.curves["return"].ended),
            "games": len(self.curves["score"].ended),
        }
        measures: dict[str, Curve | Rate] = {**self.curves, "reward_rate": self.rate}
        for name, curve in measures.items():
            if name != "success" or self.curves["success"].ended:
                found |= {f"{name}_{key}": value for key, value in curve.summary().items()}
        return found | {"note": self._note(found)}

    def firsts(self, updated: int) -> dict[str, float | None]:
        """When the agent first did well, in steps of one environment since the visit began; None if never.

        Args:
            updated: the steps before the first update of the visit.

        Returns:
            ``first_success``: the end of the first game in which the task was solved, where the environment says so.
            ``first_improvement``: the end of the first episode that began after ``updated`` steps and has a higher
            return than every episode that began before, with the agent as it came to the task; None also where none
            of these came to its end.
        """
        solved = [start + length for start, length, value in self.curves["success"].ended if value > 0]
        episodes = self.curves["return"].ended
        before = [value for start, _, value in episodes if start < updated]
        better = [start + length for start, length, value in episodes if before and value > max(before)]
        return {"first_success": min(solved, default=None), "first_improvement": min(better, default=None)}

    def _note(self, row: Mapping[str, Any]) -> str:
        """Why there is no mean return, if there is none."""
        if not math.isnan(row["return_mean"]):
            return ""
        if not row["episodes"]:
            return "no episode came to its end"
        curve = self.curves["return"]
        longest = max(end - begin for begin, end in itertools.pairwise([0, *curve.cuts]))
        by = "--segment-steps" if len(curve.cuts) > 1 else "the end of the task"
        return (
            f"some episodes take {curve.longest} steps or more and are cut after {longest} by {by}, so only short ones "
            f"ended: {row['episodes']}, with a mean return of {row['return_of_ended']:.3f}"
        )


def shown(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """The measures worth a column: the return, the headline, and what else these rows of tasks.csv say.

    The score where it is not the return, success where it is known, the reward rate where there is no mean return.
    """
    found = {row.get("headline", "return") for row in rows} | {"return" for row in rows if "return_mean" in row}
    for row in rows:
        if "return_mean" in row and row.get("score_mean", row["return_mean"]) != row["return_mean"]:
            found.add("score")
        if row.get("success_mean"):
            found.add("success")
        if row.get("note"):
            found.add("reward_rate")
    return [name for name in HEADLINES.values() if name in found]
