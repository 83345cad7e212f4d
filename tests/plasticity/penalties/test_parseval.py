import copy

import pytest
import torch
from layers_by_hand import DOUBLE, linear
from torch import Tensor, nn

from neoteny.plasticity import Parseval, Spectral, SpectralSpectrum
from neoteny.plasticity.penalty import Penalty


def random(layer: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for p in layer.double().parameters():
        p.data.copy_(torch.randn(p.shape, generator=generator, dtype=DOUBLE))
    return layer


def attach(penalty: Penalty, module: nn.Module) -> Penalty:
    penalty.attach(module, torch.optim.SGD(module.parameters(), lr=1.0))
    return penalty


# ‖G − sI‖² and 4(G − sI)W, worked out by hand.
HAND_WORKED = {
    "diag(3,1): 8² + 0, 4·8·3": (1, linear([[3, 0], [0, 1]]), 64, [[96, 0], [0, 0]]),
    "small ones are pulled up: 64 + 9/16, 4·(−3/4)/2": (
        1, linear([[3, 0], [0, 0.5]]), 64.5625, [[96, 0], [0, -1.5]]
    ),
    "rows not orthogonal: G = [[1,1],[1,2]]": (1, linear([[1, 0], [1, 1]]), 3, [[4, 4], [8, 4]]),
    "scale 2: (1−2)² twice, 4·(−1)": (2, linear([[1, 0], [0, 1]]), 2, [[-4, 0], [0, -4]]),
    "scale 0": (0, linear([[2]]), 16, [[32]]),
    "tall: columns": (1, linear([[0, 0], [0, 3], [1, 0]]), 64, [[0, 0], [0, 96], [0, 0]]),
    "wide: rows": (1, linear([[0, 0, 3], [0, 1, 0]]), 64, [[0, 0, 96], [0, 0, 0]]),
    "1×n: (25−1)², 4·24·w": (1, linear([[3, 4]]), 576, [[288, 384]]),
    "zero": (1, linear([[0, 0, 0], [0, 0, 0]]), 2, [[0, 0, 0]] * 2),
}  # fmt: skip


@pytest.mark.parametrize(("scale", "module", "value", "gradient"), HAND_WORKED.values(), ids=HAND_WORKED)
def test_hand_worked(scale: float, module: nn.Linear, value: float, gradient: list[list[float]]):
    module = copy.deepcopy(module)
    penalty = attach(Parseval(strength=0.5, scale=scale, heads="include"), module)
    assert penalty.value().item() == pytest.approx(value, abs=1e-12)
    assert penalty.scalars()["penalty"].item() == pytest.approx(0.5 * value, abs=1e-12)
    module.weight.grad = torch.ones_like(module.weight)
    penalty.add_grad_()
    torch.testing.assert_close(module.weight.grad, 1 + 0.5 * torch.tensor(gradient, dtype=DOUBLE))


def channels_last() -> nn.Module:
    return random(nn.Conv2d(3, 4, (2, 2))).to(memory_format=torch.channels_last)


CASES = {
    "square": lambda: random(nn.Linear(4, 4)),
    "tall": lambda: random(nn.Linear(3, 7)),
    "wide": lambda: random(nn.Linear(7, 3)),
    "equal singular values": lambda: linear([[2, 0, 0], [0, 2, 0], [0, 0, 2]], [0.5, 0, -1]),
    "rank one": lambda: linear([[0.96, 0.72], [1.28, 0.96]]),
    "conv1d": lambda: random(nn.Conv1d(2, 3, 4)),
    "conv2d": lambda: random(nn.Conv2d(3, 4, (2, 2))),
    "conv2d, tall": lambda: random(nn.Conv2d(1, 9, (2, 2))),
    "conv2d, channels last": channels_last,
    "with norms": lambda: random(nn.Sequential(nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 3))),
}


def matrices(module: nn.Module) -> list[Tensor]:
    return [m.weight.flatten(1) for m in module.modules() if isinstance(m, (nn.Linear, nn.Conv1d, nn.Conv2d))]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    ("k", "target", "penalty"),
    [
        (2, 1.0, Parseval(strength=0.3, heads="include")),
        (2, 2**0.5, Parseval(strength=0.3, scale=2.0, heads="include")),
        (2, 1.0, SpectralSpectrum(strength=0.3, heads="include")),
        (2, 1.5, SpectralSpectrum(strength=0.3, target=1.5, heads="include")),
        (4, 0.5, SpectralSpectrum(strength=0.3, k=4, target=0.5, heads="include")),
        (6, 1.0, SpectralSpectrum(strength=0.3, k=6, heads="include")),
    ],
)
def test_closed_form_is_autograd_through_the_singular_values(case: str, k: int, target: float, penalty: Penalty):
    module, penalty = CASES[case](), copy.deepcopy(penalty)
    attach(penalty, module)
    total = sum(((torch.linalg.svdvals(w) ** k - target**k) ** 2).sum() for w in matrices(module))
    if isinstance(penalty, SpectralSpectrum):
        for m in module.modules():
            if (bias := getattr(m, "bias", None)) is not None:
                total = total + bias.square().sum() ** k
            if isinstance(m, nn.BatchNorm2d):
                total = total + ((m.weight - 1) ** 2).sum()
    assert penalty.value().item() == pytest.approx(total.item(), rel=1e-10)
    parameters = list(module.parameters())
    expected = torch.autograd.grad(0.3 * total, parameters, allow_unused=True, materialize_grads=True)
    penalty.add_grad_()
    for p, gradient in zip(parameters, expected, strict=True):
        added = torch.zeros_like(p) if p.grad is None else p.grad
        torch.testing.assert_close(added, gradient, rtol=1e-8, atol=1e-8 * max(1.0, gradient.abs().max().item()))


@pytest.mark.parametrize("shape", [(3, 7), (7, 3), (5, 5)])
def test_smaller_side_has_the_gradient_of_the_papers(shape: tuple[int, int]):
    """‖WWᵀ − sI‖², which for a tall W counts zeros that nothing can lift: (m − n)s² more."""
    module = random(nn.Linear(shape[1], shape[0], bias=False))
    penalty = attach(Parseval(strength=1.0, scale=2.0, heads="include"), module)
    papers = (module.weight @ module.weight.T - 2 * torch.eye(shape[0])).square().sum()
    assert papers.item() - penalty.value().item() == pytest.approx(4 * max(0, shape[0] - shape[1]))
    (expected,) = torch.autograd.grad(papers, module.weight)
    penalty.add_grad_()
    torch.testing.assert_close(module.weight.grad, expected)


@pytest.mark.parametrize(
    "penalty",
    [Parseval(strength=0.01, scale=2.0), SpectralSpectrum(strength=0.01, target=2**0.5)],
    ids=lambda p: p.name,
)
def test_training_makes_all_singular_values_equal(penalty: Penalty):
    module = random(nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1)))
    penalty = copy.deepcopy(penalty)
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    penalty.attach(module, optimizer)
    head = module[4].weight.detach().clone()
    for _ in range(400):
        optimizer.zero_grad()
        optimizer.step()
    for w in matrices(module)[:2]:
        values = torch.linalg.svdvals(w)
        torch.testing.assert_close(values, torch.full_like(values, 2**0.5))
    assert torch.equal(module[4].weight, head)


def test_computed_at_every_fourth_update_and_added_at_each():
    for penalty in (Parseval(strength=0.5, every=4), SpectralSpectrum(strength=0.5, every=4)):
        module = nn.Sequential(linear([[3, 0], [0, 1]], [1, 2]), nn.Linear(2, 1).double())
        attach(penalty, module)
        gradients = []
        for step in range(8):
            module.zero_grad()
            if step == 2:
                module[0].weight.data.div_(3)
            penalty.before_step()
            weight, bias = module[0].weight.grad, module[0].bias.grad
            gradients.append(weight[0, 0].item())
            assert (bias is None) if penalty.name == "parseval" else bias.tolist() == pytest.approx([10, 20])
        assert gradients == [48] * 4 + [0] * 4  # 0.5 · 4 · (9 − 1) · 3, and 1 · (1 − 1)


def test_whole_spectrum_of_a_matrix_of_rank_one_is_spectral_and_the_zeros():
    module = linear([[0.96, 0.72], [1.28, 0.96]], [1, 2])
    whole = attach(SpectralSpectrum(target=3.0, heads="include"), copy.deepcopy(module))
    largest = attach(Spectral(target=3.0, heads="include"), copy.deepcopy(module))
    assert largest.value().item() == pytest.approx((4 - 9) ** 2 + 25)
    assert whole.value().item() == pytest.approx((4 - 9) ** 2 + 81 + 25)


def test_target_of_spectral_by_hand():
    """diag(3, 1) to 2: (9 − 4)² and 4·(9 − 4)·3. Scales of normalization layers are pulled to 1 all the same."""
    module = nn.Sequential(linear([[3, 0], [0, 1]], [0, 0]), nn.LayerNorm(2, dtype=DOUBLE))
    module[1].weight.data.copy_(torch.tensor([2.0, 1.0]))
    penalty = attach(Spectral(strength=0.5, target=2.0, heads="include"), module)
    assert penalty.value().item() == pytest.approx(25 + 1)
    penalty.add_grad_()
    torch.testing.assert_close(module[0].weight.grad, 0.5 * torch.tensor([[60.0, 0], [0, 0]], dtype=DOUBLE))
    assert module[1].weight.grad.tolist() == [1, 0]


@pytest.mark.parametrize("cls", [Spectral, SpectralSpectrum])
@pytest.mark.parametrize("target", [-1.0, float("inf"), float("nan")])
def test_target_must_be_finite(cls: type[Penalty], target: float):
    with pytest.raises(ValueError, match=r"^target: a finite number of at least 0 is needed"):
        cls(target=target)


def test_settings_are_checked():
    with pytest.raises(ValueError, match=r"^k: an even integer of at least 2 is needed, got 3"):
        SpectralSpectrum(k=3)
    with pytest.raises(ValueError, match=r"^scale: a finite number of at least 0 is needed, got -1"):
        Parseval(scale=-1)
    for cls in (Parseval, SpectralSpectrum):
        with pytest.raises(ValueError, match=r"^every: an integer of at least 1 is needed, got 0"):
            cls(every=0)
