import copy

import pytest
import torch
from torch import Tensor, nn

from neoteny.plasticity import SelfNormalizedResets
from neoteny.plasticity.resets.snr import BINS, silence_threshold


def histogram(*counts: int) -> Tensor:
    return torch.tensor([[*counts, *[0] * (BINS - len(counts))]], dtype=torch.float32)


@pytest.mark.parametrize(
    ("counts", "eta", "threshold"),
    [
        ((100,), 0.01, 1),  # always fired
        ((99, 1), 0.01, 1),  # 99 % of the times were 1
        ((98, 2), 0.01, 2),
        ((98, 1, 1), 0.01, 2),
        ((50, 0, 0, 50), 0.01, 8),  # half of them 5 to 8
        ((50, 0, 0, 50), 0.5, 1),
        ((99,), 0.01, 77),  # too few to tell
        ((), 0.5, 77),
    ],
)
def test_threshold_is_the_quantile(counts: tuple[int, ...], eta: float, threshold: float):
    assert silence_threshold(histogram(*counts), eta, patience=77).item() == threshold


def network_of(weights: list[float]) -> tuple[nn.Sequential, torch.optim.Optimizer]:
    network = nn.Sequential(nn.Linear(1, len(weights)), nn.ReLU(), nn.Linear(len(weights), 1))
    network[0].weight.data.copy_(torch.tensor(weights)[:, None])
    network[0].bias.data.zero_()
    return network, torch.optim.SGD(network.parameters(), lr=1e-9)


def update(network: nn.Module, optimizer: torch.optim.Optimizer, value: float) -> None:
    optimizer.zero_grad()
    network(torch.full((2, 1), float(value))).sum().backward()
    optimizer.step()


def test_record_by_hand():
    """Unit 0 fires at updates 1, 4 and 6: times 1, 3 and 2. Unit 1 fires at the others: 2, 1 and 2."""
    network, optimizer = network_of([1.0, -1.0])
    method = SelfNormalizedResets()
    method.attach(network, optimizer)
    for sign in (1, -1, -1, 1, -1, 1, -1):
        update(network, optimizer, sign)
    assert method._silent.tolist() == [1, 0]
    assert method._times[:, :4].tolist() == [[1, 1, 1, 0], [1, 3, 0, 0]]


def test_unit_is_reset_when_silent_for_longer_than_it_ever_was():
    """Both fire every other update, four times; then unit 1 falls silent. Its times were 1 or 2, so at 3 it goes."""
    network, optimizer = network_of([1.0, -1.0])
    method = SelfNormalizedResets(eta=0.25, every=1)
    method.attach(network, optimizer)
    for _ in range(4):
        update(network, optimizer, 1)
        update(network, optimizer, -1)
    before = copy.deepcopy(network)
    for silence in (1, 2, 3):
        assert method.scalars()["resets"] == 0, silence
        update(network, optimizer, 1)
    assert method.scalars()["resets"] == 1
    assert (network[2].weight == 0).tolist() == [[False, True]]
    assert network[0].weight[0].item() == pytest.approx(before[0].weight[0].item())
    assert network[0].weight[1].item() != pytest.approx(-1)
    assert method._silent.tolist() == [0, 0]
    assert method._times[1].sum() == 0
    assert method._times[0].sum() == 7


def test_unit_without_a_record_has_patience():
    network, optimizer = network_of([1.0, -1.0])
    method = SelfNormalizedResets(every=2, patience=4)
    method.attach(network, optimizer)
    resets = []
    for _ in range(6):
        update(network, optimizer, 1)
        resets.append(int(method.scalars()["resets"]))
    assert resets == [0, 0, 0, 0, 0, 1]


def test_layers_without_a_pass_do_not_age():
    network = nn.ModuleDict({"one": network_of([1.0, -1.0])[0], "two": network_of([1.0])[0]})
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-9)
    method = SelfNormalizedResets()
    method.attach(network, optimizer)
    update(network["one"], optimizer, 1)
    update(network["two"], optimizer, -1)
    optimizer.step()
    by_layer = {layer.name: silent.tolist() for layer, silent in method._by_layer(method._silent)}
    assert by_layer["one.0"] == [0, 1]
    assert by_layer["two.0"] in ([0], [1])


@pytest.mark.parametrize("settings", [{"eta": 0.0}, {"eta": 1.0}, {"every": -1}, {"patience": 0}])
def test_settings(settings: dict):
    with pytest.raises(ValueError, match=f"^{next(iter(settings))}: "):
        SelfNormalizedResets(**settings)
