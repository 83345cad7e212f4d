"""Networks that the methods were not written for, each with the names of the matrices that ``spectral`` acts on."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import gymnasium as gym
import torch
from stable_baselines3.common.torch_layers import NatureCNN
from torch import Tensor, nn

Data = Callable[[torch.Generator], Tensor]


@dataclass(frozen=True)
class Case:
    """A network.

    Attributes:
        make: makes it.
        data: draws a batch of inputs.
        acted_on: the names of the layers acted on, in order.
        heads: those of its output heads.
        others: parameters of matrix shape that belong to no layer.
    """

    make: Callable[[], nn.Module]
    data: Data
    acted_on: list[str]
    heads: list[str]
    others: tuple[str, ...] = ()


def normal(*shape: int) -> Data:
    return lambda generator: torch.randn(*shape, generator=generator)


def words(*shape: int, number: int) -> Data:
    return lambda generator: torch.randint(number, shape, generator=generator)


def mlp(*widths: int, end: nn.Module | None = None) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1], *([end] if end is not None else []))


class ActorCritic(nn.Module):
    """Encoder, actor and critic, registered in any order."""

    def __init__(self, order: tuple[str, ...], **parts: nn.Module):
        super().__init__()
        for name in order:
            self.add_module(name, parts[name])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.encoder(x) if hasattr(self, "encoder") else x
        return self.actor(features), self.critic(features)


class Plain(nn.Module):
    """Linear layers as attributes, the head registered before them."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(16, 3)
        self.first, self.second = nn.Linear(5, 16), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(x).relu()).relu())


def actor_critic(order: tuple[str, ...]) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        parts = {"encoder": mlp(6, 16), "actor": mlp(16, 16, 6), "critic": mlp(16, 16, 1)}
        return ActorCritic(order, **parts)

    return make


class World(nn.Module):
    """A dynamics head that predicts the next state, which a reward network takes."""

    def __init__(self) -> None:
        super().__init__()
        self.torso, self.dynamics, self.reward = mlp(4, 16, 16, end=nn.ReLU()), nn.Linear(16, 4), mlp(4, 16, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        state = self.dynamics(self.torso(x))
        return state, self.reward(state)


class Pixels(nn.Module):
    """A convolutional policy head of two channels beside a value head of 64 inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.torso = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())
        self.policy, self.value = nn.Conv2d(4, 2, 1), nn.Linear(64, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.torso(x)
        return self.policy(features), self.value(features.flatten(1))


def nature_cnn() -> nn.Module:
    space = gym.spaces.Box(0, 255, (4, 36, 36), dtype="uint8")  # type: ignore[arg-type]
    return nn.Sequential(NatureCNN(space, features_dim=32), nn.Linear(32, 6))


class Block(nn.Module):
    """ResNet's basic block."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.down = nn.Sequential()
        if stride > 1:
            self.down = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm1(self.conv1(x)).relu()
        return (self.norm2(self.conv2(inner)) + self.down(x)).relu()


class ResNet18(nn.Module):
    """He et al., 2016, with an eighth of the channels."""

    def __init__(self, width: int = 8, classes: int = 10):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.stages = nn.ModuleList()
        inputs = width
        for i in range(4):
            outputs = width * 2**i
            self.stages.append(nn.Sequential(Block(inputs, outputs, 1 + (i > 0)), Block(outputs, outputs, 1)))
            inputs = outputs
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return self.fc(self.pool(x).flatten(1))


RESNET = ["stem.0"] + [
    f"stages.{stage}.{block}.{layer}"
    for stage in range(4)
    for block in range(2)
    for layer in ("conv1", "conv2", *(["down.0"] if stage and not block else []))
]


class ViT(nn.Module):
    """Dosovitskiy et al., 2021: patches, a class token, positions, two encoder layers, a head."""

    def __init__(self, width: int = 16, classes: int = 10):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, 5, width) * 0.02)
        self.encoder = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 2, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
            for _ in range(2)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), patches], 1) + self.positions
        for layer in self.encoder:
            x = layer(x)
        return self.head(self.norm(x[:, 0]))


def encoder_layer(name: str) -> list[str]:
    return [f"{name}.{part}" for part in ("self_attn.q", "self_attn.k", "self_attn.v", "self_attn.out_proj")] + [
        f"{name}.linear1",
        f"{name}.linear2",
    ]


class Transformer(nn.Module):
    """A language model: words and positions embedded, two encoder layers, a head."""

    def __init__(self, number: int = 11, width: int = 16):
        super().__init__()
        self.words, self.places = nn.Embedding(number, width), nn.Embedding(8, width)
        layer = nn.TransformerEncoderLayer(width, 2, 2 * width, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, number)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.words(x) + self.places(torch.arange(x.shape[1]))
        return self.head(self.encoder(seen))


class Recurrent(nn.Module):
    """A policy and a value head on a recurrent layer, between Linear layers."""

    def __init__(self, kind: type[nn.RNNBase]):
        super().__init__()
        self.encoder, self.memory = mlp(4, 8, end=nn.ReLU()), kind(8, 12, batch_first=True)
        self.torso, self.policy, self.value = mlp(12, 12, end=nn.ReLU()), nn.Linear(12, 2), nn.Linear(12, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.torso(self.memory(self.encoder(x))[0])
        return self.policy(features), self.value(features)


def memory(gates: str) -> list[str]:
    return [f"memory.weight_{side}_l0.{gate}" for side in ("ih", "hh") for gate in gates]


class Mixture(nn.Module):
    """A word chooses among experts, beside a picture made larger by a transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.word, self.gate = nn.Embedding(7, 6), nn.Linear(6, 3)
        self.picture = nn.Sequential(nn.ConvTranspose2d(6, 4, 2, 2), nn.InstanceNorm2d(4, affine=True), nn.ReLU())
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(16, 12), nn.RMSNorm(12), nn.GELU()) for _ in range(3))
        self.cell, self.head = nn.GRUCell(12, 10), nn.Linear(10, 2)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.word(x)
        picture = self.picture(seen[:, :, None, None].expand(-1, -1, 1, 1)).flatten(1)
        share = self.gate(seen).softmax(1)
        mixed = torch.stack([expert(picture) for expert in self.experts], 1)
        return self.head(self.cell((share[:, :, None] * mixed).sum(1)))


PARTS = ("encoder", "actor", "critic")
ORDERS = {f"order {', '.join(order)}": order for order in itertools.permutations(PARTS)}


def hidden(order: tuple[str, ...]) -> list[str]:
    return [f"{part}.0" for part in order]


NETWORKS: dict[str, Case] = {
    **{
        name: Case(actor_critic(order), normal(8, 6), hidden(order), ["actor.2", "critic.2"])
        for name, order in ORDERS.items()
    },
    "head first": Case(Plain, normal(8, 5), ["first", "second"], ["head"]),
    "as many actions as observations": Case(
        lambda: ActorCritic(("actor", "critic"), actor=mlp(6, 16, 6), critic=mlp(6, 16, 1)),
        normal(8, 6),
        ["actor.0", "critic.0"],
        ["actor.2", "critic.2"],
    ),
    "one observation, critic first": Case(
        lambda: ActorCritic(("critic", "actor"), critic=mlp(1, 16, 1), actor=mlp(1, 16, 3)),
        normal(8, 1),
        ["critic.0", "actor.0"],
        ["critic.2", "actor.2"],
    ),
    **{
        f"head before {type(end).__name__}": Case(
            lambda end=end: mlp(5, 16, 16, 4, end=end),  # type: ignore[misc]
            normal(8, 5),
            ["0", "2"],
            ["4"],
        )
        for end in (nn.Identity(), nn.Softplus(), nn.Flatten(), nn.LayerNorm(4), nn.Tanh())
    },
    "64 actions beside a value of 64": Case(
        lambda: ActorCritic(
            PARTS, encoder=mlp(5, 64, end=nn.ReLU()), actor=nn.Linear(64, 64), critic=nn.Linear(64, 1)
        ),
        normal(8, 5),
        ["encoder.0"],
        ["actor", "critic"],
    ),
    "dynamics and reward": Case(
        World, normal(8, 4), ["torso.0", "torso.2", "reward.0"], ["dynamics", "reward.2"]
    ),
    "a convolution as policy": Case(
        Pixels, normal(4, 3, 4, 4), ["torso.0", "torso.2"], ["policy", "value"]
    ),
    "NatureCNN": Case(
        nature_cnn, normal(2, 4, 36, 36), ["0.cnn.0", "0.cnn.2", "0.cnn.4", "0.linear.0"], ["1"]
    ),
    "ResNet-18": Case(ResNet18, normal(4, 3, 8, 8), RESNET, ["fc"]),
    "ViT": Case(
        ViT,
        normal(4, 3, 8, 8),
        ["patches", *encoder_layer("encoder.0"), *encoder_layer("encoder.1")],
        ["head"],
        ("positions",),
    ),
    "Transformer": Case(
        Transformer,
        words(4, 8, number=11),
        ["words", "places", *encoder_layer("encoder.layers.0"), *encoder_layer("encoder.layers.1")],
        ["head"],
    ),
    "LSTM": Case(
        lambda: Recurrent(nn.LSTM), normal(4, 5, 4), ["encoder.0", *memory("ifgo"), "torso.0"], ["policy", "value"]
    ),
    "GRU": Case(
        lambda: Recurrent(nn.GRU), normal(4, 5, 4), ["encoder.0", *memory("rzn"), "torso.0"], ["policy", "value"]
    ),
    "mixture": Case(
        Mixture,
        words(8, number=7),
        ["word", "gate", "picture.0", "experts.0.0", "experts.1.0", "experts.2.0"]
        + [f"cell.weight_{side}.{gate}" for side in ("ih", "hh") for gate in "rzn"],
        ["head"],
    ),
}  # fmt: skip
