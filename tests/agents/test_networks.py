"""The one-hot encoder, to the value, and the actor-critic policy around it."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from agent_zoo import difference
from gymnasium import spaces
from torch import Tensor, nn

from neoteny.agents import PPO, Network, OneHot, PPOConfig
from neoteny.agents.networks import ACTIVATIONS
from neoteny.envs import ContinualVecEnv, Task, TaskSequence

EMPTY = TaskSequence(tasks=(Task("MiniGrid-Empty-5x5-v0", 1000),))


class Constant(gym.Env[np.ndarray[Any, Any], int]):
    """Shows one observation for ever."""

    action_space = spaces.Discrete(3)

    def __init__(self, space: spaces.Box, value: Any):
        self.observation_space = space
        self.value = np.full(space.shape, value, space.dtype)

    def reset(self, **_: Any) -> tuple[Any, dict[str, Any]]:
        return self.value.copy(), {}

    def step(self, _: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.value.copy(), 0.0, False, False, {}


def make(env: Any, network: Network = Network(hidden=(8, 8)), **more: Any) -> PPO:  # noqa: B008
    settings = PPOConfig(n_steps=16, batch_size=16, n_epochs=1, network=network).arguments()
    return PPO(env=env, **settings, seed=0, device="cpu", **more)


# One-hot ----------------------------------------------------------------------------------------------------


def test_one_hot_of_a_tiny_box_by_hand() -> None:
    """Entries in {0, 1, 2}, {−1, 0} and {5}: 3 + 2 + 1 features."""
    encoder = OneHot(spaces.Box(np.array([0, -1, 5]), np.array([2, 0, 5]), dtype=np.int16))
    encoded = encoder(torch.tensor([[0, -1, 5], [2, 0, 5]], dtype=torch.int16))
    assert encoded.tolist() == [[1, 0, 0, 1, 0, 1], [0, 0, 1, 0, 1, 1]]
    assert encoded.dtype == torch.float32
    assert encoder.features_dim == 6
    assert list(encoder.parameters()) == []
    assert encoder.state_dict() == {}


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32])  # stable-baselines3 gives it floats
@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(0, 255, (2, 3), np.uint8),
        spaces.Box(0, 9, (4,), np.int64),
        spaces.Box(np.zeros((2, 2, 3)), np.tile([10, 5, 2], (2, 2, 1)), dtype=np.uint8),
    ],
    ids=str,
)
def test_one_hot_agrees_with_torch(space: spaces.Box, dtype: torch.dtype) -> None:
    space.seed(0)
    batch = torch.from_numpy(np.stack([space.sample() for _ in range(20)]))
    sizes = (space.high.astype(int) + 1).reshape(-1).tolist()
    columns = batch.flatten(1).long().unbind(1)
    expected = torch.cat([nn.functional.one_hot(c, n) for c, n in zip(columns, sizes, strict=True)], 1)
    torch.testing.assert_close(OneHot(space)(batch.to(dtype)), expected.float(), rtol=0, atol=0)


def test_a_minigrid_image_is_980_features_with_147_ones() -> None:
    env = ContinualVecEnv(EMPTY, 4)
    encoder = OneHot(env.observation_space)
    encoded = encoder(torch.from_numpy(env.reset()))
    env.close()
    assert encoder.features_dim == 980
    assert encoded.shape == (4, 980)
    assert set(encoded.unique().tolist()) == {0.0, 1.0}
    assert (encoded.sum(1) == 147).all()
    assert (encoded.view(4, 49, 20).split([11, 6, 3], 2)[0].sum(2) == 1).all()  # one object in every cell


WIDTHS = [
    (0, 10, np.uint8),
    (-3, 4, np.int64),
    (0, 40, np.int32),
    (0, 63, np.uint8),
    (0, 255, np.uint8),
    (-100, 100, np.int8),
]


@pytest.mark.parametrize("batch", [1, 200])
@pytest.mark.parametrize(("low", "high", "dtype"), WIDTHS)
def test_compact_encoding_has_the_features_that_are_somewhere_set(low: int, high: int, dtype: Any, batch: int) -> None:
    """Whatever the number of values that an entry can have: up to 16, up to 64, more."""
    encoder = OneHot(spaces.Box(low, high, (5, 2), dtype))
    seen = torch.from_numpy(np.random.default_rng(0).integers(low, high + 1, (batch, 5, 2)).astype(dtype))
    whole = encoder(seen)
    for observations in (seen, seen.float()):
        features, columns = encoder.compact(observations)
        assert columns.tolist() == whole.any(0).nonzero()[:, 0].tolist()
        assert torch.equal(features, whole[:, columns])


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(0, 1, (4,), np.float32),
        spaces.Discrete(4),
        spaces.Dict({"a": spaces.Box(0, 1, (4,), np.uint8)}),
        spaces.Box(0, 255, (84, 84, 4), np.uint8),
        spaces.Box(np.iinfo(np.int64).min, np.iinfo(np.int64).max, (2,), np.int64),
        spaces.Box(0, np.iinfo(np.uint64).max, (2,), np.uint64),
    ],
    ids=str,
)
def test_one_hot_refuses_what_is_no_box_of_small_integers(space: spaces.Space[Any]) -> None:
    with pytest.raises(ValueError, match="needs a Box of small integers, got"):
        OneHot(space)


@pytest.mark.parametrize(("high", "fits"), [(2**15 - 1, True), (2**15, False)])
def test_one_hot_stops_at_65536_features(high: int, fits: bool) -> None:
    env = Constant(spaces.Box(0, high, (2,), np.int64), 3)
    assert isinstance(make(env).policy.features_extractor, OneHot) == fits


# The policy -------------------------------------------------------------------------------------------------


def test_minigrid_stays_uint8_up_to_the_network() -> None:
    """From the environment through the rollout buffer; and what the network then sees is that image's one-hot."""
    env = ContinualVecEnv(EMPTY, 2)
    agent = make(env)
    agent.learn(32)
    stored = agent.rollout_buffer.observations
    assert (stored.dtype, stored.shape[-3:]) == (np.uint8, (7, 7, 3))
    seen: list[Tensor] = []
    agent.policy.mlp_extractor.policy_net[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    image = env.reset()
    agent.predict(image)
    env.close()
    assert image.dtype == np.uint8
    assert torch.equal(seen[0], OneHot(env.observation_space)(torch.from_numpy(image)))


@pytest.mark.parametrize("shape", [(6,), (7, 7, 3)])
def test_indices_are_not_scaled_like_pixels(shape: tuple[int, ...]) -> None:
    """A uint8 Box of (7, 7, 3) bounded by 0 and 255 is a picture to stable-baselines3, which divides those."""
    agent = make(Constant(spaces.Box(0, 255, shape, np.uint8), 7))
    observation = agent.env.reset()
    features = agent.policy.extract_features(torch.from_numpy(observation))
    assert (features.view(-1, 256).argmax(1) == 7).all()


def test_float_observations_are_flattened() -> None:
    agent = make(Constant(spaces.Box(-1, 1, (2, 3)), 0.25))
    features = agent.policy.extract_features(torch.full((1, 2, 3), 0.25))
    assert features.tolist() == [[0.25] * 6]


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_torso_is_linear_norm_activation_once_per_width(name: str, layer_norm: bool) -> None:
    agent = make("CartPole-v1", Network(hidden=(8, 5), activation=name, layer_norm=layer_norm))
    expected = {"relu": nn.ReLU, "tanh": nn.Tanh, "elu": nn.ELU, "gelu": nn.GELU}.get(name, nn.LeakyReLU)
    block = [nn.Linear, nn.LayerNorm, expected] if layer_norm else [nn.Linear, expected]
    for torso in (agent.policy.mlp_extractor.policy_net, agent.policy.mlp_extractor.value_net):
        assert len(torso) == 2 * len(block)
        assert all(isinstance(layer, kind) for layer, kind in zip(torso, block * 2, strict=True))
        assert [layer.weight.shape for layer in torso if isinstance(layer, nn.Linear)] == [(8, 4), (5, 8)]
        norms = [layer.normalized_shape for layer in torso if isinstance(layer, nn.LayerNorm)]
        assert norms == ([(8,), (5,)] if layer_norm else [])
    assert agent.policy.action_net.in_features == agent.policy.value_net.in_features == 5


def test_actor_and_critic_share_no_parameter() -> None:
    """The actor's outputs depend on the one half of the parameters, the critic's on the other."""
    env = ContinualVecEnv(EMPTY, 1)
    policy = make(env, Network(hidden=(8, 8), layer_norm=True)).policy
    image = torch.from_numpy(env.reset())
    env.close()
    parameters = list(policy.parameters())

    def reached(output: Tensor) -> list[bool]:
        gradients = torch.autograd.grad(output.sum(), parameters, allow_unused=True)
        return [gradient is not None for gradient in gradients]

    actor = reached(policy.get_distribution(image).distribution.logits)
    critic = reached(policy.predict_values(image))
    assert [a + c for a, c in zip(actor, critic, strict=True)] == [1] * len(parameters)
    assert sum(actor) == sum(critic) == 10  # two hidden layers with their norms, and a head: weight and bias of each


def test_with_stock_settings_it_is_stable_baselines3s_network() -> None:
    """Same modules in the same order, so the same seed draws the same weights."""
    policy = {"net_arch": [8, 8], "activation_fn": nn.ReLU}
    ours = make("CartPole-v1").policy
    theirs = sb3.PPO("MlpPolicy", "CartPole-v1", policy_kwargs=policy, seed=0, device="cpu").policy
    assert difference(ours.state_dict(), theirs.state_dict()) is None


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"hidden": (0,)}, "hidden"),
        ({"activation": "relus"}, "activation"),
        ({"width": 3}, "width"),
    ],
    ids=str,
)
def test_a_network_that_cannot_be_is_refused(network: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Network(**network)


def test_every_setting_reaches_stable_baselines3() -> None:
    """By name; those that become schedules or torsos are looked at by value."""
    config = PPOConfig(
        learning_rate=0.125, n_steps=48, batch_size=24, n_epochs=3, gamma=0.5, gae_lambda=0.25, clip_range=0.375,
        ent_coef=0.75, vf_coef=0.0625, max_grad_norm=0.875, target_kl=0.625, network=Network(hidden=(7,)),
    )  # fmt: skip
    agent = PPO(env="CartPole-v1", **config.arguments(), device="cpu")
    for name in (
        "learning_rate",
        "n_steps",
        "batch_size",
        "n_epochs",
        "gamma",
        "gae_lambda",
        "ent_coef",
        "vf_coef",
    ):
        assert getattr(agent, name) == getattr(config, name), name
    assert (agent.max_grad_norm, agent.target_kl, agent.clip_range(1.0)) == (0.875, 0.625, 0.375)
    assert agent.policy.mlp_extractor.latent_dim_pi == 7
