"""A task is the same whichever backend runs it."""

from __future__ import annotations

import numpy as np
import pytest
from counting_env import sequence

from neoteny.envs import ContinualVectorEnv, Task
from neoteny.envs.backends import make_backend
from neoteny.envs.interface import Interface
from neoteny.envs.shifts import parse_shift

envpool = pytest.importorskip("envpool")

EVERY = ("envpool", "vector", "gymnasium", "async")
PYTHON = ("gymnasium", "async")


def interface(task: Task) -> Interface:
    face = Interface(task, make_backend(task, 2, 9), 2, np.random.default_rng(4), np.random.default_rng())
    face._backend.close()
    return face


@pytest.mark.parametrize("shift", ["permute-observation", "permute-action"])
def test_a_permutation_is_the_same_in_every_backend(shift: str) -> None:
    """What a benchmark is must not depend on what runs it."""
    cells = np.arange(2 * 7 * 7 * 3, dtype=np.int64).reshape(2, 7, 7, 3)
    results = []
    for backend in ("auto", "envpool", *PYTHON):
        face = interface(Task("MiniGrid-Empty-5x5-v0", 1, shifts=(parse_shift(shift),), backend=backend))  # type: ignore
        results.append((face.observe(cells).tobytes(), face.act(np.arange(7)).tobytes()))
    assert len(set(results)) == 1
    assert results[0] != (cells.tobytes(), np.arange(7).tobytes())


def test_a_drawn_offset_is_the_same_in_every_backend() -> None:
    offset = parse_shift({"shift": "offset-observation", "std": 2})
    faces = [interface(Task("CartPole-v1", 1, shifts=(offset,), backend=backend)) for backend in EVERY]  # type: ignore
    shown = [face.observe(np.zeros((2, 4), np.float32)) for face in faces]
    assert (shown[0] != 0).all()
    assert all((other == shown[0]).all() for other in shown)
    assert all(face.observation_space == faces[0].observation_space for face in faces)


def test_a_permuted_first_observation_is_the_same_in_every_backend() -> None:
    """Through the whole sequence, in an environment of one layout."""
    permute = parse_shift("permute-observation")
    firsts = []
    for backend in ("envpool", *PYTHON):
        task = Task("MiniGrid-Empty-5x5-v0", 4, shifts=(permute,), backend=backend)  # type: ignore[arg-type]
        vector = ContinualVectorEnv(sequence(task, cycles=3, seed=5), num_envs=2, seed=1)
        firsts.append([vector.start(index) for index in range(3)])
        vector.close()
    for other in firsts[1:]:
        np.testing.assert_array_equal(other, firsts[0])
    assert (firsts[0][0] != firsts[0][1]).any()
