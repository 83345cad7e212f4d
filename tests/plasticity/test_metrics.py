import pytest
import torch
from torch import nn

from neoteny.plasticity import dormant_units, spectral_norms


def test_spectral_norms_by_hand():
    network = nn.Sequential(
        nn.Linear(2, 2),
        nn.LayerNorm(2),
        nn.Conv1d(1, 2, 2),
        nn.Conv2d(1, 1, (1, 2)),
        nn.Linear(1, 2),
        nn.Linear(2, 3),
    )
    weights = {
        "0": [[3, 0], [0, 1]],
        "1": [7, 7],
        "2": [[[0.96, 0.72]], [[1.28, 0.96]]],
        "3": [[[[3, 4]]]],
        "4": [[-3], [4]],
        "5": [[0, 0], [0, 0], [0, 0]],
    }
    for name, weight in weights.items():
        network.get_submodule(name).weight.data = torch.tensor(weight, dtype=torch.float64)
    norms = spectral_norms(network)
    assert list(norms) == ["0", "2", "3", "4", "5"]
    assert norms == pytest.approx({"0": 3, "2": 2, "3": 5, "4": 5, "5": 0}, abs=1e-7)


@pytest.mark.parametrize("shape", [(64, 64), (256, 980), (980, 8), (1, 9), (9, 1)])
def test_spectral_norms_are_those_of_the_svd(shape: tuple[int, int]):
    module = nn.Linear(shape[1], shape[0])
    module.weight.data.normal_(generator=torch.Generator().manual_seed(0))
    exact = torch.linalg.svdvals(module.weight.detach().double())[0].item()
    assert spectral_norms(module)[""] == pytest.approx(exact, rel=1e-8)


def test_spectral_norms_leave_the_network_as_it_is():
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).requires_grad_(False)
    network[1].requires_grad_(True)
    before = [p.clone() for p in network.parameters()]
    state = torch.get_rng_state()
    assert len(spectral_norms(network)) == 2
    assert torch.equal(torch.get_rng_state(), state)
    for p, old in zip(network.parameters(), before, strict=True):
        assert torch.equal(p, old)
        assert p.grad is None


def test_spectral_norms_of_chosen_parameters():
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    assert list(spectral_norms(network, {id(network[1].weight)})) == ["1"]
    assert spectral_norms(network, set()) == {}


def test_dormant_units_by_hand():
    """E|h| = 1, 4, 0.5, 0, of mean 11/8: scores 8/11, 32/11, 4/11, 0."""
    batch = torch.tensor([[2.0, -4, 0, 0], [0, 4, -1, 0]])
    for activations in (batch, batch.abs().sum(0)):
        for tau, dormant in ((0, "0001"), (0.36, "0001"), (0.37, "0011"), (0.8, "1011"), (3, "1111")):
            assert dormant_units(activations, tau).tolist() == [digit == "1" for digit in dormant]
    assert dormant_units(torch.zeros(3, 2)).tolist() == [True, True]
    assert dormant_units(torch.tensor([[[1.0, 3.0], [0.0, 0.0]]])).tolist() == [False, True]
