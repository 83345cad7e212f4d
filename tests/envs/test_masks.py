"""Action masks: of environments that have them, through shifts, and of actions that a task lacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from counting_env import sequence
from gymnasium import spaces
from masked_env import FEW, MISRULED, RULED

from neoteny.configs import ConfigError
from neoteny.envs import ContinualVecEnv, Shift, Task, Transform
from neoteny.envs.registration import ContinualEnv
from neoteny.envs.shifts import PermuteAction, Slip, StickyActions
from neoteny.envs.spaces import mask_width


def masks(env: ContinualVecEnv) -> Any:
    return np.stack(env.env_method("action_masks"))


def allowed(env: ContinualVecEnv) -> list[list[int]]:
    return [np.flatnonzero(row).tolist() for row in masks(env)]


def play(env: ContinualVecEnv, steps: int, seed: int = 0) -> None:
    """Random actions that the masks allow. The environments end with an error if one was not allowed after all."""
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        env.step(np.array([rng.choice(np.flatnonzero(row)) for row in masks(env)]))


@pytest.mark.parametrize("backend", ["gymnasium", "async"])
def test_the_masks_of_the_environments_themselves(backend: str) -> None:
    env = ContinualVecEnv(sequence(Task(RULED, 60, backend=backend)), num_envs=3)
    observations = env.reset()
    for _ in range(10):
        first = observations.argmax(1)
        for row, i in zip(masks(env), first, strict=True):
            assert sorted(np.flatnonzero(row)) == sorted([i, (i + 1) % 5])
        observations = env.step(first)[0]
    env.close()


def test_actions_that_a_task_lacks_are_masked_and_all_others_allowed() -> None:
    env = ContinualVecEnv(sequence(FEW, Task(RULED, 30), Task("CartPole-v1", 20), steps=20), num_envs=2)
    assert env.has_attr("action_masks")
    env.reset()
    assert masks(env).dtype == bool
    assert masks(env).tolist() == [[True, True, False, False, False]] * 2
    play(env, 10)
    assert env.segment.index == 1
    assert masks(env).sum(1).tolist() == [2, 2]
    play(env, 15)
    assert env.segment.index == 2
    assert allowed(env) == [[0, 1]] * 2
    assert env.env_method("action_masks", indices=[1])[0].tolist() == [True, True, False, False, False]


@pytest.mark.parametrize("shifts", [
    (PermuteAction(),), (PermuteAction(), PermuteAction()), (StickyActions(probability=0.0), PermuteAction()),
    (PermuteAction(), Slip(probability=0.0)),
])  # fmt: skip
@pytest.mark.parametrize("offered", [(), (4, 1, 0, 3, 2)])
def test_masks_follow_permuted_and_offered_actions(shifts: tuple[Shift, ...], offered: tuple[int, ...]) -> None:
    """The environments themselves hold the actions to their rules."""
    task = Task(RULED, 2000, shifts=shifts, actions=offered)
    env = ContinualVecEnv(sequence(task, cycles=2, steps=200), num_envs=4)
    env.reset()
    play(env, 900)
    assert env.segment.index == 1


def test_of_some_offered_actions_the_rules_still_hold() -> None:
    env = ContinualVecEnv(sequence(Task(RULED, 100, actions=(3, 1))), num_envs=8)
    for row, first in zip(masks_after_reset(env), env.vector._interface._backend._envs.get_attr("first"), strict=True):
        assert row.tolist() == [action in (first, (first + 1) % 5) for action in (3, 1)]


def masks_after_reset(env: ContinualVecEnv) -> Any:
    env.reset()
    return masks(env)


@dataclass(frozen=True)
class Mirrored(Shift):
    name = "mirrored"
    says: bool = False

    def bind(self, site: Any) -> Transform:
        n = int(site.action_space.n)
        told = {"mask": lambda masks: masks[:, ::-1]} if self.says else {}
        return Transform(action=lambda actions: n - 1 - actions, **told)


def test_a_shift_of_ones_own_says_how_masks_map() -> None:
    env = ContinualVecEnv(sequence(Task(RULED, 200, shifts=(Mirrored(says=True),))), num_envs=2)
    env.reset()
    play(env, 90)
    env = ContinualVecEnv(sequence(Task(RULED, 200, shifts=(Mirrored(),))), num_envs=2)
    env.reset()
    with pytest.raises(ConfigError, match=r"mirrored: .*Transform\(mask="):
        masks(env)
    env = ContinualVecEnv(sequence(Task(FEW, 200, shifts=(Mirrored(),)), Task(RULED, 200)), num_envs=2)
    assert masks_after_reset(env).sum(1).tolist() == [2, 2]  # all actions of the task: nothing to map


def test_masks_of_a_wrong_shape_are_refused() -> None:
    env = ContinualVecEnv(sequence(Task(MISRULED, 100)), num_envs=2)
    env.reset()
    with pytest.raises(ConfigError, match=r"Misruled-v0: action_masks\(\) .*5.*got 6"):
        masks(env)


def test_there_are_none_of_real_valued_actions() -> None:
    env = ContinualVecEnv(sequence("Pendulum-v1"), num_envs=2)
    env.reset()
    with pytest.raises(ConfigError, match="action_masks: there are none for actions of Box"):
        env.env_method("action_masks")


@pytest.mark.parametrize(
    ("space", "width"),
    [(spaces.Discrete(4, start=2), 4), (spaces.MultiDiscrete([3, 2]), 5), (spaces.MultiBinary(3), 6)],
)
def test_width_is_that_of_sb3_contrib(space: spaces.Space[Any], width: int) -> None:
    assert mask_width(space) == width


def test_a_sequence_as_one_gymnasium_environment_has_them_too() -> None:
    env: Any = gym.make("neoteny/minigrid-seq-v0")
    env.reset(seed=0)
    given = env.get_wrapper_attr("action_masks")()
    assert isinstance(env.unwrapped, ContinualEnv)
    assert given.shape == (env.action_space.n,)
    assert given.any()
