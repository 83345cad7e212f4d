"""EnvPool's MiniGrid Memory tasks are Python's, and which of them need memory."""

from __future__ import annotations

from collections import Counter

import gymnasium as gym
import minigrid  # noqa: F401  (registers the environments)
import numpy as np
import pytest
from thinning import one_in

from neoteny.envs import Task
from neoteny.envs.backends import make_backend

LEFT, RIGHT, FORWARD = range(3)
KEY, BALL = 5, 6

envpool = pytest.importorskip("envpool")


def histories(env: str, backend: str, actions: np.ndarray, episodes: int) -> Counter[bytes]:
    """How often each history of one episode is seen, where the actions are always the same."""
    envs = make_backend(Task(env, 1, backend=backend), episodes, seed=0)  # type: ignore[arg-type]
    observations = envs.reset()
    seen = [observations.reshape(episodes, -1).astype(np.float32)]
    running = np.ones(episodes, bool)
    for action in actions:
        observations, rewards, terminated, truncated, *_ = envs.step(np.full(episodes, action))
        row = np.column_stack([observations.reshape(episodes, -1), rewards.round(5), terminated, truncated])
        seen.append(np.where(running[:, None], row, -1).astype(np.float32))
        ended = terminated | truncated
        running &= ~ended
        if ended.any():
            envs.reset_where(ended, observations)
    return Counter(row.tobytes() for row in np.concatenate(seen, axis=1))


@pytest.mark.parametrize(("size", "starts"), one_in(3, {"7": (7, 4), "9": (9, 6), "11": (11, 8)}))
def test_every_layout_of_one_is_a_layout_of_the_other_and_as_frequent(size: int, starts: int) -> None:
    """The start, what is shown and where it lies: 2 · 2 · starts layouts, all equally likely, told apart by looking.

    Compared are whole histories: all observations, rewards and ends.
    """
    back = [LEFT, LEFT, *[FORWARD] * starts, RIGHT, RIGHT]  # to the room, where the object is
    script = np.array([*back, *[FORWARD] * size, LEFT, FORWARD, FORWARD, FORWARD])  # and to one of the two ends
    episodes = 20 * 4 * starts
    ours, theirs = (histories(f"MiniGrid-MemoryS{size}-v0", b, script, episodes) for b in ("envpool", "gymnasium"))
    assert ours.keys() == theirs.keys()
    assert len(ours) == 4 * starts
    for counted in (ours, theirs):  # χ² with 4 · starts − 1 degrees of freedom: its mean plus five deviations
        chi2 = sum((n - 20) ** 2 / 20 for n in counted.values())
        free = 4 * starts - 1
        assert chi2 < free + 5 * np.sqrt(2 * free)


@pytest.mark.full
def test_random_play_agrees() -> None:
    """Also with the actions that do nothing here, and to the time limit."""
    script = np.random.default_rng(0).choice(7, 250, p=[0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1])
    ours, theirs = (histories("MiniGrid-MemoryS7-v0", b, script, 100) for b in ("envpool", "gymnasium"))
    assert ours.keys() == theirs.keys()


def sees(size: int, x: int, direction: int) -> set[tuple[str, int, int]]:
    """The keys and balls that an agent in the middle row sees, and where in its view."""
    env = gym.make(f"MiniGrid-MemoryS{size}-v0").unwrapped
    env.reset(seed=0)
    env.agent_pos, env.agent_dir = np.array((x, size // 2)), direction  # type: ignore[attr-defined]
    image = env.gen_obs()["image"]  # type: ignore[attr-defined]
    return {(int(image[i, j, 0]), i, j) for i in range(7) for j in range(7) if image[i, j, 0] in (KEY, BALL)}


@pytest.mark.parametrize(("size", "together"), [(7, True), (9, True), (11, False), (13, False)])
def test_in_which_tasks_all_three_objects_are_seen_at_once(size: int, together: bool) -> None:
    """Where they are, at the crossing looking back, a policy without memory can choose the right end."""
    views = [len(sees(size, x, direction)) for x in range(1, size - 1) for direction in range(4)]
    assert (max(views) == 3) == together
    assert len(sees(size, size - 2, 2)) == (3 if together else 2)
