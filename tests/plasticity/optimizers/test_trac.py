"""TRAC: its equations by an independent reference, and what becomes of weights that others write."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy import special
from torch import Tensor, nn

from neoteny.plasticity import TRAC, ReDo, ShrinkAndPerturb, WeightClipping
from neoteny.plasticity.optimizers.trac import erfi
from neoteny.plasticity.resets.units import moments

DISCOUNTS = (0.9, 0.99)


def weights(seed: int = 0) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(3, 4), (3,), (2, 3)]
    return [nn.Parameter(torch.randn(s, generator=generator, dtype=torch.float64)) for s in shapes]


def give_gradients(parameters: list[nn.Parameter], step: int, sign: float = 1.0) -> None:
    """Gradients of a bowl around 2, with noise: the same for equal weights and steps."""
    generator = torch.Generator().manual_seed(1000 + step)
    for p in parameters:
        noise = torch.randn(p.shape, generator=generator, dtype=p.dtype)
        p.grad = sign * (p.detach() - 2) + 0.3 * noise


class Reference:
    """The authors' algorithm with the reference kept, in numpy, over SGD: a base whose steps are −lr·g."""

    def __init__(self, start: list[np.ndarray], lr: float, discounts: tuple[float, ...], s_init: float, eps: float):
        self.ref = [w.copy() for w in start]
        self.now = [w.copy() for w in start]
        self.lr, self.s_init, self.eps = lr, s_init, eps
        self.betas = np.array(discounts)
        self.v, self.sigma, self.s = np.zeros(len(discounts)), np.full(len(discounts), 1e-8), 0.0

    def step(self, gradients: list[np.ndarray]) -> None:
        delta = [(w - r) / (self.s + self.eps) for w, r in zip(self.now, self.ref, strict=True)]
        h = sum(float((d * g).sum()) for d, g in zip(delta, gradients, strict=True))
        self.v = self.betas**2 * self.v + h * h
        self.sigma = self.betas * self.sigma - h
        bets = special.erfi(self.sigma / (math.sqrt(2) * np.sqrt(self.v) + self.eps))
        self.s = max(0.0, float((self.s_init / special.erfi(1 / math.sqrt(2)) * bets).sum()))
        self.now = [
            r + self.s * (d - self.lr * g) for r, d, g in zip(self.ref, delta, gradients, strict=True)
        ]  # fmt: skip


def test_erfi_is_scipys():
    x = np.concatenate([np.logspace(-12, np.log10(26.6), 400), [0.0]])
    x = np.concatenate([x, -x])
    np.testing.assert_allclose(erfi(torch.tensor(x)).numpy(), special.erfi(x), rtol=2e-13)
    single = torch.tensor([[1e-8, -0.5, 3.0]])
    assert erfi(single).dtype == torch.float32
    np.testing.assert_allclose(erfi(single).numpy(), special.erfi(single.double().numpy()), rtol=1e-6)
    assert erfi(torch.tensor(27.0, dtype=torch.float64)) == float("inf")


@pytest.mark.parametrize("s_init", [0.1, 1e-8])
def test_equations(s_init: float):
    """Twenty updates by the authors' equations; the gradients turn round after ten, and S falls."""
    mine = weights()
    settings = {"discounts": DISCOUNTS, "s_init": s_init, "eps": 1e-8}
    optimizer = TRAC(mine, lr=0.1, base=torch.optim.SGD, **settings)
    theirs = Reference([p.detach().numpy().copy() for p in mine], 0.1, **settings)
    scales = []
    for step in range(20):
        give_gradients(mine, step, 1.0 if step < 10 else -3.0)
        theirs.step([p.grad.numpy().copy() for p in mine])
        optimizer.step()
        scales.append(float(optimizer.state["trac"]["scale"]))
        assert scales[-1] == pytest.approx(theirs.s, rel=1e-5)  # theirs loses digits in θ − θ_ref
        for p, w, r in zip(mine, theirs.now, theirs.ref, strict=True):
            np.testing.assert_allclose(optimizer.state[p]["offset"].numpy(), w - r, rtol=1e-4, atol=1e-13)
            np.testing.assert_allclose(p.detach().numpy(), w, rtol=1e-9, atol=1e-12)
    assert max(scales) > 1.5 * scales[0]
    assert scales[-1] < max(scales) / 2


def test_first_updates_by_hand():
    """One weight, one tuner of β = ½, steps of −g: S after the first update is s·erfi(½)/erfi(1/√2), as h = 0."""
    w = nn.Parameter(torch.tensor([3.0], dtype=torch.float64))
    optimizer = TRAC([w], lr=1.0, discounts=(0.5,), s_init=0.5, eps=1e-8, base=torch.optim.SGD)
    w.grad = torch.tensor([2.0], dtype=torch.float64)
    optimizer.step()
    unit = special.erfi(1 / math.sqrt(2))
    first = 0.5 * special.erfi(0.5e-8 / 1e-8) / unit
    assert w.item() == pytest.approx(3 - 2 * first, rel=1e-12)
    w.grad = torch.tensor([1.0], dtype=torch.float64)
    optimizer.step()  # h = −2·1: σ = ½·½·10⁻⁸ + 2, v = 4, so σ/√v = 1 and erfi(1/√2 · …) is the unit: S = s_init
    assert w.item() == pytest.approx(3 + 0.5 * (-2 - 1), rel=1e-7)


def run(optimizer: TRAC, parameters: list[nn.Parameter], steps: range, sign: float = 1.0) -> None:
    for step in steps:
        give_gradients(parameters, step, sign)
        optimizer.step()


@pytest.mark.parametrize("restart", [False, True])
def test_reference_is_where_it_began(restart: bool):
    """With S at 0 the weights are the reference: the initial ones or, after state.clear(), those of that moment."""
    mine = weights()
    optimizer = TRAC(mine, lr=0.1, discounts=DISCOUNTS, s_init=0.1)
    reference = [p.detach().clone() for p in mine]
    run(optimizer, mine, range(5))
    if restart:
        optimizer.state.clear()
        reference = [p.detach().clone() for p in mine]
        run(optimizer, mine, range(5, 10))
    assert all((p - r).abs().max() > 1e-3 for p, r in zip(mine, reference, strict=True))
    run(optimizer, mine, range(10, 12), sign=-30.0)
    assert optimizer.state["trac"]["scale"] == 0
    for p, r in zip(mine, reference, strict=True):
        torch.testing.assert_close(p.detach(), r, rtol=0, atol=1e-12)


def test_overwritten_weights_are_not_pulled_back():
    """New weights with their moments zeroed have become their own reference, and the others keep theirs."""
    mine = weights()
    optimizer = TRAC(mine, lr=0.1, discounts=DISCOUNTS, s_init=0.1)
    reference = [p.detach().clone() for p in mine]
    run(optimizer, mine, range(5))
    with torch.no_grad():
        mine[0][1] = 7.0
        assert len(moments(optimizer, mine[0])) == 3  # Adam's, and the offset
        for moment in moments(optimizer, mine[0]):
            moment[1] = 0
    reference[0][1] = 7.0
    mine[0].grad, mine[1].grad, mine[2].grad = (torch.zeros_like(p) for p in mine)
    optimizer.step()  # S changes with its discount alone, and no gradient moves a weight without a past
    assert torch.equal(mine[0][1], torch.full((4,), 7.0, dtype=torch.float64))
    assert not torch.equal(mine[0][0], reference[0][0])
    run(optimizer, mine, range(10, 12), sign=-30.0)
    assert optimizer.state["trac"]["scale"] == 0
    torch.testing.assert_close(mine[0].detach(), reference[0], rtol=0, atol=1e-12)


def test_what_others_do_to_weights_moves_the_reference_along():
    """A projection that halves the weights is neither undone nor done again when the way is scaled."""
    mine = weights()
    optimizer = TRAC(mine, lr=0.1, discounts=DISCOUNTS, s_init=0.1)
    run(optimizer, mine, range(5))
    offsets = [optimizer.state[p]["offset"].clone() for p in mine]
    for p in mine:
        p.data.mul_(0.5)
    wanted = [p.detach() - o for p, o in zip(mine, offsets, strict=True)]
    run(optimizer, mine, range(10, 12), sign=-30.0)
    assert optimizer.state["trac"]["scale"] == 0
    for p, r in zip(mine, wanted, strict=True):
        torch.testing.assert_close(p.detach(), r, rtol=0, atol=1e-12)


def test_reset_units_stay_reset():
    """ReDo's new weights, with all units dormant, are where it put them but for the steps since."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1))
    optimizer = TRAC(module.parameters(), lr=1e-2, s_init=0.5)
    ReDo(every=4, tau=100.0).attach(module, optimizer)
    x = torch.randn(32, 4)
    for _ in range(4):
        optimizer.zero_grad()
        (module(x) - 1).square().mean().backward()
        optimizer.step()
    placed = [p.detach().clone() for p in module.parameters()]
    assert not placed[2].any()
    assert not optimizer.state[module[0].weight]["offset"].any()
    for p in module.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    assert torch.equal(module[2].weight, placed[2])
    assert torch.equal(module[0].weight, placed[0])


@pytest.mark.parametrize("method", [WeightClipping(kappa=0.5), ShrinkAndPerturb(every=1, at_switch=False)])
def test_post_conditions_of_methods_hold_after_the_step(method):
    torch.manual_seed(0)
    module = nn.Linear(4, 6)
    optimizer = TRAC(module.parameters(), lr=1e-2, s_init=0.5)
    copy.deepcopy(method).attach(module, optimizer)
    for _ in range(3):
        optimizer.zero_grad()
        (module(torch.ones(2, 4)) - 1).square().mean().backward()
        optimizer.step()
    if isinstance(method, WeightClipping):
        assert module.weight.abs().max() <= 0.5 / 2
    else:
        assert not optimizer.state[module.weight]["offset"].any()


def test_parameters_without_gradient_rest():
    mine = weights()
    optimizer = TRAC(mine, lr=0.1, s_init=0.1)
    run(optimizer, mine, range(3))
    rests, before = mine[1], mine[1].detach().clone()
    state = {k: v.clone() for k, v in optimizer.state[rests].items()}
    give_gradients(mine, 3)
    rests.grad = None
    optimizer.step()
    assert torch.equal(rests, before)
    assert all(torch.equal(optimizer.state[rests][k], v) for k, v in state.items())


def test_a_new_parameter_begins_with_itself_as_reference():
    mine = weights()
    optimizer = TRAC(mine[:2], lr=0.1, s_init=0.1)
    run(optimizer, mine[:2], range(3))
    optimizer.add_param_group({"params": [mine[2]], "lr": 0.0})
    before = mine[2].detach().clone()
    run(optimizer, mine, range(3, 6))
    assert torch.equal(mine[2], before)


def test_defaults_are_the_authors():
    optimizer = TRAC(weights())
    assert optimizer.discounts == (0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)
    assert (optimizer.s_init, optimizer.eps) == (1e-8, 1e-8)
    assert type(optimizer.base) is torch.optim.Adam
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.999)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"discounts": ()}, r"^discounts: at least one is needed"),
        ({"discounts": (0.9, 1.0)}, r"^discounts: a number of at least 0 and below 1 is needed, got 1.0"),
        ({"s_init": 0.0}, r"^s_init: a finite number above 0 is needed, got 0.0"),
        ({"eps": -1.0}, r"^eps: a finite number above 0 is needed, got -1.0"),
    ],
)
def test_settings_are_checked(settings: dict, message: str):
    with pytest.raises(ValueError, match=message):
        TRAC(weights(), **settings)


def test_base_settings_and_learning_rate_reach_the_base():
    def after(**settings) -> Tensor:
        (w,) = [nn.Parameter(torch.ones(3))]
        optimizer = TRAC([w], lr=0.1, s_init=0.5, **settings)
        for group in optimizer.param_groups:
            group["lr"] = 0.2
        for step in range(4):
            w.grad = torch.tensor([1.0, -2.0, 0.5]) * (step + 1)
            optimizer.step()
        return w.detach()

    assert not torch.equal(after(), after(base_settings={"betas": (0.5, 0.5)}))
    (w,) = [nn.Parameter(torch.ones(3))]
    w.grad = torch.ones(3)
    optimizer = TRAC([w], lr=0.1, s_init=0.5)
    optimizer.param_groups[0]["lr"] = 0.0
    optimizer.step()
    assert torch.equal(w, torch.ones(3))
