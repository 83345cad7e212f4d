"""Units: who feeds whom, what counts as activity, what a reset writes."""

import copy

import gymnasium as gym
import pytest
import torch
from layers_by_hand import adam, update
from stable_baselines3.common.envs import FakeImageEnv
from torch import Tensor, nn

from neoteny.agents import DQN, PPO, SAC
from neoteny.plasticity import LayerReset, ReDo
from neoteny.plasticity.layers import Layer, Part
from neoteny.plasticity.resets.initial import initial_scale
from neoteny.plasticity.resets.link import Link
from neoteny.plasticity.resets.units import UnitMethod, reset_units_


def wiring(method: UnitMethod) -> dict[str, list[tuple[str, int, int, int]]]:
    """Layer → (next layer, units, first input, inputs per unit)."""
    return {
        name: [(link.name, link.units, link.offset, link.repeat) for link in links]
        for name, links in method.wiring.links.items()
        if name not in method.wiring.problems and name in {layer.name for layer in method.layers}
    }


def trace(network: nn.Module, inputs: Tensor) -> dict[str, list[tuple[str, int, int, int]]]:
    method = UnitMethod()
    method.name = "units"  # type: ignore[misc]
    method.attach(network, adam(network))
    network(inputs).sum().backward()
    return wiring(method)


# Who feeds whom


def test_linear_layers_with_all_that_may_stand_between():
    network = nn.Sequential(
        nn.Linear(3, 4), nn.LayerNorm(4), nn.GELU(), nn.Dropout(0.1), nn.Linear(4, 5), nn.ReLU(inplace=True),
        nn.Linear(5, 2), nn.Tanh(),
    )  # fmt: skip
    assert trace(network, torch.zeros(6, 3)) == {"0": [("4", 4, 0, 1)], "4": [("6", 5, 0, 1)]}


def test_convolutions_then_linear():
    network = nn.Sequential(
        nn.Conv2d(1, 2, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(2, 3, 1), nn.Flatten(), nn.Linear(12, 4),
        nn.ReLU(), nn.Linear(4, 1),
    )  # fmt: skip
    assert trace(network, torch.zeros(6, 1, 5, 5)) == {
        "0": [("3", 2, 0, 1)], "3": [("5", 3, 0, 4)], "5": [("7", 4, 0, 1)]
    }  # fmt: skip


class Net(nn.Module):
    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind
        self.a, self.b = nn.Linear(2, 4), nn.Linear(2, 4)
        widths = {"crelu": 8, "cat": 8, "data": 6}
        self.c = nn.Linear(widths.get(kind, 4), 3)
        self.d = nn.Linear(4, 3)
        self.cell = nn.RNNCell(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x).relu()
        match self.kind:
            case "crelu":
                z = self.a(x)
                return self.c(torch.cat([z.relu(), (-z).relu()], 1))
            case "cat":
                return self.c(torch.cat([self.b(x).tanh(), h], 1))
            case "data":
                return self.c(torch.cat([x, h], 1))
            case "residual":
                return self.c(h + self.b(x))
            case "flip":
                return self.c(h.flip(1))
            case "rnn":
                return self.cell(h) + self.c(h)
        return self.c(h) + self.d(h)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("two successors", {"a": [("c", 4, 0, 1), ("d", 4, 0, 1)]}),
        ("crelu", {"a": [("c", 4, 0, 1), ("c", 4, 4, 1)]}),
        ("cat", {"a": [("c", 4, 4, 1)], "b": [("c", 4, 0, 1)]}),
        ("data", {"a": [("c", 4, 2, 1)]}),
        ("residual", {}),
        ("flip", {}),
        ("rnn", {}),
    ],
)
def test_units_that_go_elsewhere_too(kind: str, expected: dict):
    assert trace(Net(kind), torch.zeros(6, 2)) == expected


def test_ppo_with_a_shared_encoder_and_layers_of_one_width():
    env = FakeImageEnv(screen_height=36, screen_width=36, n_channels=1, discrete=True)
    agent = PPO("ActorCritic", env, n_steps=8, batch_size=8, n_epochs=1, reg=ReDo(every=1), seed=0,
                policy_kwargs={"net_arch": [8, 8]}, device="cpu")  # fmt: skip
    agent.learn(8)
    found = wiring(agent.methods["all"])
    assert found["features_extractor.cnn.4"] == [("features_extractor.linear.0", 64, 0, 1)]
    assert found["features_extractor.linear.0"] == [
        ("mlp_extractor.policy_net.0", 512, 0, 1), ("mlp_extractor.value_net.0", 512, 0, 1)
    ]  # fmt: skip
    assert found["mlp_extractor.policy_net.2"] == [("action_net", 8, 0, 1)]
    assert found["mlp_extractor.value_net.2"] == [("value_net", 8, 0, 1)]


def test_dqn_and_sac():
    dqn = DQN("QPolicy", gym.make("CartPole-v1"), learning_starts=4, batch_size=4, buffer_size=50, seed=0, train_freq=1,
              reg=ReDo(every=2, tau=10.0), policy_kwargs={"net_arch": [8, 8]}, target_update_interval=1000)  # fmt: skip
    target = copy.deepcopy(dqn.q_net_target.target.state_dict() if dqn.double else dqn.q_net_target.state_dict())
    dqn.learn(10)
    assert wiring(dqn.methods["all"]) == {
        "q_net.q_net.0": [("q_net.q_net.2", 8, 0, 1)], "q_net.q_net.2": [("q_net.q_net.4", 8, 0, 1)]
    }  # fmt: skip
    assert dqn.methods["all"].scalars()["resets"] > 0
    now = dqn.q_net_target.target.state_dict() if dqn.double else dqn.q_net_target.state_dict()
    assert all(torch.equal(now[key], target[key]) for key in target)
    sac = SAC("SoftActorCritic", gym.make("Pendulum-v1"), learning_starts=4, batch_size=4, buffer_size=50, seed=0,
              reg=ReDo(every=2, tau=10.0), policy_kwargs={"net_arch": [8, 8]})  # fmt: skip
    sac.learn(10)
    assert wiring(sac.methods["all.actor"]) == {
        "actor.latent_pi.0": [("actor.latent_pi.2", 8, 0, 1)],
        "actor.latent_pi.2": [("actor.mu", 8, 0, 1), ("actor.log_std", 8, 0, 1)],
    }
    assert wiring(sac.methods["all.critic"]) == {
        f"critic.qf{i}.{j}": [(f"critic.qf{i}.{j + 2}", 8, 0, 1)] for i in (0, 1) for j in (0, 2)
    }
    assert all(method.scalars()["resets"] > 0 for method in sac.methods.values())


# What a reset writes


@pytest.mark.parametrize("kind", ["mask", "indices"])
@pytest.mark.parametrize("fused", [False, True])
def test_reset_touches_exactly_its_entries(kind: str, fused: bool):
    """Channels 0 and 2 of three, each four inputs of the Linear layer: rows 0 and 2, columns 0–3 and 8–11."""
    network = nn.Sequential(nn.Conv2d(1, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2))
    for p in network.parameters():
        p.data.fill_(0.5)
    optimizer = adam(network, fused=fused)
    update(network, optimizer, torch.ones(4, 1, 3, 3))
    conv, linear = network[0], network[3]
    for p in network.parameters():
        p.data.fill_(7)
        for key in ("exp_avg", "exp_avg_sq"):
            optimizer.state[p][key].fill_(9)
    steps = {p: optimizer.state[p]["step"].clone() for p in network.parameters()}
    units = torch.tensor([True, False, True]) if kind == "mask" else torch.tensor([0, 2])
    reset_units_(
        Layer("0", "0", conv, Part(conv.weight), Part(conv.bias), False), [Link("3", linear, 3, 0, 4)], units,
        torch.tensor([0.1, 0.0, 0.0]), torch.Generator().manual_seed(0), optimizer,
    )  # fmt: skip
    rows, columns = torch.tensor([True, False, True]), torch.tensor([1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1]).bool()
    assert torch.equal((conv.weight != 7).flatten(1).all(1), rows)
    assert torch.equal((conv.weight == 7).flatten(1).all(1), ~rows)
    assert conv.weight[rows].abs().max() <= 0.1 * 3**0.5
    assert conv.weight[rows].std() > 0.02
    assert conv.bias.tolist() == [0, 7, 0]
    assert torch.equal(linear.weight, torch.where(columns, 0.0, 7.0).expand(2, 12))
    assert linear.bias.tolist() == [7, 7]
    for key in ("exp_avg", "exp_avg_sq"):
        state = {p: optimizer.state[p][key] for p in network.parameters()}
        assert torch.equal(state[conv.weight].flatten(1), torch.where(rows[:, None], 0.0, 9.0).expand(3, 4))
        assert state[conv.bias].tolist() == [0, 9, 0]
        assert torch.equal(state[linear.weight], torch.where(columns, 0.0, 9.0).expand(2, 12))
        assert state[linear.bias].tolist() == [9, 9]
    assert all(torch.equal(optimizer.state[p]["step"], step) for p, step in steps.items())
    before = conv.weight.detach().clone()
    update(network, optimizer, torch.randn(64, 1, 3, 3, generator=torch.Generator().manual_seed(1)))
    update(network, optimizer, torch.randn(64, 1, 3, 3, generator=torch.Generator().manual_seed(1)))
    assert not torch.equal(before[0], conv.weight[0])  # new weights learn
    assert (linear.weight[:, columns] != 0).any()


def test_initial_scale_by_hand():
    linear = nn.Linear(2, 2)
    linear.weight.data.copy_(torch.tensor([[3.0, 0.0], [0.0, 3.0]]))
    linear.bias.data.copy_(torch.tensor([3.0, 4.0]))
    layer = Layer("", "", linear, Part(linear.weight), Part(linear.bias), False)
    assert initial_scale(layer).tolist() == pytest.approx([4.5**0.5, 12.5**0.5, 1])
    linear.weight.data.copy_(torch.tensor([[3.0, 1.0], [0.0, 3.0]]))
    assert initial_scale(layer)[2] == 0


def test_norm_of_a_reset_unit_begins_anew():
    network = nn.Sequential(nn.Linear(1, 2), nn.LayerNorm(2), nn.ReLU(), nn.Linear(2, 1))
    network[1].weight.data.fill_(3)
    network[1].bias.data.copy_(torch.tensor([9.0, -9.0]))
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-9)
    ReDo(every=1, tau=0.0).attach(network, optimizer)
    update(network, optimizer, torch.ones(2, 1))
    torch.testing.assert_close(network[1].weight.data, torch.tensor([3.0, 1.0]))
    torch.testing.assert_close(network[1].bias.data, torch.tensor([9.0, 0.0]))


def test_outgoing_weights_are_zero_where_both_layers_are_reset():
    network = nn.Sequential(nn.Linear(1, 3), nn.ReLU(), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 1))
    optimizer = adam(network)
    ReDo(every=1, tau=9.0).attach(network, optimizer)
    update(network, optimizer, torch.ones(2, 1))
    assert (network[2].weight == 0).all()
    assert (network[4].weight == 0).all()
    assert (network[0].weight != 0).all()


def test_hooks_are_gone_with_the_handle():
    def hooks(network: nn.Module) -> int:
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())

    for method in (ReDo(), LayerReset()):
        network = nn.Sequential(nn.Linear(1, 4), nn.ReLU(), nn.Linear(4, 2))
        optimizer = adam(network)
        handle = method.attach(network, optimizer)
        update(network, optimizer, torch.ones(8, 1))
        assert hooks(network) == 3  # a layer each, and the network's output
        handle.remove()
        assert hooks(network) == 0


class Noisy(nn.Linear):
    """A noisy layer: its noise carries a unit's output too."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs)
        self.sigma = nn.Parameter(torch.ones(outputs, inputs))

    def forward(self, input: Tensor) -> Tensor:
        return nn.functional.linear(input, self.weight + self.sigma, self.bias)


class TiedWords(nn.Module):
    """The table of words is the output's weight too: its columns are no unit's alone."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.fc, self.head = nn.Embedding(5, 4), nn.Linear(4, 4), nn.Linear(4, 5, bias=False)
        self.head.weight = self.words.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.fc(self.words(x)).relu())


@pytest.mark.parametrize(
    ("network", "inputs", "reasons"),
    [
        (nn.Sequential(nn.Linear(3, 4), nn.ReLU(), Noisy(4, 2)), torch.ones(2, 3), {"0": "feeds 2 (Noisy)"}),
        (TiedWords(), torch.arange(5), {"fc": "feeds head, which shares its weight with words (Embedding)"}),
    ],
    ids=["noisy", "tied"],
)
@pytest.mark.filterwarnings("ignore")
def test_units_whose_outgoing_weights_are_not_theirs_alone(network: nn.Module, inputs: Tensor, reasons: dict[str, str]):
    before = copy.deepcopy(network.state_dict())
    method = ReDo(every=1, tau=9.0)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    method.attach(network, optimizer)
    network(inputs).sum().backward()
    optimizer.step()
    assert reasons.items() <= method.refusals().items()
    assert all(torch.equal(t, before[name]) for name, t in network.state_dict().items())
