"""Resuming, and what seeds decide."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from counting_env import ID, sequence
from trajectories import RANDOM, each_random, same, trajectory

from neoteny.envs import ContinualVecEnv, ContinualVectorEnv, Task
from neoteny.envs.shifts import parse_shift


@each_random
def test_starting_a_segment_equals_arriving_there(task: Task) -> None:
    options: dict[str, Any] = {"num_envs": 2, "seed": 5, "segment_steps": 16}
    walked = ContinualVectorEnv(sequence(task, task, steps=24), **options)
    rng = np.random.default_rng(0)
    walked.reset()
    for index in range(1, 4):
        while walked.segment.index < index:
            observations = walked.step(rng.integers(3, size=2))[0]
        resumed = ContinualVectorEnv(sequence(task, task, steps=24), **options)
        np.testing.assert_array_equal(resumed.start(index), observations)
        assert resumed.segment == walked.segment
        for _ in range(3):
            actions = rng.integers(3, size=2)
            same(walked.step(actions), resumed.step(actions))


@each_random
def test_seed_decides_the_trajectory(task: Task) -> None:
    def run(seed: int, **options: Any) -> list[Any]:
        return trajectory(ContinualVectorEnv(sequence(task, task), 2, seed, **options), 30)

    same(run(0), run(0))
    with pytest.raises(AssertionError):
        same(run(0), run(1))


CHANCE = (
    parse_shift({"shift": "noise-observation", "std": 1, "ramp": 30}),
    parse_shift({"shift": "sticky-actions", "probability": 0.5}),
    parse_shift({"shift": "slip", "probability": 0.5, "ramp": 10}),
    parse_shift({"shift": "offset-observation", "std": 3, "ramp": 10}),
)


def test_chance_in_shifts_belongs_to_the_run() -> None:
    """Two copies agree through segments, switches and ramps, and from each segment on; another run differs."""
    tasks = sequence(Task(ID, 40, shifts=CHANCE), Task(ID, 40), cycles=2)

    def copy(seed: int = 0) -> ContinualVectorEnv:
        return ContinualVectorEnv(tasks, 2, seed, segment_steps=16)

    same(trajectory(copy(), 90), trajectory(copy(), 90))
    with pytest.raises(AssertionError):
        same(trajectory(copy(0), 90), trajectory(copy(1), 90))
    walked, rng = copy(), np.random.default_rng(0)
    walked.reset()
    for index in range(1, len(walked.segments)):
        while walked.segment.index < index:
            observations = walked.step(rng.integers(4, size=2))[0]
        resumed = copy()
        same(resumed.start(index), observations)
        actions = rng.integers(4, size=2)
        same(walked.step(actions), resumed.step(actions))


@pytest.mark.parametrize("segment_steps", [None, 6, 2])
def test_a_ramp_does_not_care_where_segments_end(segment_steps: int | None) -> None:
    """An offset of 20 that grows over 20 steps: by 2 in each step of two environments."""
    offset = parse_shift({"shift": "offset-observation", "value": [0, 0, 20], "ramp": 20})
    scale = parse_shift({"shift": "scale-reward", "factor": 0, "ramp": 8})
    vector = ContinualVectorEnv(sequence(Task(ID, 40, shifts=(offset, scale))), 2, segment_steps=segment_steps)
    vector.reset()
    shown, factors = [], []
    for _ in range(19):
        before = vector.tally.lengths[0]
        observations, rewards, *_ = vector.step(np.zeros(2, int))
        shown.append(observations[0, 2] - vector.tally.lengths[0])
        factors.append(rewards[0] / (before + 1))
    np.testing.assert_allclose(shown, [*range(2, 20, 2), *[20] * 10])
    np.testing.assert_allclose(factors, [1, 0.75, 0.5, 0.25, *[0] * 15])


@each_random
def test_parallel_environments_and_segments_differ(task: Task) -> None:
    plain = Task(task.env, 24, backend=task.backend)
    vector = ContinualVectorEnv(sequence(plain), num_envs=8, segment_steps=8)
    starts = [vector.start(index) for index in range(3)]
    for start in starts:
        assert len({observation.tobytes() for observation in start}) > 1
    assert (starts[0] != starts[1]).any()
    assert (starts[1] != starts[2]).any()


@pytest.mark.parametrize("task", [task for task in RANDOM if task.backend != "gymnasium" and task.env != ID])
def test_threads_do_not_change_the_trajectory(task: Task) -> None:
    one, two = (ContinualVectorEnv(sequence(task, task, steps=1600), 8, 3, threads=n) for n in (1, 2))
    same(trajectory(one, 300), trajectory(two, 300))


@each_random
def test_seed_given_later_equals_seed_given_at_once(task: Task) -> None:
    """`VecEnv.seed` (what stable-baselines3's algorithms call) and `reset(seed=...)`, in this and later segments."""

    def roll(env: ContinualVecEnv, first: Any) -> list[Any]:
        return [first, *(env.step(np.zeros(2, int))[:3] for _ in range(14)), env.segment.index]

    made, seeded, reset, other = (ContinualVecEnv(sequence(task, task), 2, seed=s) for s in (9, 0, 0, 0))
    seeded.seed(9)
    expected = roll(made, made.reset())
    assert expected[-1] == 1
    same(roll(seeded, seeded.reset()), expected)
    same(roll(reset, reset.vector.reset(seed=9)[0]), expected)
    with pytest.raises(AssertionError):
        same(roll(other, other.reset()), expected)


@each_random
def test_global_random_state_is_untouched(task: Task) -> None:
    def state() -> list[Any]:
        kind, keys, *rest = np.random.get_state()  # noqa: NPY002
        return [random.getstate(), kind, keys.copy(), rest, torch.get_rng_state().numpy().copy()]

    def run(seed: int) -> list[Any]:
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        before = state()
        out = trajectory(ContinualVectorEnv(sequence(task, task), num_envs=2), 30)
        same(state(), before)
        return out

    same(run(0), run(1))  # nor is it read
