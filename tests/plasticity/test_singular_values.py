import pytest
import torch
from torch import Tensor

from neoteny.plasticity.singular_values import BLOCK, EARLY, LONGEST, Tracker, ritz

DOUBLE = torch.float64


def draw(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def with_values(values: list[float], rows: int, columns: int) -> Tensor:
    """A matrix with these singular values."""
    left, right = torch.linalg.qr(draw(rows, rows, 1))[0], torch.linalg.qr(draw(columns, columns, 2))[0]
    count = len(values)
    return left[:, :count] @ torch.diag(torch.tensor(values, dtype=DOUBLE)) @ right[:, :count].T


def track(*matrices: Tensor, **settings: int) -> Tracker:
    return Tracker({str(i): x for i, x in enumerate(matrices)}, torch.Generator().manual_seed(0), **settings)


def update(tracker: Tracker, matrices: dict[str, Tensor], gradients: dict[str, Tensor] | None = None) -> None:
    tracker.follow(gradients or {})
    if tracker.due():
        tracker.renew(matrices)


def exact(matrix: Tensor) -> Tensor:
    return torch.linalg.matrix_norm(matrix.double(), ord=2)


def test_ritz_by_hand():
    """X = (0.6, 0.8) and (0.8, −0.6) span the plane: σ of W = diag(3, 1) is 3, and u = v = (1, 0)."""
    basis = torch.zeros(1, BLOCK, 2, dtype=DOUBLE)
    basis[0, -2:] = torch.tensor([[0.6, 0.8], [0.8, -0.6]])
    matrix, ridge = torch.diag(torch.tensor([3.0, 1.0], dtype=DOUBLE)), 1e-30 * torch.eye(BLOCK, dtype=DOUBLE)
    sigma, u, v, after, basis_after, level = ritz(
        basis, basis @ matrix, torch.zeros_like(basis), ridge, torch.eye(BLOCK, dtype=ridge.dtype)
    )
    assert (sigma.item(), level.item()) == (pytest.approx(3), pytest.approx(0, abs=1e-6))
    torch.testing.assert_close(u.abs(), torch.tensor([[1.0, 0.0]], dtype=DOUBLE))
    torch.testing.assert_close(u, v)
    torch.testing.assert_close(after[0, -1].abs(), torch.tensor([1.0, 0.0], dtype=DOUBLE))
    torch.testing.assert_close(basis_after[0, -1].abs(), torch.tensor([1 / 3, 0.0], dtype=DOUBLE))


CASES = {
    "diagonal": torch.diag(torch.tensor([3.0, *range(1, 12)], dtype=DOUBLE) / 4),
    "rank one": torch.outer(draw(12, 1)[:, 0], draw(15, 1)[:, 0]),
    "rank of the block": with_values([3.0] * 4 + [1.0] * 4, 20, 30),
    "tall": draw(40, 12),
    "wide": draw(12, 40),
    "all equal": 2 * torch.linalg.qr(draw(30, 30))[0],
    "four equal to the largest": with_values([2.0] * 4 + [1.0] * 16, 20, 24),
    "close": with_values([1.0] + [0.99] * 63, 64, 64),
    "1×n": draw(1, 40),
    "n×1": draw(40, 1),
    "2×2": draw(2, 2),
    "smaller than the block": draw(5, 30),
    "as small as the block": draw(30, 8),
    "next to the block": draw(9, 9),
}


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE, torch.bfloat16])
@pytest.mark.parametrize("case", CASES)
def test_once_attached_the_pair_is_that_of_the_svd(case: str, dtype: torch.dtype):
    matrix = CASES[case].to(dtype)
    tracker = track(matrix)
    sigma, (u,), (v,) = tracker.sigma, tracker.u, tracker.v
    assert sigma.dtype == torch.promote_types(dtype, torch.float32)
    loose = case in ("close", "all equal")  # in bfloat16 these are not quite equal
    off = 8e-3 if case == "close" and dtype == DOUBLE else 2e-3  # σ goes up and down there, by as much as seeds differ
    assert sigma.item() == pytest.approx(exact(matrix).item(), rel=off if loose else 5e-5)
    wide = matrix.to(sigma.dtype)
    assert (u @ wide @ v).item() == pytest.approx(sigma.item(), rel=1e-5)
    assert u.norm().item() == pytest.approx(1, abs=5e-5)
    assert v.norm().item() == pytest.approx(1, abs=5e-5)


def test_zero_stays_finite_and_is_found_again():
    for shape in ((20, 30), (30, 20), (4, 6), (1, 1)):
        matrix = torch.zeros(shape)
        tracker = track(matrix)
        for _ in range(3):
            update(tracker, {"0": matrix})
            assert tracker.sigma.item() < 1e-15
            assert all(x.isfinite().all() for x in tracker.state().values())
        matrix += draw(*shape).float()
        for _ in range(20):
            update(tracker, {"0": matrix})
        assert tracker.sigma.item() == pytest.approx(exact(matrix).item(), rel=1e-3)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e38])
def test_what_is_not_finite_does_no_lasting_harm(bad: float):
    good = draw(20, 30).float()
    tracker = track(good, draw(5, 30).float(), good.T.clone())
    matrices = {"0": good, "1": draw(5, 30).float(), "2": good.T.clone()}
    for name in matrices:
        for entry in (slice(None), (0, 0)):
            broken = {k: x.clone() for k, x in matrices.items()}
            broken[name][entry] = bad
            for _ in range(3):
                update(tracker, broken, {"0": broken["0"], "2": broken["2"]})
    for _ in range(30):
        update(tracker, matrices)
    for name, sigma in zip(tracker.names, tracker.sigma, strict=True):
        assert sigma.item() == pytest.approx(exact(matrices[name]).item(), rel=1e-3)


def test_estimates_are_lower_bounds_whatever_the_gradient():
    matrix = draw(30, 40)
    tracker = track(matrix)
    for step in range(300):
        matrix = matrix + 0.3 * draw(30, 40, seed=step)
        gradient = torch.outer(tracker.u[0], tracker.v[0]) if step % 3 else 1e20 * matrix * (step % 2)
        update(tracker, {"0": matrix}, {"0": gradient})
        if int(tracker.state()["tracker.held"]) == 0:
            assert tracker.sigma.item() <= exact(matrix).item() * (1 + 1e-9)


def test_the_gradient_shows_what_rises():
    """All σ are 1, and in each update the gradient raises another: at once 1.05, in the end 1.5."""
    matrix = torch.linalg.qr(draw(128, 128))[0]
    errors = {}
    for told in (False, True):
        now = matrix.clone()
        tracker = track(now, longest=1)
        tracker.updates += EARLY
        worst = 0.0
        for step in range(40):
            gradient = torch.outer(*(x[:, 0] / x.norm() for x in (draw(128, 1, step), matrix.T @ draw(128, 1, step))))
            now += 0.2 * gradient
            update(tracker, {"0": now}, {"0": gradient} if told else None)
            worst = max(worst, 1 - (tracker.sigma / exact(now)).item())
        errors[told] = worst
    assert errors[True] < 0.02 < errors[False]


def test_two_steps_where_the_largest_values_are_level_and_one_where_they_are_not():
    for values, steps in (([1.0] * 20, 2), ([2.0**-i for i in range(20)], 1)):
        matrix = with_values(values, 20, 24)
        tracker = track(matrix, longest=1)
        tracker.updates += EARLY
        update(tracker, {"0": matrix})
        before = int(tracker._steps)
        update(tracker, {"0": matrix})
        assert int(tracker._steps) - before == steps


def test_several_are_as_each_alone_whatever_their_order():
    """Batches and padding are no part of the result."""
    shapes = [(20, 30), (30, 20), (64, 64), (4, 9), (9, 4), (12, 5000), (1, 3)]
    matrices = {f"{m}×{n}": draw(m, n, seed=m) for m, n in shapes}
    both = [Tracker(dict(order), torch.Generator()) for order in (matrices.items(), reversed(matrices.items()))]
    found = [dict(zip(tracker.names, tracker.sigma, strict=True)) for tracker in both]
    for name, matrix in matrices.items():
        for sigmas in found:
            assert sigmas[name].item() == pytest.approx(exact(matrix).item(), rel=1e-5)
    states = [{k: x.shape for k, x in tracker.state().items()} for tracker in both]
    assert states[0] == states[1]
    assert states[0]["block0.12×5000"] == (BLOCK, 12)


def test_same_seed_same_state_and_restored_it_goes_on_bit_for_bit():
    start = {"a": draw(20, 30).float(), "b": draw(40, 20).float(), "c": draw(3, 7).float()}
    first, second = Tracker(start, torch.Generator()), Tracker(start, torch.Generator())
    third = Tracker({"b": start["b"], "c": start["c"], "a": start["a"]}, torch.Generator().manual_seed(5))

    def train(tracker: Tracker, steps: range) -> dict[str, Tensor]:
        for step in steps:
            now = {k: x + 0.01 * step * draw(*x.shape, seed=step).float() for k, x in start.items()}
            update(tracker, now, {k: x for k, x in now.items() if k != "b"})
        return {k: x.clone() for k, x in tracker.state().items()}

    train(first, range(EARLY // 2 + 5))
    middle = train(second, range(EARLY // 2 + 5))
    for name, tensor in third.state().items():
        tensor.copy_(middle[name])
    ends = [train(tracker, range(EARLY // 2 + 5, EARLY // 2 + 25)) for tracker in (first, second, third)]
    for end in ends[1:]:
        assert end.keys() == ends[0].keys()
        assert all(torch.equal(tensor, ends[0][name]) for name, tensor in end.items())


def test_looking_changes_nothing_and_sees_the_matrices_as_they_are():
    matrix = draw(30, 40)
    tracker = track(matrix, draw(4, 9))
    before = {k: x.clone() for k, x in tracker.state().items()}
    moved = {"0": 1.5 * matrix, "1": 3 * draw(4, 9)}
    for name, sigma in zip(tracker.names, tracker.look(moved), strict=True):
        assert sigma.item() == pytest.approx(exact(moved[name]).item(), rel=1e-5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in tracker.state().items())


def test_pairs_are_held_while_nothing_moves_and_renewed_when_it_does():
    matrix = draw(30, 40)
    tracker = track(matrix)
    tracker.updates += EARLY

    def renewals(updates: int, growth: float) -> int:
        count = 0
        for _ in range(updates):
            matrix.mul_(growth)
            if tracker.due():
                tracker.renew({"0": matrix})
                count += 1
        return count

    renewals(100, 1.0)
    assert renewals(10 * LONGEST, 1.0) == 10
    renewals(20, 1.01)
    assert renewals(20, 1.01) == 20


def test_of_many_matrices_it_settles_too() -> None:
    """The rounding of one of them is not taken for a change: a network of many layers is ready at once."""
    drawn = torch.Generator().manual_seed(0)
    matrices = {str(i): torch.randn(16, 144, generator=drawn) for i in range(26)}
    tracker = Tracker(matrices, torch.Generator().manual_seed(1))
    assert int(tracker._steps) <= 200
    exact = torch.linalg.matrix_norm(torch.stack([*matrices.values()]), 2)
    torch.testing.assert_close(tracker.sigma, exact, rtol=3e-5, atol=0)
