"""The presets as Gymnasium environments, for anybody's agent."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from counting_env import BOTH, GO, ID, TERMINATE, TRUNCATE
from gymnasium.utils.env_checker import check_env, data_equivalence
from stable_baselines3.common import env_checker as sb3_checker

from neoteny import configs
from neoteny.envs import ContinualVectorEnv, TaskSequence
from neoteny.envs.registration import ContinualEnv

PRESETS = configs.names("envs")
#: Those that are made in a moment and have discrete actions; tests/envs/test_presets.py checks every one.
LIGHT = [name for name in PRESETS if configs.load("envs", name)[1]["family"] in ("minigrid", "minatar")]
each_preset = pytest.mark.parametrize("preset", LIGHT)


@pytest.fixture
def counting(tmp_path: Path) -> str:
    """A file with two visits of four steps each."""
    file = tmp_path / "counting.yaml"
    file.write_text(json.dumps({"tasks": [{"env": ID, "steps": 4}], "cycles": 2}))
    return str(file)


# ------------------------------------------------------------------------------------------------ every preset


def test_importing_envs_registers_every_preset() -> None:
    code = "import neoteny.envs, gymnasium; print(*(i for i in gymnasium.registry if i.startswith('neoteny/')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {f"neoteny/{preset}-v0" for preset in PRESETS} <= set(done.stdout.split())
    assert len(PRESETS) >= 3


@each_preset
@pytest.mark.filterwarnings("error")
def test_preset_passes_gymnasiums_checker(preset: str) -> None:
    env = gym.make(f"neoteny/{preset}-v0")
    check_env(env.unwrapped)
    env.close()


@each_preset
def test_preset_passes_stable_baselines3s_checker(preset: str) -> None:
    env = gym.make(f"neoteny/{preset}-v0", seed=1)
    sb3_checker.check_env(env, warn=False)  # it would warn that cells are no picture, which is true
    env.close()


def tour(env: gym.Env[Any, Any], steps: int) -> list[Any]:
    """All that comes out of ``steps`` steps of random actions, and of the resets between them."""
    rng = np.random.default_rng(0)
    out: list[Any] = [env.reset(seed=3)]
    for _ in range(steps):
        out.append(env.step(rng.integers(env.action_space.n)))  # type: ignore[attr-defined]
        if out[-1][2] or out[-1][3]:
            out.append(env.reset())
    return out


@each_preset
def test_two_copies_of_a_preset_go_the_same_way_through_all_tasks(preset: str) -> None:
    budget = 6
    one, two = (gym.make(f"neoteny/{preset}-v0", steps_per_task=budget) for _ in range(2))
    visits = [visit.task.env for visit in TaskSequence.load(preset).visits]
    ours, theirs = (tour(env, budget * len(visits)) for env in (one, two))
    assert data_equivalence(ours, theirs, exact=True)
    assert all(out[0] in one.observation_space for out in ours)
    steps = [out for out in ours if len(out) == 5]
    assert [(info["task"], info["env_id"]) for *_, info in steps] == [
        (index, env) for index, env in enumerate(visits) for _ in range(budget)
    ]
    for last in steps[budget - 1 : -1 : budget]:  # of each visit but the last
        assert last[2] or last[3]
    if len(set(visits)) == 1:
        assert sum(out[3] for out in steps) >= len(visits) // 2  # some may have come to their own end just then


# ------------------------------------------------------------------------------------- one environment, exactly


def test_no_observation_is_lost_between_episodes(counting: str) -> None:
    env = ContinualEnv(preset=counting, steps_per_task=100)
    first, info = env.reset()
    assert info == {"task": 0, "env_id": ID, "task_id": 0, "new_task": 0, "new_task_steps": 100}
    assert first[1:].tolist() == [0, 0]
    for episode, (action, terminated, truncated) in enumerate(
        [(TERMINATE, True, False), (TRUNCATE, False, True), (BOTH, True, True)]
    ):
        env.step(GO)
        observation, reward, *ends, _ = env.step(action)
        assert observation[1:].tolist() == [episode, 2]  # the last of this episode ...
        assert (reward, ends) == (pytest.approx(2 + action / 10), [terminated, truncated])
        observation, _ = env.reset()
        assert observation[1:].tolist() == [episode + 1, 0]  # ... and then the first of the very next


def test_switch_truncates_and_the_last_task_goes_on(counting: str) -> None:
    env = ContinualEnv(preset=counting)
    env.reset()
    outs = [env.step(GO) for _ in range(4)]
    assert [out[2:4] for out in outs] == [(False, False)] * 3 + [(False, True)]
    assert [out[4]["task"] for out in outs] == [0] * 4
    assert outs[-1][0][1:].tolist() == [0, 4]
    observation, info = env.reset()
    assert (observation[1:].tolist(), info["task"]) == ([0, 0], 1)  # of new environments
    outs = [env.step(GO) for _ in range(10)]
    assert [out[2:4] for out in outs] == [(False, False)] * 10
    assert [out[4]["task"] for out in outs] == [1] * 10


def test_reset_in_mid_episode_begins_a_new_one_and_steps_count_on(counting: str) -> None:
    env = ContinualEnv(preset=counting)
    env.reset()
    env.step(GO)
    observation, _ = env.reset()
    assert observation[1:].tolist() == [1, 0]
    assert [env.step(GO)[3] for _ in range(3)] == [False, False, True]


def test_reset_with_a_seed_stays_in_its_task_and_steps_count_on(counting: str) -> None:
    """Else an agent that is given a seed for each episode would never see the second task."""
    env = ContinualEnv(preset=counting)
    first, _ = env.reset(seed=7)
    env.step(GO)
    env.step(GO)
    again, _ = env.reset(seed=7)
    np.testing.assert_array_equal(first, again)
    other, _ = env.reset(seed=8)
    assert (first != other).any()
    assert [env.step(GO)[3] for _ in range(2)] == [False, True]
    second, info = env.reset(seed=7)
    assert info["task"] == 1
    again, info = env.reset(seed=7)
    assert info["task"] == 1
    np.testing.assert_array_equal(second, again)
    assert (first != second).any()
    same_place = ContinualVectorEnv(TaskSequence.load(counting), seed=7).start(1)[0]
    np.testing.assert_array_equal(second, same_place)


def test_step_after_an_ending_asks_for_a_reset(counting: str) -> None:
    env = ContinualEnv(preset=counting)
    env.reset()
    env.step(TERMINATE)
    with pytest.raises(gym.error.ResetNeeded, match="reset"):
        env.step(GO)


# --------------------------------------------------------------------------------------------- the vector entry


@each_preset
def test_make_vec_is_the_continual_vector_env(preset: str) -> None:
    vector = gym.make_vec(
        f"neoteny/{preset}-v0",
        num_envs=3,
        vectorization_mode="vector_entry_point",
        seed=5,
        steps_per_task=9,
        num_tasks=4,
    )
    assert type(vector) is ContinualVectorEnv
    assert vector.sequence == TaskSequence.load(preset).resized(9, 4)
    expected = ContinualVectorEnv(vector.sequence, num_envs=3, seed=5)
    np.testing.assert_array_equal(vector.reset()[0], expected.reset()[0])
    for index in (0, 0, 0, 1, 1, 1, 2, 2, 2, 3):
        assert vector.segment.visit.index == index
        actions = vector.action_space.sample() * 0
        np.testing.assert_array_equal(vector.step(actions)[0], expected.step(actions)[0])
    vector.close()


def test_single_environment_is_the_vector_of_one() -> None:
    preset, steps = "minigrid-permute", 40
    env = gym.make(f"neoteny/{preset}-v0", seed=2, steps_per_task=30)
    vector = gym.make_vec(f"neoteny/{preset}-v0", num_envs=1, seed=2, steps_per_task=30)
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(env.reset()[0], vector.reset()[0][0])
    for _ in range(steps):
        action = rng.integers(7)
        ours, theirs = env.step(action), vector.step(np.array([action]))
        assert ours[1:4] == (theirs[1][0], theirs[2][0], theirs[3][0])
        if ours[2] or ours[3]:
            np.testing.assert_array_equal(ours[0], theirs[-1]["final_obs"][0])
            ours = env.reset()
        np.testing.assert_array_equal(ours[0], theirs[0][0])
