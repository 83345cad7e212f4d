"""Whole networks: which units are reset, which are refused and why, and that a reset leaves outputs as they are."""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import pytest
import torch
from stable_baselines3.common.envs import FakeImageEnv
from torch import Tensor, nn

from neoteny.agents import DQN, PPO, SAC, Network
from neoteny.plasticity import METHODS, ReDo
from neoteny.plasticity.resets.units import UnitMethod

SUMMED = "summed with others"
DOUBLE = torch.float64


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.relu, self.downsample = nn.ReLU(inplace=True), None
        if stride > 1:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class ResNet18(nn.Module):
    def __init__(self, width: int = 4):
        super().__init__()
        self.conv1, self.bn1, self.relu = nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        for i in range(4):
            inputs, outputs = width * 2 ** max(i - 1, 0), width * 2**i
            blocks = Block(inputs, outputs, 1 + (i > 0)), Block(outputs, outputs, 1)
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(8 * width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class ViT(nn.Module):
    """Patches, a class token, two blocks and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 8, 2, 2)
        self.token, self.places = nn.Parameter(torch.randn(1, 1, 8)), nn.Parameter(torch.randn(1, 5, 8))
        layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, "gelu", batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.places
        return self.head(self.norm(self.blocks(x))[:, 0])


class Recurrent(nn.Module):
    def __init__(self, cell: type[nn.Module]):
        super().__init__()
        self.fc, self.rnn = nn.Linear(4, 6), cell(6, 7, batch_first=True)
        self.hidden, self.head = nn.Linear(7, 9), nn.Linear(9, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.hidden(self.rnn(self.fc(x).relu())[0][:, -1]).relu())


class Attentive(nn.Module):
    """Linear layers for query, key and value, before attention and written by hand."""

    def __init__(self, by_hand: bool):
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(4, 4) for _ in range(4))
        self.attention = None if by_hand else nn.MultiheadAttention(4, 2, batch_first=True)
        self.mlp, self.head = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.q(x), self.k(x), self.v(x)
        h = (q @ k.mT).softmax(-1) @ v if self.attention is None else self.attention(q, key=k, value=v)[0]
        return self.head(self.mlp(self.out(h)).relu()).mean(1)


class Skip(nn.Module):
    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind
        self.stem, self.fc, self.hidden, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)
        if kind == "frozen":
            self.stem.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        around = x if self.kind == "raw" else self.stem(x)
        return self.head(self.hidden(around + self.fc(around).relu()).relu())


class Dense(nn.Module):
    """Each convolution takes the input and all before it."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(2 + 3 * i, 3, 3, padding=1) for i in range(3)])
        self.norms = nn.ModuleList([nn.BatchNorm2d(2 + 3 * i) for i in range(3)])
        self.head = nn.Linear(11, 2)

    def forward(self, x: Tensor) -> Tensor:
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = torch.cat([x, conv(norm(x).relu())], 1)
        return self.head(x.mean((2, 3)))


class Mixed(nn.Module):
    """Parts that one or the other network has."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.conv, self.grouped = nn.Embedding(5, 3), nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 1, groups=2)
        self.turned, self.back = nn.Conv2d(4, 3, 1), nn.ConvTranspose2d(3, 2, 2)
        self.one, self.gate, self.join = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(3 + 2 + 6, 7)
        self.cell, self.step, self.head = nn.GRUCell(7, 6), nn.Linear(6, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        picture = self.turned(self.grouped(self.conv(x[:, :36].view(-1, 1, 6, 6)).relu()).relu())
        seen = self.back(picture.relu()).mean((2, 3))
        gated = self.one(x[:, :6]) * self.gate(x[:, :6]).sigmoid()
        joined, state = self.join(torch.cat([self.words(x[:, 0].abs().long() % 5), seen, gated], 1)).relu(), None
        for _ in range(3):
            state = self.cell(joined, state)
        return self.head(self.step(state).relu())


class MLP(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))


RESNET = {"conv1", *(f"layer{i}.0.downsample.0" for i in "234"), *(f"layer{i}.{j}.conv2" for i in "1234" for j in "01")}
PARTS = "part of attention (MultiheadAttention)"
FED = "feeds attention (MultiheadAttention)"
BMM = "mixed with others by "
#: Network, shape of its inputs, the layers whose units are reset, and the reasons for the others (by their beginning).
CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], set[str], dict[str, str]]] = {
    "mlp": (MLP, (16, 6), {"0", "2"}, {}),
    "resnet": (ResNet18, (4, 3, 32, 32), {f"layer{i}.{j}.conv1" for i in "1234" for j in "01"},
               dict.fromkeys(RESNET, SUMMED)),
    "vit": (ViT, (4, 1, 4, 4), {f"blocks.layers.{i}.linear1" for i in "01"},
            {"patches": "feeds blocks.layers.0.self_attn (MultiheadAttention)",
             "blocks.layers.0.linear2": "feeds blocks.layers.1.self_attn (MultiheadAttention)",
             "blocks.layers.1.linear2": SUMMED,
             "blocks.layers.0.self_attn.out_proj": "part of blocks.layers.0.self_attn (MultiheadAttention)",
             "blocks.layers.1.self_attn.out_proj": "part of blocks.layers.1.self_attn (MultiheadAttention)"}),
    "gru": (lambda: Recurrent(nn.GRU), (4, 5, 4), {"hidden"}, {"fc": "feeds rnn (GRU)"}),
    "lstm": (lambda: Recurrent(nn.LSTM), (4, 5, 4), {"hidden"}, {"fc": "feeds rnn (LSTM)"}),
    "attention": (lambda: Attentive(False), (4, 5, 4), {"out", "mlp"},
                  {"q": FED, "k": FED, "v": FED, "attention.out_proj": PARTS}),
    "attention by hand": (lambda: Attentive(True), (4, 5, 4), {"out", "mlp"}, {"q": BMM, "k": BMM, "v": BMM}),
    "raw skip": (lambda: Skip("raw"), (8, 6), {"hidden"}, {"fc": SUMMED, "stem": "not seen in a training pass"}),
    "frozen skip": (lambda: Skip("frozen"), (8, 6), {"hidden"}, {"fc": SUMMED}),
    "trained skip": (lambda: Skip("trained"), (8, 6), {"hidden"}, {"fc": SUMMED, "stem": SUMMED}),
    "dense": (Dense, (4, 2, 6, 6), {"convs.0", "convs.1", "convs.2"}, {}),
    "mixed": (Mixed, (8, 36), {"grouped", "one", "gate", "step"},
              {"conv": "feeds grouped (a grouped convolution)", "turned": "feeds back (ConvTranspose2d)",
               "join": "feeds cell (GRUCell)"}),
}  # fmt: skip

SETTINGS: dict[str, dict[str, Any]] = {
    "redo": {"every": 2, "tau": 0.95},
    "continual-backprop": {"replacement_rate": 0.3, "maturity": 1},
    "self-normalized-resets": {"every": 2, "patience": 1},
}
#: Outputs, where they have another name than ``head``.
HEADS = {"mlp": "4", "resnet": "fc"}
every_case = pytest.mark.parametrize("case", CASES)


def made(case: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    network = CASES[case][0]().double()
    return network, torch.randn(CASES[case][1], dtype=DOUBLE)


def update(network: nn.Module, optimizer: torch.optim.Optimizer, inputs: Tensor) -> None:
    optimizer.zero_grad()
    network(inputs).square().mean().backward()
    optimizer.step()


def followed(case: str, method: UnitMethod) -> tuple[nn.Module, Tensor]:
    """One update of learning rate 0, after which the wiring is known."""
    network, inputs = made(case)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        method.attach(network, optimizer, seed=1)
        update(network, optimizer, inputs)
    return network, inputs


@every_case
def test_which_layers(case: str):
    _, _, acted, refused = CASES[case]
    method = ReDo(every=1000, heads=[HEADS.get(case, "head")])
    followed(case, method)
    assert {layer.name for layer in method.ready()} == acted
    asked = {layer.name for layer in method.layers}  # others are refused when attached
    odd = {name: reason for name, reason in method.refusals().items() if reason not in ("output", "frozen")}
    given = {name: reason for name, reason in odd.items() if name in asked}
    assert given.keys() == refused.keys()
    assert all(reason.startswith(refused[name]) for name, reason in given.items()), given


def test_resnet_has_eight_and_twelve():
    assert [len(part) for part in CASES["resnet"][2:]] == [8, 12]  # and the output


@every_case
def test_a_reset_is_the_network_with_outgoing_weights_of_zero(case: str):
    """For any unit that is reset: which weights it has matters no more."""
    method = ReDo(every=1000, heads=[HEADS.get(case, "head")])
    network, inputs = followed(case, method)
    for layer in method.ready():
        links, units = method.wiring.links[layer.name], torch.arange(len(layer.weight)) % 2 == 0
        expected = copy.deepcopy(network)
        for link in links:
            weight = expected.get_submodule(link.name).weight.data
            link.outgoing(weight)[:, units] = 0
        wanted = expected.train()(inputs)
        method.reset_(layer, units)
        torch.testing.assert_close(copy.deepcopy(network)(inputs), wanted, rtol=0, atol=1e-12)


def silence(network: nn.Module, method: UnitMethod, name: str) -> None:
    """Make unit 0 of a layer give 0 to the next layers."""
    layer = network.get_submodule(name)
    layer.weight.data[0] = 0
    if layer.bias is not None:
        layer.bias.data[0] = 0
    for norm in method.wiring.norms_of(name):
        network.get_submodule(norm).bias.data[0] = 0


@every_case
def test_a_silent_unit_is_reset_without_a_trace(case: str):
    if case == "dense":
        pytest.skip("behind norms of several layers' units a silent unit gives what it gave on average")
    method = ReDo(every=1000, heads=[HEADS.get(case, "head")])
    network, inputs = followed(case, method)
    for layer in (layer for layer in method.ready() if layer.name != "gate"):  # a gate of 0 is half open
        silence(network, method, layer.name)
        before = network(inputs).detach()
        method.reset_(layer, torch.tensor([0]))
        torch.testing.assert_close(network(inputs).detach(), before, rtol=0, atol=1e-12)


@every_case
@pytest.mark.parametrize("name", SETTINGS)
def test_methods_reset_these_and_only_these(case: str, name: str):
    """Over some updates; what is refused has none of its rows drawn, nor columns zeroed."""
    network, inputs = made(case)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    method = METHODS[name](**SETTINGS[name], heads=[HEADS.get(case, "head")])
    before = copy.deepcopy(network)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        method.attach(network, optimizer)
        for i in range(6):
            update(network, optimizer, inputs * (1 + i))
    acted = CASES[case][2]
    fed = {link.name for layer in acted for link in method.wiring.links[layer]}
    assert name == "self-normalized-resets" or method.scalars()["resets"] > 0
    for part, module in network.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)) and part not in acted | fed:
            assert torch.equal(module.weight, before.get_submodule(part).weight), part


@pytest.mark.parametrize("name", SETTINGS)
@every_case
def test_state_goes_into_a_method_attached_anew(case: str, name: str):
    """Wiring is no state: the copy finds it in its own passes."""
    ends = []
    network, inputs = made(case)
    other = copy.deepcopy(network)
    method, again = (METHODS[name](**SETTINGS[name], heads=[HEADS.get(case, "head")]) for _ in range(2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
        method.attach(network, optimizer)
        for i in range(3):
            update(network, optimizer, inputs * (1 + i))
        other.load_state_dict(network.state_dict())
        moments = torch.optim.SGD(other.parameters(), lr=1e-3)
        again.attach(other, moments)
        again.load_state_dict(method.state_dict())
        for net, opt in ((network, optimizer), (other, moments)):
            for i in range(4):
                update(net, opt, inputs * (4 + i))
            ends.append(net.state_dict())
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


# Our own agents, of which nothing is refused

PARTS_OF_NETWORKS: list[dict[str, Any]] = [{}, {"layer_norm": True}, {"crelu": True}, {"fourier": True}]


def quiet(agent: Any, steps: int) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*leaves the units.*")
        warnings.filterwarnings("error", message=".*has seen no units.*")
        agent.learn(steps)
    assert all(m.ready() for m in agent.methods.values())


@pytest.mark.parametrize("network", PARTS_OF_NETWORKS)
@pytest.mark.parametrize("name", ["ppo", "dqn", "sac"])
def test_no_warning_of_our_agents(name: str, network: dict[str, Any]):
    settings = {"reg": ReDo(every=1), "policy_kwargs": Network(hidden=(8, 8), **network).policy_kwargs(), "seed": 0}
    off = {"learning_starts": 4, "batch_size": 4, "buffer_size": 50, "device": "cpu"}
    if name == "ppo":
        agent: Any = PPO("ActorCritic", gym.make("CartPole-v1"), n_steps=8, batch_size=8, n_epochs=1, **settings)
    elif name == "dqn":
        agent = DQN("QPolicy", gym.make("CartPole-v1"), train_freq=1, **off, **settings)
    else:
        agent = SAC("SoftActorCritic", gym.make("Pendulum-v1"), **off, **settings)
    quiet(agent, 10)


@pytest.mark.parametrize("encoder", ["nature-cnn", "small-cnn"])
def test_no_warning_of_our_encoders(encoder: str):
    size = 36 if encoder == "nature-cnn" else 10
    env = FakeImageEnv(screen_height=size, screen_width=size, n_channels=1, discrete=True)
    kwargs = Network(hidden=(8, 8), encoder=encoder).policy_kwargs()
    settings = {"n_steps": 8, "batch_size": 8, "n_epochs": 1, "reg": ReDo(every=1), "seed": 0}
    quiet(PPO("ActorCritic", env, policy_kwargs=kwargs, **settings), 8)
