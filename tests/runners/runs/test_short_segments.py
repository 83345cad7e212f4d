"""Returns do not depend on where a run is cut, and where they cannot be known a run says so, and why."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from thinning import some

from neoteny.runners import continual_rl, report
from neoteny.runners.experiments import parse


class Coin(gym.Env[np.ndarray, int]):
    """Half of the episodes are won, after 8 steps, whatever is done; the others are cut after 64."""

    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.won, self.steps = self.np_random.random() < 0.5, 0
        return np.zeros(2, np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        over = bool(self.won and self.steps == 8)
        return np.zeros(2, np.float32), float(over), over, False, {}


gym.register("Coin-v0", Coin, max_episode_steps=64)


def run(tmp_path: Path, segment: int) -> tuple[Path, list[dict[str, str]]]:
    """32 environments take 320 steps in each of two tasks."""
    file = tmp_path / "coins.yaml"
    file.write_text("tasks: [{env: Coin-v0, steps: 10_200}, {env: Coin-v0, steps: 10_240}]\n")
    small = ["--num-envs", "32", "--agent.n_steps", "16", "--agent.network.hidden", "[4]", "--instruments", "none"]
    argv = ["--env", str(file), *small, "--reg", "none", "--out", str(tmp_path / f"by-{segment}")]
    argv += ["--segment-steps", str(segment)]
    assert continual_rl.main(argv) == 0
    folder = parse(argv, "")[0].folder
    with (folder / "tasks.csv").open(newline="") as lines:
        return folder, list(csv.DictReader(lines))


@pytest.mark.parametrize("segment", some({"10240": 10_240, "4096": 4096, "2048": 2048}, "2048"))
def test_segments_do_not_change_returns(segment: int, tmp_path: Path) -> None:
    """They are as long as the longest episode, or longer."""
    _, rows = run(tmp_path, segment)
    for name in ("return_mean", "return_final", "score_mean"):
        assert np.mean([float(row[name]) for row in rows]) == pytest.approx(0.5, abs=0.11)
    assert [row["note"] for row in rows] == ["", ""]


def test_where_long_episodes_never_end_the_mean_over_the_others_is_marked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    folder, rows = run(tmp_path, 1024)
    for row in rows:
        assert math.isnan(float(row["return_mean"]))
        assert math.isnan(float(row["return_final"]))
        assert float(row["return_of_ended"]) == 1.0
        assert "take 33 steps or more and are cut after 32 by --segment-steps" in row["note"]
    assert "Episodes may be cut before they end: up to 64 steps, cut after 32 (tasks 1-2)" in caplog.text
    assert "Budgets are whole rollouts of 512 steps: 10,240 steps for 10,200 (task 1)" in caplog.text
    assert "Backend: gymnasium" in caplog.text
    assert [(row["steps"], row["backend"]) for row in rows] == [("10240", "gymnasium")] * 2
    printed = capsys.readouterr()
    assert printed.err.count("return — over the task (1.000 of what ended), — at its end") == 2
    assert printed.out.count("1.000*") == 2
    assert "* over the episodes that ended" in printed.out
    assert "not known of any task" in printed.out
    assert report.main([str(folder.parent.parent), "--out", str(tmp_path / "report")]) == 0
    text = (tmp_path / "report" / "table.md").read_text()
    assert "nan" not in text
    assert not [line for line in text.splitlines() if line.startswith("|") and "1.000" in line]
    assert "with a mean return of 1.000" in text
