"""Shifts: what they do to known numbers, and which spaces they refuse."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from counting_env import ID, sequence
from gymnasium import spaces
from shift_site import site

from neoteny.envs import ConfigError, ContinualVectorEnv, PermuteObservation, Task
from neoteny.envs.shifts import parse_shift

PERMUTED = Task("MiniGrid-DoorKey-5x5-v0", 20, shifts=(PermuteObservation(),))


class Fixed(np.random.Generator):
    """A generator whose permutation is known."""

    def __init__(self, order: list[int]):
        super().__init__(np.random.PCG64(0))
        self.order = np.array(order)

    def permutation(self, n: int) -> np.ndarray:  # type: ignore[override]
        assert n == len(self.order)
        return self.order


def image(height: int, width: int, channels: int = 3, high: object = 255) -> spaces.Box:
    return spaces.Box(0, np.broadcast_to(np.array(high, np.uint8), (height, width, channels)), dtype=np.uint8)


def test_vector_entries_change_places() -> None:
    shift = PermuteObservation().bind(site(spaces.Box(0, 9, (4,)), rng=Fixed([2, 0, 3, 1])))
    observations = np.array([[0, 1, 2, 3], [5, 6, 7, 8]], np.float32)
    np.testing.assert_array_equal(shift.observation(observations), [[2, 0, 3, 1], [7, 5, 8, 6]])
    np.testing.assert_array_equal(observations[0], [0, 1, 2, 3])  # what the environment holds is left alone


def test_image_cells_change_places_with_their_channels() -> None:
    shift = PermuteObservation().bind(site(image(2, 2), rng=Fixed([3, 0, 1, 2])))
    cells = [[1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12]]
    observation = np.array(cells, np.uint8).reshape(1, 2, 2, 3)
    permuted = shift.observation(observation)
    assert (permuted.shape, permuted.dtype) == (observation.shape, np.uint8)
    assert permuted.reshape(4, 3).tolist() == [cells[3], cells[0], cells[1], cells[2]]


def test_actions_and_rewards_are_left_alone() -> None:
    shift = PermuteObservation().bind(site(image(2, 2)))
    values = np.arange(3)
    assert shift.action(values) is values
    assert shift.reward(values) is values


@pytest.mark.parametrize(
    "space", [spaces.Box(0, 1, (9,)), image(7, 7), image(7, 7, high=(10, 5, 2))], ids=["vector", "pixels", "cells"]
)
def test_stays_in_the_space_and_loses_nothing(space: spaces.Box) -> None:
    space.seed(0)
    observations = np.stack([space.sample() for _ in range(20)])
    shift = PermuteObservation().bind(site(space, seed=1))
    permuted = shift.observation(observations)
    assert all(observation in space for observation in permuted)
    # The inverse, from the positions that a numbered observation shows, brings everything back.
    channels = space.shape[-1] if len(space.shape) > 1 else 1
    numbered = np.repeat(np.arange(np.prod(space.shape) // channels), channels).reshape(1, *space.shape)
    order = shift.observation(numbered).reshape(-1, channels)[:, 0]
    assert sorted(order) == list(range(len(order)))
    assert list(order) != sorted(order)
    back = permuted.reshape(20, -1, channels)[:, np.argsort(order)].reshape(observations.shape)
    np.testing.assert_array_equal(back, observations)


def first_observations(seed: int, run_seed: int, backend: str) -> list[np.ndarray]:
    """Of three visits to an environment with a fixed layout, so that only the shift changes them."""
    task = Task("MiniGrid-Empty-5x5-v0", 2, shifts=(PermuteObservation(),), backend=backend)  # type: ignore[arg-type]
    vector = ContinualVectorEnv(sequence(task, cycles=3, seed=seed), num_envs=2, seed=run_seed)
    return [vector.start(index).copy() for index in range(3)]


def test_every_visit_has_its_own_order_and_every_run_and_backend_the_same() -> None:
    visits = first_observations(seed=0, run_seed=0, backend="envpool")
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (visits[one] != visits[other]).any()
    assert all((visit[0] == visit[1]).all() for visit in visits)  # one order for all parallel environments
    np.testing.assert_array_equal(visits, first_observations(seed=0, run_seed=1, backend="envpool"))
    np.testing.assert_array_equal(visits, first_observations(seed=0, run_seed=0, backend="gymnasium"))
    assert (np.array(visits) != first_observations(seed=1, run_seed=0, backend="envpool")).any()


def test_order_is_kept_throughout_a_visit() -> None:
    """What the agent sees, last observations included, is the plain task in one order: also across segments."""
    plain_task = Task(PERMUTED.env, PERMUTED.steps)
    seen, plain = (
        ContinualVectorEnv(sequence(task, task), num_envs=2, segment_steps=10) for task in (PERMUTED, plain_task)
    )
    rng = np.random.default_rng(0)
    pairs = [(seen.reset()[0], plain.reset()[0])]
    for step in range(1, 15):
        actions = rng.integers(3, size=2)
        outs = [vector.step(actions) for vector in (seen, plain)]
        finals = [out[-1]["final_obs"] for out in outs if "final_obs" in out[-1]]
        assert len(finals) == (2 if step in (5, 10) else 0)  # the segments end; no episode is as short as this
        if finals:
            pairs.append((np.stack(finals[0]), np.stack(finals[1])))
        if step == 10:
            break
        pairs.append((outs[0][0], outs[1][0]))
    shift = PermuteObservation().bind(site(seen.single_observation_space, rng=seen.sequence.visits[0].rng(0)))
    for ours, theirs in pairs:
        np.testing.assert_array_equal(ours, shift.observation(theirs))


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ("CartPole-v1", "positions can only be exchanged where all have the same bounds; the task has Box"),
        ("FrozenLake-v1", r"a Box observation is needed, the task has Discrete\(16\)"),
    ],
)
def test_refused_where_positions_differ(env: str, message: str) -> None:
    task = Task(env, 10, shifts=(PermuteObservation(),), backend="gymnasium")
    with pytest.raises(ConfigError, match=f"^permute-observation: {message}"):
        ContinualVectorEnv(sequence(task))


def test_fits_the_counting_environment() -> None:
    vector = ContinualVectorEnv(sequence(Task(ID, 10, shifts=(PermuteObservation(),))))
    assert vector.single_observation_space == gym.make(ID).observation_space


@pytest.mark.parametrize("written", ["permute-observation", {"shift": "permute-observation"}, PermuteObservation()])
def test_parse(written: object) -> None:
    assert parse_shift(written) == PermuteObservation()
