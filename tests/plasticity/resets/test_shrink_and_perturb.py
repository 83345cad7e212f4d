import copy

import pytest
import torch
from torch import Tensor, nn

from neoteny.plasticity import ShrinkAndPerturb
from neoteny.plasticity.resets.initial import another_draw


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network() -> nn.Sequential:
    layers = nn.Sequential(nn.Conv1d(1, 3, 2), nn.Flatten(), nn.LayerNorm(6), nn.ReLU(), nn.Linear(6, 2))
    for i, p in enumerate(layers.parameters()):
        p.data.normal_(generator=generator(i))
    return layers


def train(module: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 1) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        (module(torch.tensor([[[1.0, -2.0, 0.5]]])) - 1).square().sum().backward()
        optimizer.step()


def singular_values(weight: Tensor) -> Tensor:
    return torch.linalg.svdvals(weight.detach().flatten(1).double())


def test_shrink_by_hand():
    """Without noise 4 becomes 4·¾ = 3, biases and all."""
    module = nn.Linear(1, 1)
    module.weight.data.fill_(4)
    module.bias.data.fill_(-8)
    method = ShrinkAndPerturb(shrink=0.75, perturb=0.0)
    method.attach(module, torch.optim.SGD(module.parameters(), lr=1.0))
    method.on_switch()
    assert (module.weight.item(), module.bias.item()) == (3, -6)


def test_perturb_by_hand():
    """Of a 1×1 weight of 4, another draw is 4 or −4; of a bias of 8 it is 8. From zero, half of it is added."""
    module, seen = nn.Linear(1, 1), set()
    module.weight.data.fill_(4)
    module.bias.data.fill_(8)
    method = ShrinkAndPerturb(shrink=1.0, perturb=0.5)
    method.attach(module, torch.optim.SGD(module.parameters(), lr=1.0))
    for _ in range(20):
        module.weight.data.zero_()
        module.bias.data.zero_()
        method.on_switch()
        assert module.bias.item() == 4
        seen.add(module.weight.item())
    assert seen == {-2, 2}


@pytest.mark.parametrize("shape", [(5, 5), (3, 8), (8, 3), (4, 3, 2, 2)])
def test_another_draw_has_the_entries_and_singular_values_of_the_first(shape: tuple[int, ...]):
    first = torch.randn(shape, generator=generator())
    draw = another_draw(first, generator(1))
    assert draw.shape == first.shape
    assert torch.equal(draw.abs().flatten().sort().values, first.abs().flatten().sort().values)
    torch.testing.assert_close(singular_values(draw), singular_values(first))
    assert not torch.equal(draw.abs(), first.abs())
    orthogonal = nn.init.orthogonal_(torch.empty(shape), 2**0.5, generator=generator())
    values = singular_values(another_draw(orthogonal, generator(1)))
    torch.testing.assert_close(values, torch.full_like(values, 2**0.5), rtol=1e-6, atol=0)


def test_draws_are_new_uncorrelated_and_have_mean_zero():
    first, chance = torch.randn(12, 9, generator=generator()), generator(1)
    draws = torch.stack([another_draw(first, chance) for _ in range(2000)])
    assert len({tuple(d.flatten().tolist()) for d in draws}) == 2000
    assert draws.mean(0).abs().max() < 5 * first.std() / 2000**0.5
    assert (draws * first).mean().abs() < 5 * first.square().mean() / (2000 * 108) ** 0.5
    torch.testing.assert_close(draws.var(0).mean(), first.square().mean(), rtol=1e-2, atol=0)


def test_rows_and_columns_change_places_and_signs_and_nothing_else():
    """Of (1 2; 3 4) there are 2·2 arrangements; of all ones, the 8 sign patterns of rank one. All are drawn."""
    chance, first = generator(), torch.tensor([[1.0, 2], [3, 4]])
    arrangements = {tuple(another_draw(first, chance).abs().flatten().tolist()) for _ in range(200)}
    assert arrangements == {(1, 2, 3, 4), (2, 1, 4, 3), (3, 4, 1, 2), (4, 3, 2, 1)}
    signs = {tuple(another_draw(torch.ones(2, 2), chance).flatten().tolist()) for _ in range(400)}
    assert len(signs) == 8
    assert all(a * d == b * c for a, b, c, d in signs)


def test_vector_keeps_its_signs():
    first = torch.arange(6.0)
    assert torch.equal(another_draw(torch.ones(6), generator()), torch.ones(6))
    assert torch.equal(another_draw(first, generator()).sort().values, first)


def test_after_every_third_update_and_at_switches():
    module = network()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.0)
    method = ShrinkAndPerturb(shrink=0.5, perturb=0.0, every=3)
    method.attach(module, optimizer)
    start = module[4].weight[0, 0].item()
    sizes = []
    for _ in range(6):
        train(module, optimizer)
        sizes.append(module[4].weight[0, 0].item() / start)
    assert sizes == pytest.approx([1, 1, 0.5, 0.5, 0.5, 0.25])
    method.on_switch()
    assert module[4].weight[0, 0].item() / start == pytest.approx(0.125)
    assert method.scalars()["perturbations"].item() == 3


def test_not_at_switches():
    module = network()
    method = ShrinkAndPerturb(at_switch=False)
    method.attach(module, torch.optim.SGD(module.parameters(), lr=1.0))
    before = copy.deepcopy(module.state_dict())
    method.on_switch()
    assert all(torch.equal(module.state_dict()[key], before[key]) for key in before)


def test_nothing_is_lost_when_it_shrinks_by_nothing():
    module = network()
    method = ShrinkAndPerturb(shrink=1.0, perturb=0.0, moments="keep")
    method.attach(module, torch.optim.SGD(module.parameters(), lr=1.0))
    before = copy.deepcopy(module.state_dict())
    method.on_switch()
    assert all(torch.equal(module.state_dict()[key], before[key]) for key in before)


@pytest.mark.parametrize("moments", ["reset", "keep"])
def test_moments_of_exactly_what_was_moved(moments: str):
    """The head is exempt, and the convolution's bias frozen: their moments, like their weights, are not touched."""
    module = network()
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    method = ShrinkAndPerturb(heads="exempt", moments=moments)
    method.attach(module, optimizer)
    train(module, optimizer, 3)
    module[0].bias.requires_grad_(False)
    before = copy.deepcopy(optimizer.state_dict()["state"])
    weights = copy.deepcopy(module.state_dict())
    method.on_switch()
    for i, (name, _) in enumerate(module.named_parameters()):
        moved = name in ("0.weight", "2.weight", "2.bias")
        assert torch.equal(module.state_dict()[name], weights[name]) == (not moved), name
        for key, tensor in optimizer.state_dict()["state"][i].items():
            wanted = torch.zeros_like(tensor) if moved and moments == "reset" else before[i][key]
            assert torch.equal(tensor, wanted), (name, key)
            assert before[i][key].any()


@pytest.mark.parametrize(
    ("cls", "settings"),
    [
        (torch.optim.Adam, {}),
        (torch.optim.AdamW, {"amsgrad": True, "foreach": True}),
        (torch.optim.RMSprop, {"momentum": 0.5}),
        (torch.optim.SGD, {"momentum": 0.9}),
    ],
)
def test_after_it_the_optimizer_goes_on_as_a_new_one_would(cls: type[torch.optim.Optimizer], settings: dict):
    module = network()
    optimizer = cls(module.parameters(), lr=1e-2, **settings)
    method = ShrinkAndPerturb()
    method.attach(module, optimizer)
    train(module, optimizer, 3)
    method.on_switch()
    twin = copy.deepcopy(module)
    train(module, optimizer, 3)
    train(twin, cls(twin.parameters(), lr=1e-2, **settings), 3)
    for mine, theirs in zip(module.parameters(), twin.parameters(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shrink": 1.5}, r"^shrink: a number from 0 to 1 is needed, got 1.5"),
        ({"perturb": -0.1}, r"^perturb: a finite number of at least 0 is needed, got -0.1"),
        ({"every": -1}, r"^every: an integer of at least 0 is needed, got -1"),
        ({"moments": "some"}, r"^moments: 'reset' or 'keep' is needed, got 'some'"),
    ],
)
def test_settings_are_checked(settings: dict, message: str):
    with pytest.raises(ValueError, match=message):
        ShrinkAndPerturb(**settings)
