"""The two goals, and mazes of one layout."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from neoteny.envs import ConfigError, Task
from neoteny.envs.backends import make_backend
from neoteny.envs.suites import minigrid

LEFT, RIGHT, FORWARD, WAIT = 0, 1, 2, 6
EAST, SOUTH, WEST, NORTH = range(4)
GREEN, BLUE = 1, 2


def two_goals(**kwargs: Any) -> Any:
    return gym.make("neoteny/TwoGoals-v0", **kwargs).unwrapped


def put(env: Any, place: tuple[int, int], direction: int) -> None:
    env.reset(seed=0)
    env.agent_pos, env.agent_dir = place, direction


def walk_to_green(env: Any) -> tuple[float, bool, bool]:
    put(env, (5, 1), EAST)
    return env.step(FORWARD)[1:4]


def walk_to_blue(env: Any) -> tuple[float, bool, bool]:
    put(env, (2, 6), WEST)
    return env.step(FORWARD)[1:4]


def test_gymnasiums_checker_finds_nothing() -> None:
    check_env(two_goals(), skip_render_check=True)


def test_the_map() -> None:
    env = two_goals()
    env.reset(seed=0)
    kinds = [[(cell.type if cell else "") for cell in map(env.grid.get, range(8), [y] * 8)] for y in range(8)]
    room = ["wall"] + [""] * 6 + ["wall"]
    assert kinds == [
        ["wall"] * 8,
        [*room[:6], "goal", "wall"],
        room,
        ["wall", "", "", "wall", "wall", "", "", "wall"],
        ["wall", "", "", "wall", "wall", "", "", "wall"],
        room,
        ["wall", "goal", *room[2:]],
        ["wall"] * 8,
    ]


@pytest.mark.parametrize(("goal", "green", "blue"), [(0, 1 - 0.9 / 100, 0.0), (1, 0.0, 1 - 0.9 / 100)])
def test_either_goal_ends_the_episode_and_one_pays(goal: int, green: float, blue: float) -> None:
    env = two_goals(goal=goal)
    assert walk_to_green(env) == (pytest.approx(green), True, False)
    assert walk_to_blue(env) == (pytest.approx(blue), True, False)


def test_the_reward_falls_with_the_steps_taken() -> None:
    env = two_goals(max_steps=50)
    put(env, (5, 1), SOUTH)
    env.step(WAIT)
    env.step(LEFT)
    assert env.step(FORWARD)[1:4] == (pytest.approx(1 - 0.9 * 3 / 50), True, False)


def test_the_goal_can_be_exchanged_within_an_episode() -> None:
    env = two_goals()
    put(env, (5, 1), EAST)
    env.goal = 1
    assert env.step(FORWARD)[1:4] == (0.0, True, False)
    env.goal = 0
    assert walk_to_green(env)[0] == pytest.approx(1 - 0.9 / 100)


def test_which_goal_pays_cannot_be_seen() -> None:
    for seed in range(20):
        (first, _), (second, _) = (two_goals(goal=goal).reset(seed=seed) for goal in (0, 1))
        np.testing.assert_array_equal(first["image"], second["image"])


def test_the_goals_are_told_apart_by_colour() -> None:
    env = two_goals()
    put(env, (5, 1), EAST)
    assert tuple(env.gen_obs()["image"][3, 5]) == (8, GREEN, 0)
    put(env, (2, 6), WEST)
    assert tuple(env.gen_obs()["image"][3, 5]) == (8, BLUE, 0)


def test_episodes_begin_everywhere_but_on_a_goal_and_end_in_time() -> None:
    env = two_goals()
    starts = set()
    for seed in range(1500):
        env.reset(seed=seed)
        starts.add((tuple(map(int, env.agent_pos)), int(env.agent_dir)))
    assert len(starts) == (36 - 4 - 2) * 4
    assert [env.step(WAIT)[3] for _ in range(100)] == [False] * 99 + [True]


@pytest.mark.parametrize("goal", [2, -1, 0.5])
def test_there_are_two_goals(goal: float) -> None:
    with pytest.raises(ConfigError, match=f"goal: there are two, 0 and 1, got {goal}"):
        two_goals(goal=goal)
    env = two_goals()
    env.goal = goal
    with pytest.raises(ConfigError, match=f"got {goal}"):
        env.reset()


def test_the_goal_is_a_parameter_that_a_shift_can_set() -> None:
    backend = make_backend(Task("neoteny/TwoGoals-v0", 1, shifts=({"shift": "goal", "goal": 1},)), 2, 0)  # type: ignore[arg-type]
    assert backend.parameter("goal") == 0
    backend.set_parameters({"goal": 1})
    assert backend.parameter("goal") == 1


# ------------------------------------------------------------------------------------------------ one layout


def maze(layout: int, seed: int | None = None) -> np.ndarray:
    env = gym.make("fixed/MiniGrid-LavaCrossingS9N2-v0", layout=layout)
    env.reset(seed=seed)
    env.reset(seed=seed)
    return env.unwrapped.grid.encode()  # type: ignore[attr-defined]


def test_one_layout_whatever_the_seed_and_the_episode() -> None:
    original = gym.make("MiniGrid-LavaCrossingS9N2-v0")
    original.reset(seed=860)
    expected = original.unwrapped.grid.encode()  # type: ignore[attr-defined]
    for seed in (None, 0, 1):
        np.testing.assert_array_equal(maze(860, seed), expected)
    assert not np.array_equal(maze(861), expected)


def test_every_minigrid_has_its_form_of_one_layout() -> None:
    plain = {name for name in gym.registry if name.startswith("MiniGrid-")}
    assert len(plain) > 50
    assert {f"fixed/{name}" for name in plain} <= set(gym.registry)
    assert minigrid.is_minigrid(gym.make("fixed/MiniGrid-DoorKey-5x5-v0"))
