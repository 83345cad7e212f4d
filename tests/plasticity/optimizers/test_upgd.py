"""UPGD: two updates by the paper's algorithm 5, and where it is Adam."""

import math

import pytest
import torch
from torch import nn

from neoteny.plasticity import UPGD, ShrinkAndPerturb
from neoteny.plasticity.seeding import own_seed


def parameter(*values: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values, dtype=torch.float64))


def give(p: nn.Parameter, *values: float) -> None:
    p.grad = torch.tensor(values, dtype=p.dtype)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def reference(start, gradients, noise, lr, beta1, beta2, eps, beta_u, sigma, decay):
    """Algorithm 5 of the paper, entry by entry, with the authors' factor 2 and weight decay."""
    n = len(start)
    w, u, m, v = list(start), [0.0] * n, [0.0] * n, [0.0] * n
    for t, (g, xi) in enumerate(zip(gradients, noise, strict=True), start=1):
        for i in range(n):
            u[i] = beta_u * u[i] + (1 - beta_u) * (-g[i] * w[i])
            m[i] = beta1 * m[i] + (1 - beta1) * g[i]
            v[i] = beta2 * v[i] + (1 - beta2) * g[i] ** 2
        hat = [x / (1 - beta_u**t) for x in u]
        eta = max(hat)
        for i in range(n):
            adam = (m[i] / (1 - beta1**t)) / (math.sqrt(v[i] / (1 - beta2**t)) + eps)
            gate = 2 * (1 - sigmoid(hat[i] / eta))
            w[i] = (1 - lr * decay) * w[i] - lr * gate * (adam + sigma * xi[i])
    return w


@pytest.mark.parametrize(("sigma", "decay"), [(0.0, 0.0), (0.5, 0.2)])
def test_equations(sigma: float, decay: float):
    """Two parameters of two entries each: the largest utility, of an entry of the first, scales those of the second."""
    first, second = parameter(1.0, -2.0), parameter(0.5, 3.0)
    settings = {"betas": (0.8, 0.9), "eps": 1e-3, "beta_utility": 0.7, "sigma": sigma, "weight_decay": decay}
    optimizer = UPGD([first, second], lr=0.1, seed=5, **settings)
    gradients = [(-3.0, 1.0, 2.0, 0.25), (0.5, -1.0, -2.0, 4.0), (1.0, 2.0, -3.0, -1.0)]
    chance = torch.Generator().manual_seed(own_seed("UPGD", 5))
    draws = []
    for _ in gradients:
        noise = torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=chance)))
        draws.append(torch.cat([torch.randn(2, generator=noise, dtype=torch.float64) for _ in range(2)]))
    for g in gradients:
        give(first, *g[:2])
        give(second, *g[2:])
        optimizer.step()
    wanted = reference(
        (1.0, -2.0, 0.5, 3.0), gradients, [d.tolist() for d in draws], 0.1, 0.8, 0.9, 1e-3, 0.7, sigma, decay
    )
    assert [*first.tolist(), *second.tolist()] == pytest.approx(wanted, rel=1e-12)


def test_first_update_by_hand():
    """w = (1, −1), g = (−2, −1): u = (2, −1), of which 2 is the largest, so gates 2·(1 − φ(1)) and 2·(1 − φ(−½))."""
    w = parameter(1.0, -1.0)
    optimizer = UPGD([w], lr=0.1, eps=0.0, sigma=0.0, weight_decay=0.0)
    give(w, -2.0, -1.0)
    optimizer.step()
    wanted = [1 + 0.2 * (1 - sigmoid(1.0)), -1 + 0.2 * (1 - sigmoid(-0.5))]
    assert w.tolist() == pytest.approx(wanted, rel=1e-12)
    assert abs(w[0].item() - 1) < abs(w[1].item() + 1)


def test_without_noise_and_decay_weights_of_no_use_take_adams_steps():
    """Beside a weight whose utility is beyond comparison that of all others is 0, and their gate 1."""
    mine, dwarfing = parameter(0.5, -1.0, 2.0), parameter(1e15)
    theirs = nn.Parameter(mine.detach().clone())
    optimizer = UPGD([mine, dwarfing], lr=0.01, eps=1e-5, sigma=0.0, weight_decay=0.0)
    adam = torch.optim.Adam([theirs], lr=0.01, eps=1e-5)
    for step in range(10):
        give(dwarfing, -1e15)
        give(mine, math.sin(step), -1.0, 0.1 * step)
        give(theirs, *mine.grad.tolist())
        optimizer.step()
        adam.step()
    torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-14)


def test_utilities_of_different_ages_are_compared_corrected():
    """β = ½: a utility of 1 seen twice counts as much as one of 1 seen once, so both gates are 2·(1 − φ(1))."""
    old, new = parameter(1.0), parameter(1.0)
    optimizer = UPGD([old, new], lr=0.1, eps=0.0, beta_utility=0.5, sigma=0.0, weight_decay=0.0)
    give(old, -1.0)
    optimizer.step()
    old.data.fill_(1.0)
    give(new, -1.0)
    optimizer.step()
    assert [old.item(), new.item()] == pytest.approx([1 + 0.2 * (1 - sigmoid(1.0))] * 2, rel=1e-12)


def test_where_nothing_is_of_use_gates_are_open():
    """All utilities are negative, or 0: the steps are finite, and twice Adam's, or Adam's."""
    w = parameter(1.0, 0.0)
    optimizer = UPGD([w], lr=0.1, eps=0.0, sigma=0.0, weight_decay=0.0)
    give(w, 3.0, 3.0)
    optimizer.step()
    assert w.tolist() == pytest.approx([1 - 0.2, -0.1], rel=1e-12)


def test_decay_is_decoupled_and_noise_is_scaled():
    w = parameter(*[0.0] * 20_000)
    optimizer = UPGD([w], lr=0.1, sigma=0.3, weight_decay=0.0)
    w.grad = torch.zeros_like(w)
    optimizer.step()  # of weights of 0 the utility is 0, the gate 1
    assert w.std().item() == pytest.approx(0.1 * 0.3, rel=0.03)
    assert abs(w.mean().item()) < 4 * 0.03 / 20_000**0.5
    decaying = parameter(4.0)
    decaying.grad = torch.zeros_like(decaying)
    UPGD([decaying], lr=0.1, sigma=0.0, weight_decay=0.5).step()
    assert decaying.item() == pytest.approx(4 * 0.95)


def test_seed_decides_the_noise_and_an_agents_seed_is_taken_where_none_is_given():
    def after(seed: int | None, prepared: int | None = None) -> list[float]:
        w = parameter(1.0, 2.0)
        optimizer = UPGD([w], sigma=1.0, seed=seed)
        if prepared is not None:
            optimizer.prepare(nn.Identity(), seed=prepared)
        give(w, 1.0, 1.0)
        optimizer.step()
        return w.tolist()

    assert after(1) == after(1) != after(2)
    assert after(None) == after(0)
    assert after(None, prepared=3) == after(3)
    assert after(4, prepared=3) == after(4)


def test_noise_differs_from_update_to_update():
    w = parameter(0.0, 0.0)
    optimizer = UPGD([w], lr=1.0, sigma=1.0, weight_decay=0.0)
    moves = []
    for _ in range(2):
        w.data.zero_()
        give(w, 0.0, 0.0)
        optimizer.step()
        moves.append(w.tolist())
    assert moves[0] != moves[1]


def test_defaults_are_the_authors():
    defaults = UPGD([parameter(1.0)]).defaults
    assert defaults["betas"] == (0.9, 0.999)
    assert (defaults["eps"], defaults["beta_utility"], defaults["sigma"], defaults["weight_decay"]) == (
        1e-5, 0.999, 1e-3, 1e-3)  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beta_utility": 1.0}, r"^beta_utility: a number of at least 0 and below 1 is needed, got 1.0"),
        ({"betas": (0.9, -0.1)}, r"^betas: a number of at least 0 and below 1 is needed, got -0.1"),
        ({"sigma": -1.0}, r"^sigma: a finite number of at least 0 is needed, got -1.0"),
        ({"weight_decay": float("nan")}, r"^weight_decay: a finite number of at least 0 is needed, got nan"),
    ],
)
def test_settings_are_checked(settings: dict, message: str):
    with pytest.raises(ValueError, match=message):
        UPGD([parameter(1.0)], **settings)


def test_gate_is_a_number_also_where_all_moments_have_just_been_forgotten():
    module = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    optimizer = UPGD(module.parameters())
    method = ShrinkAndPerturb()
    method.attach(module, optimizer)
    assert optimizer.scalars() == {}
    module(torch.ones(4, 2)).sum().backward()
    optimizer.step()
    assert 0.5 < optimizer.scalars()["gate"] < 1.5
    method.on_switch()
    assert optimizer.scalars() == {}
