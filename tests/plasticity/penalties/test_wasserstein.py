import math

import pytest
import torch
from scipy import optimize, stats
from torch import Tensor, nn

from neoteny.plasticity import Wasserstein
from neoteny.plasticity.penalties.wasserstein import pair
from neoteny.plasticity.penalty import Penalty

DOUBLE = torch.float64


def attach(penalty: Penalty, module: nn.Module) -> torch.optim.Optimizer:
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    penalty.attach(module, optimizer)
    return optimizer


def row(values: list[float]) -> nn.Linear:
    layer = nn.Linear(len(values), 1, bias=False, dtype=DOUBLE)
    layer.weight.data.copy_(torch.tensor([values]))
    return layer


def move(module: nn.Linear, values: list[float]) -> None:
    module.weight.data.copy_(torch.tensor([values]))


def test_by_hand():
    """From (1, 5, 3) to (6, 2, 4): sorted (2, 4, 6) against (1, 3, 5). Each entry goes to the one of its rank."""
    module, penalty = row([1, 5, 3]), Wasserstein(strength=0.25)
    attach(penalty, module)
    move(module, [6, 2, 4])
    assert penalty.value().item() == 3
    assert penalty.scalars()["penalty"].item() == 0.75
    module.weight.grad = torch.full((1, 3), 10.0, dtype=DOUBLE)
    penalty.add_grad_()
    assert module.weight.grad.tolist() == [[10.5, 10.5, 10.5]]


def test_weights_that_only_change_places_cost_nothing():
    module, penalty = row([1, -5, 3, 0]), Wasserstein(strength=1.0)
    attach(penalty, module)
    move(module, [3, 0, -5, 1])
    assert penalty.value().item() == 0
    penalty.add_grad_()
    assert not module.weight.grad.any()


def test_pair():
    weight = torch.tensor([[[0.3, -2.0]], [[5.0, 0.1]]])
    target = torch.tensor([[[30.0, 40.0]], [[10.0, 20.0]]])
    assert pair(weight, target).tolist() == [[[30, 10]], [[40, 20]]]
    channels_last = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    strided = channels_last.to(memory_format=torch.channels_last)
    shuffled = channels_last.flip(0)
    assert torch.equal(pair(strided, shuffled), channels_last)


@pytest.mark.parametrize("shape", [(7, 5), (4, 3, 2, 2), (1, 9)])
def test_is_the_wasserstein_distance(shape: tuple[int, ...]):
    """√(R/n) against the definition, an optimal assignment, found by another algorithm; and W₁ ≤ W₂ ≤ it by scipy."""
    generator = torch.Generator().manual_seed(0)
    module = nn.Linear(shape[1], shape[0]) if len(shape) == 2 else nn.Conv2d(shape[1], shape[0], shape[2:])
    module.double()
    start, end = (torch.randn(shape, generator=generator, dtype=DOUBLE) * scale for scale in (1, 3))
    module.bias.data.zero_()
    module.weight.data.copy_(start)
    penalty = Wasserstein(strength=1.0)
    attach(penalty, module)
    module.weight.data.copy_(end)
    costs = (start.flatten()[:, None] - end.flatten()).square().numpy()
    assert penalty.value().item() == pytest.approx(costs[optimize.linear_sum_assignment(costs)].sum(), rel=1e-12)
    w1 = stats.wasserstein_distance(start.flatten().numpy(), end.flatten().numpy())
    assert w1 <= math.sqrt(penalty.value().item() / start.numel()) + 1e-12
    sorted_difference = start.flatten().sort().values - end.flatten().sort().values
    assert w1 == pytest.approx(sorted_difference.abs().mean().item(), rel=1e-12)


def test_weights_and_biases_and_layers_are_apart():
    """A weight of 7 and a bias of 7 in place of 0 cost 49 each, though the other layer has a 7 to spare."""
    module = nn.Sequential(nn.Linear(1, 1), nn.LayerNorm(1), nn.Linear(1, 1)).double()
    for p, value in zip(module.parameters(), (0, 0, 1, 0, 7, 7), strict=True):
        p.data.fill_(value)
    penalty = Wasserstein(strength=1.0)
    attach(penalty, module)
    for p in module[0].parameters():
        p.data.fill_(7)
    assert penalty.value().item() == 98
    module[1].weight.data.fill_(3)
    assert penalty.value().item() == 102


def test_between_sorts_entries_keep_their_partners():
    module, penalty = row([0, 1]), Wasserstein(strength=0.5, every=3)
    attach(penalty, module)
    move(module, [3, 2])
    seen = []
    for _ in range(4):
        module.weight.grad = None
        penalty.before_step()
        seen.append(module.weight.grad.tolist()[0])
    assert seen == [[3, 1], [3, 1], [2, 2], [2, 2]]
    assert penalty.value().item() == 8


@pytest.mark.parametrize("every", [1, 4])
def test_pulls_the_distribution_back_and_leaves_the_order(every: int):
    module = nn.Linear(5, 4, dtype=DOUBLE)
    generator = torch.Generator().manual_seed(0)
    penalty = Wasserstein(strength=0.25, every=every)
    optimizer = attach(penalty, module)
    began = module.weight.detach().clone()
    module.weight.data.normal_(generator=generator)
    order = module.weight.detach().flatten().argsort()
    for _ in range(80):
        optimizer.zero_grad()
        optimizer.step()
    torch.testing.assert_close(module.weight.data.flatten().sort().values, began.flatten().sort().values)
    if every == 1:
        assert torch.equal(module.weight.detach().flatten().argsort(), order)


def test_state_goes_on_between_sorts():
    ends: list[Tensor] = []
    for restart in (False, True):
        module, penalty = row([0, 1, 2]), Wasserstein(strength=0.125, every=3)
        optimizer = attach(penalty, module)
        for step in range(8):
            module.weight.data.normal_(generator=torch.Generator().manual_seed(step))
            if restart and step == 4:
                state = penalty.state_dict()
                penalty = Wasserstein(strength=0.125, every=3)
                again = torch.optim.SGD(module.parameters(), lr=1.0)
                penalty.attach(module, again)
                penalty.load_state_dict(state)
                optimizer = again
            optimizer.zero_grad()
            optimizer.step()
        ends.append(module.weight.detach().clone())
    assert torch.equal(*ends)


@pytest.mark.parametrize("every", [0, -1, 1.5])
def test_every_must_be_an_integer_of_at_least_one(every: float):
    with pytest.raises(ValueError, match=rf"^every: an integer of at least 1 is needed, got {every}$"):
        Wasserstein(every=every)
