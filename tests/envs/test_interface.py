"""Between agent and backend: the order of shifts, the actions offered, and what begins with a segment or an episode."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
from counting_env import GO, ID, TERMINATE, TRUNCATE, Counting, sequence
from gymnasium import spaces
from pydantic.dataclasses import dataclass

from neoteny.envs import ConfigError, ContinualVectorEnv, PermuteObservation, Shift, Site, Task, Transform
from neoteny.envs.backends import make_backend
from neoteny.envs.interface import Interface
from neoteny.envs.shifts import parse_shift
from neoteny.envs.spaces import SharedSpaces

#: What the shift below was told, in order.
HEARD: list[tuple[str, Any]] = []


@dataclass(frozen=True)
class Affine(Shift):
    """x → factor · x + constant of all that flows, actions modulo their number. Takes down what it is told."""

    name: ClassVar[str] = "affine"

    factor: int = 1
    constant: int = 0

    def bind(self, site: Site) -> Transform:
        HEARD.append(("bind", site.clock.steps))

        def map_(values: Any) -> Any:
            return self.factor * values + self.constant

        def act(actions: Any) -> Any:
            assert isinstance(site.action_space, spaces.Discrete)
            return map_(actions) % int(site.action_space.n)

        def restart(mask: Any) -> None:
            HEARD.append(("restart", mask.tolist()))

        wide = spaces.Box(-np.inf, np.inf, site.observation_space.shape)
        return Transform(map_, act, map_, observation_space=wide, restart=restart)


class Gaining(Counting):
    """Pays ``gain`` at each step."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = 1.0

    def step(self, action: int) -> Any:
        observation, _, *rest = super().step(action)
        return observation, self.gain, *rest


GAINING = "Gaining-v0"
if GAINING not in gym.registry:
    gym.register(GAINING, Gaining, disable_env_checker=True)


@pytest.fixture(autouse=True)
def _nothing_heard() -> None:
    HEARD.clear()


def interface(num_envs: int = 2, **settings: Any) -> Interface:
    task = Task(ID, 1, **settings)
    return Interface(
        task, make_backend(task, num_envs, 0), num_envs, np.random.default_rng(0), np.random.default_rng(1)
    )


def gain(value: float, ramp: int = 0, name: str = "gain") -> Shift:
    return parse_shift({"shift": "dynamics", "set": {name: value}, "ramp": ramp})


# -------------------------------------------------------------------------------------------------- one task


def test_nothing_is_done_where_nothing_is_shifted() -> None:
    face = interface()
    face.fit(SharedSpaces.of([ID], [(face.observation_space, face.action_space)]), 0)
    values = np.arange(6.0).reshape(2, 3)
    for through in (face.observe, face.act, face.reward):
        assert through(values) is values
    face.restart(np.ones(2, bool))
    face.adjust()


def test_shifts_are_applied_in_order_and_to_actions_in_reverse() -> None:
    face = interface(shifts=(Affine(factor=3), Affine(constant=1)))
    values = np.array([0, 1])
    assert face.observe(values).tolist() == [1, 4]  # 3 x + 1
    assert face.reward(values).tolist() == [1, 4]
    assert face.act(values).tolist() == [3, 2]  # 3 (a + 1) modulo 4
    assert face.observation_space == spaces.Box(-np.inf, np.inf, (3,))


def test_fit_to_the_shared_spaces_comes_after_the_shifts_of_observations_and_before_those_of_actions() -> None:
    face = interface(shifts=(Affine(constant=1),), noop=2)
    own = (face.observation_space, face.action_space)
    face.fit(SharedSpaces.of([ID, "other"], [own, (spaces.Box(0, 1, (4,)), spaces.Discrete(6))], 2), 1)
    assert face.observe(np.float32([[5, 6, 7], [8, 9, 10]])).tolist() == [[6, 7, 8, 0, 0, 1], [9, 10, 11, 0, 0, 1]]
    assert face.act(np.array([0, 3, 4, 5])).tolist() == [1, 0, 3, 3]  # 4 and 5 act as 2, which is shifted to 3


def test_offered_actions_and_their_no_op() -> None:
    face = interface(actions=(3, 1), noop=1, shifts=(Affine(constant=1),))
    assert face.action_space == spaces.Discrete(2)
    face.fit(SharedSpaces.of([ID, "other"], [(face.observation_space, spaces.Discrete(n)) for n in (2, 3)]), task_id=0)
    # 2 acts as the no-op 1; the shift knows two actions and exchanges them; they are the environment's 3 and 1
    assert face.act(np.array([0, 1, 2])).tolist() == [1, 3, 3]


def test_offered_actions_reach_the_environment() -> None:
    plain, other = Task(ID, 100, actions=(GO, TRUNCATE), noop=0), Task(ID, 100)
    vector = ContinualVectorEnv(sequence(plain, other), num_envs=4)
    assert vector.single_action_space == spaces.Discrete(4)
    vector.reset()
    _, rewards, terminated, truncated, _ = vector.step(np.arange(4))
    np.testing.assert_allclose(rewards, [1, 1 + TRUNCATE / 10, 1, 1])
    assert (terminated.any(), truncated.tolist()) == (False, [False, True, False, False])


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (Task(ID, 1, actions=(0, 4)), "actions: Counting-v0 has the actions 0 to 3, got 4"),
        (
            Task("Pendulum-v1", 1, actions=(0,)),
            "actions: some of several actions can only be offered of Discrete ones, Pendulum-v1 has Box(",
        ),
        (Task(ID, 1, noop=4), "noop: one of the actions 0 to 3 is needed, got 4"),
        (Task(ID, 1, actions=(0, 3), noop=3), "noop: one of the actions 0 to 1 is needed, got 3"),
    ],
    ids=["no such action", "no Discrete actions", "no such no-op", "no-op not offered"],
)
def test_refused(task: Task, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ContinualVectorEnv(sequence(task))
    assert str(caught.value).startswith(message)


# ------------------------------------------------------------------------------- beginnings of episodes and segments


def test_restart_is_told_where_episodes_begin() -> None:
    vector = ContinualVectorEnv(sequence(Task(ID, 12, shifts=(Affine(),))), num_envs=3, segment_steps=9)
    HEARD.clear()
    vector.reset()
    assert HEARD == [("bind", 0), ("restart", [True, True, True])]
    HEARD.clear()
    vector.step(np.array([GO, GO, GO]))
    assert HEARD == []
    vector.step(np.array([TERMINATE, GO, TRUNCATE]))
    vector.reset()  # new episodes, not a new segment
    assert HEARD == [("restart", [True, False, True]), ("restart", [True, True, True])]
    HEARD.clear()
    vector.step(np.array([TERMINATE, GO, GO]))  # the last of the segment
    assert vector.segment.index == 1
    assert HEARD == [("bind", 0), ("restart", [True, True, True])]


def test_the_last_observation_of_an_episode_is_shifted_too() -> None:
    vector = ContinualVectorEnv(sequence(Task(ID, 100, shifts=(Affine(factor=2, constant=1),))), num_envs=2)
    vector.reset()
    observations, rewards, *_, info = vector.step(np.array([GO, 2]))  # 2 · 2 + 1 = 1 modulo 4: TERMINATE, as GO is
    assert [last[1:].tolist() for last in info["final_obs"]] == [[1, 3], [1, 3]]
    assert observations[:, 1:].tolist() == [[3, 1], [3, 1]]
    np.testing.assert_allclose(rewards, 2 * 1.1 + 1)
    np.testing.assert_allclose(info["return"], 2 * 1.1 + 1)  # of what the agent is given


def test_noise_is_a_function_of_run_visit_and_segment() -> None:
    noise = parse_shift({"shift": "noise-observation", "std": 1})
    tasks = sequence(Task(ID, 8, shifts=(noise,)), steps=8, cycles=2)

    def seen(index: int, run: int = 0) -> np.ndarray:
        vector = ContinualVectorEnv(tasks, 2, run, segment_steps=4)
        first = vector.start(index)
        return np.stack([first, vector.step(np.zeros(2, int))[0]])

    np.testing.assert_array_equal(seen(1), seen(1))
    others = [seen(index, run) for index in range(4) for run in (0, 1)]
    assert len({other.tobytes() for other in others}) == len(others)


def test_what_defines_the_task_is_the_same_in_all_its_segments_and_runs() -> None:
    """The order of a permutation and a drawn offset, whatever noise stands between them."""
    shifts = [
        PermuteObservation(),
        parse_shift({"shift": "offset-observation", "std": 100}),
        parse_shift({"shift": "dynamics", "set": {"gain": {"uniform": [0, 100]}}}),
    ]
    noise = parse_shift({"shift": "noise-observation", "std": 1e-3})
    found = []
    for chosen in (shifts, [shifts[0], noise, *shifts[1:]]):
        tasks = sequence(Task(GAINING, 8, shifts=tuple(chosen)), cycles=2)
        for run in (0, 1):
            vector = ContinualVectorEnv(tasks, 2, run, segment_steps=4)
            for index in range(4):
                observations = vector.start(index)
                after, rewards, *_ = vector.step(np.zeros(2, int))
                found.append((index // 2, *np.round(after - observations, 1)[0].tolist(), rewards[0]))
    # one step further: which entry of three counts tells the permutation, the reward tells the drawn gain
    assert len(set(found)) == 2, found
    assert len({place for place, *_ in found}) == 2


# ---------------------------------------------------------------------------------------------------- dynamics


def test_a_ramp_of_dynamics_goes_on_across_segments() -> None:
    """From 1 to 11 over 20 steps, two in each of the vector; a segment has 6 and begins where the last one stopped."""
    tasks = sequence(Task(GAINING, 28, shifts=(gain(11, ramp=20),)), Task(GAINING, 4))
    vector = ContinualVectorEnv(tasks, num_envs=2, segment_steps=6)
    assert [segment.start for segment in vector.segments] == [0, 6, 12, 18, 24, 0]
    vector.reset()
    rewards = np.stack([vector.step(np.zeros(2, int))[1] for _ in range(16)])
    np.testing.assert_allclose(rewards[:, 0], [*range(1, 11), 11, 11, 11, 11, 1, 1], rtol=1e-12)
    np.testing.assert_array_equal(rewards[:, 0], rewards[:, 1])
    vector.start(2)  # a resumed run begins there, too
    np.testing.assert_allclose(vector.step(np.zeros(2, int))[1], 7)


def test_every_ramp_starts_anew_with_its_visit() -> None:
    ramped = Task(ID, 8, shifts=(parse_shift({"shift": "scale-reward", "factor": 3, "ramp": 4}),))
    vector = ContinualVectorEnv(sequence(ramped, cycles=2), num_envs=2)
    vector.reset()
    factors = [vector.step(np.zeros(2, int))[1][0] / (step % 4 + 1) for step in range(8)]
    np.testing.assert_allclose(factors, [1, 2, 3, 3] * 2)  # as far as the ramp was when the step began


def test_parameters_are_set_when_they_change_and_not_otherwise() -> None:
    task = Task(GAINING, 100, shifts=(gain(3, ramp=4), gain(5)))
    backend = make_backend(task, 2, 0)
    calls: list[dict[str, float]] = []
    set_parameters = backend.set_parameters
    backend.set_parameters = lambda values: (calls.append(dict(values)), set_parameters(values))[1]  # type: ignore
    rng = np.random.default_rng(0)
    face = Interface(replace(task, shifts=task.shifts[:1]), backend, 2, rng, rng)
    for face.clock.steps in (0, 0, 2, 4, 6, 8):
        face.adjust()
    assert calls == [{"gain": 1}, {"gain": 2}, {"gain": 3}]
    assert backend.parameter("gain") == 3
    face = Interface(task, make_backend(task, 2, 0), 2, rng, rng)
    face.adjust()
    assert face._backend.parameter("gain") == 5  # of two that set it, the later one


def test_the_dynamics_of_one_visit_are_gone_in_the_next() -> None:
    tasks = sequence(Task(GAINING, 4, shifts=(gain(7),)), Task(GAINING, 4), cycles=2)
    vector = ContinualVectorEnv(tasks, num_envs=2)
    vector.reset()
    rewards = [vector.step(np.zeros(2, int))[1].tolist() for _ in range(8)]
    assert rewards == [[7, 7]] * 2 + [[1, 1]] * 2 + [[7, 7]] * 2 + [[1, 1]] * 2


def test_dynamics_outlast_an_episode() -> None:
    vector = ContinualVectorEnv(sequence(Task(GAINING, 100, shifts=(gain(7),))), num_envs=2)
    vector.reset()
    rewards = [vector.step(np.array([TERMINATE, GO]))[1].tolist() for _ in range(3)]
    assert rewards == [[7, 7]] * 3
