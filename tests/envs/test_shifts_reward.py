"""Scaled and flipped rewards, and another goal."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from shift_site import site

from neoteny.envs import ConfigError
from neoteny.envs.shifts import FlipReward, Goal, ScaleReward, Shift, get_parameter, set_parameters


@pytest.mark.parametrize(
    ("shift", "factors"),
    [
        (ScaleReward(factor=3), [3, 3, 3, 3]),
        (ScaleReward(factor=3, ramp=100), [1, 1.5, 3, 3]),
        (ScaleReward(factor=0, ramp=100), [1, 0.75, 0, 0]),
        (FlipReward(), [-1, -1, -1, -1]),
        (FlipReward(ramp=100), [1, 0.5, -1, -1]),
        (FlipReward(ramp=50), [1, 0, -1, -1]),
    ],
    ids=["scale", "scale-ramp", "fade", "flip", "flip-ramp", "flip-through-zero"],
)
def test_rewards(shift: Shift, factors: list[float]) -> None:
    where = site()
    bound = shift.bind(where)
    rewards = np.array([1.0, -2.0])
    for where.clock.steps, factor in zip((0, 25, 100, 900), factors, strict=True):
        np.testing.assert_array_equal(bound.reward(rewards), [factor, -2 * factor])
    assert rewards.tolist() == [1, -2]
    assert bound.reward(rewards.astype(np.float32)).dtype == np.float32


class Corridor(gym.Env[int, int]):
    """Two ends; the reward lies at the one of number ``goal``."""

    observation_space = gym.spaces.Discrete(2)
    action_space = gym.spaces.Discrete(2)
    goal: float = 0

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        return action, float(action == self.goal), True, False, {}


def test_goal_moves_the_reward() -> None:
    env = Corridor()
    bound = Goal(goal=1).bind(site(parameter=lambda name: get_parameter(env, name)))
    assert bound.parameters is not None
    assert [env.step(action)[1] for action in (0, 1)] == [1, 0]
    set_parameters(env, bound.parameters())
    assert [env.step(action)[1] for action in (0, 1)] == [0, 1]
    assert type(env.goal) is int
    set_parameters(env, {"goal": 0.0})
    assert type(env.goal) is int  # as what a distribution draws is not
    set_parameters(env, {"goal": 0.5})
    assert env.goal == 0.5
    assert Corridor.goal == 0  # of this environment only


def test_goal_is_refused_where_there_is_none() -> None:
    env = gym.make("CartPole-v1").unwrapped
    with pytest.raises(ConfigError, match=r"^goal: CartPoleEnv has no parameter 'goal'; it has force_mag, gravity"):
        Goal(goal=1).bind(site(parameter=lambda name: get_parameter(env, name)))
    with pytest.raises(ConfigError, match=r"^goal: goal: this backend cannot change it"):
        Goal(goal=1).bind(site())
