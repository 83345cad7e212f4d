import copy
from pathlib import Path

import gymnasium as gym
import pytest
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import nn

from neoteny.agents import DQN, PPO, SAC
from neoteny.plasticity import PlasticityInjection
from neoteny.plasticity.resets.injection import Injected

INPUTS = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv1d(1, 2, 2), nn.ReLU(), nn.Flatten())
        self.head = nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.ReLU(), nn.Linear(5, 2))
        self.also = [self.head]  # as SAC's critics

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.also[0](self.encoder(x[:, None]))


def made(**settings: int) -> tuple[Net, torch.optim.Optimizer, PlasticityInjection]:
    torch.manual_seed(0)
    network = Net()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    method = PlasticityInjection(**settings)  # type: ignore[arg-type]
    method.attach(network, optimizer)
    return network, optimizer, method


def update(network: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 1) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        (network(INPUTS) - 1).square().sum().backward()
        optimizer.step()


def test_outputs_stay_and_then_only_the_new_part_learns():
    network, optimizer, method = made()
    update(network, optimizer, 3)
    before, outputs = copy.deepcopy(network.state_dict()), network(INPUTS)
    method.on_switch()
    assert torch.equal(network(INPUTS), outputs)
    head = network.head
    assert isinstance(head, Injected)
    assert len(head) == 4
    assert [*head[:2]] == [head[0], head[1]]
    assert head[-1] is head[3]
    assert not torch.equal(head.added[0][0].weight, head[0].weight)
    new = copy.deepcopy(head.added.state_dict())
    update(network, optimizer)
    moved = {name for name, t in network.state_dict().items() if name in before and not torch.equal(t, before[name])}
    added = {name for name in before if name.startswith("head.added.0")}
    assert moved >= {"encoder.0.weight"} | added
    assert not any(name.startswith(("head.0", "head.3")) for name in moved)
    assert all(torch.equal(t, new[name]) for name, t in head.removed.state_dict().items())
    assert all(p in optimizer.state for p in head.added.parameters())
    assert (network(INPUTS) - outputs).abs().max() > 1e-4


def test_until_then_training_is_what_it_is_without():
    network, optimizer, _ = made()
    torch.manual_seed(0)
    plain = Net()
    update(network, optimizer, 4)
    update(plain, torch.optim.Adam(plain.parameters(), lr=1e-2), 4)
    state = network.state_dict()
    assert all(torch.equal(t, state[name]) for name, t in plain.state_dict().items())


@pytest.mark.parametrize(("times", "every", "injections"), [(1, 2, 1), (2, 2, 2), (9, 2, 2), (1, 0, 0)])
def test_how_often(times: int, every: int, injections: int):
    network, optimizer, method = made(times=times, every=every)
    update(network, optimizer, 5)
    assert method.scalars()["injections"] == network.head.injections == injections  # type: ignore[attr-defined]


def test_a_second_injection_freezes_the_first():
    network, optimizer, method = made(times=2)
    for _ in range(2):
        update(network, optimizer)
        outputs = network(INPUTS)
        method.on_switch()
        torch.testing.assert_close(network(INPUTS), outputs, rtol=0, atol=1e-6)
    trained = [{p.requires_grad for p in part.parameters()} for part in [network.head[0], *network.head.added]]
    assert trained == [{False}, {False}, {True}]


def test_a_copy_is_independent():
    network, _, method = made()
    method.on_switch()
    other = copy.deepcopy(network)
    other.also = [other.head]
    before = copy.deepcopy(network.state_dict())
    update(other, torch.optim.SGD(other.parameters(), lr=0.1))
    assert not torch.equal(other(INPUTS), network(INPUTS))
    assert all(torch.equal(t, before[name]) for name, t in network.state_dict().items())


@pytest.mark.parametrize("injected", [False, True])
def test_goes_on_bit_for_bit_after_loading(injected: bool):
    network, optimizer, method = made()
    update(network, optimizer, 2)
    if injected:
        method.on_switch()
        update(network, optimizer, 2)
    other, moments, again = made()
    other.load_state_dict(network.state_dict())
    moments.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    again.load_state_dict(method.state_dict())
    update(network, optimizer, 3)
    update(other, moments, 3)
    method.on_switch(), again.on_switch()
    update(network, optimizer, 3)
    update(other, moments, 3)
    assert all(torch.equal(t, other.state_dict()[name]) for name, t in network.state_dict().items())


def agent(cls: type[BaseAlgorithm], **settings: object) -> BaseAlgorithm:
    env = gym.make("Pendulum-v1" if cls is SAC else "CartPole-v1")
    policy = {PPO: "ActorCritic", DQN: "QPolicy", SAC: "SoftActorCritic"}[cls]
    own = {"n_steps": 8, "batch_size": 8, "n_epochs": 1} if cls is PPO else {
        "learning_starts": 4, "batch_size": 4, "buffer_size": 50, "train_freq": 1}  # fmt: skip
    return cls(policy, env, seed=0, device="cpu", reg=PlasticityInjection(), policy_kwargs={"net_arch": [8, 8]}, **own)


@pytest.mark.parametrize("cls", [PPO, DQN, SAC])
def test_agents_are_injected_saved_loaded_and_go_on(cls: type[BaseAlgorithm], tmp_path: Path):
    model = agent(cls)
    model.learn(8)

    nets = [m for m in model.policy.modules() if isinstance(m, Injected)]
    inputs = [torch.randn(4, net[0].in_features) for net in nets]
    before = [net(x) for net, x in zip(nets, inputs, strict=True)]
    model.on_switch()  # type: ignore[attr-defined]
    for net, x, y in zip(nets, inputs, before, strict=True):
        torch.testing.assert_close(net(x), y, rtol=0, atol=1e-5)
    assert len(nets) == {PPO: 2, DQN: 2, SAC: 5}[cls]
    model.learn(8, reset_num_timesteps=False)
    model.save(tmp_path / "agent")
    loaded = cls.load(tmp_path / "agent", env=model.get_env(), device="cpu")

    ours, theirs = model.policy.state_dict(), loaded.policy.state_dict()
    assert all(torch.equal(t, theirs[name]) for name, t in ours.items())
    assert [p.requires_grad for p in model.policy.parameters()] == [p.requires_grad for p in loaded.policy.parameters()]
    new = copy.deepcopy({n: t for n, t in theirs.items() if ".added." in n and "_target" not in n})
    old = copy.deepcopy({n: t for n, t in theirs.items() if n.startswith(("q_net.q_net.0", "critic.qf0.0"))})
    loaded.learn(8, reset_num_timesteps=False)
    theirs = loaded.policy.state_dict()
    assert any(not torch.equal(theirs[name], t) for name, t in new.items())
    assert all(torch.equal(theirs[name], t) for name, t in old.items())


@pytest.mark.parametrize("settings", [{"times": 0}, {"times": 1.5}, {"every": -1}])
def test_settings(settings: dict):
    with pytest.raises(ValueError, match=f"^{next(iter(settings))}: "):
        PlasticityInjection(**settings)


def test_state_from_before_any_injection_thaws_nothing():
    network, _, method = made()
    network.head[0].requires_grad_(False)
    method.load_state_dict(method.state_dict())
    assert not network.head[0].weight.requires_grad
    assert network.head[3].weight.requires_grad
