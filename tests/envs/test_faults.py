"""An environment that breaks is found in the step in which it does, and named."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from broken_env import ID
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from thinning import one_in

from neoteny.envs import ContinualVecEnv, ContinualVectorEnv, EnvironmentFault, Shift, Task, TaskSequence, Transform
from neoteny.envs.backends.faults import FiniteCheck
from neoteny.envs.checker import CheckError, check_sequence

COUNT, AT = 4, 45


def sequence(way: str, backend: str = "gymnasium", **kwargs: Any) -> TaskSequence:
    """A good task of 40 steps, and one that breaks in this way."""
    tasks = [
        Task(ID, 40, backend=backend),  # type: ignore[arg-type]
        Task(ID, 4000, kwargs={"way": way, "at": AT, "beside": COUNT, **kwargs}, backend=backend),  # type: ignore[arg-type]
    ]
    return TaskSequence(tuple(tasks))


def run(env: ContinualVectorEnv, steps: int = 100) -> int:
    """Step until it breaks; how many steps that took."""
    env.reset()
    for step in range(steps):
        try:
            env.step(np.zeros(COUNT, np.int64))
        except EnvironmentFault as fault:
            env.fault = fault  # type: ignore[attr-defined]
            return step + 1
    return -1


def living(env: ContinualVectorEnv) -> int:
    """How many of its processes run."""
    return sum(process.is_alive() for process in getattr(env._backend._envs, "processes", ()))  # type: ignore[union-attr]


def broken(env: ContinualVectorEnv) -> int:
    """Which of the environments is the one that breaks."""
    seed = env.segments[1].seed(env.run_seed)
    return next(i for i in range(COUNT) if (seed + i) % COUNT == 0)


FOUND = {
    "nan": "the observation is NaN in entry 1",
    "infinite": "the observation is -inf in entry 2",
    "reward": "the reward is NaN",
    "no reward": "the reward is None, a number is needed",
    "shape": "the observation has the shape (2,), its space has (3,)",
    "one number": "the observation has the shape (1,), its space has (3,)",
    "type": "the observation is of complex128, its space of float32",
    "error": "step() raised IndexError: list index out of range (",
}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("seed", one_in(2, [0, 1]))
@pytest.mark.parametrize("backend", ["gymnasium", "async"])
@pytest.mark.parametrize("way", FOUND)
def test_a_fault_is_found_in_its_step_and_named(way: str, backend: str, seed: int, capfd: Any) -> None:
    env = ContinualVectorEnv(sequence(way, backend), COUNT, seed)
    assert run(env) == 10 + AT
    index = broken(env)
    place = (
        f"task 2 ({env.segments[1].visit.label}), environment {index}, step {AT * COUNT}, step {AT} of its episode: "
    )
    assert str(env.fault).startswith(place + FOUND[way])  # type: ignore[attr-defined]
    assert env.fault.index == index  # type: ignore[attr-defined]
    processes = getattr(env._backend._envs, "processes", ())  # type: ignore[union-attr]
    env.close()
    assert not any(process.is_alive() for process in processes)
    assert "Traceback" not in "".join(capfd.readouterr())


def test_the_error_of_an_environment_keeps_its_traceback() -> None:
    env = ContinualVectorEnv(sequence("error"), COUNT)
    run(env)
    assert isinstance(env.fault.__cause__, IndexError)  # type: ignore[attr-defined]
    assert "broken_env.py, line" in str(env.fault)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("at", "where"), [(60, f"step {60 * COUNT}, step 60 of its episode"), (0, "step 0 of its")])
def test_a_last_and_a_first_observation_are_checked(at: int, where: str) -> None:
    env = ContinualVectorEnv(sequence("nan", at=at), COUNT)
    assert run(env) == (10 + at if at else 10)  # the switch is in step 10
    assert where in str(env.fault)  # type: ignore[attr-defined]
    assert "NaN" in str(env.fault)  # type: ignore[attr-defined]


def test_the_first_observation_of_a_later_episode_is_checked() -> None:
    class Late(Shift):
        """The observation is NaN after the second reset."""

        name = "late"

        def bind(self, site: Any) -> Transform:
            resets = []

            def observation(seen: Any) -> Any:
                return np.where(len(resets) > 1, np.nan, seen).astype(seen.dtype)

            return Transform(observation=observation, restart=resets.append)

    env = ContinualVectorEnv(TaskSequence((Task(ID, 4000, shifts=(Late(),)),)), COUNT)
    assert run(env) == 60
    assert f"task 1 ({ID} late #1), environment 0, step {60 * COUNT}, step 0 of its episode" in str(env.fault)  # type: ignore[attr-defined]


@pytest.mark.parametrize("make", [PPO, DQN])
def test_stock_agents_end_with_the_fault(make: type[BaseAlgorithm]) -> None:
    """PPO's distribution would refuse the NaN in the next step, DQN would learn from it."""
    env = ContinualVecEnv(sequence("nan"), COUNT)
    agent = make("MlpPolicy", env, seed=0, device="cpu")
    with pytest.raises(EnvironmentFault, match=rf"environment {broken(env.vector)}, .* observation is NaN in entry 1"):
        agent.learn(1000)
    assert agent.num_timesteps <= (10 + AT) * COUNT


def test_a_process_that_ends_is_named_and_the_others_are_closed() -> None:
    env = ContinualVectorEnv(sequence("exit", "async"), COUNT)
    assert run(env) == 10 + AT
    assert f"environment {broken(env)}, " in str(env.fault)  # type: ignore[attr-defined]
    assert str(env.fault).endswith("its process has ended, with exit code 7")  # type: ignore[attr-defined]
    assert living(env) == 0
    env.close()


def test_a_process_that_is_killed_between_steps_is_named() -> None:
    env = ContinualVectorEnv(sequence("none", "async"), COUNT)
    env.reset()
    process = env._backend._envs.processes[2]  # type: ignore[union-attr]
    process.kill()
    process.join()
    with pytest.raises(EnvironmentFault, match=r"environment 2, step 4, .*its process has ended, with exit code -9"):
        env.step(np.zeros(COUNT, np.int64))
    assert living(env) == 0


@pytest.mark.full
def test_a_process_that_hangs_is_named_after_the_stated_time() -> None:
    env = ContinualVectorEnv(sequence("hang", "async"), COUNT, timeout=1.5)
    began = time.monotonic()
    assert run(env) == 10 + AT
    assert 1.5 <= time.monotonic() - began < 30
    assert f"environment {broken(env)}, " in str(env.fault)  # type: ignore[attr-defined]
    assert str(env.fault).endswith("no answer within 1.5 seconds")  # type: ignore[attr-defined]
    assert living(env) == 0
    env.close()


@pytest.mark.full
def test_a_process_that_hangs_in_a_reset_is_named() -> None:
    env = ContinualVectorEnv(sequence("hang", "async", at=0), COUNT, timeout=1.5)
    assert run(env) == 10
    assert "no answer within 1.5 seconds" in str(env.fault)  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------------------ the arithmetic


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_entry_that_is_not_finite_is_found_anywhere(dtype: type, value: float) -> None:
    finite = FiniteCheck()
    for shape in [(1,), (3, 5), (2, 8, 8, 3), (16, 1000)]:
        values = np.random.default_rng(0).normal(size=shape).astype(dtype)
        assert finite(values)
        for place in {0, values.size // 2, values.size - 1}:
            worse = values.copy()
            worse.flat[place] = value
            assert not finite(worse)
            assert not finite(worse.T)  # not contiguous


def test_the_largest_numbers_are_finite() -> None:
    assert FiniteCheck()(np.full((4, 4), np.finfo(np.float32).max, np.float32))
    assert FiniteCheck()(np.full((4, 4), 255, np.uint8))


# --------------------------------------------------------------------------------------------------- the checker


@pytest.mark.parametrize("way", ["nan", "shape", "reward", "type"])
def test_the_checker_names_the_fault_and_not_the_seeds(way: str) -> None:
    with pytest.raises(CheckError, match=r"environment 0, step .* of its episode: ") as failed:
        check_sequence(TaskSequence((Task(ID, 4000, kwargs={"way": way}),)))
    assert FOUND[way] in str(failed.value)
