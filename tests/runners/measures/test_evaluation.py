"""Evaluation of agents against counts by others' code, without a trace in the agent or in any random generator."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import sb3_contrib
import torch
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecNormalize
from thinning import one_in, some

from neoteny import DQN, PPO, SAC, Continual, ContinualVecEnv, RecurrentPPO, TaskSequence, configs
from neoteny.envs import Segment
from neoteny.envs.backends import GymnasiumBackend, Step
from neoteny.runners.measures import evaluate_visit, evaluation

CARTPOLE = [
    {"env": "CartPole-v1", "steps": 512},
    {"env": "CartPole-v1", "steps": 512, "shifts": [{"shift": "offset-observation", "std": 1}]},
]
PENDULUM = [{"env": "Pendulum-v1", "steps": 512}, {"env": "Pendulum-v1", "steps": 512, "shifts": ["flip-reward"]}]


class ContinualQRDQN(Continual, sb3_contrib.QRDQN):
    """Others' value-based algorithm."""


class ContinualMaskablePPO(Continual, sb3_contrib.MaskablePPO):
    """Others' algorithm that needs masks."""


def env(tasks: list[dict[str, Any]] = CARTPOLE, num_envs: int = 4, **settings: Any) -> ContinualVecEnv:
    sequence = configs.build(TaskSequence, {"tasks": tasks, **settings}, "env")
    return ContinualVecEnv(sequence, num_envs, seed=3, advance=False)


AGENTS: dict[str, Callable[[], Continual]] = {
    "ppo": lambda: PPO("ActorCritic", env(), n_steps=32, batch_size=32, seed=0),
    "ppo, normalized": lambda: PPO("ActorCritic", VecNormalize(env()), n_steps=32, batch_size=32, seed=0),
    "recurrent-ppo": lambda: RecurrentPPO("RecurrentActorCritic", env(), n_steps=32, batch_size=32, seed=0),
    "dqn": lambda: DQN("QPolicy", env(), learning_starts=10, buffer_size=500, seed=0),
    "qrdqn": lambda: ContinualQRDQN("MlpPolicy", env(), learning_starts=10, buffer_size=500, seed=0),
    "sac": lambda: SAC("SoftActorCritic", env(PENDULUM), learning_starts=10, buffer_size=500, seed=0),
    "maskable": lambda: ContinualMaskablePPO("MlpPolicy", env(), n_steps=32, batch_size=32, seed=0),
}


def trained(name: str) -> Continual:
    agent = AGENTS[name]()
    agent.learn(200)
    return agent


def traces(agent: Continual) -> list[Any]:
    """Everything that must be the same afterwards."""
    normalizer = agent.get_vec_normalize_env()
    return [
        {key: value.clone() for key, value in agent.policy.state_dict().items()},
        {key: value for key, value in vars(agent).items() if isinstance(value, (int, float, str))},
        torch.get_rng_state().tolist(),
        random.getstate(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002
        str(agent.action_space.np_random.bit_generator.state),
        normalizer and [normalizer.obs_rms.mean.tolist(), normalizer.obs_rms.count, normalizer.returns.tolist()],
        None if agent._last_obs is None else agent._last_obs.tolist(),
    ]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", some([*AGENTS], "ppo, normalized", "recurrent-ppo", "dqn", "sac"))
@pytest.mark.parametrize("deterministic", one_in(2, [False, True]))
def test_no_trace_and_the_same_again(name: str, deterministic: bool) -> None:
    agent = trained(name)
    tasks = PENDULUM if name == "sac" else CARTPOLE
    own = env(tasks)
    before = traces(agent)
    found = [evaluate_visit(agent, own, own.vector.sequence.visit(1), 6, deterministic) for _ in range(2)]
    np.random.random(5)  # noqa: NPY002  # where the global generators stand does not matter
    torch.rand(5)
    found.append(evaluate_visit(agent, env(tasks), own.vector.sequence.visit(1), 6, deterministic))
    for ours, theirs in zip(before[:2], traces(agent)[:2], strict=True):
        assert ours.keys() == theirs.keys()
        assert all(np.all(np.asarray(ours[key]) == np.asarray(theirs[key])) for key in ours)
    assert str(found[0]) == str(found[1]) == str(found[2])
    assert found[0]["games"] == found[0]["episodes"] == 6


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", AGENTS)
def test_generators_are_left_alone(name: str) -> None:
    agent = trained(name)
    own = env(PENDULUM if name == "sac" else CARTPOLE)
    before = traces(agent)
    evaluate_visit(agent, own, own.vector.sequence.visit(0), 3)
    assert str(before[2:]) == str(traces(agent)[2:])


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", ["ppo", "ppo, normalized", "dqn", "qrdqn", "sac"])
@pytest.mark.parametrize("visit", [0, 1])
def test_against_stable_baselines3(name: str, visit: int) -> None:
    """Its evaluate_policy, in environments that begin alike: the same mean return to the digit, 7 episodes in 4."""
    agent = trained(name)
    tasks = PENDULUM if name == "sac" else CARTPOLE
    own, theirs = env(tasks), env(tasks)
    found = evaluate_visit(agent, own, own.vector.sequence.visit(visit), 7, deterministic=True)
    theirs.enter(Segment(evaluation.PLACE, theirs.vector.sequence.visit(visit), 2**62, False, 512))
    seen: Any = theirs
    if normalizer := agent.get_vec_normalize_env():
        seen = VecNormalize(theirs, training=False, norm_reward=False)
        seen.obs_rms = normalizer.obs_rms
    mean, _ = evaluate_policy(agent, seen, 7, deterministic=True, warn=False)
    assert found["return"] == pytest.approx(mean, rel=1e-6)
    assert found["score"] == pytest.approx(-mean if (name, visit) == ("sac", 1) else mean, rel=1e-6)


class Game(gym.Env[np.ndarray, int]):
    """Pays 1 at each step; over after ``length`` steps, or 20, 40, … more; solved if 3 divides that number."""

    observation_space = gym.spaces.Box(-10, 10, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, length: int = 5, spread: int = 0):
        self.length, self.spread = length, spread

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.now, self.end = 0, self.length + int(self.np_random.integers(self.spread + 1)) * 20
        return np.zeros(2, np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.now += 1
        over = self.now >= self.end
        return np.zeros(2, np.float32), 1.0, over, False, {"success": over and self.end % 3 == 0}


@pytest.fixture(autouse=True)
def _game() -> Iterator[None]:
    gym.register("Game-v0", Game, disable_env_checker=True)
    yield
    del gym.registry["Game-v0"]


def game(**kwargs: Any) -> tuple[PPO, ContinualVecEnv]:
    tasks = [{"env": "Game-v0", "steps": 64, "kwargs": kwargs}]
    return PPO("MlpPolicy", env(tasks), n_steps=16, batch_size=32, seed=0), env(tasks)


def test_short_games_do_not_count_more() -> None:
    """Games of 4 and 24 steps, equally often: of the first 100 to end in 100 environments more are short."""
    tasks = [{"env": "Game-v0", "steps": 64, "kwargs": {"length": 4, "spread": 1}}]
    agent, _ = game()
    own = env(tasks, 100)
    found = evaluate_visit(agent, own, own.vector.sequence.visit(0), 100)
    assert found["return"] == pytest.approx(14, abs=2.5)
    assert found["success"] == pytest.approx(0.5, abs=0.2)  # 3 divides 24, not 4
    assert found["reward_rate"] == 1.0


def test_games_without_end_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "LONGEST", 100)
    agent, own = game(length=10**9)
    found = evaluate_visit(agent, own, own.vector.sequence.visit(0), 8)
    assert np.isnan([found["return"], found["score"], found["success"]]).all()
    assert found["games"] == 0
    assert found["steps"] == 400
    assert found["reward_rate"] == 1.0


def test_lives_make_episodes_and_games(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each game is two lives of 5 steps: 6 games are 12 episodes."""
    step, lives = GymnasiumBackend.step, np.zeros(4, int)

    def with_lives(self: GymnasiumBackend, actions: np.ndarray) -> Step:
        found = step(self, actions)
        nonlocal lives
        if len(lives) != len(found.terminated):
            lives = np.zeros(len(found.terminated), int)
        lives += found.terminated
        return found._replace(games_over=found.terminated & (lives % 2 == 0))

    monkeypatch.setattr(GymnasiumBackend, "step", with_lives)
    agent, own = game(length=5)
    lives[:] = 0
    found = evaluate_visit(agent, own, own.vector.sequence.visit(0), 6)
    assert (found["games"], found["episodes"]) == (6, 12)
    assert (found["score"], found["return"]) == (10, 5)


def test_shifts_have_their_full_level() -> None:
    """A ramp as long as the task: the pole's length is that of its end, and stays."""
    tasks = [{"env": "CartPole-v1", "steps": 512, "shifts": [{"shift": "dynamics", "set": {"length": 3}, "ramp": 512}]}]
    own, agent = env(tasks), trained("ppo")
    seen: list[float] = []
    evaluate_visit(
        agent,
        own,
        own.vector.sequence.visit(0),
        2,
        watch=lambda: seen.append(own.vector._backend.parameter("length")),
    )
    assert set(seen) == {3.0}


def test_per_seed_tables_and_visits_draw_as_in_the_run() -> None:
    tasks = [
        {"env": "CartPole-v1", "steps": 64, "shifts": [{"shift": "dynamics", "set": {"length": {"uniform": [1, 2]}}}]}
    ]
    own, run = env(tasks, num_tasks=3), env(tasks, num_tasks=3)
    lengths: list[float] = []
    for index in range(3):
        run.seek(index)
        run.reset()
        own_length: list[float] = []
        evaluate_visit(
            trained("ppo"),
            own,
            own.vector.sequence.visit(index),
            1,
            watch=lambda kept=own_length: kept.append(own.vector._backend.parameter("length")),
        )
        lengths.append(run.vector._backend.parameter("length"))
        assert set(own_length) == {lengths[-1]}
    assert len(set(lengths)) == 3


def test_masks_are_obeyed() -> None:
    """Of five actions this task has two."""
    tasks = [
        {"env": "MiniGrid-Empty-5x5-v0", "steps": 64, "actions": [0, 1]},
        {"env": "MiniGrid-Empty-5x5-v0", "steps": 64},
    ]
    agent = ContinualMaskablePPO("MlpPolicy", env(tasks), n_steps=16, batch_size=32, seed=0)
    own = env(tasks)
    taken: list[int] = []
    step = own.step
    own.step = lambda actions: (taken.extend(actions), step(actions))[1]  # type: ignore[method-assign]
    evaluate_visit(agent, own, own.vector.sequence.visit(0), 4)
    assert set(taken) == {0, 1}


def test_dqn_is_as_curious_as_at_the_end_of_a_task() -> None:
    """A new agent too, whose ε is 1 when it learns: with a final ε of 0 it is as good as greedy."""
    agent = DQN("QPolicy", env(), exploration_final_eps=0.0, buffer_size=500, seed=0)
    agent.begin_task(1000)
    assert agent.exploration_rate == 1.0
    own = env()
    visit = own.vector.sequence.visit(0)
    greedy = evaluate_visit(agent, own, visit, 5, deterministic=True)
    assert evaluate_visit(agent, own, visit, 5) == pytest.approx(greedy, nan_ok=True)
    assert agent.exploration_rate == 1.0


@pytest.mark.parametrize(
    ("settings", "first"),
    [
        ({"num_tasks": 5}, [0, 1, 0, 3, 0]),  # a shift draws anew in each visit
        ({"num_tasks": 5, "switches": "task-id"}, [0, 1, 0, 3, 0]),
    ],
)
def test_first_visits(settings: dict[str, Any], first: list[int]) -> None:
    assert env(**settings).vector.sequence.first_visits == first


def test_first_visits_of_a_task_that_is_listed_twice() -> None:
    """Told by its id, it is not the same to the agent."""
    tasks = [CARTPOLE[0], CARTPOLE[0]]
    assert env(tasks).vector.sequence.first_visits == [0, 0]
    assert env(tasks, switches="task-id").vector.sequence.first_visits == [0, 1]
