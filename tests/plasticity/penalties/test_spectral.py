import copy
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from thinning import some
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from neoteny.plasticity import Spectral
from neoteny.plasticity.penalties.spectral import spectral_penalty

KS = (1, 2, 3, 4, 8)


def linear(weight: list[list[float]], bias: list[float] | None = None) -> nn.Linear:
    layer = nn.Linear(len(weight[0]), len(weight), bias=bias is not None, dtype=torch.float64)
    layer.weight.data.copy_(torch.tensor(weight, dtype=torch.float64))
    if bias is not None:
        layer.bias.data.copy_(torch.tensor(bias))
    return layer


def conv(kernel: list[list[list[list[float]]]]) -> nn.Conv2d:
    weight = torch.tensor(kernel, dtype=torch.float64)
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], tuple(weight.shape[2:]), bias=False, dtype=torch.float64)
    layer.weight.data.copy_(weight)
    return layer


def norm(scales: list[float], shifts: list[float]) -> nn.LayerNorm:
    layer = nn.LayerNorm(len(scales), dtype=torch.float64)
    layer.weight.data.copy_(torch.tensor(scales))
    layer.bias.data.copy_(torch.tensor(shifts))
    return layer


def random(layer: nn.Module, seed: int = 0) -> nn.Module:
    """In float64, with every parameter drawn anew."""
    generator = torch.Generator().manual_seed(seed)
    for p in layer.double().parameters():
        p.data.copy_(torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return layer


def channels_last() -> nn.Module:
    return random(nn.Conv2d(3, 4, (2, 2))).to(memory_format=torch.channels_last)


def attach(module: nn.Module, **kwargs) -> Spectral:
    spectral = Spectral(heads="include", **kwargs)
    spectral.attach(module, torch.optim.SGD(module.parameters(), lr=1.0))
    return spectral


def exact_sigma(weight: Tensor) -> float:
    return torch.linalg.matrix_norm(weight.detach().flatten(1).double(), ord=2).item()


# R and its gradients, worked out by hand.
HAND_WORKED = {
    "diag(3,1): (9−1)² and 4·(9−1)·3": (2, linear([[3, 0], [0, 1]]), 64, {"weight": [[96, 0], [0, 0]]}),
    "bias: (1+4)² and 4·5·b": (2, linear([[1, 0], [0, 0]], [1, 2]), 25, {"bias": [20, 40]}),
    "k=1: (3−1)² and 2·(3−1)": (1, linear([[3, 0], [0, 1]]), 4, {"weight": [[4, 0], [0, 0]]}),
    "k=1, bias: 5 and 2·b": (1, linear([[1, 0], [0, 0]], [1, 2]), 5, {"bias": [2, 4]}),
    "k=3: (8−1)² and 6·(8−1)·4": (3, linear([[2, 0], [0, 0]]), 49, {"weight": [[168, 0], [0, 0]]}),
    "k=3, bias: 5³ and 6·5²·b": (3, linear([[1, 0], [0, 0]], [1, 2]), 125, {"bias": [150, 300]}),
    "k=4: (16−1)² and 8·(16−1)·8": (4, linear([[2, 0], [0, 0]]), 225, {"weight": [[960, 0], [0, 0]]}),
    "k=8: (256−1)² and 16·255·128": (8, linear([[2, 0], [0, 0]]), 65025, {"weight": [[522240, 0], [0, 0]]}),
    "below 1 it is pulled up": (2, linear([[0.5, 0], [0, 0]]), 0.5625, {"weight": [[-1.5, 0], [0, 0]]}),
    "negative entries": (2, linear([[0, -3], [1, 0]]), 64, {"weight": [[0, -96], [0, 0]]}),
    "1×n: σ=5, 4·24·5·(.6, .8)": (2, linear([[3, 4]]), 576, {"weight": [[288, 384]]}),
    "n×1": (2, linear([[3], [4]]), 576, {"weight": [[288], [384]]}),
    "rank one: 2·(.6, .8)(.8, .6)ᵀ": (
        2, linear([[0.96, 0.72], [1.28, 0.96]]), 9, {"weight": [[11.52, 8.64], [15.36, 11.52]]}
    ),
    "tall": (2, linear([[0, 0], [0, 3], [1, 0]]), 64, {"weight": [[0, 0], [0, 96], [0, 0]]}),
    "wide": (2, linear([[0, 0, 3], [0, 1, 0]]), 64, {"weight": [[0, 0, 96], [0, 0, 0]]}),
    "zero": (2, linear([[0, 0, 0], [0, 0, 0]], [0, 0]), 1, {"weight": [[0, 0, 0]] * 2, "bias": [0, 0]}),
    "zero, k=1": (1, linear([[0, 0, 0], [0, 0, 0]], [0, 0]), 1, {"weight": [[0, 0, 0]] * 2, "bias": [0, 0]}),
    "kernel as (out, in·kh·kw)": (
        2, conv([[[[3]], [[4]]], [[[0]], [[0]]]]), 576, {"weight": [[[[288]], [[384]]], [[[0]], [[0]]]]}
    ),
    "kernel's places are columns": (2, conv([[[[3, 4]]]]), 576, {"weight": [[[[288, 384]]]]}),
    "norm: (3−1)² + 5², 2·(3−1)": (2, norm([3, 1], [1, 2]), 29, {"weight": [4, 0], "bias": [20, 40]}),
    "norm: each scale by itself, 0 is no resting point": (2, norm([2, 0], [0, 0]), 2, {"weight": [2, -2]}),
    "norm, whatever k; −1 is no goal": (3, norm([-1, 1], [0, 0]), 4, {"weight": [-4, 0], "bias": [0, 0]}),
    "layers add up": (
        2,
        nn.Sequential(linear([[3, 0], [0, 1]], [1, 2]), norm([2, 1], [0, 0]), linear([[3, 4]])),
        64 + 25 + 1 + 576,
        {"0.weight": [[96, 0], [0, 0]], "0.bias": [20, 40], "1.weight": [2, 0], "2.weight": [[288, 384]]},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("k", "module", "value", "gradients"), HAND_WORKED.values(), ids=HAND_WORKED)
def test_hand_worked(k: int, module: nn.Module, value: float, gradients: dict[str, list]):
    module = copy.deepcopy(module)
    spectral = attach(module, strength=0.5, k=k)
    assert spectral.value().item() == pytest.approx(value, abs=1e-9)
    spectral.add_grad_()
    for name, gradient in gradients.items():
        expected = 0.5 * torch.tensor(gradient, dtype=torch.float64)
        torch.testing.assert_close(module.get_parameter(name).grad, expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(
    ("k", "value"),
    [(1, 4 + 1 + 5 + 1), (2, 64 + 1 + 25 + 1), (3, 26**2 + 1 + 125 + 1)],
    ids=["k=1", "k=2", "k=3"],
)
def test_penalty_of_plain_numbers(k: int, value: float):
    sigma, bias, scale = torch.tensor([3.0, 0.0]), torch.tensor([1.0, 2.0]), torch.tensor([2.0, 1.0])
    assert spectral_penalty(sigma, [bias], [scale], k).item() == value


def test_optimizer_step_moves_weights_by_exactly_the_penalty():
    module = linear([[3, 0], [0, 1]], [1, 2])
    optimizer = torch.optim.SGD(module.parameters(), lr=2**-5)
    Spectral(strength=0.5, heads="include").attach(module, optimizer)
    optimizer.step()
    torch.testing.assert_close(module.weight.data, torch.tensor([[3 - 1.5, 0], [0, 1]]).double())
    torch.testing.assert_close(module.bias.data, torch.tensor([1 - 0.3125, 2 - 0.625]).double())


def test_of_equal_singular_values_one_is_pulled():
    """The penalty of 3·I is (9 − 1)², once; its gradient is 96·vvᵀ for some unit v."""
    module = linear([[3.0 * (i == j) for j in range(4)] for i in range(4)])
    spectral = attach(module, strength=1.0)
    assert spectral.value().item() == pytest.approx(64)
    spectral.add_grad_()
    eigenvalues = torch.linalg.eigvalsh(module.weight.grad)
    torch.testing.assert_close(eigenvalues, torch.tensor([0.0, 0, 0, 96]).double())
    torch.testing.assert_close(module.weight.grad, module.weight.grad.T)


CASES = {
    "diagonal": lambda: linear([[3, 0], [0, 1]], [1, 2]),
    "rank one": lambda: linear([[0.96, 0.72], [1.28, 0.96]], [0, 0]),
    "tall": lambda: random(nn.Linear(3, 7)),
    "wide": lambda: random(nn.Linear(7, 3)),
    "equal singular values": lambda: linear([[2, 0, 0], [0, 2, 0], [0, 0, 2]], [0.5, 0, -1]),
    "zero": lambda: linear([[0, 0, 0], [0, 0, 0]], [0, 0]),
    "1×n": lambda: random(nn.Linear(5, 1)),
    "n×1": lambda: random(nn.Linear(1, 5)),
    "1×1": lambda: linear([[-0.5]], [0.25]),
    "no bias": lambda: random(nn.Linear(4, 4, bias=False)),
    "conv1d": lambda: random(nn.Conv1d(2, 3, 4)),
    "conv2d": lambda: random(nn.Conv2d(3, 4, (2, 2))),
    "conv2d, grouped": lambda: random(nn.Conv2d(4, 6, (1, 2), groups=2)),
    "conv2d, channels last": channels_last,
    "conv3d": lambda: random(nn.Conv3d(1, 3, 2)),
    "layer norm": lambda: random(nn.LayerNorm(5)),
    "group norm": lambda: random(nn.GroupNorm(2, 6)),
    "batch norm": lambda: random(nn.BatchNorm2d(4)),
    "several": lambda: random(nn.Sequential(nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 3))),
}


def assert_closed_form(module: nn.Module, k: int, strength: float) -> None:
    """add_grad_ adds to the gradients there what autograd and central differences of value() give."""
    parameters = list(module.parameters())
    for i, p in enumerate(parameters):
        p.grad = torch.full_like(p, i + 1.0)
    spectral = attach(module, strength=strength, k=k)
    spectral.add_grad_()  # moves the vectors by one step; value() sees them as they are now
    added = [p.grad - (i + 1) for i, p in enumerate(parameters)]
    expected = torch.autograd.grad(strength * spectral.value(), parameters)
    for mine, theirs in zip(added, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)
    with torch.no_grad():
        for p, mine in zip(parameters, added, strict=True):
            differences, h = torch.zeros_like(p), 1e-5
            for index in torch.cartesian_prod(*(torch.arange(n) for n in p.shape)).reshape(-1, p.ndim).tolist():
                at, ends = tuple(index), []
                start = p[at].item()
                for moved in (start + h, start - h):
                    p[at] = moved
                    ends.append(strength * spectral.value().item())
                p[at] = start
                differences[at] = (ends[0] - ends[1]) / (2 * h)
            scale = max(1.0, spectral.value().item(), mine.abs().max().item())
            torch.testing.assert_close(differences, mine, rtol=1e-6, atol=1e-7 * scale)


@pytest.mark.parametrize("k", KS)
@pytest.mark.parametrize("case", CASES)
def test_gradient_is_that_of_value(case: str, k: int):
    assert_closed_form(CASES[case](), k, strength=0.3)


@settings(deadline=None, derandomize=True, database=None, max_examples=60)
@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    k=st.integers(1, 8),
    scale=st.floats(0.01, 2),
    strength=st.floats(1e-6, 10),
    seed=st.integers(0, 2**31),
)
def test_gradient_is_that_of_value_at_random(rows: int, columns: int, k: int, scale: float, strength: float, seed: int):
    module = random(nn.Linear(columns, rows), seed)
    with torch.no_grad():
        module.weight.mul_(scale / module.weight.norm())
        module.bias.mul_(scale / module.bias.norm())
    assert_closed_form(module, k, strength)


@pytest.mark.parametrize("strided", ["weights", "gradients", "both"])
def test_memory_format_makes_no_difference(strided: str):
    plain = random(nn.Conv2d(3, 4, (2, 2)))
    module = copy.deepcopy(plain)
    if strided != "gradients":
        module.to(memory_format=torch.channels_last)
    zeros = torch.zeros(4, 3, 2, 2, dtype=torch.float64)
    module.weight.grad = zeros if strided == "weights" else zeros.to(memory_format=torch.channels_last)
    assert module.weight.is_contiguous() == (strided == "gradients")
    assert module.weight.grad.is_contiguous() == (strided == "weights")
    for each in (plain, module):
        attach(each, strength=1.0).add_grad_()
    assert module.weight.grad.is_contiguous() == (strided == "weights")
    torch.testing.assert_close(module.weight.grad, plain.weight.grad, rtol=1e-12, atol=1e-12)


SHAPES = ((256, 980), (980, 256), (64, 64), (3, 200), (200, 3), (1, 300), (300, 1), (2, 2))


@pytest.mark.parametrize("seed", range(3))
def test_sigma_is_exact_once_attached(seed: int):
    module = nn.ModuleList(nn.Linear(columns, rows, bias=False) for rows, columns in SHAPES)
    module.extend([nn.Conv2d(4, 32, 8, bias=False), nn.Conv2d(32, 64, 4, bias=False)])
    generator = torch.Generator().manual_seed(seed)
    for i, p in enumerate(module.parameters()):
        nn.init.orthogonal_(p, 2**0.5, generator=generator) if i % 3 == seed else p.data.normal_(generator=generator)
    sigma = attach(module).sigma()
    assert len(sigma) == len(SHAPES) + 2
    for name, estimate in sigma.items():
        exact = exact_sigma(module.get_submodule(name).weight)
        assert exact * (1 - 1e-3) < estimate.item() <= exact * (1 + 1e-5), name


def regression(widths: tuple[int, ...], scale: float, seed: int = 0) -> tuple[nn.Sequential, Tensor, Tensor]:
    """A network whose layers have σ₁ = scale, and a random task for it."""
    generator = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layer = nn.Linear(inputs, outputs)
        layer.weight.data.normal_(generator=generator)
        layer.weight.data.mul_(scale / exact_sigma(layer.weight))
        layer.bias.data.zero_()
        layers += [layer, nn.ReLU()]
    inputs = torch.randn(128, widths[0], generator=generator)
    return nn.Sequential(*layers[:-1]), inputs, torch.randn(128, widths[-1], generator=generator)


def hidden_sigmas(network: nn.Sequential) -> list[float]:
    return [exact_sigma(layer.weight) for layer in network if isinstance(layer, nn.Linear)][:-1]


@pytest.mark.parametrize("strength", some({"1e-4": 1e-4, "1e-2": 1e-2}, "1e-2"))
def test_sigma_is_tracked_while_training(strength: float):
    """Under a penalty strong enough to level the top singular values, too, which makes them trade places."""
    network, inputs, targets = regression((16, 64, 64, 1), scale=1.0)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-4)
    spectral = Spectral(strength=strength, heads="include")
    spectral.attach(network, optimizer)
    errors, largest = [], 0.0
    for step in range(500):
        optimizer.zero_grad()
        (network(inputs) - targets).square().mean().backward()
        optimizer.step()
        if step % 5 == 0:
            for name, estimate in spectral.sigma().items():
                exact = exact_sigma(network.get_submodule(name).weight)
                errors.append(1 - estimate.item() / exact)
                largest = max(largest, exact)
    assert min(errors) > -1e-5
    assert max(errors) < 0.01
    assert largest > 1.5


@pytest.mark.parametrize(
    ("optimizer_class", "lr", "scale"),
    some(
        {
            "from below": (torch.optim.SGD, 1e-2, 0.2),
            "from above": (torch.optim.SGD, 1e-2, 3.0),
            "Adam, which drives it up": (torch.optim.Adam, 3e-3, 0.2),
        },
        "Adam, which drives it up",
    ),
)
def test_training_pulls_hidden_layers_to_one(optimizer_class: type[torch.optim.Optimizer], lr: float, scale: float):
    ends = {}
    for strength in (0.0, 1.0):
        network, inputs, targets = regression((8, 16, 16, 1), scale)
        optimizer = optimizer_class(network.parameters(), lr=lr)
        Spectral(strength=strength).attach(network, optimizer)
        for _ in range(600):
            optimizer.zero_grad()
            (network(inputs) - targets).square().mean().backward()
            optimizer.step()
        ends[strength] = hidden_sigmas(network)
    assert all(abs(sigma - 1) < 0.15 for sigma in ends[1.0]), ends
    assert all(abs(sigma - 1) > 0.5 for sigma in ends[0.0]), ends


@pytest.mark.parametrize("k", KS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_weights_stay_finite_and_recover(k: int, dtype: torch.dtype):
    module = nn.Linear(6, 4, dtype=dtype)
    nn.init.zeros_(module.weight)
    spectral = attach(module, strength=10.0, k=k)
    for _ in range(50):
        module.weight.grad = None
        spectral.add_grad_()
        assert torch.equal(module.weight.grad, torch.zeros(4, 6, dtype=dtype))
        assert spectral.value().isfinite()
    for weight in (
        torch.randn(4, 6, generator=torch.Generator().manual_seed(0)),
        torch.eye(4, 6),
        torch.zeros(4, 6),
    ):
        module.weight.data.copy_(weight)
        for _ in range(60):
            spectral.add_grad_()
        assert spectral.sigma()[""].item() == pytest.approx(exact_sigma(module.weight), rel=1e-3)
        assert module.weight.grad.isfinite().all()


def test_layer_that_is_frozen_keeps_its_vectors_for_later():
    network = random(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)))
    spectral = attach(network, strength=1.0)
    value = spectral.value().item()
    network[0].requires_grad_(False)
    assert spectral.value().item() < value
    spectral.add_grad_()
    assert network[0].weight.grad is network[0].bias.grad is None
    assert network[1].weight.grad is not None
    network[0].requires_grad_(True)
    assert spectral.value().item() == pytest.approx(value)


def test_frozen_bias_beside_a_trained_weight():
    module = linear([[3, 0], [0, 1]], [1, 2])
    module.bias.requires_grad_(False)
    spectral = attach(module, strength=1.0)
    assert spectral.value().item() == pytest.approx(64)
    spectral.add_grad_()
    assert module.bias.grad is None
    assert module.weight.grad[0, 0].item() == pytest.approx(96)


class Operations(TorchDispatchMode):
    """Counts operations, and those that read a number from a floating-point tensor: a GPU would be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.count = self.waits = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        self.waits += name == "_local_scalar_dense" and args[0].is_floating_point()
        self.count += name not in ("permute", "expand", "view", "detach", "select", "slice", "transpose", "unbind")
        return func(*args, **(kwargs or {}))


def operations(depth: int, updates: int) -> Operations:
    """Those of an update after so many others."""
    spectral = attach(nn.Sequential(*[nn.Linear(12, 12) for _ in range(depth)]))
    for _ in range(updates):
        spectral.before_step()
    with Operations() as seen:
        spectral.before_step()
    return seen


@pytest.mark.full
def test_update_neither_waits_for_the_device_nor_grows_by_much_per_layer():
    """Where the pairs are held; where they are renewed, it waits for their rate of change, and for eigenvalues."""
    held, renewed = (1100, 1101, 1102, 1103), 0
    few, many = operations(2, 0), operations(12, 0)
    assert few.waits == many.waits == 1  # the first updates are not held
    assert many.count - few.count <= 10 * (8 * 2 + 5)  # eight steps of two; the rank-one update, the bias
    assert min(operations(2, n).waits for n in held) == renewed


@pytest.mark.parametrize("k", [0, -2, 1.5, float("nan"), float("inf")])
def test_k_must_be_an_integer_of_at_least_one(k: float):
    with pytest.raises(ValueError, match=rf"^k: an integer of at least 1 is needed, got {k}$"):
        Spectral(k=k)
