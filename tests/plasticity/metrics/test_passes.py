"""Units as they are read in a pass, against layers computed one by one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from neoteny.agents.networks import CReLU, Fourier
from neoteny.plasticity import dormant_units
from neoteny.plasticity.metrics import Passes, saturated_units


class Swish(nn.Module):
    """A user's own activation."""

    def forward(self, z: Tensor) -> Tensor:
        return z * z.sigmoid()


def read(module: nn.Module, x: Tensor) -> Passes:
    with torch.enable_grad(), Passes(module.eval()) as passes:
        module(x)
    return passes


def numbers(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


ACTIVATIONS = [nn.ReLU(), nn.Tanh(), nn.LeakyReLU(0.1), nn.ELU(), nn.GELU(), nn.Softplus(), nn.PReLU(), Swish()]
ACTIVATIONS += [nn.ReLU(inplace=True), nn.LeakyReLU(0.1, inplace=True)]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_activations_and_slopes(activation):
    """Slopes against finite differences, in float64."""
    net = nn.Sequential(nn.Linear(4, 6), activation, nn.Linear(6, 2)).double()
    x = numbers(5, 4).double()
    units = read(net, x).units()
    assert list(units) == ["0"]
    z = net[0](x).detach()
    h = 1e-6
    ahead, behind = (activation(z + step).detach().clone() for step in (h, -h))
    torch.testing.assert_close(units["0"].slopes[:, :, 0], (ahead - behind) / (2 * h), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(units["0"].activations[:, :, 0], activation(net[0](x)).detach())


def test_an_activation_that_overwrites_what_it_got_has_no_slopes():
    units = read(nn.Sequential(nn.Linear(4, 6), nn.ELU(inplace=True), nn.Linear(6, 2)), numbers(5, 4)).units()
    assert units["0"].slopes is None


@pytest.mark.parametrize(("activation", "copies"), [(CReLU(), (1, -1)), (Fourier(), None)])
def test_units_that_enter_twice(activation, copies):
    net = nn.Sequential(nn.Linear(4, 3), activation, nn.Linear(6, 2))
    x = numbers(5, 4)
    units, z = read(net, x).units()["0"], net[0](x).detach()
    assert units.activations.shape == (5, 3, 2)
    both = [z.relu(), (-z).relu()] if copies else [z.sin(), z.cos()]
    torch.testing.assert_close(units.activations, torch.stack(both, 2))


def test_convolutions_pooling_and_norms():
    net = nn.Sequential(
        nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 5),
        nn.LayerNorm(5), nn.Tanh(), nn.Dropout(), nn.Linear(5, 1),
    )  # fmt: skip
    passes = read(net, x := numbers(6, 3, 5, 5))
    units = passes.units()
    assert list(units) == ["0", "5"]
    pooled = net[:4](x)
    torch.testing.assert_close(units["0"].activations, pooled.flatten(2).detach())
    torch.testing.assert_close(units["5"].activations[:, :, 0], net[:8](x).detach())
    assert units["0"].slopes.shape == (6, 4, 16)
    assert passes.unread() == ["9"]
    torch.testing.assert_close(passes.inputs("9"), net[:8](x).detach())
    assert passes.inputs("7") is None


def test_what_follows_without_a_module_is_named():
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.three = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.three(self.two(self.one(x).relu()))

    passes = read(Functional(), numbers(5, 3))
    assert passes.unread() == ["one", "three"]
    assert passes.units()["two"].slopes is None  # linear: three gets what two gives


def test_recurrent_units_are_hidden_states():
    lstm, cell = nn.LSTM(3, 4, num_layers=2), nn.GRUCell(3, 5)
    x = numbers(7, 2, 3)
    torch.testing.assert_close(read(lstm, x).units()[""].activations, lstm(x)[0].reshape(14, 4, 1).detach())
    torch.testing.assert_close(read(cell, x[0]).units()[""].activations, cell(x[0])[..., None].detach())
    packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([7, 3]))
    assert read(lstm, packed).units()[""].activations.shape == (10, 4, 1)


def test_nothing_is_left_behind():
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    before, state = [p.clone() for p in net.parameters()], torch.get_rng_state()
    with pytest.raises(RuntimeError), Passes(net):
        net(numbers(5, 3))
    passes = read(net, numbers(5, 4))
    passes.units()
    assert not any(module._forward_hooks for module in net.modules())
    assert all(p.grad is None for p in net.parameters())
    assert all(map(torch.equal, net.parameters(), before))
    assert torch.equal(torch.get_rng_state(), state)


def test_saturated_units_by_hand():
    """tanh' = 1 − tanh²: at z = 3 it is 0.0099, at 2 0.0707; ReLU' is 1 where z > 0."""
    z = torch.tensor([[0.0, 2.0, 3.0, -3.0], [0.5, -2.0, -3.0, 0.1]])
    slopes = 1 - z.tanh() ** 2
    assert saturated_units(slopes, 0.025).tolist() == [False, False, True, False]
    assert saturated_units(slopes, 0.08).tolist() == [False, True, True, False]
    assert saturated_units((z > 0).float(), 0).tolist() == [False, False, False, False]
    assert saturated_units((z > 0.4).float(), 0.5).tolist() == [True, True, True, True]
    assert saturated_units(slopes.abs().mean(0), 0.025).tolist() == saturated_units(slopes, 0.025).tolist()
    assert saturated_units(torch.zeros(3, 2)).tolist() == [True, True]
    assert saturated_units(torch.full((3, 2), torch.nan)).tolist() == [False, False]
    assert dormant_units(torch.full((3, 2), torch.nan)).tolist() == [False, False]
    assert saturated_units(torch.zeros(1, 2, 4)).tolist() == [True, True]  # one sample, four positions
