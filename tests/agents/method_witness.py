"""Small agents with a method each, and a witness of every entry that the method touches while they train."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from agent_zoo import global_random_state
from gymnasium import spaces
from method_zoo import make, parts
from stable_baselines3.common.logger import Logger
from torch import Tensor

from neoteny import agents
from neoteny.agents.encoders import SmallCNN
from neoteny.plasticity import Method

PICTURE = (1, 5, 4)
POSITIONS = 3 * 2  # of the encoder's 3 x 3 filters
STEPS = 20

PPO = {"n_steps": 12, "batch_size": 6, "n_epochs": 2}
OFF_POLICY = {"buffer_size": 100, "learning_starts": 8, "batch_size": 6, "train_freq": 2}
#: Targets stand still unless a method moves them.
SETTINGS: dict[str, dict[str, Any]] = {
    "ppo": PPO,
    "dqn": OFF_POLICY | {"target_update_interval": 10_000, "exploration_fraction": 0.9, "double": True},
    "sac": OFF_POLICY | {"tau": 0.0},
}
CASES = [f"{agent}-{network}" for agent in SETTINGS for network in ("mlp", "conv")]

#: Which layers take a layer's units.
WIRING: dict[str, dict[str, list[str]]] = {
    "ppo": {
        "mlp_extractor.policy_net.0": ["mlp_extractor.policy_net.2"],
        "mlp_extractor.policy_net.2": ["action_net"],
        "mlp_extractor.value_net.0": ["mlp_extractor.value_net.2"],
        "mlp_extractor.value_net.2": ["value_net"],
    },
    "dqn": {"q_net.q_net.0": ["q_net.q_net.2"], "q_net.q_net.2": ["q_net.q_net.4"]},
    "sac": {
        "actor.latent_pi.0": ["actor.latent_pi.2"],
        "actor.latent_pi.2": ["actor.mu", "actor.log_std"],
        "critic.qf0.0": ["critic.qf0.2"],
        "critic.qf0.2": ["critic.qf0.4"],
        "critic.qf1.0": ["critic.qf1.2"],
        "critic.qf1.2": ["critic.qf1.4"],
    },
}
ENCODERS: dict[str, dict[str, list[str]]] = {
    "ppo": {"features_extractor.cnn.0": ["mlp_extractor.policy_net.0", "mlp_extractor.value_net.0"]},
    "dqn": {"q_net.features_extractor.cnn.0": ["q_net.q_net.0"]},
    "sac": {
        "actor.features_extractor.cnn.0": ["actor.latent_pi.0"],
        "critic.features_extractor.cnn.0": ["critic.qf0.0", "critic.qf1.0"],
    },
}


def wiring(case: str) -> dict[str, list[str]]:
    agent, network = case.split("-")
    return WIRING[agent] | (ENCODERS[agent] if network == "conv" else {})


def first_layers(case: str) -> list[str]:
    """Those that take observations."""
    agent, network = case.split("-")
    return list(ENCODERS[agent]) if network == "conv" else [name for name in WIRING[agent] if name.endswith(".0")]


class Tiny(gym.Env[Any, Any]):
    """Random observations in episodes of five steps; what is done decides the reward and nothing else."""

    def __init__(self, case: str, seed: int = 0):
        picture = case.endswith("conv")
        self.observation_space = (
            spaces.Box(0, 255, PICTURE, np.uint8) if picture else spaces.Box(-1, 1, (4,), np.float32)
        )
        self.action_space = spaces.Box(-1, 1, (2,)) if case.startswith("sac") else spaces.Discrete(3)
        self.random = np.random.default_rng(seed)
        self.actions: list[Any] = []

    def _observation(self) -> Any:
        space = self.observation_space
        if space.dtype == np.uint8:
            return self.random.integers(0, 2, space.shape, np.uint8) * 255
        return self.random.uniform(-1, 1, space.shape).astype(np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.observation = self._observation()
        return self.observation, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.actions.append(np.asarray(action).tolist())
        reward = float(np.sum(action) * self.observation.flat[0] / self.observation.max())
        self.observation = self._observation()
        return self.observation, reward, False, len(self.actions) % 5 == 0, {}


def agent(case: str, reg: Method | None = None, silent: bool = True, closed_form: bool = True) -> Any:
    """A new one; where a method is attached, it is before :func:`silence`."""
    name, network = case.split("-")
    cls = {"ppo": agents.PPO, "dqn": agents.DQN, "sac": agents.SAC}[name]
    policy: dict[str, Any] = {"net_arch": [8, 6], "activation_fn": torch.nn.ReLU, "optimizer_kwargs": {"fused": True}}
    if network == "conv":
        policy["features_extractor_class"] = SmallCNN
    made = cls(
        cls.Config.policy, Tiny(case), reg=reg, seed=3, device="cpu", learning_rate=0.01, policy_kwargs=policy,
        closed_form=closed_form, **SETTINGS[name],
    )  # fmt: skip
    if silent:
        silence(made, case)
    return made


@torch.no_grad()
def silence(agent: Any, case: str) -> None:
    """The third unit in each first layer, so that methods that reset silent units find one."""
    for layer in first_layers(case):
        agent.policy.get_parameter(f"{layer}.bias")[2] = -10.0


def go_on(agent: Any, case: str, steps: int = STEPS, seed: int = 0) -> Tiny:
    """Train on an environment and with random numbers that ``seed`` decides."""
    env = Tiny(case, seed)
    agent.set_env(env)
    agent.set_logger(Logger(None, []))
    agent.set_random_seed(seed)
    agent.learn(steps, reset_num_timesteps=False)
    return env


def attached(agent: Any) -> list[Method]:
    return [part for method in agent.methods.values() for part in parts(method)]


# The witness ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """A parameter at a moment."""

    weight: Tensor
    moments: list[Tensor]
    grad: Tensor | None
    learns: bool


Moment = dict[str, Entry]


@dataclass(frozen=True, eq=False)
class Act:
    """What a method did when it was called."""

    method: Method
    when: str
    before: Moment
    after: Moment

    def changed(self) -> dict[str, Tensor]:
        """A mask for every parameter with an entry that is another now."""
        masks = {name: self.before[name].weight != self.after[name].weight for name in self.before}
        return {name: mask for name, mask in masks.items() if mask.any()}

    def new_units(self, layer: str) -> Tensor:
        """A mask: the layer's units of whose incoming weights none is as before, or 0 since it led out of another."""
        before, after = (of[f"{layer}.weight"].weight.flatten(1) for of in (self.before, self.after))
        return ((before != after) | (after == 0)).all(1) & ((before != after) & (after != 0)).any(1)


def moment(agent: Any) -> Moment:
    """Every parameter of the policy, targets included, with what Adam keeps of it (nothing: zeros)."""
    return _moment(list(agent.policy.named_parameters()), list(agent.optimizers().values()))


def _moment(parameters: list[tuple[str, Tensor]], optimizers: list[torch.optim.Optimizer]) -> Moment:
    found = {}
    for name, p in parameters:
        kept = next((o.state[p] for o in optimizers if p in o.state), {})
        moments = [kept[k].clone() if k in kept else torch.zeros_like(p) for k in ("exp_avg", "exp_avg_sq")]
        found[name] = Entry(p.detach().clone(), moments, None if p.grad is None else p.grad.clone(), p.requires_grad)
    return found


def same(one: Moment, other: Moment) -> bool:
    """Weights and moments of the parameters that both have; injection's are there beside one's own."""
    own = [name for name in one if ".added." not in name and ".removed." not in name]
    assert own == [name for name in other if ".added." not in name and ".removed." not in name]
    return all(
        torch.equal(a, b)
        for name in own
        for a, b in zip([one[name].weight, *one[name].moments], [other[name].weight, *other[name].moments], strict=True)
    )


def watch(agent: Any, calls: tuple[str, ...] = ("after_step", "on_switch")) -> list[Act]:
    """From now on these calls of every method are noted."""
    acts: list[Act] = []
    parameters, optimizers = list(agent.policy.named_parameters()), list(agent.optimizers().values())

    def noted(method: Method, when: str, call: Callable[[], None]) -> Callable[[], None]:
        def wrapped() -> None:
            before = _moment(parameters, optimizers)
            call()
            acts.append(Act(method, when, before, _moment(parameters, optimizers)))

        return wrapped

    for method in attached(agent):
        for when in calls:
            setattr(method, when, noted(method, when, getattr(method, when)))
    return acts


@dataclass(frozen=True)
class Run:
    """What came of a short training."""

    agent: Any
    acts: list[Act]
    start: Moment
    end: Moment
    actions: list[Any]
    random: list[Any]

    @property
    def closed_form(self) -> bool:
        """Whether the updates were in closed form, which differ from others by rounding."""
        return bool(self.agent.updates == "closed form")


def run(case: str, reg: Method | None, watched: bool = False, closed_form: bool = True) -> Run:
    made = agent(case, reg, closed_form=closed_form)
    acts, start = watch(made) if watched else [], moment(made)
    env = go_on(made, case)
    return Run(made, acts, start, moment(made), env.actions, global_random_state())


@functools.cache
def plain(case: str, closed_form: bool) -> Run:
    """Without a method."""
    return run(case, None, closed_form=closed_form)


@functools.cache
def acting(case: str, name: str) -> Run:
    """With one that does something; not to be trained further."""
    return run(case, make(name), watched=True)
