"""ReDo: which units are recycled, when, and never."""

import copy

import pytest
import torch
from layers_by_hand import adam, update
from torch import nn

from neoteny.plasticity import ReDo


def hand(every: int = 1, tau: float = 0.3) -> tuple[nn.Sequential, torch.optim.Optimizer, ReDo]:
    """Units give 1, 4, 0.5 and 0 for input 1: scores 8/11, 32/11, 4/11 and 0."""
    network = nn.Sequential(nn.Linear(1, 4), nn.ReLU(), nn.Linear(4, 2))
    network[0].weight.data.copy_(torch.tensor([[1.0], [4.0], [0.5], [-1.0]]))
    network[0].bias.data.zero_()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-6, momentum=0.9)
    redo = ReDo(every=every, tau=tau)
    redo.attach(network, optimizer)
    return network, optimizer, redo


@pytest.mark.parametrize(
    ("tau", "dormant"), [(0.0, [3]), (0.3, [3]), (0.4, [2, 3]), (0.8, [0, 2, 3]), (3, [0, 1, 2, 3])]
)
def test_redo_recycles_dormant_units(tau: float, dormant: list[int]):
    network, optimizer, redo = hand(tau=tau)
    before = copy.deepcopy(network)
    update(network, optimizer, torch.ones(8, 1))
    moved = (network[0].weight - before[0].weight).abs()[:, 0] > 1e-3
    assert moved.nonzero()[:, 0].tolist() == dormant
    assert (network[2].weight == 0).all(0).nonzero()[:, 0].tolist() == dormant
    assert (optimizer.state[network[2].weight]["momentum_buffer"] == 0).all(0)[dormant].all()
    assert redo.scalars()["resets"] == len(dormant)
    assert redo.scalars()["dormant"] == len(dormant) / 4


def test_redo_acts_at_every_nth_update_and_sees_only_that_ones_passes():
    network, optimizer, redo = hand(every=3)
    for step in range(2):
        update(network, optimizer, -torch.ones(8, 1))
        assert redo.scalars()["resets"] == 0, step
    with torch.no_grad():
        network(-torch.ones(64, 1))
    network.eval()
    network(-torch.ones(64, 1))
    network.train()
    copied = copy.deepcopy(network)
    copied(-torch.ones(64, 1)).sum().backward()
    update(network, optimizer, torch.ones(8, 1))
    assert (network[2].weight == 0).all(0).tolist() == [False, False, False, True]


def test_redo_never():
    ends = []
    for every in (None, 0):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        optimizer = adam(network)
        if every is not None:
            ReDo(every=every).attach(network, optimizer)
        for _ in range(5):
            update(network, optimizer, torch.ones(4, 3))
        ends.append(network.state_dict())
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


def test_frozen_layers_are_left_alone_on_either_side():
    for frozen in (0, 2):
        network, optimizer, redo = hand()
        network[frozen].requires_grad_(False)
        update(network, optimizer, torch.ones(8, 1))
        assert redo.scalars()["resets"] == 0


@pytest.mark.parametrize("settings", [{"tau": -1.0}, {"tau": float("nan")}, {"every": -1}, {"every": 1.5}])
def test_settings_of_redo(settings: dict):
    with pytest.raises(ValueError, match=f"^{next(iter(settings))}: "):
        ReDo(**settings)
