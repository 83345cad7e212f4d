"""The algorithms that the tests of ``agents`` go through: small, on the CPU, made the same way everywhere."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import sb3_contrib
import stable_baselines3 as sb3
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor

from neoteny import agents
from neoteny.agents import Continual
from neoteny.agents.closed_form import ClosedForm
from neoteny.plasticity import Method


class A2C(Continual, sb3.A2C):
    pass


class QRDQN(Continual, sb3_contrib.QRDQN):
    pass


SMALL = {"policy_kwargs": {"net_arch": [16, 16]}}
PPO = SMALL | {"n_steps": 32, "batch_size": 16, "n_epochs": 2}
RECURRENT = PPO | {"policy_kwargs": {"net_arch": [16, 16], "lstm_hidden_size": 8}}
OFF_POLICY = SMALL | {"buffer_size": 1000, "learning_starts": 20, "batch_size": 16}
GREEDY = OFF_POLICY | {"train_freq": 2, "exploration_fraction": 0.9, "target_update_interval": 10}
QUANTILES = GREEDY | {"policy_kwargs": {"net_arch": [16, 16], "n_quantiles": 10}}


@dataclass(frozen=True)
class Case:
    """An algorithm, the one it is made from, and a short run: its steps, and ``_n_updates`` after them.

    For PPO that is five rollouts of two epochs.
    """

    ours: type[Continual]
    stock: type[BaseAlgorithm]
    env: str
    settings: Mapping[str, Any]
    steps: int
    updates: int
    policy: str = "MlpPolicy"

    @property
    def to_the_bit(self) -> dict[str, Any]:
        """Settings with which ours computes what stock does; updates in closed form differ by rounding."""
        return {"closed_form": False} if issubclass(self.ours, ClosedForm) else {}

    def arguments(self, **more: Any) -> dict[str, Any]:
        policy = dict(self.settings["policy_kwargs"])  # a copy: some algorithms write into it
        return {**self.settings, "policy_kwargs": policy, "device": "cpu", "seed": 0, **more}

    def make(self, **more: Any) -> Any:
        return self.ours(self.policy, self.env, **self.arguments(**more))

    def make_stock(self, **more: Any) -> Any:
        return self.stock(self.policy, self.env, **self.arguments(**more))


CASES = {
    "ppo": Case(agents.PPO, sb3.PPO, "CartPole-v1", PPO, steps=160, updates=10),
    "ppo-continuous": Case(agents.PPO, sb3.PPO, "Pendulum-v1", PPO, steps=160, updates=10),
    "recurrent-ppo": Case(
        agents.RecurrentPPO,
        sb3_contrib.RecurrentPPO,
        "CartPole-v1",
        RECURRENT,
        steps=160,
        updates=10,
        policy="MlpLstmPolicy",
    ),
    "a2c": Case(A2C, sb3.A2C, "CartPole-v1", SMALL | {"n_steps": 8}, steps=160, updates=20),
    "dqn": Case(agents.DQN, sb3.DQN, "CartPole-v1", GREEDY, steps=60, updates=20),
    "qrdqn": Case(QRDQN, sb3_contrib.QRDQN, "CartPole-v1", QUANTILES, steps=60, updates=20),
    "sac": Case(agents.SAC, sb3.SAC, "Pendulum-v1", OFF_POLICY, steps=50, updates=30),
}


@dataclass(kw_only=True, eq=False)
class Recorder(Method):
    """Counts what it is told."""

    name = "recorder"

    before: int = 0
    after: int = 0
    switches: int = 0

    def before_step(self) -> None:
        self.before += 1

    def after_step(self) -> None:
        self.after += 1

    def on_switch(self) -> None:
        self.switches += 1


def layer_names(agent: Continual) -> dict[str, list[str]]:
    return {key: [layer.name for layer in method.layers] for key, method in agent.methods.items()}


def global_random_state() -> list[Any]:
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002
    return [torch.get_rng_state().tolist(), kind, keys.tolist(), rest, random.getstate()]


def reseed(seed: int) -> None:
    """Every global generator, to the same state wherever this is called."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)


def weights(agent: BaseAlgorithm) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in agent.policy.named_parameters()}


def learned_state(agent: BaseAlgorithm) -> dict[str, Any]:
    """All that training has made of an agent: networks, optimizers with moments, loose variables, methods."""
    _, variables = agent._get_torch_save_params()
    state: dict[str, Any] = dict(agent.get_parameters())
    state |= {name: getattr(agent, name) for name in variables}
    if isinstance(agent, Continual):
        state |= {f"method {name}": method.state_dict() for name, method in agent.methods.items()}
    return state


def difference(ours: Any, theirs: Any, where: str = "") -> str | None:
    """Where two nested structures first differ, in type, dtype or any bit; None if nowhere."""
    if isinstance(ours, Tensor | np.ndarray):
        if type(ours) is not type(theirs) or ours.dtype != theirs.dtype or ours.shape != theirs.shape:
            return f"{where}: {ours!r} and {theirs!r}"
        return None if np.asarray(ours.data).tobytes() == np.asarray(theirs.data).tobytes() else where
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        if list(ours) != list(theirs):
            return f"{where}: keys {list(ours)} and {list(theirs)}"
        return next(filter(None, (difference(ours[k], theirs[k], f"{where}/{k}") for k in ours)), None)
    if isinstance(ours, list | tuple) and type(ours) is type(theirs) and len(ours) == len(theirs):
        pairs = enumerate(zip(ours, theirs, strict=True))
        return next(filter(None, (difference(a, b, f"{where}/{i}") for i, (a, b) in pairs)), None)
    same = type(ours) is type(theirs) and (ours == theirs or (ours != ours and theirs != theirs))
    return None if same else f"{where}: {ours!r} and {theirs!r}"
