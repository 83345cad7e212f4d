"""Agents in plain Python hear of signalled switches: once each, between two rollouts, and never of hidden ones."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from agent_zoo import CASES, Recorder, difference, learned_state
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv, VecFrameStack, VecMonitor, VecNormalize
from thinning import some

import neoteny.envs  # noqa: F401  (registers neoteny/*)
from neoteny import ContinualVecEnv, TaskSequence
from neoteny.envs import Task
from neoteny.envs.registration import ContinualEnv
from neoteny.plasticity import ShrinkAndPerturb

ALGORITHMS = ["ppo", "ppo-continuous", "recurrent-ppo", "a2c", "dqn", "qrdqn", "sac"]
BUDGET, TASKS = 100, 3
WRAPPERS: dict[str, Any] = {
    "bare": lambda env: env,
    "normalized": VecNormalize,
    "monitored": VecMonitor,
    "both": lambda env: VecMonitor(VecNormalize(env)),
    "stacked": lambda env: VecNormalize(VecFrameStack(env, 2)),
}


def preset(name: str) -> str:
    return "pendulum-gravity" if name in ("sac", "ppo-continuous") else "cartpole-dynamics"


def sequence(name: str, **more: Any) -> TaskSequence:
    resized = TaskSequence.load(preset(name)).resized(BUDGET, TASKS)
    return dataclasses.replace(resized, **more)


def through_gymnasium(name: str, count: int, **more: Any) -> VecEnv:
    settings = {"copies": count, "steps_per_task": BUDGET, "num_tasks": TASKS, **more}
    return make_vec_env(f"neoteny/{preset(name)}-v0", count, seed=0, env_kwargs=settings)


class Truth(BaseCallback):
    """After how many environment steps the visit changes, as the environments' own count says."""

    def __init__(self, vectors: list[Any]):
        super().__init__()
        self.vectors, self.at, self.visit = vectors, [], 0

    def _on_step(self) -> bool:
        visits = {vector.segment.visit.index for vector in self.vectors}
        assert len(visits) == 1
        if visits != {self.visit}:
            self.visit = visits.pop()
            self.at.append(self.num_timesteps)
        return True


def inner(env: Any) -> list[Any]:
    base = env.unwrapped
    return [base.vector] if isinstance(base, ContinualVecEnv) else [one.unwrapped._vector for one in base.envs]


def agent(name: str, env: VecEnv, **more: Any) -> Any:
    """With ``told``: the steps and updates done when it was told of each switch."""
    case = CASES[name]
    made = case.ours(case.policy, env, **case.arguments(reg=Recorder(), **more))
    made.told = []
    original = made.on_switch

    def on_switch() -> None:
        made.told.append((made.num_timesteps, made._n_updates))
        original()

    made.on_switch = on_switch
    return made


def rollout(made: Any) -> int:
    each = made.n_steps if hasattr(made, "rollout_buffer") else made.train_freq.frequency
    return int(each * made.n_envs)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("way", ["ContinualVecEnv", "make_vec_env"])
@pytest.mark.parametrize("name", some(ALGORITHMS, "ppo", "dqn", "sac"))
def test_every_algorithm_is_told_once_per_switch_before_the_next_rollout(name: str, way: str, count: int) -> None:
    env = through_gymnasium(name, count) if way == "make_vec_env" else ContinualVecEnv(sequence(name), count)
    made, truth = agent(name, env), Truth(inner(env))
    made.learn(BUDGET * TASKS + 60, callback=truth)
    assert len(truth.at) == TASKS - 1
    size = rollout(made)
    assert [steps for steps, _ in made.told] == [-(-at // size) * size for at in truth.at]
    assert {method.switches for method in made.methods.values()} == {TASKS - 1}
    assert made._tasks_begun == TASKS
    assert made._task_steps == -(-BUDGET // count) * count


@pytest.mark.sampled(2)
@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("way", ["ContinualVecEnv", "make_vec_env"])
@pytest.mark.parametrize("name", some(["ppo", "sac"], "ppo"))
def test_whatever_wraps_the_environments(name: str, way: str, wrapper: str) -> None:
    env = through_gymnasium(name, 2) if way == "make_vec_env" else ContinualVecEnv(sequence(name), 2)
    made = agent(name, WRAPPERS[wrapper](env))
    made.learn(BUDGET * TASKS + 60)
    assert len(made.told) == TASKS - 1


@pytest.mark.full
def test_from_other_processes() -> None:
    settings = {"preset": "cartpole-dynamics", "copies": 2, "steps_per_task": BUDGET, "num_tasks": TASKS}
    env = make_vec_env(ContinualEnv, 2, seed=0, env_kwargs=settings, vec_env_cls=SubprocVecEnv)
    made = agent("ppo", env)
    made.learn(BUDGET * TASKS + 60)
    env.close()
    assert len(made.told) == TASKS - 1


@pytest.mark.parametrize("way", ["ContinualVecEnv", "make_vec_env"])
@pytest.mark.parametrize("name", some(ALGORITHMS, "ppo", "dqn", "sac"))
def test_hidden_switches_are_told_to_nobody(name: str, way: str, tmp_path: Path) -> None:
    hidden = sequence(name, switches="hidden")
    if way == "make_vec_env":
        file = tmp_path / "hidden.yaml"
        tasks = [{"env": task.env, "steps": BUDGET, "kwargs": task.kwargs} for task in hidden.tasks]
        file.write_text(json.dumps({"tasks": tasks, "switches": "hidden"}))
        env = through_gymnasium(name, 2, preset=str(file))
    else:
        env = ContinualVecEnv(hidden, 2)
    said: list[str] = []
    made, truth = agent(name, env), Truth(inner(env))
    original = made._update_info_buffer
    made._update_info_buffer = lambda infos, dones=None: (
        said.extend(k for i in infos for k in i),
        original(infos, dones),
    )
    made.learn(BUDGET * TASKS + 60, callback=truth)
    assert len(truth.at) == TASKS - 1  # they were there
    assert made.told == []
    assert made._tasks_begun == 0
    assert not [key for key in [*said, *(k for info in env.reset_infos for k in info)] if "new" in key]


def test_segments_within_a_task_and_resets_with_a_seed_are_no_switches() -> None:
    env = ContinualVecEnv(sequence("ppo"), 2, segment_steps=20)
    made = agent("ppo", env)
    for seed in range(3):
        env.seed(seed)
        made.learn(64, reset_num_timesteps=seed == 0)
        made._last_obs = None
    assert made.env.unwrapped.segment.visit.index == 1
    assert len(made.told) == 1


def test_the_updates_on_the_rollout_of_the_switch_come_first() -> None:
    """Rollouts of 32 steps; the switch comes at step 96, the end of one, or at step 100, in the middle of one."""
    for budget, steps in ((96, 96), (100, 128)):
        env = ContinualVecEnv(sequence("ppo").resized(budget, 2), 1)
        made = agent("ppo", env)
        made.learn(192)
        assert made.told == [(steps, steps // 32 * 2)]  # two epochs each


def test_a_switch_at_the_end_of_a_call_waits_for_the_next_also_in_a_file(tmp_path: Path) -> None:
    env = ContinualVecEnv(sequence("ppo").resized(96, 2), 1)
    made = agent("ppo", env)
    made.learn(96)
    assert made.told == []
    made.save(tmp_path / "agent")
    loaded = CASES["ppo"].ours.load(tmp_path / "agent", env=env, device="cpu")
    loaded.learn(32, reset_num_timesteps=False)
    assert [method.switches for method in loaded.methods.values()] == [1]
    loaded.learn(32, reset_num_timesteps=False)
    assert [method.switches for method in loaded.methods.values()] == [1]


def test_shrink_and_perturb_acts_at_the_switch() -> None:
    """Without the user's help; and by as much as when it is told by hand."""

    def trained(switches: str) -> Any:
        env = ContinualVecEnv(sequence("ppo", switches=switches).resized(96, 2), 1)
        made = CASES["ppo"].ours("MlpPolicy", env, **CASES["ppo"].arguments(reg=ShrinkAndPerturb()))
        made.learn(96)
        if switches == "hidden":
            made.on_switch()
        return made.learn(96, reset_num_timesteps=False)

    ours, theirs = trained("signalled"), trained("hidden")
    assert difference(learned_state(ours), learned_state(theirs)) is None
    assert ours.methods["all"].scalars()["perturbations"] == 1


def test_a_new_agent_has_not_switched_and_one_from_elsewhere_has() -> None:
    env = ContinualVecEnv(sequence("ppo"), 2)
    env.seek(1)
    made = agent("ppo", env)
    made.learn(64)
    assert made.told == []
    env.seek(2)
    made._last_obs = None
    made.learn(64, reset_num_timesteps=False)
    assert len(made.told) == 1


@pytest.mark.parametrize("way", ["ContinualVecEnv", "make_vec_env"])
def test_exploration_follows_the_tasks(way: str) -> None:
    env = through_gymnasium("dqn", 2) if way == "make_vec_env" else ContinualVecEnv(sequence("dqn"), 2)
    seen: list[float] = []
    made = agent("dqn", env, exploration_fraction=0.5, exploration_final_eps=0.2)
    made.learn(300, callback=lambda *_: seen.append(made.exploration_rate) or True)
    fallen = [1 - 0.8 * min(step / 25, 1) for step in range(50)]
    np.testing.assert_allclose(seen, fallen * 3)


def test_schedules_do_not_wait_for_a_count_that_began_anew() -> None:
    env = ContinualVecEnv(sequence("ppo"), 1)
    made = agent("ppo", env)
    made.learn(192)
    made.learn(32)  # counts from 0
    assert made._current_progress_remaining == pytest.approx(1 - 32 / 100)


def test_a_cleared_replay_buffer_puts_off_learning_at_once() -> None:
    """From the switch on at least ``learning_starts`` steps are random, the very first one too."""
    env = ContinualVecEnv(sequence("sac"), 1)
    made = agent("sac", env, at_switch={"replay": "clear"})
    asked: list[int] = []
    original = made.predict
    made.predict = lambda *args, **kwargs: (asked.append(made.num_timesteps), original(*args, **kwargs))[1]
    made.learn(160)
    assert made.told[0][0] == 100
    assert asked == [*range(20, 100), *range(120, 160)]


def test_normalization_begins_anew_with_the_observation_that_is_there() -> None:
    env = VecNormalize(ContinualVecEnv(sequence("ppo"), 2))
    made = agent("ppo", env, at_switch={"normalization": "reset"})
    counts: list[Any] = []

    class Look(BaseCallback):
        def _on_rollout_start(self) -> None:
            counts.append(env.obs_rms.count)  # type: ignore[union-attr]
            np.testing.assert_array_equal(made._last_obs, env.normalize_obs(env.get_original_obs()))

        def _on_step(self) -> bool:
            return True

    made.learn(192, callback=Look())
    assert made.told == [(128, 4)]
    np.testing.assert_allclose(counts, [2, 66, 2], atol=1e-3)


# What the environments say ------------------------------------------------------------------------------------


def test_info_says_what_begins(tmp_path: Path) -> None:
    env = ContinualVecEnv(sequence("ppo"), 3, segment_steps=60)
    env.reset()
    begins = {"new_task": 0, "new_task_steps": 34}
    assert env.reset_infos == [begins] * 3
    said: list[Any] = []
    for step in range(1, 120):
        _, _, dones, infos = env.step(np.zeros(3, int))
        if "new_task" in infos[0]:
            assert dones.all()
            said.append((step, infos))
    assert [step for step, _ in said] == [34, 68]
    for index, (_, infos) in enumerate(said, 1):
        assert [{k: v for k, v in info.items() if "new" in k} for info in infos] == [begins | {"new_task": index}] * 3
    env.reset()
    assert env.reset_infos == [{}] * 3
    one = ContinualEnv(preset="cartpole-dynamics", steps_per_task=4, copies=2)
    assert one.reset(seed=1)[1]["new_task_steps"] == 2
    one.step(0)
    assert "new_task" not in one.reset(seed=2)[1]  # a task that runs is begun anew, its steps count on
    assert one.step(0)[-1] == {
        "task": 0, "env_id": "CartPole-v1", "task_id": 0, "new_task": 1, "new_task_steps": 2,
    }  # fmt: skip


def test_in_gymnasiums_vectors_it_has_a_mask() -> None:
    many = gym.make_vec("neoteny/cartpole-dynamics-v0", 2, "vector_entry_point", steps_per_task=4)
    _, info = many.reset()
    assert (info["new_task"].tolist(), info["_new_task"].tolist()) == ([0, 0], [True, True])
    assert "new_task" not in many.step(np.zeros(2, int))[-1]
    info = many.step(np.zeros(2, int))[-1]
    assert (info["task"].tolist(), info["new_task"].tolist(), info["new_task_steps"].tolist()) == (
        [0, 0],
        [1, 1],
        [2, 2],
    )


def test_the_caller_who_starts_each_segment_is_told_by_the_reset() -> None:
    tasks = (Task("CartPole-v1", 8), Task("CartPole-v1", 12))
    env = ContinualVecEnv(TaskSequence(tasks), 2, advance=False)
    env.reset()
    infos = [copy.deepcopy(env.step(np.zeros(2, int))[-1]) for _ in range(4)]
    assert not [info for step in infos for info in step if "new_task" in info]
    env.seek(1)
    env.reset()
    assert env.reset_infos == [{"new_task": 1, "new_task_steps": 6}] * 2
