"""Logs of a run count episodes where they began, not where they end."""

import csv
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from thinning import some

from neoteny.runners import continual_rl
from neoteny.runners.measures import Recent


def test_what_began_with_something_that_runs_waits() -> None:
    recent = Recent()
    recent.add("return", 0, 1.0)  # a lucky one, beside one that began with it and runs on
    assert recent.ended == [1.0]
    assert recent.take({"return": 0, "score": 0}) == {}
    assert recent.ended == []
    recent.add("return", 0, 0.0)
    recent.add("return", 7, 1.0)
    recent.add("score", 0, 5.0)
    assert recent.take({"return": 5, "score": 0}) == {"return": 0.5}
    assert recent.take({"return": 8, "score": 1}) == {"return": 1.0, "score": 5.0}
    assert recent.take({"return": 9, "score": 9}) == {}


class Maze(gym.Env[Any, Any]):
    """Of four episodes one is solved, after 8 steps; the others are cut after 64."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.solved, self.steps = self.np_random.random() < 0.25, 0
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        solved = bool(self.solved and self.steps == 8)
        return np.zeros(2, np.float32), float(solved), solved, self.steps == 64, {}


gym.register("Luck-v0", Maze)


@pytest.mark.parametrize("agent", some(["ppo", "dqn"], "ppo"))
def test_an_untrained_agent_does_not_begin_with_its_lucky_episodes(
    agent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted when they end, all episodes of the first stretch would be solved ones."""
    monkeypatch.chdir(tmp_path)
    Path("maze.yaml").write_text("tasks: [{env: Luck-v0, steps: 20480}, {env: Luck-v0, steps: 20480}]\n")
    small = {"ppo": ["--agent.n_steps", "16"], "dqn": ["--agent.learning_starts", "10000000"]}
    argv = ["--env", "maze.yaml", "--agent", agent, "--reg", "none", "--num-envs", "64", *small[agent]]
    assert continual_rl.main([*argv, "--agent.network.hidden", "[8]", "--segment-steps", "10240"]) == 0
    (file,) = Path("runs").rglob("progress.csv")
    rows = list(csv.DictReader(file.open()))
    assert sum(int(row["rollout/episodes"] or 0) for row in rows) > 500
    returns = np.array([float(row["rollout/return"]) for row in rows if row["rollout/return"]])
    assert len(returns) > len(rows) / 2
    biased = [float(row["rollout/return_of_ended"]) for row in rows if row["rollout/return_of_ended"]]
    assert biased[0] == 1.0
    assert returns[0] < 0.5
    assert returns.mean() == pytest.approx(0.25, abs=0.04)
