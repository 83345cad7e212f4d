import copy

import pytest
import torch
from torch import Tensor, nn

from neoteny.plasticity import ContinualBackprop


def two_units(**settings: float) -> tuple[nn.Sequential, torch.optim.Optimizer, ContinualBackprop]:
    """Inputs 1 and 3 give h = (2, 6) and (1, 3); outgoing weights (1, −1) and (4, 0)."""
    network = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 2))
    network[0].weight.data.copy_(torch.tensor([[2.0], [1.0]]))
    network[0].bias.data.zero_()
    network[2].weight.data.copy_(torch.tensor([[1.0, 4.0], [-1.0, 0.0]]))
    network[2].bias.data.copy_(torch.tensor([10.0, 20.0]))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-8)
    method = ContinualBackprop(**settings)  # type: ignore[arg-type]
    method.attach(network, optimizer)
    return network, optimizer, method


def update(network: nn.Module, optimizer: torch.optim.Optimizer, inputs: Tensor | None = None) -> None:
    optimizer.zero_grad()
    network(torch.tensor([[1.0], [3.0]]) if inputs is None else inputs).sum().backward()
    optimizer.step()


def test_utility_by_hand():
    """u = (1 − η)·E|h|·Σ|w| = ½·4·2 and ½·2·4, then η times that and the same again."""
    network, optimizer, method = two_units(decay=0.5, replacement_rate=1e-9)
    for factor in (0.5, 0.75, 0.875):
        update(network, optimizer)
        torch.testing.assert_close(method._utility["0"], factor * torch.tensor([8.0, 8.0]), rtol=1e-5, atol=0)
        torch.testing.assert_close(method._mean["0"][:, 0], factor * torch.tensor([4.0, 2.0]), rtol=1e-5, atol=0)


def test_least_useful_unit_is_replaced_and_its_mean_kept():
    """With outgoing weights (1, −1) and (3, 0) unit 1 has utility 6 of 8; its mean of 2 moves to the bias: 10 + 3·2."""
    network, optimizer, method = two_units(decay=0.5, replacement_rate=0.5, maturity=2)
    network[2].weight.data[0, 1] = 3
    for step in range(1, 4):
        before = copy.deepcopy(network)
        update(network, optimizer)
        assert method.scalars()["resets"] == (1 if step == 3 else 0)
    torch.testing.assert_close(network[2].bias.data, torch.tensor([16.0, 20.0]))
    torch.testing.assert_close(network[2].weight.data, torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    assert network[0].weight[0].item() == pytest.approx(before[0].weight[0].item())
    assert network[0].weight[1].item() != pytest.approx(before[0].weight[1].item())
    moments = optimizer.state[network[2].weight]["exp_avg"]
    assert (moments[:, 0] != 0).all()
    assert (moments[:, 1] == 0).all()
    assert optimizer.state[network[0].weight]["exp_avg_sq"][1] == 0
    assert method._utility["0"][1] == method._mean["0"][1] == 0
    assert method._born["0"].tolist() == [0, 3]


def test_fractions_accumulate():
    """Ten mature units at a rate of 0.03 owe 0.3 per update: 1 after four, and again after three or four."""
    network = nn.Sequential(nn.Linear(1, 10), nn.ReLU(), nn.Linear(10, 1))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-8)
    method = ContinualBackprop(replacement_rate=0.03, maturity=1, decay=0.9)
    method.attach(network, optimizer)
    resets = []
    for _ in range(12):
        update(network, optimizer)
        resets.append(int(method.scalars()["resets"]))
    # Nobody is mature at 1; 0.3 a step from 2 on; a new unit is immature for one step, 0.27 that time.
    assert resets == [0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 3]


@pytest.mark.parametrize("maturity", [0, 3])
def test_nobody_immature_is_replaced_and_the_count_agrees(maturity: int):
    network, optimizer, method = two_units(replacement_rate=0.4, maturity=maturity, decay=0.9)
    for step in range(1, 15):
        born = method._born["0"].clone()
        update(network, optimizer)
        new = method._born["0"] == step
        assert (step - born[new] > maturity).all()
        mature = int((step + 1 - method._born["0"] > maturity).sum())
        young = sum(count for when, count in method._young["0"] if step + 1 - when > maturity)
        assert method._mature["0"] + young == mature


def test_convolution_into_linear():
    """One channel, four positions: E|h| = 2, Σ|w| = 1 + 2 + 3 + 4; the bias takes 10·2."""
    network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Flatten(), nn.Linear(4, 1))
    network[0].weight.data.fill_(2)
    network[0].bias.data.zero_()
    network[2].weight.data.copy_(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    network[2].bias.data.zero_()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-9)
    method = ContinualBackprop(replacement_rate=1.0, maturity=1, decay=0.5)
    method.attach(network, optimizer)
    update(network, optimizer, torch.ones(3, 1, 2, 2))
    assert method._utility["0"].item() == pytest.approx(0.5 * 2 * 10)
    update(network, optimizer, torch.ones(3, 1, 2, 2))
    assert network[2].bias.item() == pytest.approx(20)
    assert (network[2].weight == 0).all()


def test_goes_on_bit_for_bit_after_loading():
    network, optimizer, method = two_units(replacement_rate=0.3, maturity=2, decay=0.9)
    for _ in range(7):
        update(network, optimizer)
    other, again = copy.deepcopy(network), ContinualBackprop(replacement_rate=0.3, maturity=2, decay=0.9)
    moments = torch.optim.Adam(other.parameters(), lr=1e-8)
    again.attach(other, moments, seed=5)
    moments.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    again.load_state_dict(method.state_dict())
    for _ in range(9):
        update(network, optimizer)
        update(other, moments)
    assert method.scalars()["resets"] > 2
    for one, two in ((network, other), (method, again)):
        assert all(torch.equal(t, two.state_dict()[key]) for key, t in one.state_dict().items())


def test_rate_zero_is_never():
    network, optimizer, _ = two_units(replacement_rate=0.0, maturity=0)
    plain = copy.deepcopy(network)
    other = torch.optim.Adam(plain.parameters(), lr=1e-8)
    for _ in range(3):
        update(network, optimizer)
        update(plain, other)
    assert all(torch.equal(t, plain.state_dict()[key]) for key, t in network.state_dict().items())


@pytest.mark.parametrize(
    "settings", [{"replacement_rate": -0.1}, {"replacement_rate": 1.1}, {"decay": 1.0}, {"maturity": -1}]
)
def test_settings(settings: dict):
    with pytest.raises(ValueError, match=f"^{next(iter(settings))}: "):
        ContinualBackprop(**settings)
