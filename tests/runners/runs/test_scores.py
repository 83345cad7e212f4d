"""What a run records of returns, scores, successes and rewards without end, against what the environment counts."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from neoteny.envs.backends import GymnasiumBackend, Step
from neoteny.runners import continual_rl, report
from neoteny.runners.experiments import parse


class Chore(gym.Env[np.ndarray, int]):
    """Pays 0.5 at each step, is over after ``length`` steps, and solved at its third in every second episode.

    Attributes:
        books: what it has counted itself: (steps, paid, solved) of each finished episode.
    """

    books: ClassVar[list[tuple[int, float, bool]]] = []
    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, length: int):
        self.length, self.episodes = length, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps, self.paid = 0, 0.0
        self.episodes += 1
        return np.zeros(2, np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        self.paid += 0.5
        solved = self.steps == 3 and self.episodes % 2 == 0
        over = self.steps >= self.length
        if over:
            self.books.append((self.steps, self.paid, self.episodes % 2 == 0))
        return np.zeros(2, np.float32), 0.5, over, False, {"success": solved}


@pytest.fixture(autouse=True)
def _chore() -> Iterator[None]:
    gym.register("Chore-v0", Chore, disable_env_checker=True)
    Chore.books.clear()
    yield
    del gym.registry["Chore-v0"]


def run(tmp_path: Path, sequence: str, *options: str) -> tuple[Path, list[dict[str, str]]]:
    file = tmp_path / "chores.yaml"
    file.write_text(sequence)
    argv = ["--env", str(file), "--out", str(tmp_path / "runs"), "--num-envs", "4", "--agent.n_steps", "32", *options]
    assert continual_rl.main(argv) == 0
    folder = parse(argv, "")[0].folder
    with (folder / "tasks.csv").open(newline="") as lines:
        return folder, list(csv.DictReader(lines))


def test_returns_are_the_agents_and_scores_the_tasks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One visit with rewards times ten, one with the sign flipped: the task's own score is the same."""
    chore = "env: Chore-v0, steps: 2048, kwargs: {length: 8}"
    shifts = ("{shift: scale-reward, factor: 10}", "flip-reward")
    tasks = "".join(f"\n  - {{{chore}, shifts: [{shift}]}}" for shift in shifts)
    folder, rows = run(tmp_path, f"score: success\ntasks:{tasks}\n")
    assert {(steps, paid) for steps, paid, _ in Chore.books} == {(8, 4.0)}
    assert [float(row["return_mean"]) for row in rows] == [40, -4]
    assert [float(row["score_mean"]) for row in rows] == [4, 4]
    assert [float(row["reward_rate_final"]) for row in rows] == [0.5, 0.5]
    assert [int(row["games"]) for row in rows] == [256, 256]
    truth = np.mean([solved for *_, solved in Chore.books])
    assert [float(row["success_mean"]) for row in rows] == pytest.approx([truth, truth], abs=0.05)
    printed = capsys.readouterr()
    assert printed.out.count("success") == 2  # of the whole task, and at its end
    assert printed.out.count("score") == 2
    assert "success 0.5" in printed.err
    events = EventAccumulator(str(folder)).Reload()
    tags = set(events.Tags()["scalars"])
    assert {"rollout/score", "rollout/success", "rollout/reward_rate", "task/success_mean", "task/score_final"} <= tags
    assert {"score/02 Chore-v0 reward flipped", "success/02 Chore-v0 reward flipped"} <= tags
    assert {event.value for event in events.Scalars("rollout/score")} == {4.0}
    assert report.main([str(folder.parent.parent), "--out", str(tmp_path / "report")]) == 0
    headings = [line for line in (tmp_path / "report" / "table.md").read_text().splitlines() if line.startswith("## M")]
    assert headings == ["## Mean success of each task", "## Mean return of each task", "## Mean score of each task"]


def test_a_game_that_ends_where_no_episode_does_is_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that ends in the steps after a lost life: here each game is over a step after its episode."""
    step, before = GymnasiumBackend.step, [np.zeros(4, bool)]

    def late(self: GymnasiumBackend, actions: np.ndarray) -> Step:
        found = step(self, actions)
        over, before[0] = before[0], found.terminated
        return found._replace(games_over=over)

    monkeypatch.setattr(GymnasiumBackend, "step", late)
    _, [row] = run(tmp_path, "tasks: [{env: Chore-v0, steps: 2048, kwargs: {length: 7}}]\n")
    assert int(row["games"]) == int(row["episodes"]) == 4 * (512 // 7)
    assert float(row["score_mean"]) == pytest.approx(3.5, abs=0.1)


def test_a_task_hardly_longer_than_an_episode_has_a_mean_return(tmp_path: Path) -> None:
    _, [row] = run(tmp_path, "tasks: [{env: Chore-v0, steps: 2048, kwargs: {length: 505}}]\n")
    assert (float(row["return_mean"]), row["note"]) == (252.5, "")


def test_without_a_mean_return_the_reason_is_given_and_the_reward_rate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sequence = "score: reward-rate\ntasks: [{env: Chore-v0, steps: 2048, kwargs: {length: 1_000_000_000}}]\n"
    _, [row] = run(tmp_path, sequence)
    assert row["return_mean"] == "nan"
    assert row["note"] == "no episode came to its end"
    assert float(row["reward_rate_mean"]) == 0.5
    printed = capsys.readouterr()
    assert f"Task 1: {row['note']}" in printed.out
    assert "reward rate 0.500 over the task" in printed.err
