"""Units that enter the next layer twice, as after CReLU and Fourier features: both of their halves count."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neoteny.agents import DQN, PPO, SAC, DQNConfig, Network, PPOConfig, SACConfig
from neoteny.agents.networks import CReLU
from neoteny.plasticity import ContinualBackprop, PlasticityInjection, ReDo, SelfNormalizedResets
from neoteny.plasticity.resets.units import UnitMethod

AGENTS: dict[str, tuple[Any, Any, str]] = {
    "ppo": (PPO, PPOConfig(num_envs=1, n_steps=8, batch_size=8, n_epochs=1), "CartPole-v1"),
    "dqn": (DQN, DQNConfig(buffer_size=50, learning_starts=4, batch_size=4, train_freq=1, target_update_interval=100),
            "CartPole-v1"),
    "sac": (SAC, SACConfig(buffer_size=50, learning_starts=4, batch_size=4), "Pendulum-v1"),
}  # fmt: skip
CONSUMERS = {
    "ppo": {"mlp_extractor.policy_net.0", "mlp_extractor.policy_net.3", "mlp_extractor.value_net.0",
            "mlp_extractor.value_net.3"},
    "dqn": {"q_net.q_net.0", "q_net.q_net.3"},
    "sac": {"actor.latent_pi.0", "actor.latent_pi.3", *(f"critic.qf{i}.{j}" for i in (0, 1) for j in (0, 3))},
}  # fmt: skip


def make(name: str, reg: Any, **network: Any) -> Any:
    cls, config, env = AGENTS[name]
    settings = config.arguments() | {"policy_kwargs": Network(hidden=(8, 8), **network).policy_kwargs()}
    return cls(env=env, **settings, reg=reg, seed=0, device="cpu")


class Channels(CReLU):
    """CReLU of a picture's channels."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.cat([z, -z], 1).relu()


def update(network: nn.Module, optimizer: torch.optim.Optimizer, inputs: Tensor) -> None:
    optimizer.zero_grad()
    network(inputs).sum().backward()
    optimizer.step()


def hand(*units: float) -> tuple[nn.Sequential, torch.optim.Optimizer]:
    network = nn.Sequential(nn.Linear(1, len(units)), CReLU(), nn.Linear(2 * len(units), 2))
    network[0].weight.data.copy_(torch.tensor(units)[:, None])
    network[0].bias.data.zero_()
    return network, torch.optim.Adam(network.parameters(), lr=1e-8)


def wiring(method: UnitMethod) -> dict[str, list[tuple[str, int, int, int]]]:
    links = {name: links for name, links in method.wiring.links.items() if name not in method.wiring.problems}
    return {name: [(k.name, k.units, k.offset, k.repeat) for k in found] for name, found in links.items()}


def test_redo_sees_both_halves_and_silences_both():
    """Units give 1, 4, −2 and 0.1: a negative unit is not dormant, and of the last one both columns become 0."""
    network, optimizer = hand(1.0, 4.0, -2.0, 0.1)
    redo = ReDo(every=1, tau=0.3)
    redo.attach(network, optimizer)
    update(network, optimizer, torch.ones(8, 1))
    assert wiring(redo) == {"0": [("2", 4, 0, 1), ("2", 4, 4, 1)]}
    columns = [False, False, False, True] * 2
    assert (network[2].weight == 0).all(0).tolist() == columns
    assert (optimizer.state[network[2].weight]["exp_avg_sq"] == 0).all(0)[[3, 7]].all()
    assert redo.scalars()["resets"] == 1


def test_convolution_then_linear():
    """Two channels of four positions, twice: sixteen inputs, of which the second channel has 4–7 and 12–15."""
    network = nn.Sequential(nn.Conv2d(1, 2, 1), Channels(), nn.Flatten(), nn.Linear(16, 3))
    network[0].weight.data.copy_(torch.tensor([-1.0, 0.001]).view(2, 1, 1, 1))
    network[0].bias.data.zero_()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-9)
    redo = ReDo(every=1, tau=0.3)
    redo.attach(network, optimizer)
    update(network, optimizer, torch.ones(5, 1, 2, 2))
    assert wiring(redo) == {"0": [("3", 2, 0, 4), ("3", 2, 8, 4)]}
    assert (network[3].weight == 0).all(0).nonzero()[:, 0].tolist() == [4, 5, 6, 7, 12, 13, 14, 15]


def test_a_unit_fires_with_either_half():
    network, optimizer = hand(-1.0, 0.0)
    method = SelfNormalizedResets(every=0)
    method.watching = lambda: True  # type: ignore[method-assign]
    method.attach(network, optimizer)
    update(network, optimizer, torch.ones(4, 1))
    update(network, optimizer, torch.ones(4, 1))
    network[0].weight.data.copy_(torch.tensor([[-1.0], [0.0]]))
    network[0].bias.data.zero_()
    network(torch.ones(4, 1))
    assert method.noted()["0"][0].tolist() == [True, False]


def two_units(**settings: float) -> tuple[nn.Sequential, torch.optim.Optimizer, ContinualBackprop]:
    """For inputs 1 and 3 unit 0 gives (4, 0) on average, unit 1 (0, 2); columns are 0+, 1+, 0−, 1−."""
    network, optimizer = hand(2.0, -1.0)
    network[2].weight.data.copy_(torch.tensor([[1.0, 5.0, 3.0, 4.0], [-1.0, 2.0, 0.0, 0.5]]))
    network[2].bias.data.copy_(torch.tensor([10.0, 20.0]))
    method = ContinualBackprop(decay=0.5, **settings)  # type: ignore[arg-type]
    method.attach(network, optimizer)
    return network, optimizer, method


def test_utility_is_the_sum_of_what_the_halves_are_worth():
    """½·(4·2 + 0·3) and ½·(0·7 + 2·4.5)."""
    network, optimizer, method = two_units(replacement_rate=1e-9)
    update(network, optimizer, torch.tensor([[1.0], [3.0]]))
    torch.testing.assert_close(method._utility["0"], torch.tensor([4.0, 4.5]), rtol=1e-5, atol=0)
    torch.testing.assert_close(method._mean["0"], torch.tensor([[2.0, 0.0], [0.0, 1.0]]), rtol=1e-5, atol=1e-6)


def test_what_each_half_gave_on_average_moves_to_the_bias():
    """Unit 0 is the less useful one: the biases take 4·1 and 4·(−1), and its columns, 0 and 2, become 0."""
    network, optimizer, method = two_units(replacement_rate=0.5, maturity=1)
    for _ in range(2):
        update(network, optimizer, torch.tensor([[1.0], [3.0]]))
    assert method.scalars()["resets"] == 1
    torch.testing.assert_close(network[2].bias.data, torch.tensor([14.0, 16.0]))
    torch.testing.assert_close(network[2].weight.data, torch.tensor([[0.0, 5.0, 0.0, 4.0], [0.0, 2.0, 0.0, 0.5]]))
    assert method._mean["0"][0].tolist() == [0, 0]


def test_continual_backprop_goes_on_bit_for_bit_after_loading():
    network, optimizer, method = two_units(replacement_rate=0.3, maturity=1)
    inputs = torch.tensor([[1.0], [3.0]])
    for _ in range(5):
        update(network, optimizer, inputs)
    other, again = copy.deepcopy(network), ContinualBackprop(decay=0.5, replacement_rate=0.3, maturity=1)
    moments = torch.optim.Adam(other.parameters(), lr=1e-8)
    again.attach(other, moments, seed=5)
    moments.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    again.load_state_dict(method.state_dict())
    for _ in range(6):
        update(network, optimizer, inputs)
        update(other, moments, inputs)
    assert method.scalars()["resets"] > 2
    for one, two in ((network, other), (method, again)):
        assert all(torch.equal(t, two.state_dict()[key]) for key, t in one.state_dict().items())


class Twice(nn.Module):
    """Units enter ``c`` twice, and ``d`` once."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.c, self.d = nn.Linear(1, 2), nn.Linear(4, 1), nn.Linear(2, 1)

    def forward(self, x: Tensor) -> Tensor:
        z = self.a(x)
        return self.c(torch.cat([z, -z], 1).relu()) + self.d(z)


def test_a_layer_that_takes_a_unit_another_number_of_times():
    """It counts for the utility, at the mean of the halves: ½·(1·1 + 0·1 + (1 + 0)/2·6); its bias stays."""
    network = Twice()
    for layer, value in ((network.a, 1.0), (network.c, 1.0), (network.d, 6.0)):
        layer.weight.data.fill_(value)
        layer.bias.data.zero_()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-9)
    method = ContinualBackprop(decay=0.5, replacement_rate=1.0, maturity=1)
    method.attach(network, optimizer)
    update(network, optimizer, torch.ones(3, 1))
    torch.testing.assert_close(method._utility["a"], torch.tensor([2.0, 2.0]))
    update(network, optimizer, torch.ones(3, 1))
    assert network.c.bias.item() == pytest.approx(2)
    assert network.d.bias.item() == pytest.approx(0, abs=1e-6)
    assert (network.c.weight == 0).all()
    assert (network.d.weight == 0).all()


class Pooled(nn.Module):
    """A feature map of four positions beside its largest value."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.c = nn.Conv2d(1, 2, 1), nn.Linear(10, 1)

    def forward(self, x: Tensor) -> Tensor:
        z = self.a(x).relu()
        return self.c(torch.cat([z.flatten(1), nn.functional.max_pool2d(z, 2).flatten(1)], 1))


def test_entries_of_different_size_are_taken_for_one():
    """Five values of 3 and of 1 each, and five outgoing weights of 2: ½·3·10 and ½·1·10."""
    network = Pooled()
    network.a.weight.data.copy_(torch.tensor([3.0, 1.0]).view(2, 1, 1, 1))
    network.a.bias.data.zero_()
    network.c.weight.data.fill_(2.0)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-9)
    method = ContinualBackprop(decay=0.5)
    method.attach(network, optimizer)
    update(network, optimizer, torch.ones(3, 1, 2, 2))
    assert wiring(method) == {"a": [("c", 2, 0, 4), ("c", 2, 8, 1)]}
    torch.testing.assert_close(method._utility["a"], torch.tensor([15.0, 5.0]))


# In the agents


@pytest.mark.parametrize("part", ["crelu", "fourier"])
@pytest.mark.parametrize("name", AGENTS)
def test_all_outgoing_weights_of_all_units_in_an_agent(name: str, part: str):
    """τ = 10 recycles everybody; with a LayerNorm between, which begins anew too."""
    agent = make(name, ReDo(every=1, tau=10.0), layer_norm=True, **{part: True})
    agent.learn(8)
    methods = agent.methods.values()
    found = {layer.name: method.wiring.links[layer.name] for method in methods for layer in method.layers
             if layer.name in method.wiring.links}  # fmt: skip
    assert set(found) == CONSUMERS[name]
    for layer, links in found.items():
        into = {link.name for link in links}
        assert len(into) == (2 if layer == "actor.latent_pi.3" else 1)
        assert sorted((k.name, k.units, k.offset) for k in links) == sorted((n, 4, o) for n in into for o in (0, 4))
        norm = agent.policy.get_submodule(layer[:-1] + str(int(layer[-1]) + 1))
        assert (norm.weight == 1).all()
    for method in agent.methods.values():
        assert method.scalars()["resets"] > 0
    assert all((link.consumer.weight == 0).all() for links in found.values() for link in links)


@pytest.mark.parametrize("name", AGENTS)
def test_plasticity_injection(name: str):
    agent = make(name, PlasticityInjection(), crelu=True)
    agent.learn(8)
    observation = torch.randn(5, *agent.observation_space.shape, generator=torch.Generator().manual_seed(0))
    before = agent.predict(observation.numpy(), deterministic=True)[0]
    parts = {n: m for n, m in agent.policy.named_modules() if n in ("q_net.q_net", "critic.qf0", "actor.latent_pi")}
    parts |= {n: m for n, m in agent.policy.named_modules() if n in ("mlp_extractor.policy_net",)}
    assert parts
    given = {n: torch.randn(5, m[0].in_features, generator=torch.Generator().manual_seed(1)) for n, m in parts.items()}
    old = {n: m(given[n]).detach() for n, m in parts.items()}
    agent.on_switch()
    assert all(torch.equal(m(given[n]), old[n]) for n, m in parts.items())
    assert (agent.predict(observation.numpy(), deterministic=True)[0] == before).all()
    agent.learn(8, reset_num_timesteps=False)
    assert not any(torch.equal(m(given[n]), old[n]) for n, m in parts.items())
    assert all(method.scalars()["injections"] == 1 for method in agent.methods.values())
