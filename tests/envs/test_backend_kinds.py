"""Vector environments, worker processes, and what all backends have in common."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from counting_env import BOTH, GO, ID, TERMINATE, TRUNCATE, Counting, sequence
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv

from neoteny.envs import ConfigError, ContinualVectorEnv, Task
from neoteny.envs.backends import Backend, GymnasiumBackend, make_backend
from neoteny.envs.shifts import parse_shift

envpool = pytest.importorskip("envpool")

EVERY = ("envpool", "vector", "gymnasium", "async")
PYTHON = ("gymnasium", "async")
GRAVITY = parse_shift({"shift": "dynamics", "set": {"gravity": 5}})
#: Fifteen steps an episode, some of which the reset takes.
SHORT_PONG = {"max_num_frames_per_episode": 60, "noop_max": 10}


def make(env: str, backend: str = "auto", num_envs: int = 1, seed: int = 0, threads: int = 1, **kwargs: Any) -> Any:
    return make_backend(Task(env, 1, kwargs=kwargs, backend=backend), num_envs, seed, threads)  # type: ignore[arg-type]


def rollout(backend: Backend, steps: int, rng: np.random.Generator) -> list[np.ndarray]:
    """All that comes out of ``steps`` steps, whose endings are reset, under actions drawn from ``rng``."""
    space = backend.action_space
    observations = backend.reset()
    out = [observations.copy()]
    for _ in range(steps):
        shape = (len(observations), *space.shape)  # type: ignore[misc]
        drawn = rng.integers(space.n, size=shape) if isinstance(space, spaces.Discrete) else rng.uniform(-1, 1, shape)
        observations, *rest = backend.step(drawn)[:4]
        out += [observations.copy(), *rest]
        ended = rest[1] | rest[2]
        if ended.any():
            backend.reset_where(ended, observations)
            out.append(observations.copy())
    return out


def same(ours: list[np.ndarray], theirs: list[np.ndarray]) -> None:
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype


# ---------------------------------------------------------------------------------------- vectorised cart-pole


def upright(observations: np.ndarray) -> np.ndarray:
    """A policy that holds the pole for hundreds of steps."""
    return (3 * observations[:, 2] + observations[:, 3] > 0).astype(int)


def test_vectorised_cartpole_is_cartpole() -> None:
    """From the same states, in 600 steps of good and of random actions, with every ending reset by itself."""
    count, rng = 4, np.random.default_rng(0)
    ours = make("CartPole-v1", "vector", count)
    theirs: list[Any] = [gym.make("CartPole-v1") for _ in range(count)]
    observations, ends = ours.reset(), []

    def copy_state(i: int) -> None:
        theirs[i].reset(seed=0)
        theirs[i].unwrapped.state = ours._envs.state[:, i].copy()

    for i in range(count):
        copy_state(i)
    for _ in range(600):
        actions = upright(observations)
        actions[2:] = rng.integers(2, size=2)
        observations, rewards, terminated, truncated = ours.step(actions)[:4]
        expected = [env.step(action) for env, action in zip(theirs, actions, strict=True)]
        np.testing.assert_allclose(observations, [out[0] for out in expected], rtol=1e-6, atol=1e-7)
        np.testing.assert_array_equal(rewards, [out[1] for out in expected])
        np.testing.assert_array_equal(terminated, [out[2] for out in expected])
        np.testing.assert_array_equal(truncated, [out[3] for out in expected])
        ended = terminated | truncated
        if ended.any():
            ends += [(i, bool(truncated[i])) for i in np.flatnonzero(ended)]
            ours.reset_where(ended, observations)
            for i in np.flatnonzero(ended):
                copy_state(i)
    assert ends.count((0, True)) == ends.count((1, True)) == 1  # at 500 steps
    assert len([end for end in ends if not end[1]]) > 20


def test_cartpole_reset_by_mask_leaves_the_others_alone() -> None:
    pool = make("CartPole-v1", "vector", 3)
    pool.reset()
    for _ in range(5):
        before, *_ = pool.step(np.ones(3, int))
    state, seen = pool._envs.state.copy(), before.copy()
    pool.reset_where(np.array([False, True, False]), before)
    np.testing.assert_array_equal(before[[0, 2]], seen[[0, 2]])
    np.testing.assert_array_equal(pool._envs.state[:, [0, 2]], state[:, [0, 2]])
    assert (np.abs(before[1]) <= 0.05).all()
    np.testing.assert_array_equal(before[1], pool._envs.state[:, 1].astype(np.float32))
    assert pool._envs.steps.tolist() == [5, 0, 5]


@pytest.mark.parametrize(("env", "kwargs", "limit"), [
    ("CartPole-v1", {}, 500), ("CartPole-v0", {}, 200), ("CartPole-v1", {"max_episode_steps": 7}, 7),
])  # fmt: skip
def test_cartpole_is_truncated_at_its_time_limit(env: str, kwargs: dict[str, int], limit: int) -> None:
    pool = make(env, "vector", 2, **kwargs)
    observations, early = pool.reset(), 4
    for step in range(1, limit + early + 1):
        observations, _, terminated, truncated = pool.step(upright(observations))[:4]
        assert not terminated.any()
        assert truncated.tolist() == [step == limit + early, step == limit]
        if step == early:
            pool.reset_where(np.array([True, False]), observations)
        pool.reset_where(truncated, observations)


# ------------------------------------------------------------------------------- other vector environments


class CountingVector(VectorEnv[Any, Any, Any]):
    """Counts in float64; resets by itself, in the step of an ending."""

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012
    single_observation_space = spaces.Box(0, 1000, (2,), np.float64)
    single_action_space = spaces.Discrete(4)

    def __init__(self, num_envs: int, start: int = 0):
        self.num_envs, self.start, self.gain = num_envs, start, 1.0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.seen = np.tile([0.0, self.start], (self.num_envs, 1))
        return self.seen.copy(), {}

    def step(self, actions: Any) -> Any:
        self.seen[:, 1] += self.gain
        terminated, truncated = np.isin(actions, (TERMINATE, BOTH)), np.isin(actions, (TRUNCATE, BOTH))
        final = np.full(self.num_envs, None, object)
        for i in np.flatnonzero(ended := terminated | truncated):
            final[i] = self.seen[i].copy()
        self.seen[ended] += [1, 0]
        self.seen[ended, 1] = self.start
        return self.seen.copy(), np.ones(self.num_envs), terminated, truncated, {"final_obs": final}


class NextStep(CountingVector):
    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012


class Settable(CountingVector):
    """Resets in the step that it is told to."""

    def __init__(self, num_envs: int, start: int = 0, autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP):
        super().__init__(num_envs, start)
        self.metadata = {"autoreset_mode": autoreset_mode}


VECTORS = {"CountingVector-v0": CountingVector, "NextStep-v0": NextStep, "Settable-v0": Settable}
for _id, _entry in VECTORS.items():
    if _id not in gym.registry:
        gym.register(_id, Counting, vector_entry_point=_entry, disable_env_checker=True)


@pytest.mark.parametrize("env", ["CountingVector-v0", "Settable-v0"])
def test_vector_environment_that_resets_in_the_same_step(env: str) -> None:
    pool = make(env, "vector", 2, start=5)
    assert pool.observation_space == spaces.Box(0, 1000, (2,), np.float32)
    first = pool.reset()
    assert (first.tolist(), first.dtype) == ([[0, 5], [0, 5]], np.float32)
    observations, _, terminated, truncated = pool.step(np.array([GO, BOTH]))[:4]
    assert (observations.tolist(), observations.dtype) == ([[0, 6], [0, 6]], np.float32)  # the last, not the next one
    assert (terminated.tolist(), truncated.tolist()) == ([False, True], [False, True])
    pool.reset_where(truncated, observations)
    assert observations.tolist() == [[0, 6], [1, 5]]
    assert pool.step(np.array([GO, GO]))[0].tolist() == [[0, 7], [1, 6]]
    pool.set_parameters({"gain": 10})
    assert pool.parameter("gain") == 10
    assert pool.step(np.array([GO, GO]))[0].tolist() == [[0, 17], [1, 16]]


def test_vector_environment_that_resets_a_step_later_is_not_used() -> None:
    assert type(make("NextStep-v0")) is GymnasiumBackend
    with pytest.raises(ConfigError, match=r"^backend: 'NextStep-v0' has no vector environment that can be"):
        make("NextStep-v0", "vector")


def test_ale_shows_the_last_frames_at_an_ending_and_then_the_first_of_the_next_episode() -> None:
    """A new observation's four frames begin with the last three of the one before it, in one episode only."""
    pool = make("ALE/Pong-v5", "vector", 3, **SHORT_PONG)
    before, endings, rng = pool.reset().copy(), 0, np.random.default_rng(0)
    for _ in range(50):
        observations, _, terminated, truncated = pool.step(rng.integers(6, size=3))[:4]
        np.testing.assert_array_equal(observations[:, :3], before[:, 1:])
        last = observations.copy()
        if (ended := terminated | truncated).any():
            endings += ended.sum()
            pool.reset_where(ended, observations)
            assert (observations[ended] != last[ended]).any((1, 2, 3)).all()
            np.testing.assert_array_equal(observations[~ended], last[~ended])
        before = observations.copy()
    assert endings >= 9


def test_ale_does_not_depend_on_the_number_of_threads() -> None:
    def play(**options: Any) -> list[np.ndarray]:
        return rollout(make("ALE/Pong-v5", "vector", 2, **options, **SHORT_PONG), 20, np.random.default_rng(0))

    same(play(seed=3), play(seed=3, threads=2))
    with pytest.raises(AssertionError):
        same(play(seed=3), play(seed=4))


def test_ale_copy_i_is_seeded_with_seed_plus_i() -> None:
    together = make("ALE/MsPacman-v5", "vector", 2, seed=0).reset()
    np.testing.assert_array_equal(together[1], make("ALE/MsPacman-v5", "vector", seed=1).reset()[0])
    assert (together[0] != together[1]).any()


# ---------------------------------------------------------------------------------------------- worker processes


@pytest.mark.parametrize("env", [ID, "MiniGrid-DoorKey-5x5-v0", "Pendulum-v1", "Nested-v0", "FrozenLake-v1"])
def test_workers_do_the_same_as_one_process(env: str) -> None:
    def play(backend: str, seed: int) -> list[np.ndarray]:
        pool = make(env, backend, 2, seed)
        out = rollout(pool, 120, np.random.default_rng(0))
        pool.close()
        return out

    same(play("gymnasium", 3), play("async", 3))
    if env not in ("Nested-v0", "FrozenLake-v1"):
        with pytest.raises(AssertionError):
            same(play("gymnasium", 3), play("async", 4))


def test_one_sequence_with_and_without_workers() -> None:
    noise = parse_shift({"shift": "noise-observation", "std": 1})
    results = []
    for backend in PYTHON:
        task = Task(ID, 12, shifts=(GRAVITY.__class__(set={"episode": 4}), noise), backend=backend)  # type: ignore
        vector = ContinualVectorEnv(sequence(task, cycles=2), num_envs=2, seed=3, segment_steps=8)
        rng = np.random.default_rng(0)
        results.append([vector.reset()[0], *(vector.step(rng.integers(4, size=2))[0] for _ in range(12))])
        vector.close()
    same(*results)


# --------------------------------------------------------------------------------------------------- parameters


@pytest.mark.parametrize("backend", ["vector", *PYTHON])
def test_parameters_reach_every_environment(backend: str) -> None:
    pool = make("CartPole-v1", backend, 2)
    pool.reset()
    assert (pool.parameter("gravity"), pool.parameter("force_mag")) == (9.8, 10)
    before, *_ = pool.step(np.array([0, 1]))
    pool.set_parameters({"gravity": 0.0, "force_mag": 0.0})
    assert (pool.parameter("gravity"), pool.parameter("force_mag")) == (0, 0)
    after, *_ = pool.step(np.array([0, 1]))
    np.testing.assert_allclose(after[:, [0, 2]], before[:, [0, 2]] + 0.02 * before[:, [1, 3]], rtol=1e-5)
    # what moves an upright pole that nothing pushes or pulls is its own swing alone: of the third order here
    np.testing.assert_allclose(after[:, [1, 3]], before[:, [1, 3]], atol=2e-4)
    pool.close()


@pytest.mark.parametrize("backend", ["vector", *PYTHON])
def test_unknown_parameter(backend: str, recwarn: pytest.WarningsRecorder) -> None:
    task = Task("CartPole-v1", 1, backend=backend, shifts=(parse_shift({"shift": "dynamics", "set": {"gravty": 1}}),))  # type: ignore
    with pytest.raises(ConfigError, match=r"^dynamics\.set: CartPole\w+ has no parameter 'gravty'; .*mean 'gravity'"):
        ContinualVectorEnv(sequence(task))
    assert not [warning for warning in recwarn if "Traceback" in str(warning.message)]


def test_envpool_refuses_dynamics() -> None:
    message = "gravity: EnvPool cannot change an environment's dynamics; choose backend: auto"
    with pytest.raises(ConfigError) as caught:
        ContinualVectorEnv(sequence(Task("CartPole-v1", 1, backend="envpool", shifts=(GRAVITY,))))
    assert str(caught.value) == f"dynamics.set: {message}"
    with pytest.raises(ConfigError, match=f"^{message}"):
        make("CartPole-v1", "envpool").set_parameters({"gravity": 5})
