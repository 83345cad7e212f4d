"""LayerNorm, CReLU and Fourier features: by hand, in actor and critic of every agent, saved, and refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from neoteny import configs
from neoteny.agents import DQN, PPO, SAC, DQNConfig, Network, PPOConfig, QPolicy, SACConfig
from neoteny.agents.networks import WIDENING, CReLU, Fourier, Torsos, rebuild_, torso


class Dots(gym.Env[np.ndarray[Any, Any], Any]):
    """Vectors or small pictures without meaning."""

    def __init__(self, actions: spaces.Space[Any], shape: tuple[int, ...] = (3,)):
        self.observation_space = spaces.Box(-1, 1, shape, np.float32)
        self.observation_space.seed(0)
        self.action_space = actions
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return self.observation_space.sample(), {}

    def step(self, _: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return self.observation_space.sample(), 1.0, self.steps % 5 == 0, False, {}


DISCRETE, BOX = spaces.Discrete(2), spaces.Box(-1, 1, (2,))
OFF_POLICY = {"learning_starts": 4, "batch_size": 4, "buffer_size": 50, "train_freq": 1}
AGENTS: dict[str, tuple[Any, Any, dict[str, Any], spaces.Space[Any]]] = {
    "ppo": (PPO, PPOConfig, {"num_envs": 1, "n_steps": 8, "batch_size": 8, "n_epochs": 1}, DISCRETE),
    "dqn": (DQN, DQNConfig, OFF_POLICY | {"target_update_interval": 1}, DISCRETE),
    "sac": (SAC, SACConfig, OFF_POLICY | {"tau": 1.0}, BOX),
}
#: What each agent's networks of a role are, inputs beside the features, and the output layers: inside, or after them.
NETWORKS: dict[str, dict[str, dict[str, tuple[int, list[str]]]]] = {
    "ppo": {
        "actor": {"mlp_extractor.policy_net": (0, ["action_net"])},
        "critic": {"mlp_extractor.value_net": (0, ["value_net"])},
    },
    "dqn": {"actor": {}, "critic": {name: (0, []) for name in ("q_net.q_net", "q_net_target.q_net")}},
    "sac": {
        "actor": {"actor.latent_pi": (0, ["actor.mu", "actor.log_std"])},
        "critic": {f"{c}.qf{i}": (2, []) for c in ("critic", "critic_target") for i in (0, 1)},
    },
}
WHERE = [(name, where) for name in AGENTS for where in (True, "actor", "critic") if (name, where) != ("dqn", "actor")]


def make(name: str, network: Network, shape: tuple[int, ...] = (3,), **more: Any) -> Any:
    cls, config, settings, actions = AGENTS[name]
    arguments = config(network=network, **settings).arguments()
    return cls(env=Dots(actions, shape), **arguments, seed=0, device="cpu", **more)


# By hand ----------------------------------------------------------------------------------------------------


def test_crelu_by_hand() -> None:
    assert CReLU()(torch.tensor([[-2.0, 3.0, 0.0]])).tolist() == [[0, 3, 0, 2, 0, 0]]
    assert CReLU()(torch.tensor([[[1.0], [-1.0]]])).tolist() == [[[1, 0], [0, 1]]]


def test_fourier_by_hand() -> None:
    features = Fourier()(torch.tensor([[0.0, math.pi / 2, math.pi / 6]]))
    torch.testing.assert_close(features, torch.tensor([[0.0, 1.0, 0.5, 1.0, 0.0, 0.75**0.5]]), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("activation", "layer_norm", "expected"),
    [
        (CReLU, False, [0.5, 0.0, 0.0, 1.0]),
        (CReLU, True, [1.0, 0.0, 0.0, 1.0]),
        (Fourier, False, [math.sin(0.5), math.sin(-1), math.cos(0.5), math.cos(1)]),
        (Fourier, True, [math.sin(1), math.sin(-1), math.cos(1), math.cos(1)]),
    ],
)
def test_a_torso_by_hand(activation: type[nn.Module], layer_norm: bool, expected: list[float]) -> None:
    """z = (½, −1) of input 1; normalized, (1, −1)."""
    network = torso(1, [4], activation, layer_norm)
    linear = network[0]
    assert isinstance(linear, nn.Linear)
    linear.weight.data.copy_(torch.tensor([[0.5], [-1.0]]))
    linear.bias.data.zero_()
    torch.testing.assert_close(network(torch.ones(1, 1))[0], torch.tensor(expected), atol=1e-4, rtol=0)
    assert [type(layer) for layer in network] == [nn.Linear, *([nn.LayerNorm] if layer_norm else []), activation]


def test_a_width_is_what_the_next_layer_receives_and_half_the_parameters_remain() -> None:
    def count(network: nn.Module) -> int:
        return sum(p.numel() for p in network.parameters())

    wide, plain = torso(10, [64, 32], CReLU, False), torso(10, [64, 32], nn.ReLU, False)
    assert [p.shape for p in wide.parameters() if p.ndim == 2] == [(32, 10), (16, 64)]
    assert 2 * count(wide) == count(plain) == 64 * 11 + 32 * 65
    assert wide(torch.zeros(5, 10)).shape == plain(torch.zeros(5, 10)).shape == (5, 32)
    torsos = Torsos(10, {"pi": [64, 32], "vf": []}, (CReLU, False), (CReLU, False))  # type: ignore[arg-type]
    assert (torsos.latent_dim_pi, torsos.latent_dim_vf) == (32, 10)


def test_rebuilding_what_is_right_already_changes_and_draws_nothing() -> None:
    mlp = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
    layers, state = list(mlp), torch.get_rng_state()
    rebuild_(mlp, nn.Tanh, layer_norm=False)
    assert [mlp[0], mlp[2]] == [layers[0], layers[2]]
    assert [type(layer) for layer in mlp] == [nn.Linear, nn.Tanh, nn.Linear]
    rebuild_(mlp, nn.Tanh, layer_norm=True)
    assert [mlp[0], mlp[3]] == [layers[0], layers[2]]
    assert torch.equal(torch.get_rng_state(), state)
    rebuild_(mlp, CReLU, layer_norm=False)
    assert mlp[2] is layers[2]
    assert [mlp[0].out_features, mlp[2].in_features] == [4, 8]


# In the agents ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("part", WIDENING)
@pytest.mark.parametrize(("name", "where"), WHERE, ids=str)
def test_every_layer_of_every_network(name: str, where: Any, part: str, layer_norm: bool) -> None:
    network = Network(hidden=(8, 6), activation="tanh", layer_norm=where if layer_norm else False, **{part: where})
    policy = make(name, network).policy
    for role, networks in NETWORKS[name].items():
        here = where in (True, role)
        block = [nn.Linear, *([nn.LayerNorm] if layer_norm and here else []), WIDENING[part] if here else nn.Tanh]
        halves = 2 if here else 1
        for where_it_is, (more, outputs) in networks.items():
            layers = list(policy.get_submodule(where_it_is))
            assert [type(layer) for layer in layers] == [*block * 2, *([] if outputs else [nn.Linear])], where_it_is
            linears = [layer for layer in layers if isinstance(layer, nn.Linear)]
            linears += [policy.get_submodule(output) for output in outputs]
            shapes = [(layer.in_features, layer.out_features) for layer in linears]
            assert shapes[:2] == [(3 + more, 8 // halves), (8, 6 // halves)], where_it_is
            assert all(inputs == 6 for inputs, _ in shapes[2:]), where_it_is
            norms = [layer.normalized_shape for layer in layers if isinstance(layer, nn.LayerNorm)]
            assert norms == ([(8 // halves,), (6 // halves,)] if layer_norm and here else [])


def test_one_in_the_actor_and_another_in_the_critic() -> None:
    policy = make("sac", Network(hidden=(8,), crelu="actor", fourier="critic", layer_norm="critic")).policy
    assert [type(layer) for layer in policy.actor.latent_pi] == [nn.Linear, CReLU]
    for critic in (policy.critic, policy.critic_target):
        assert [type(layer) for layer in critic.qf1] == [nn.Linear, nn.LayerNorm, Fourier, nn.Linear]
        assert critic.q_networks[1] is critic.qf1


def stack(agent: Any) -> Tensor:
    return torch.cat([p.detach().flatten() for p in agent.policy.parameters()])


@pytest.mark.parametrize("shape", [(3,), (5, 5, 2)], ids=["vector", "picture"])
@pytest.mark.parametrize("part", WIDENING)
@pytest.mark.parametrize("name", AGENTS)
def test_learns_and_is_saved_and_loaded(name: str, part: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    """Every parameter that is trained moves, target networks follow; a loaded agent predicts the same and learns on."""
    agent = make(name, Network(hidden=(8, 8), layer_norm=True, **{part: True}), shape)
    before = {key: p.detach().clone() for key, p in agent.policy.named_parameters()}
    agent.learn(16)
    still = [key for key, p in agent.policy.named_parameters() if torch.equal(p, before[key])]
    assert [key for key in still if "_target" not in key and key != "log_std"] == []
    for online, target in (("q_net", "q_net_target"), ("critic", "critic_target")):
        if hasattr(agent.policy, online):
            states = [getattr(agent.policy, n).state_dict() for n in (online, target)]
            assert [(key, t.shape) for key, t in states[0].items()] == [(key, t.shape) for key, t in states[1].items()]
            assert any(key.startswith(online) for key in before)
            assert not any(key.startswith(f"{target}.") for key in still)  # it follows
    agent.save(tmp_path / "agent")
    env = Dots(AGENTS[name][3], shape)
    loaded = AGENTS[name][0].load(tmp_path / "agent", env=env, device="cpu")
    observations = np.stack([env.observation_space.sample() for _ in range(9)])
    predictions = [a.predict(observations, deterministic=True)[0] for a in (agent, loaded)]
    assert (predictions[0] == predictions[1]).all()
    assert [type(m) for m in loaded.policy.modules()] == [type(m) for m in agent.policy.modules()]
    now = stack(loaded)
    assert torch.equal(now, stack(agent))
    loaded.learn(16, reset_num_timesteps=False)
    assert not torch.equal(stack(loaded), now)


@pytest.mark.parametrize("name", AGENTS)
def test_no_hidden_layers_at_all(name: str) -> None:
    agent = make(name, Network(hidden=(), crelu=True))
    assert not any(isinstance(module, CReLU) for module in agent.policy.modules())
    agent.learn(8)


# Settings and refusals --------------------------------------------------------------------------------------


def test_the_default_asks_a_policy_for_nothing_of_this() -> None:
    assert not {"layer_norm", "crelu", "fourier"} & Network().policy_kwargs().keys()
    kwargs = Network(crelu="critic", layer_norm=True).policy_kwargs()
    assert {key: kwargs[key] for key in ("layer_norm", "crelu")} == {"layer_norm": True, "crelu": "critic"}


@pytest.mark.parametrize("name", ["layer-norm", "crelu", "fourier"])
def test_presets(name: str) -> None:
    _, settings = configs.load("regs", name)
    assert list(settings) == ["network"]
    assert configs.build(Network, settings["network"], "agent.network").parts == {name.replace("-", "_"): True}


REFUSED = [
    (PPOConfig, {"crelu": True, "fourier": True}, r"agent\.network: fourier: a network has one activation, got"),
    (PPOConfig, {"crelu": "actor", "fourier": True}, "got fourier True and crelu 'actor'"),
    (SACConfig, {"crelu": "critic", "fourier": "critic"}, "a network has one activation"),
    (PPOConfig, {"crelu": True, "hidden": [8, 5]}, "hidden: CReLU gives 2 features per unit, so no width of 5"),
    (PPOConfig, {"fourier": "critic", "hidden": [7]}, "hidden: Fourier gives 2 features per unit, so no width of 7"),
    (PPOConfig, {"crelu": "actr"}, r"agent\.network\.crelu: .*'actor' or 'critic', got 'actr'"),
    (DQNConfig, {"crelu": "actor"}, r"agent\.network: crelu: this agent has no networks of role 'actor'; choose true"),
    (DQNConfig, {"layer_norm": "actor"}, "layer_norm: this agent has no networks of role 'actor'"),
]


@pytest.mark.parametrize(("config", "network", "message"), REFUSED, ids=str)
def test_refusals(config: type, network: dict[str, Any], message: str) -> None:
    with pytest.raises(configs.ConfigError, match=message):
        configs.build(config, {"network": network}, "agent")


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"fourier": "actor"}, "fourier: this agent has no networks of role 'actor'"),
        ({"fourier": "critics"}, "fourier: this agent has no networks of role 'critics'"),
        ({"fourier": True, "crelu": "critic"}, "a network has one activation"),
        ({"crelu": True, "net_arch": [5]}, "so no width of 5"),
    ],
    ids=str,
)
def test_policies_refuse_on_their_own(network: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        QPolicy(spaces.Box(-1, 1, (3,)), DISCRETE, lambda _: 1e-3, **network)


@pytest.mark.parametrize(("one", "other"), [("actor", "critic"), ("critic", "actor"), (False, True), (True, False)])
def test_what_does_not_overlap_is_allowed(one: Any, other: Any) -> None:
    assert Network(crelu=one, fourier=other).hidden == (64, 64)
