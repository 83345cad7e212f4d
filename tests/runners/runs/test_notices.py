"""What a run says when it begins."""

import pytest

from neoteny.runners.experiments import parse
from neoteny.runners.runs.notices import notices

SAC = ["--agent", "sac", "--env", "pendulum-gravity", "--num-tasks", "3"]
DQN = ["--agent", "dqn", "--env", "cartpole-dynamics", "--num-tasks", "4"]
PPO = ["--env", "minigrid-seq", "--num-tasks", "3", "--steps-per-task", "100_000"]


def said(*argv: str) -> list[str]:
    return notices(parse([*argv, "--reg", "none"], "")[0])


def test_budgets_that_were_not_changed_are_not_spoken_of() -> None:
    assert said(*SAC) == ["Backend: envpool (task 1); gymnasium (tasks 2-3)"]


def test_backends_by_task_where_they_differ() -> None:
    assert "Backend: envpool (task 1); vector (tasks 2-4)" in said(*DQN)


def test_budgets_are_rounded_up_to_whole_rollouts() -> None:
    budgets, backend = said(*PPO, "--agent.num_envs", "16", "--agent.n_steps", "100")
    assert budgets == "Budgets are whole rollouts of 1,600 steps: 100,800 steps for 100,000 (tasks 1-3)"
    assert backend == "Backend: envpool"


@pytest.mark.parametrize("option", [["--segment-steps", "2000"], ["--steps-per-task", "2000"]])
def test_episodes_that_are_longer_than_a_segment_are_announced(option: list[str]) -> None:
    *_, cut = said(*SAC, "--agent.num_envs", "16", *option)
    assert cut.startswith("Episodes may be cut before they end: up to 200 steps, cut after 125 (tasks 1-3).")
