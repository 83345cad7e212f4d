"""Every algorithm of stable-baselines3 and sb3-contrib with a method: trained, saved, loaded, resumed."""

from __future__ import annotations

import copy
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import sb3_contrib
import stable_baselines3 as sb3
from agent_zoo import difference, learned_state, reseed
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv

from neoteny.agents import Continual
from neoteny.plasticity import Method, Spectral


def algorithms(package: ModuleType) -> list[type[BaseAlgorithm]]:
    """All that a package exports, so that a new one has to pass too."""
    exported = [getattr(package, name) for name in package.__all__]
    return [cls for cls in exported if isinstance(cls, type) and issubclass(cls, BaseAlgorithm)]


#: Algorithms that no method can act in, and why.
REFUSED = {sb3_contrib.ARS: "MyARS learns without an optimizer; methods act when an optimizer steps"}
EVERY = [cls for package in (sb3, sb3_contrib) for cls in algorithms(package)]
LEARNING = [cls for cls in EVERY if cls not in REFUSED]

#: Settings of a small run, each for the algorithms that take it.
SMALL = {
    "n_steps": 16, "batch_size": 16, "n_epochs": 2, "sub_sampling_factor": 1, "n_delta": 2,
    "buffer_size": 200, "learning_starts": 10, "train_freq": 2, "target_update_interval": 10,
}  # fmt: skip


class Signs(gym.Env[Any, Any]):
    """Signs are shown; the reward is the product of the first and the action. Episodes take five steps."""

    def __init__(self, action_space: spaces.Space[Any]):
        self.observation_space, self.action_space = spaces.Box(-1, 1, (3,)), action_space

    def _show(self) -> Any:
        self.shown = self.np_random.choice([-1.0, 1.0], 3).astype(np.float32)
        return self.shown

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self._show(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        reward = float(self.shown[0] * np.ravel(action)[0])
        return self._show(), reward, self.steps == 5, False, {}

    def action_masks(self) -> Any:
        return np.ones(2, bool)


def policy(algorithm: type[BaseAlgorithm]) -> str:
    return next(name for name in algorithm.policy_aliases if name.startswith("Mlp"))


def environment(algorithm: type[BaseAlgorithm]) -> DummyVecEnv:
    actions: spaces.Space[Any] = spaces.Box(-1, 1, (2,))
    try:
        algorithm(policy(algorithm), DummyVecEnv([lambda: Signs(actions)]), _init_setup_model=False)  # type: ignore[call-arg]
    except AssertionError:  # it has no continuous actions
        actions = spaces.Discrete(2)
    return DummyVecEnv([lambda: Signs(actions)] * 2)


def make(algorithm: type[BaseAlgorithm], reg: Method | None) -> Any:
    known = inspect.signature(algorithm).parameters
    small: dict[str, Any] = {name: value for name, value in SMALL.items() if name in known}
    if issubclass(algorithm, OffPolicyAlgorithm):
        small.pop("n_steps", None)  # there: of n-step returns
    cls = type(f"My{algorithm.__name__}", (Continual, algorithm), {})
    small |= {"policy_kwargs": {"net_arch": [8, 8]}, "seed": 0, "device": "cpu"}
    return cls(policy(algorithm), environment(algorithm), reg=reg, **small)


def go_on(agent: Any, seed: int) -> None:
    """Learn on for a while, in environments that begin anew."""
    reseed(seed)
    agent.action_space.seed(seed)
    agent.env.seed(seed)
    agent._last_obs = None
    agent.learn(64, reset_num_timesteps=False)


@pytest.mark.sampled(2)
@pytest.mark.filterwarnings("ignore:spectral leaves out:UserWarning")
@pytest.mark.parametrize(
    "algorithm", [pytest.param(cls, marks=[pytest.mark.full] * (cls is sb3_contrib.RecurrentPPO)) for cls in LEARNING]
)
def test_it_trains_is_saved_and_goes_on_bit_for_bit(algorithm: type[BaseAlgorithm], tmp_path: Path) -> None:
    agent = make(algorithm, Spectral(strength=0.1))
    start = copy.deepcopy(learned_state(agent))
    go_on(agent, seed=1)
    saved = copy.deepcopy(learned_state(agent))
    assert difference(start, saved) is not None
    assert agent.num_timesteps >= 64
    agent.save(tmp_path / "agent", replay=True)

    cls, seen = type(agent), np.stack([agent.observation_space.sample() for _ in range(20)])
    without = cls.load(tmp_path / "agent", device="cpu")
    assert without.get_env() is None
    loaded: Any = cls.load(tmp_path / "agent", env=environment(algorithm), device="cpu", seed=99)
    for other in (without, loaded):
        assert difference(saved, learned_state(other)) is None
        assert difference(*(one.predict(seen, deterministic=True) for one in (agent, other))) is None
    for one in (agent, loaded):
        go_on(one, seed=2)
    assert difference(learned_state(agent), learned_state(loaded)) is None
    assert difference(saved, learned_state(agent)) is not None
    assert (agent.num_timesteps, agent._n_updates) == (loaded.num_timesteps, loaded._n_updates)


@pytest.mark.parametrize(("algorithm", "why"), REFUSED.items())
def test_the_others_are_refused_with_a_method_and_work_without(
    algorithm: type[BaseAlgorithm], why: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=why):
        make(algorithm, Spectral())
    agent = make(algorithm, None)
    go_on(agent, seed=1)
    agent.save(tmp_path / "agent")
    loaded: Any = type(agent).load(tmp_path / "agent", env=environment(algorithm), device="cpu")
    for one in (agent, loaded):
        go_on(one, seed=2)
    assert difference(learned_state(agent), learned_state(loaded)) is None


def test_both_packages_are_covered() -> None:
    known = "A2C DDPG DQN PPO SAC TD3 ARS CrossQ MaskablePPO QRDQN RecurrentPPO TQC TRPO".split()
    assert {cls.__name__ for cls in EVERY} >= set(known)
