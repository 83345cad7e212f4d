"""Discrete spaces that do not begin at 0: agents count from 0, environments as they do."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm

from neoteny.envs import ContinualVecEnv, ContinualVectorEnv, Task, TaskSequence
from neoteny.envs.checker import check_sequence
from neoteny.envs.shifts import PermuteAction

#: What the environments were told.
TOLD: list[Any] = []


class Elsewhere(gym.Env[Any, Any]):
    """Shows its last action; a wrong one ends the test."""

    def __init__(self, space: spaces.Space[Any], masked: bool = False):
        self.observation_space = self.action_space = space
        self.masked = masked

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.action_space.seed(seed)
        self.count = 0
        return self.action_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        TOLD.append(np.asarray(action).tolist())
        self.count += 1
        return action, 0.0, self.count == 10, False, {}

    def action_masks(self) -> np.ndarray:
        assert self.masked
        return np.array([True, False, True])


SPACES = {
    "Minus-v0": spaces.Discrete(3, start=-1),
    "Plus-v0": spaces.Discrete(2, start=5),
    "Several-v0": spaces.MultiDiscrete([3, 2], start=[-1, 10]),
}
for _id, _space in SPACES.items():
    if _id not in gym.registry:
        gym.register(_id, Elsewhere, kwargs={"space": _space}, disable_env_checker=True)


@pytest.fixture(autouse=True)
def _nothing_told() -> None:
    TOLD.clear()


def told(task: Task, actions: list[Any]) -> list[Any]:
    """What each action of the agent is to the environment; it is shown the same action as the agent chose."""
    env = ContinualVectorEnv(TaskSequence((task,)))
    env.reset()
    TOLD.clear()
    for action in actions:
        assert env.single_action_space.contains(np.int64(action) if np.ndim(action) == 0 else np.array(action))
        shown = env.step(np.array([action]))[0]
        assert env.observation_space.contains(shown)
    return TOLD


@pytest.mark.parametrize(
    ("name", "actions", "expected"),
    [
        ("Minus-v0", [0, 1, 2], [-1, 0, 1]),
        ("Plus-v0", [0, 1], [5, 6]),
        ("Several-v0", [[0, 0], [2, 1]], [[-1, 10], [1, 11]]),
    ],
)
@pytest.mark.parametrize("backend", ["gymnasium"])
def test_actions_and_observations_are_counted_from_0(
    name: str, actions: list[Any], expected: list[Any], backend: Any
) -> None:
    assert told(Task(name, 100, backend=backend), actions) == expected
    env = ContinualVectorEnv(TaskSequence((Task(name, 100),)))
    env.reset()
    assert env.step(np.array(actions[:1]))[0].tolist() == actions[:1]


def test_offered_actions_and_permutations_are_of_numbers_from_0() -> None:
    assert told(Task("Minus-v0", 100, actions=(0, 2)), [0, 1]) == [-1, 1]
    assert sorted(told(Task("Minus-v0", 100, shifts=(PermuteAction(),)), [0, 1, 2])) == [-1, 0, 1]


def test_masks_stay_with_their_actions() -> None:
    env = ContinualVectorEnv(TaskSequence((Task("Minus-v0", 100, kwargs={"masked": True}),)), 2)
    env.reset()
    assert env.action_masks().tolist() == [[True, False, True]] * 2


def test_tasks_of_other_starts_share_their_spaces() -> None:
    env = ContinualVectorEnv(TaskSequence((Task("Minus-v0", 2), Task("Plus-v0", 2, noop=1))))
    assert (env.single_observation_space, env.single_action_space) == (spaces.Discrete(3), spaces.Discrete(3))
    env.reset()
    for _ in range(4):
        env.step(np.array([2]))
    assert TOLD == [1, 1, 6, 6]  # which the second task lacks: its no-op


@pytest.mark.full
@pytest.mark.parametrize("make", [PPO, DQN])
def test_agents_learn_in_them(make: type[BaseAlgorithm]) -> None:
    env = ContinualVecEnv(TaskSequence((Task("Minus-v0", 100), Task("Plus-v0", 1000))), 2)
    make("MlpPolicy", env, seed=0, device="cpu").learn(300)
    assert set(TOLD) == {-1, 0, 1, 5, 6}


@pytest.mark.parametrize("name", SPACES)
def test_they_pass_the_checker(name: str) -> None:
    assert check_sequence(TaskSequence((Task(name, 100),)), steps=30)
