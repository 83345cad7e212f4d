import copy

import pytest
import torch
from layers_by_hand import DOUBLE, linear
from torch import Tensor, nn

from neoteny.plasticity import Method, NormalizeAndProject, SpectralNorm, WeightClipping


def attach(method: Method, module: nn.Module) -> Method:
    method.attach(module, torch.optim.SGD(module.parameters(), lr=1.0))
    return method


def network(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 9, 16), nn.LayerNorm(16), nn.ReLU(),
        nn.Linear(16, 40), nn.ReLU(), nn.Linear(40, 2),
    ).to(dtype)  # fmt: skip


def shake(module: nn.Module, step: int, size: float = 1.0) -> None:
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(size * torch.randn(p.shape, generator=generator).to(p))


def sigma(weight: Tensor) -> float:
    return torch.linalg.svdvals(weight.detach().flatten(1).double())[0].item()


def body(module: nn.Sequential) -> list[nn.Module]:
    return [module[0], module[3], module[6]]


# Spectral norm


def test_spectral_norm_by_hand():
    """diag(3, 1) to a bound of 2: times ⅔. What is below the bound, a bias and a norm are left alone, to the bit."""
    module = nn.Sequential(linear([[3, 0], [0, 1]], [5, 6]), nn.LayerNorm(2, dtype=DOUBLE), linear([[0.5, 0], [0, 1]]))
    module[1].weight.data.fill_(9)
    method, before = attach(SpectralNorm(bound=2.0, heads="include"), module), copy.deepcopy(module.state_dict())
    method.after_step()
    torch.testing.assert_close(module[0].weight.data, torch.diag(torch.tensor([2, 2 / 3], dtype=DOUBLE)))
    for key in ("0.bias", "1.weight", "1.bias", "2.weight"):
        assert torch.equal(module.state_dict()[key], before[key]), key
    assert method.scalars()["sigma_max"].item() == pytest.approx(2)


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@pytest.mark.parametrize("bound", [0.5, 1.0, 3.0])
def test_no_singular_value_is_above_the_bound(dtype: torch.dtype, bound: float):
    """However far the weights have jumped; and where it was above, σ₁ is the bound and directions stay."""
    module = network(dtype)
    method = attach(SpectralNorm(bound=bound), module)
    for step in range(10):
        shake(module, step, size=10.0 ** -(step % 4))
        before = [layer.weight.detach().clone() for layer in body(module)]
        method.after_step()
        for layer, old in zip(body(module), before, strict=True):
            assert sigma(layer.weight) <= bound
            if sigma(old) > bound:
                assert sigma(layer.weight) == pytest.approx(bound, rel=2e-5)
                torch.testing.assert_close(layer.weight.data, old * (bound / sigma(old)), rtol=5e-5, atol=1e-7)
            else:
                torch.testing.assert_close(layer.weight.data, old, rtol=2e-5, atol=0)
    assert sigma(module[8].weight) > bound  # the head


def test_equal_rank_one_and_zero_matrices():
    for weight in (3 * torch.eye(4), torch.ones(5, 3), torch.zeros(3, 4), torch.zeros(4, 3)):
        module = linear(weight.tolist())
        method = attach(SpectralNorm(heads="include"), module)
        for _ in range(3):
            method.after_step()
        assert sigma(module.weight) == pytest.approx(1.0 if weight.any() else 0.0, rel=1e-10)
        module.weight.data.copy_(2 * torch.ones_like(module.weight))
        method.after_step()
        assert sigma(module.weight) == pytest.approx(1.0, rel=1e-10)


@pytest.mark.parametrize("exact_every", [0, 1, 3])
def test_bfloat16(exact_every: int):
    """The bound holds up to the rounding of the weights, whose share is 2⁻⁹."""
    module = network(torch.bfloat16)
    method = attach(SpectralNorm(exact_every=exact_every), module)
    for step in range(6):
        shake(module, step, size=0.1)
        method.after_step()
        if exact_every == 1:
            assert max(sigma(layer.weight) for layer in body(module)) <= 1.004
    assert method.scalars()["sigma_max"].isfinite()


@pytest.mark.parametrize("lr", [1e-3, 1e-2])
def test_in_between_the_bound_holds_nearly(lr: float):
    """From orthogonal weights with σ = √2, in the first updates too."""
    module = network()
    for layer in body(module):
        nn.init.orthogonal_(layer.weight, 2**0.5)
    method = SpectralNorm(exact_every=10)
    optimizer = torch.optim.Adam(module.parameters(), lr=lr)
    method.attach(module, optimizer)
    inputs = torch.randn(32, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    for step in range(200):
        optimizer.zero_grad()
        (module(inputs) - inputs[:, 0, 0, :2] * step).square().mean().backward()
        optimizer.step()
        assert max(sigma(layer.weight) for layer in body(module)) < 1.02


def test_estimates_in_between_lag_by_little():
    """At usual learning rates, 10 updates apart: never 3 % above the bound, and not above it at exact updates."""
    module = network()
    method = SpectralNorm(exact_every=10)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)
    method.attach(module, optimizer)
    inputs = torch.randn(32, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    worst = 0.0
    for step in range(1, 81):
        optimizer.zero_grad()
        (module(inputs) - 3).square().mean().backward()
        optimizer.step()
        now = max(sigma(layer.weight) for layer in body(module))
        assert now <= 1 or step % 10
        worst = max(worst, now) if step > 10 else worst
    assert worst < 1.03


def test_weights_that_are_not_finite_are_left_for_others_to_notice():
    module = network()
    method = attach(SpectralNorm(), module)
    module[3].weight.data.fill_(torch.nan)
    method.after_step()
    assert module[3].weight.isnan().all()


# Weight clipping


def test_weight_clipping_by_hand():
    """Four inputs: s = ½, κ = 3: within ±1.5, biases too. A convolution counts channels times places."""
    module = nn.Sequential(
        linear([[9, -9, 1.5, 0.25]], [-2]), nn.LayerNorm(1, dtype=DOUBLE), nn.Conv1d(2, 1, 8).double()
    )
    module[1].weight.data.fill_(9)
    module[2].weight.data.fill_(-5)
    method = attach(WeightClipping(kappa=3.0), module)
    assert method.scalars()["at_bound"].item() == pytest.approx((4 + 16) / (5 + 17))
    method.after_step()
    assert module[0].weight.tolist() == [[1.5, -1.5, 1.5, 0.25]]
    assert module[0].bias.tolist() == [-1.5]
    assert module[1].weight.item() == 9
    assert module[2].weight.flatten().tolist() == [-0.75] * 16
    assert method.scalars()["at_bound"].item() == pytest.approx((4 + 16) / (5 + 17))


def test_weight_clipping_at_one_leaves_torchs_own_initialization():
    for layer in (nn.Linear(7, 5), nn.Conv2d(4, 6, 3, groups=2)):
        before = copy.deepcopy(layer.state_dict())
        attach(WeightClipping(kappa=1.0), layer).after_step()
        assert all(torch.equal(layer.state_dict()[key], before[key]) for key in before)
        shake(layer, 0)
        attach(WeightClipping(kappa=1.0), layer).after_step()
        fan_in = layer.weight[0].numel()
        for p in layer.parameters():
            assert p.abs().max().item() == pytest.approx(fan_in**-0.5)


# Normalize and project


def test_normalize_and_project_by_hand():
    """(3, 4) has norm 5; (6, 8) has 10, so all is halved, the bias with it. Scales of a norm are the network's."""
    module = nn.Sequential(linear([[3, 4]], [1]), nn.LayerNorm(1, dtype=DOUBLE), linear([[2]], [0]))
    method = attach(NormalizeAndProject(heads=["2"]), module)
    module[0].weight.data.copy_(torch.tensor([[6, 8]]))
    module[1].weight.data.fill_(9)
    module[2].weight.data.fill_(7)
    method.after_step()
    assert module[0].weight.tolist() == [[3, 4]]
    assert module[0].bias.item() == 0.5
    assert module[1].weight.item() == 9
    assert module[2].weight.item() == 7
    assert method.scalars()["factor_min"].item() == method.scalars()["factor_max"].item() == 0.5


def test_norms_stay_and_what_a_layer_norm_gives_too():
    module = network(DOUBLE)
    method = attach(NormalizeAndProject(), module)
    norms = [layer.weight.norm().item() for layer in body(module)]
    for step in range(5):
        shake(module, step)
        inputs = torch.randn(3, 8 * 9, generator=torch.Generator().manual_seed(step), dtype=DOUBLE)
        outputs = nn.functional.layer_norm(module[3](inputs), (16,), eps=0)
        method.after_step()
        assert [layer.weight.norm().item() for layer in body(module)] == pytest.approx(norms)
        torch.testing.assert_close(nn.functional.layer_norm(module[3](inputs), (16,), eps=0), outputs)


def test_weight_that_began_or_became_zero_is_left_alone():
    module = nn.Sequential(linear([[0, 0]]), linear([[3], [4]]))
    method = attach(NormalizeAndProject(heads="include"), module)
    module[0].weight.data.fill_(1)
    module[1].weight.data.zero_()
    method.after_step()
    assert module[0].weight.tolist() == [[1, 1]]
    assert module[1].weight.tolist() == [[0], [0]]


def test_every_third_update():
    module = linear([[3, 4]])
    method, norms = attach(NormalizeAndProject(every=3, heads="include"), module), []
    for _ in range(6):
        module.weight.data.mul_(2)
        method.after_step()
        norms.append(module.weight.norm().item())
    assert norms == pytest.approx([10, 20, 5, 10, 20, 5])


def test_frozen_bias_and_neighbours_keep_their_own_factors():
    """A frozen layer among others must not shift whose factor is whose."""
    module = nn.Sequential(*[linear([[1.0]], [1.0]) for _ in range(3)])
    method = attach(NormalizeAndProject(heads="include"), module)
    for layer, size in zip(module, (2, 4, 8), strict=True):
        layer.weight.data.fill_(size)
    module[1].requires_grad_(False)
    module[2].bias.requires_grad_(False)
    method.after_step()
    assert [layer.weight.item() for layer in module] == [1, 4, 1]
    assert [layer.bias.item() for layer in module] == [0.5, 1, 1]


# Settings


@pytest.mark.parametrize(
    ("cls", "settings", "message"),
    [
        (SpectralNorm, {"bound": 0.0}, r"^bound: a number above 0 is needed, got 0"),
        (SpectralNorm, {"bound": float("nan")}, r"^bound: a number above 0 is needed, got nan"),
        (SpectralNorm, {"exact_every": -1}, r"^exact_every: an integer of at least 0 is needed, got -1"),
        (WeightClipping, {"kappa": -1.0}, r"^kappa: a number above 0 is needed, got -1"),
        (NormalizeAndProject, {"every": 0.5}, r"^every: an integer of at least 0 is needed, got 0.5"),
    ],
)
def test_settings_are_checked(cls: type[Method], settings: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        cls(**settings)
