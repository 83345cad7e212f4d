"""The vector environments: endings, switches, resuming, seeds, and what the learner gets to see."""

from __future__ import annotations

import itertools
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from counting_env import BOTH, GO, ID, TERMINATE, TRUNCATE, sequence
from trajectories import each_random, same

from neoteny.envs import ConfigError, ContinualVecEnv, ContinualVectorEnv, Task
from neoteny.envs.shifts import parse_shift

# ----------------------------------------------------------------------------------------- endings, exactly


def test_an_episode_ends_and_the_next_begins_in_the_same_step() -> None:
    vector = ContinualVectorEnv(sequence(ID), num_envs=2)
    first, info = vector.reset()
    assert (info["task"].tolist(), info["env_id"].tolist()) == ([0, 0], [ID, ID])
    np.testing.assert_array_equal(first[:, 1:], [[0, 0], [0, 0]])
    vector.step(np.array([GO, GO]))
    observations, rewards, terminated, truncated, info = vector.step(np.array([GO, TERMINATE]))
    np.testing.assert_array_equal(observations[:, 1:], [[0, 2], [1, 0]])
    np.testing.assert_allclose(rewards, [2.0, 2.1])
    assert (terminated.tolist(), truncated.tolist()) == ([False, True], [False, False])
    assert info["final_obs"][0] is None
    assert info["final_obs"][1].tolist() == [first[1, 0], 0, 2]
    assert info["_final_obs"].tolist() == info["_return"].tolist() == [False, True]
    assert info["return"][1] == pytest.approx(1.0 + 2.1)
    assert info["length"][1] == 2
    *_, info = vector.step(np.array([TRUNCATE, TRUNCATE]))  # counted from the episode's own beginning
    np.testing.assert_allclose(info["return"], [1.0 + 2.0 + 3.2, 1.2])
    assert info["length"].tolist() == [3, 1]


def test_reset_begins_new_episodes_and_leaves_the_budget() -> None:
    vector = ContinualVectorEnv(sequence(ID, ID, steps=6), num_envs=2)
    vector.reset()
    vector.step(np.array([GO, GO]))
    np.testing.assert_array_equal(vector.reset()[0][:, 1:], [[1, 0], [1, 0]])
    *_, info = vector.step(np.array([TERMINATE, GO]))
    assert (info["return"][0], info["length"][0]) == (1.1, 1)
    assert vector.segment.index == 0
    vector.step(np.array([GO, GO]))
    assert vector.segment.index == 1


@pytest.mark.parametrize(
    ("action", "terminated", "has_episode"),
    [(GO, False, False), (TERMINATE, True, True), (TRUNCATE, False, True), (BOTH, True, True)],
    ids=["runs", "terminates", "truncates", "both"],
)
def test_switch_truncates_what_runs_and_only_that(action: int, terminated: bool, has_episode: bool) -> None:
    env = ContinualVecEnv(sequence(ID, Task(ID, 6), steps=6), num_envs=2)
    first = env.reset()
    for _ in range(2):
        assert env.step(np.array([GO, GO]))[3] == [{}, {}]
    observations, rewards, dones, infos = env.step(np.array([action, GO]))
    assert env.segment.visit.index == 1
    assert dones.tolist() == [True, True]
    assert [info["TimeLimit.truncated"] for info in infos] == [not terminated, True]
    for i, info in enumerate(infos):
        assert info["terminal_observation"].tolist() == [first[i, 0], 0, 3]
    assert ["episode" in info for info in infos] == [has_episode, False]
    if has_episode:
        assert infos[0]["episode"] == {"r": pytest.approx(6 + action / 10), "l": 3, "segment": 0}
    np.testing.assert_allclose(rewards, np.array([3 + action / 10, 3.0], np.float32))
    np.testing.assert_array_equal(observations, env.start(1))
    np.testing.assert_array_equal(observations[:, 1:], [[0, 0], [0, 0]])


def test_vector_env_says_at_a_switch_which_episodes_ended_how() -> None:
    vector = ContinualVectorEnv(sequence(ID, ID, steps=3), num_envs=3)
    vector.reset()
    _, _, terminated, truncated, info = vector.step(np.array([GO, TERMINATE, TRUNCATE]))
    assert terminated.tolist() == [False, True, False]
    assert truncated.tolist() == [True, False, True]
    assert info["_final_obs"].tolist() == [True, True, True]
    assert info["_return"].tolist() == [False, True, True]


def test_last_task_goes_on() -> None:
    env = ContinualVecEnv(sequence(ID, ID, steps=4), num_envs=2)
    env.reset()
    dones = [env.step(np.array([GO, GO]))[2].tolist() for _ in range(20)]
    assert dones == [[False, False], [True, True]] + [[False, False]] * 18
    assert env.segment.index == 1


def test_switch_comes_after_the_rounded_budget() -> None:
    vector = ContinualVectorEnv(sequence(ID, ID, ID, steps=10), num_envs=3, multiple_of=6)
    vector.reset()
    places = []
    for _ in range(13):
        vector.step(np.zeros(3, int))
        places.append(vector.segment.index)
    assert places == [0] * 3 + [1] * 4 + [2] * 6  # 12 steps each: four of the vector


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, [12]), ({"multiple_of": 5}, [10]), ({"segment_steps": 7}, [6, 6]), ({"segment_steps": 1}, [3, 3, 3, 3])],
)
def test_segments_are_whole_steps_of_the_vector(options: dict[str, int], expected: list[int]) -> None:
    vector = ContinualVectorEnv(sequence(ID, steps=10), num_envs=3, **options)
    assert [segment.steps for segment in vector.segments] == expected


def test_segment_end_inside_a_visit_is_a_truncation_too() -> None:
    vector = ContinualVectorEnv(sequence(ID, steps=8), num_envs=2, segment_steps=4)
    assert [segment.visit.index for segment in vector.segments] == [0, 0]
    vector.reset()
    vector.step(np.zeros(2, int))
    _, _, terminated, truncated, info = vector.step(np.zeros(2, int))
    assert (terminated.tolist(), truncated.tolist()) == ([False, False], [True, True])
    assert not info["_return"].any()


@pytest.mark.parametrize(("num_envs", "multiple_of"), [(3, None), (4, 6), (3, 5), (7, 2)])
def test_switch_comes_once_where_the_environments_do_not_divide_the_budget(num_envs: int, multiple_of: int) -> None:
    """In the step that reaches the budget: rounded up to the rollout, then to whole steps of the vector."""
    budget, rollout = 10, multiple_of or num_envs
    steps = -(-(-(-budget // rollout) * rollout) // num_envs)
    vector = ContinualVectorEnv(sequence(ID, ID, ID, steps=budget), num_envs, multiple_of=multiple_of)
    vector.reset()
    places, cuts = [], []
    for step in range(1, 4 * steps + 1):
        truncated = vector.step(np.zeros(num_envs, int))[3]
        places.append(vector.segment.visit.index)
        cuts += [step] if truncated.all() else []
        assert truncated.all() == truncated.any()
    assert places == [0] * (steps - 1) + [1] * steps + [2] * (2 * steps + 1)
    assert cuts == [steps, 2 * steps]


# ---------------------------------------------------------------------------- left to the caller, and without end


def test_without_advance_a_segment_only_ends() -> None:
    """What comes out of its last step is the last observation, not the first of the next segment."""
    vector = ContinualVectorEnv(sequence(ID, ID, steps=4), num_envs=2, advance=False)
    first = vector.reset()[0]
    vector.step(np.array([GO, GO]))
    observations, _, terminated, truncated, info = vector.step(np.array([TERMINATE, GO]))
    np.testing.assert_array_equal(observations, [[first[0, 0], 0, 2], [first[1, 0], 0, 2]])
    same(list(info["final_obs"]), list(observations))
    assert (terminated.tolist(), truncated.tolist()) == ([True, False], [False, True])
    assert info["_final_obs"].tolist() == [True, True]
    assert info["_return"].tolist() == [True, False]
    assert (vector.segment.index, vector.steps_left) == (0, 0)
    vector.seek(1)
    assert (vector.segment.index, vector.steps_left) == (1, 4)
    begun = vector.reset()[0]
    np.testing.assert_array_equal(begun, ContinualVectorEnv(sequence(ID, ID, steps=4), num_envs=2).start(1))
    vector.step(np.array([GO, GO]))
    _, _, terminated, truncated, _ = vector.step(np.array([GO, GO]))
    assert (terminated.any(), truncated.all()) == (False, True)  # the last segment ends as any other


@pytest.mark.parametrize("segment_steps", [None, 8])
def test_with_and_without_advance_are_one_trajectory(segment_steps: int | None) -> None:
    noise = parse_shift({"shift": "noise-observation", "std": 1, "ramp": 20})
    tasks = sequence(Task(ID, 16, shifts=(noise,)), Task(ID, 16), cycles=2)
    walked, driven = (ContinualVectorEnv(tasks, 2, 3, segment_steps, advance=advance) for advance in (True, False))
    rng = np.random.default_rng(0)
    same(walked.reset()[0], driven.reset()[0])
    for _ in range(31):
        actions = rng.integers(4, size=2)
        ours, theirs = walked.step(actions), driven.step(actions)
        if driven.steps_left == 0:
            driven.seek(driven.segment.index + 1)
            first, begins = driven.reset()
            news = {key: value for key, value in begins.items() if "new_task" in key}
            theirs = (first, *theirs[1:-1], theirs[-1] | news)
        same(ours, theirs)
    assert walked.segment.index == driven.segment.index == len(walked.segments) - 1


@pytest.mark.parametrize("index", [2, 9])
def test_seek_beyond_the_end(index: int) -> None:
    vector = ContinualVectorEnv(sequence(ID, ID))
    with pytest.raises(IndexError, match=f"has 2 segments, there is none with index {index}"):
        vector.seek(index)


def test_a_sequence_without_end_grows_as_it_is_walked() -> None:
    tasks = sequence(Task(ID, 4), Task(ID, 6), cycles=None, order="sampled", seed=1)
    vector = ContinualVectorEnv(tasks, num_envs=2, segment_steps=4)
    assert vector.segments == [vector.segment]
    vector.reset()
    for _ in range(200):
        assert len(vector.segments) == vector.segment.index + 1
        vector.step(np.zeros(2, int))
    expected = list(itertools.islice(tasks.iter_segments(4, 2), len(vector.segments)))
    assert vector.segments == expected
    assert len(vector.segments) > 100
    jumped = ContinualVectorEnv(tasks, num_envs=2, segment_steps=4)
    reached = vector.start(vector.segment.index)
    same(jumped.start(vector.segment.index), reached)
    assert jumped.segments == expected
    jumped.seek(0)
    assert jumped.segment == expected[0]


# ------------------------------------------------------------------------------------------- only real steps


def test_learner_sees_no_step_whose_action_was_ignored() -> None:
    """EnvPool, left alone, resets in the step after an ending; the same actions in Python must tell the same tale."""
    count, steps = 3, 700
    env = ContinualVecEnv(sequence(Task("MiniGrid-Empty-5x5-v0", 10**6, backend="envpool")), count, seed=1)
    twins = [gym.make("MiniGrid-Empty-5x5-v0") for _ in range(count)]
    observations = env.reset()
    expected = [twin.reset(seed=0)[0]["image"] for twin in twins]
    np.testing.assert_array_equal(observations, expected)
    rng = np.random.default_rng(0)
    endings = {"terminated": 0, "truncated": 0}
    for _ in range(steps):
        actions = rng.choice([0, 1, 2, 6], size=count, p=[0.15, 0.15, 0.4, 0.3])
        observations, rewards, dones, infos = env.step(actions)
        for i, twin in enumerate(twins):
            observation, reward, terminated, truncated, _ = twin.step(actions[i])
            assert rewards[i] == pytest.approx(reward, abs=1e-6)
            assert dones[i] == (terminated or truncated)
            if not dones[i]:
                assert infos[i] == {}
            else:
                np.testing.assert_array_equal(infos[i]["terminal_observation"], observation["image"])
                assert infos[i]["TimeLimit.truncated"] == (truncated and not terminated)
                endings["terminated" if terminated else "truncated"] += 1
                observation, _ = twin.reset()
            np.testing.assert_array_equal(observations[i], observation["image"])
    assert endings["terminated"] > 20
    assert endings["truncated"] > 1


@each_random
def test_what_was_returned_is_not_written_to_later(task: Task) -> None:
    vector = ContinualVectorEnv(sequence(task, task), num_envs=2)
    kept, copies = [], []
    rng = np.random.default_rng(0)
    out: Any = vector.reset()
    for _ in range(30):
        kept.append(out)
        copies.append([np.copy(part) for part in out[:-1]])
        out = vector.step(rng.integers(3, size=2))
    same([list(part[:-1]) for part in kept], copies)


# ----------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: ContinualVectorEnv(sequence("CartPole-v1", "Pendulum-v1")),
            "tasks: no action space holds both CartPole-v1's Discrete(2) and Pendulum-v1's Box(1 float32, -2 to 2)",
        ),
        (
            lambda: ContinualVectorEnv(sequence("MiniGrid-Unlock-v0", ID)),
            "tasks: no observation space holds both MiniGrid-Unlock-v0's Box(7×7×3 uint8, 0 to 10) and",
        ),
        (
            lambda: ContinualVectorEnv(sequence(ID, "MiniGrid-Unlok-v0")),
            "env: no environment 'MiniGrid-Unlok-v0' is registered; did you mean 'MiniGrid-Unlock-v0'?",
        ),
        (lambda: ContinualVecEnv(sequence(ID), num_envs=0), "num_envs: at least 1 is needed, got 0"),
    ],
    ids=["actions", "observations", "unknown id", "no environments"],
)
def test_refused_before_anything_runs(make: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert str(caught.value).startswith(message)
