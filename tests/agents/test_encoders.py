"""Encoders: which one an observation gets, what the small convolution computes, and a user's own."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gymnasium import spaces
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor, NatureCNN
from torch import Tensor, nn

from neoteny import configs
from neoteny.agents import DQN, PPO, SAC, DQNConfig, Network, OneHot, PPOConfig, SACConfig, SmallCNN, encoder_for
from neoteny.agents.encoders import ImpalaCNN
from neoteny.agents.networks import LeakyReLU01, rebuild_
from neoteny.plasticity import L2

CELLS = spaces.Box(np.zeros((7, 7, 3)), np.tile([10, 5, 2], (7, 7, 1)), dtype=np.uint8)


class Planes(gym.Env[np.ndarray[Any, Any], Any]):
    """Pictures of 10×10 cells, of so many planes."""

    def __init__(self, actions: spaces.Space[Any], planes: int = 4, dtype: Any = bool):
        self.observation_space = spaces.Box(0, 1, (10, 10, planes), dtype)
        self.action_space = actions

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return self.observation_space.sample(), {}

    def step(self, _: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), 1.0, False, False, {}


# Which one --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (CELLS, OneHot),
        (spaces.Box(0, 255, (7, 7, 3), np.uint8), OneHot),
        (spaces.Box(0, 9, (4,), np.int64), OneHot),
        (spaces.Box(0, 1, (6,), np.int8), OneHot),
        (spaces.Box(0, 1, (10, 10, 4), bool), SmallCNN),
        (spaces.Box(0, 1, (10, 10, 10), np.uint8), SmallCNN),
        (spaces.Box(0, 1, (10, 10, 7), np.float32), SmallCNN),
        (spaces.Box(0, 1, (2, 2, 3), np.uint8), OneHot),
        (spaces.Box(0, 255, (20, 20, 3), np.uint8), SmallCNN),
        (spaces.Box(0, 255, (3, 35, 35), np.uint8), SmallCNN),
        (spaces.Box(0, 255, (3, 36, 36), np.uint8), NatureCNN),
        (spaces.Box(0, 255, (4, 84, 84), np.uint8), NatureCNN),
        (spaces.Box(-1, 1, (3,)), FlattenExtractor),
        (spaces.Box(0, 1, (4,), bool), FlattenExtractor),
        (spaces.Box(-1, 1, (5, 5)), FlattenExtractor),
        (spaces.Box(-1, 1, (1, 2, 3)), FlattenExtractor),
        (spaces.Discrete(4), FlattenExtractor),
        (spaces.Dict({"a": spaces.Discrete(2)}), CombinedExtractor),
    ],
    ids=str,
)
def test_an_observation_gets_the_encoder_that_suits_it(space: spaces.Space[Any], expected: type) -> None:
    assert encoder_for(space) is expected


AGENTS = {
    "ppo": (PPO, PPOConfig(n_steps=8, batch_size=8, n_epochs=1), spaces.Discrete(3), ["features_extractor"]),
    "dqn": (DQN, DQNConfig(learning_starts=4), spaces.Discrete(3), ["q_net", "q_net_target"]),
    "sac": (SAC, SACConfig(learning_starts=4), spaces.Box(-1, 1, (2,)), ["actor", "critic", "critic_target"]),
}


@pytest.mark.parametrize("name", AGENTS)
def test_every_agent_convolves_small_pictures(name: str) -> None:
    cls, config, actions, holders = AGENTS[name]
    agent = cls(env=Planes(actions), **config.arguments(), seed=0, device="cpu")
    for holder in holders:
        part = getattr(agent.policy, holder)
        assert isinstance(getattr(part, "features_extractor", part), SmallCNN)
    weight = agent.policy.get_parameter(f"{holders[0]}{'' if name == 'ppo' else '.features_extractor'}.cnn.0.weight")
    before = weight.detach().clone()
    agent.learn(16)
    assert not torch.equal(before, weight)  # it is trained


# The small convolution --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(10, 10, 4), (4, 10, 10), (3, 3, 1)], ids=str)
def test_the_small_convolution_by_hand(shape: tuple[int, ...]) -> None:
    """Sixteen sums over windows of 3×3 cells and all planes, and nothing below zero."""
    encoder = SmallCNN(spaces.Box(0, 1, shape, np.float32))
    first = shape[0] < shape[2]
    picture = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    planes = picture if first else picture.permute(0, 3, 1, 2)
    conv = encoder.cnn[0]
    assert isinstance(conv, nn.Conv2d)
    side = planes.shape[2] - 2
    expected = torch.zeros(2, 16, side, side)
    for y in range(side):
        for x in range(side):
            window = planes[:, :, y : y + 3, x : x + 3]
            expected[:, :, y, x] = torch.einsum("bchw,ochw->bo", window, conv.weight) + conv.bias
    torch.testing.assert_close(encoder(picture), expected.clamp(min=0).flatten(1))
    assert encoder.features_dim == 16 * side * side


@pytest.mark.parametrize("space", [spaces.Box(0, 1, (2, 2, 1)), spaces.Box(0, 1, (9,)), spaces.Discrete(3)], ids=str)
def test_the_small_convolution_refuses_what_it_cannot_see(space: spaces.Space[Any]) -> None:
    with pytest.raises(ValueError, match="small-cnn needs a Box of at least 3 x 3 cells"):
        SmallCNN(space)


# IMPALA's residual network ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(64, 64, 3), (3, 64, 64), (4, 36, 50)], ids=str)
def test_impala_by_its_equations(shape: tuple[int, ...]) -> None:
    """With torch's functions and the encoder's weights, in the order in which the paper's figure has them."""
    encoder = ImpalaCNN(spaces.Box(0, 1, shape, np.float32))
    weights = iter([p.detach() for p in encoder.parameters()])
    picture = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    x = picture if shape[0] < shape[2] else picture.permute(0, 3, 1, 2)
    for channels in (16, 32, 32):
        x = F.max_pool2d(F.conv2d(x, next(weights), next(weights), padding=1), 3, 2, 1)
        assert x.shape[1] == channels
        for _ in range(2):
            inner = F.conv2d(x.clamp(min=0), next(weights), next(weights), padding=1)
            x = x + F.conv2d(inner.clamp(min=0), next(weights), next(weights), padding=1)
    expected = F.linear(x.clamp(min=0).flatten(1), next(weights), next(weights)).clamp(min=0)
    assert next(weights, None) is None
    assert encoder.features_dim == 256
    torch.testing.assert_close(encoder(picture), expected)


def test_impala_has_the_weights_of_the_published_network() -> None:
    """97,600 in its fifteen convolutions and 2048 · 256 + 256 in the layer after them, for Procgen's pictures."""
    encoder = ImpalaCNN(spaces.Box(0, 255, (3, 64, 64), np.uint8))
    assert sum(p.numel() for p in encoder.parameters()) == 97_600 + 524_544


@pytest.mark.parametrize("space", [spaces.Box(0, 1, (9,)), spaces.Box(0, 1, (8, 8)), spaces.Discrete(3)], ids=str)
def test_impala_refuses_what_is_no_picture(space: spaces.Space[Any]) -> None:
    with pytest.raises(ValueError, match="impala-cnn needs a Box of pixels"):
        ImpalaCNN(space)


def test_procgens_agent_sees_pixels_between_0_and_1() -> None:
    _, settings = configs.load("agents", "ppo-procgen")
    config = configs.build(PPOConfig, {k: v for k, v in settings.items() if k != "algorithm"}, "agent")
    assert config.num_envs * config.n_steps == 8 * config.batch_size
    env = FakeImageEnv(screen_height=64, screen_width=64, n_channels=3)
    agent = PPO(env=env, **config.arguments(), device="cpu", seed=0)
    encoder = agent.policy.features_extractor
    assert isinstance(encoder, ImpalaCNN)
    seen: list[Tensor] = []
    encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    agent.predict(np.full((64, 64, 3), 255, np.uint8))
    assert (seen[0] == 1).all()


# Pictures, roles --------------------------------------------------------------------------------------------


def test_pictures_go_through_nature_cnn_and_a_shared_encoder_is_the_actors() -> None:
    env = FakeImageEnv(screen_height=36, screen_width=36, n_channels=3)
    network = Network(hidden=())
    for cls, config, roles in (
        (PPO, PPOConfig(network=network, n_steps=8, batch_size=8), {"features_extractor": "actor"}),
        (DQN, DQNConfig(network=network), {"q_net.features_extractor": "critic"}),
    ):
        agent = cls(env=env, **config.arguments(), device="cpu", reg={"critic": L2(heads="include")})
        for name, role in roles.items():
            extractor = agent.policy.get_submodule(name)
            assert isinstance(extractor, NatureCNN)
            assert agent.role(f"{name}.cnn.0") == role
            held = {layer.name for layer in agent.methods["critic"].layers}
            assert (f"{name}.cnn.0" in held) == (role == "critic")
        assert agent.policy.normalize_images is True


def test_actor_and_critic_of_sac_have_an_encoder_each() -> None:
    config = SACConfig(network=Network(hidden=(8,)))
    reg = {"actor": L2(heads="include"), "critic": L2(heads="include")}
    agent = SAC(env=Planes(spaces.Box(-1, 1, (2,))), **config.arguments(), device="cpu", reg=reg)
    names = {key: {layer.name for layer in method.layers} for key, method in agent.methods.items()}
    assert "actor.features_extractor.cnn.0" in names["actor.actor"]
    assert "critic.features_extractor.cnn.0" in names["critic.critic"]
    assert not names["actor.actor"] & names["critic.critic"]


# Settings ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", AGENTS)
def test_hidden_layers_are_as_said(name: str) -> None:
    """Widths, activation and norm, in all three agents; no norm after an output."""
    cls, _, actions, _ = AGENTS[name]
    network = Network(hidden=(8, 5), activation="leaky-relu-0.1", layer_norm=True)
    env = Planes(actions, dtype=np.float32)
    policy = cls(env=env, **cls.Config(network=network).arguments(), device="cpu").policy  # type: ignore[attr-defined]
    hidden = [nn.Linear, nn.LayerNorm, LeakyReLU01] * 2
    expected = {
        "ppo": {"mlp_extractor.policy_net": hidden, "mlp_extractor.value_net": hidden},
        "dqn": {"q_net.q_net": [*hidden, nn.Linear], "q_net_target.q_net": [*hidden, nn.Linear]},
        "sac": {"actor.latent_pi": hidden}
        | {f"{critic}.qf{i}": [*hidden, nn.Linear] for critic in ("critic", "critic_target") for i in range(2)},
    }[name]
    for where, layers in expected.items():
        part = policy.get_submodule(where)
        assert [type(layer) for layer in part] == layers, where
        assert [layer.out_features for layer in part if isinstance(layer, nn.Linear)][:2] == [8, 5]
        norms = [layer.normalized_shape for layer in part if isinstance(layer, nn.LayerNorm)]
        assert norms == [(8,), (5,)]
    optimizers = [module.optimizer for module in policy.modules() if hasattr(module, "optimizer")]
    trained = {id(p) for o in optimizers for group in o.param_groups for p in group["params"]}
    norms = [m for n, m in policy.named_modules() if isinstance(m, nn.LayerNorm) and "_target" not in n]
    assert norms
    assert all(id(norm.weight) in trained for norm in norms)  # type: ignore[attr-defined]


def test_a_slope_of_a_tenth() -> None:
    assert LeakyReLU01()(torch.tensor([-2.0, 3.0])).tolist() == pytest.approx([-0.2, 3.0])


def test_an_output_layer_gets_no_norm() -> None:
    for sizes, expected in (([2, 3], [nn.Linear]), ([2, 3, 1], [nn.Linear, nn.LayerNorm, nn.ReLU, nn.Linear])):
        layers = [m for i, o in itertools.pairwise(sizes) for m in (nn.Linear(i, o), nn.ReLU())]
        mlp = nn.Sequential(*layers[:-1])
        rebuild_(mlp, nn.ReLU, layer_norm=True)
        assert [type(m) for m in mlp] == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [("flatten", FlattenExtractor), ("one-hot", OneHot), ("small-cnn", SmallCNN), ("impala-cnn", ImpalaCNN)],
)
def test_an_encoder_may_be_named(name: str, expected: type) -> None:
    config = PPOConfig(network=Network(encoder=name))
    agent = PPO(env=Planes(spaces.Discrete(2), dtype=np.uint8), **config.arguments(), device="cpu")
    assert type(agent.policy.features_extractor) is expected


OWN = """
import torch
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

class Mean(BaseFeaturesExtractor):
    def __init__(self, observation_space):
        super().__init__(observation_space, features_dim=1)

    def forward(self, observations):
        return observations.flatten(1).mean(1, keepdim=True)

thing = 3
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_networks.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "own_networks", None)  # so that it is forgotten afterwards
    del sys.modules["own_networks"]
    return "own_networks"


def test_an_encoder_of_ones_own(own: str, tmp_path: Path) -> None:
    config = configs.build(DQNConfig, {"network": {"encoder": f"{own}:Mean"}}, "agent")
    env = Planes(spaces.Discrete(2), dtype=np.float32)
    agent = DQN(env=env, **config.arguments(), device="cpu")
    features: Tensor = agent.q_net.features_extractor(torch.full((1, 10, 10, 4), 0.25))
    assert features.tolist() == [[0.25]]
    agent.save(tmp_path / "agent")
    assert type(DQN.load(tmp_path / "agent").q_net.features_extractor).__name__ == "Mean"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nature", r"agent\.network\.encoder: 'nature' is not known; choose from auto, .*did you mean 'nature-cnn'\?"),
        ("own_networks:Nobody", r"agent\.network\.encoder: 'own_networks:Nobody' cannot be imported"),
        ("own_networks:thing", r"agent\.network\.encoder: 'own_networks:thing' is no subclass of"),
        ("not_there:Mean", r"agent\.network\.encoder: 'not_there:Mean' cannot be imported"),
    ],
)
def test_an_encoder_that_is_not_there_is_named(own: str, name: str, message: str) -> None:
    with pytest.raises(configs.ConfigError, match=message):
        configs.build(PPOConfig, {"network": {"encoder": name}}, "agent")
