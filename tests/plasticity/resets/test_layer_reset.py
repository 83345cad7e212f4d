import copy

import pytest
import torch
from torch import nn

from neoteny.plasticity import LayerReset


def made(**settings: int) -> tuple[nn.Sequential, torch.optim.Optimizer, LayerReset]:
    network = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    for p in network.parameters():
        torch.nn.init.normal_(p, generator=torch.Generator().manual_seed(p.numel()))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    method = LayerReset(**settings)  # type: ignore[arg-type]
    method.attach(network, optimizer)
    return network, optimizer, method


def update(network: nn.Module, optimizer: torch.optim.Optimizer, inputs: int = 3) -> None:
    optimizer.zero_grad()
    network(torch.rand(8, inputs, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize(("last", "names"), [(1, "5"), (2, "35"), (3, "0135"), (9, "0135")])
def test_the_last_layers_and_their_moments(last: int, names: str):
    network, optimizer, method = made(last=last)
    update(network, optimizer)
    before, kept = copy.deepcopy(network.state_dict()), copy.deepcopy(optimizer.state_dict()["state"])
    method.on_switch()
    for i, (name, p) in enumerate(network.named_parameters()):
        reset = name[0] in names
        assert torch.equal(p, before[name]) != reset, name
        for key in ("exp_avg", "exp_avg_sq"):
            moment = optimizer.state[p][key]
            assert (moment == 0).all() if reset else torch.equal(moment, kept[i][key]), name
        assert optimizer.state[p]["step"] == (0 if reset else 1)
    assert method.scalars()["resets"] == len(names)
    after = copy.deepcopy(network.state_dict())
    update(network, optimizer)
    assert not torch.equal(network[5].weight, after["5.weight"])


def test_every_and_never():
    for every, resets in ((0, 0), (2, 2)):
        network, optimizer, method = made(every=every)
        for _ in range(5):
            update(network, optimizer)
        assert method.scalars()["resets"] == resets


def test_switches_are_no_occasion_unless_wanted():
    network, optimizer, method = made(at_switch=False)
    update(network, optimizer)
    method.on_switch()
    assert method.scalars()["resets"] == 0


def test_orthogonal_layers_are_drawn_orthogonal_and_others_of_the_same_size():
    network = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 400))
    nn.init.orthogonal_(network[0].weight, 2.0)
    nn.init.uniform_(network[2].weight, -0.3, 0.3)
    nn.init.zeros_(network[2].bias)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    method = LayerReset(last=2)
    method.attach(network, optimizer)
    optimizer.zero_grad()
    network(torch.ones(2, 6)).sum().backward()
    optimizer.step()
    method.on_switch()
    torch.testing.assert_close(network[0].weight @ network[0].weight.T, 4 * torch.eye(6), atol=1e-5, rtol=1e-5)
    assert network[2].weight.abs().max().item() == pytest.approx(0.3, rel=0.03)
    assert network[2].weight.std().item() == pytest.approx(0.3 / 3**0.5, rel=0.05)
    assert (network[2].bias == 0).all()


def test_switch_right_after_loading():
    """What is last is known from the state, before any pass."""
    network, optimizer, method = made(last=3)
    update(network, optimizer)
    other, moments, again = made(last=3)
    other.load_state_dict(network.state_dict())
    moments.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    again.load_state_dict(method.state_dict())
    for one in (method, again):
        one.on_switch()
    assert all(torch.equal(t, other.state_dict()[key]) for key, t in network.state_dict().items())


def test_frozen_layers_stay():
    network, optimizer, method = made()
    update(network, optimizer)
    network[5].requires_grad_(False)
    before = network[5].weight.clone()
    method.on_switch()
    assert torch.equal(network[5].weight, before)


def test_layers_of_other_types_are_named():
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention, self.memory, self.head = nn.MultiheadAttention(4, 1), nn.GRU(4, 4), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.memory(self.attention(x, x, x)[0])[0])

    network, method = Network(), LayerReset(last=9)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    with pytest.warns(UserWarning, match=r"attention\.q \(units of MultiheadAttention\)"):
        method.attach(network, optimizer)
    before = copy.deepcopy(network.state_dict())
    with pytest.warns(UserWarning, match=r"attention\.out_proj: part of attention"):
        update(network, optimizer, 4)
    method.on_switch()
    acted_on = {name for name, what in method.coverage().items() if what == "acted on"}
    changed = {name for name, t in network.state_dict().items() if not torch.equal(t, before[name])}
    assert acted_on == {"head"}
    assert changed == {"head.weight", "head.bias"}


@pytest.mark.parametrize("settings", [{"last": 0}, {"last": 1.5}, {"every": -1}])
def test_settings(settings: dict):
    with pytest.raises(ValueError, match=f"^{next(iter(settings))}: "):
        LayerReset(**settings)
