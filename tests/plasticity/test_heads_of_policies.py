"""The heads of stable-baselines3's and sb3-contrib's stock policies, which do not name them to us."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sb3_contrib
import stable_baselines3 as sb3
from gymnasium import Env, spaces
from head_cases import found
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm


class Spaces(Env[Any, Any]):
    """An environment that is never stepped."""

    def __init__(self, observations: spaces.Space[Any], actions: spaces.Space[Any]):
        self.observation_space, self.action_space = observations, actions


VECTOR, IMAGE = spaces.Box(-1, 1, (8,)), spaces.Box(0, 255, (3, 64, 64), np.uint8)
OBSERVATIONS = {"Mlp": VECTOR, "Cnn": IMAGE, "MultiInput": spaces.Dict(image=IMAGE, vector=VECTOR)}
DISCRETE, CONTINUOUS = spaces.Discrete(4), spaces.Box(-1, 1, (3,))
ACTOR_CRITIC = {"action_net", "value_net"}
ACTOR = {"actor.mu", "actor.log_std"}
ALGORITHMS: list[tuple[type[BaseAlgorithm], spaces.Space[Any], set[str]]] = [
    (sb3.PPO, DISCRETE, ACTOR_CRITIC),
    (sb3.PPO, CONTINUOUS, ACTOR_CRITIC),
    (sb3.A2C, DISCRETE, ACTOR_CRITIC),
    (sb3.DQN, DISCRETE, {"q_net.q_net.{last}"}),
    (sb3.SAC, CONTINUOUS, {*ACTOR, "critic.qf0.4", "critic.qf1.4"}),
    (sb3.TD3, CONTINUOUS, {"actor.mu.4", "critic.qf0.4", "critic.qf1.4"}),
    (sb3.DDPG, CONTINUOUS, {"actor.mu.4", "critic.qf0.4"}),
    (sb3_contrib.TRPO, CONTINUOUS, ACTOR_CRITIC),
    (sb3_contrib.MaskablePPO, DISCRETE, ACTOR_CRITIC),
    (sb3_contrib.RecurrentPPO, DISCRETE, ACTOR_CRITIC),
    (sb3_contrib.QRDQN, DISCRETE, {"quantile_net.quantile_net.{last}"}),
    (sb3_contrib.TQC, CONTINUOUS, {*ACTOR, "critic.qf0.4", "critic.qf1.4"}),
    (sb3_contrib.CrossQ, CONTINUOUS, {*ACTOR, "critic.qf0.7", "critic.qf1.7"}),
]


@pytest.mark.parametrize("observations", OBSERVATIONS)
@pytest.mark.parametrize(
    ("algorithm", "actions", "heads"), ALGORITHMS, ids=lambda x: getattr(x, "__name__", type(x).__name__)
)
def test_stock_policies_are_clear(
    algorithm: type[BaseAlgorithm], actions: spaces.Space[Any], heads: set[str], observations: str
) -> None:
    name = f"{observations}{'LstmPolicy' if algorithm is sb3_contrib.RecurrentPPO else 'Policy'}"
    if name not in algorithm.policy_aliases:
        pytest.skip(f"{algorithm.__name__} has no {name}")
    off_policy = {"buffer_size": 1} if issubclass(algorithm, OffPolicyAlgorithm) else {}
    model: Any = algorithm(name, Spaces(OBSERVATIONS[observations], actions), device="cpu", **off_policy)
    owners = [model.policy] if hasattr(model.policy, "optimizer") else [model.actor, model.critic]
    chosen: set[str] = set()
    for owner in owners:
        names, warning = found(model.policy, owner.optimizer)
        assert not warning
        chosen |= names
    last = 0 if observations == "Cnn" else 4
    assert chosen == {head.format(last=last) for head in heads}
