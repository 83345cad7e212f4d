"""Forgetting and transfer of matrices worked by hand, against the sums written out, and of degenerate ones."""

from __future__ import annotations

import numpy as np
import pytest

from neoteny.runners.measures import transfer

NAN = float("nan")

#: Three tasks, one after the other: row 0 is the new agent's.
THREE = np.array(
    [
        [0.1, 0.0, 0.2],
        [0.8, 0.2, 0.2],
        [0.6, 1.0, 0.1],
        [0.2, 0.5, 0.9],
    ]
)


def test_three_tasks_by_hand() -> None:
    assert transfer.average_performance(THREE) == pytest.approx((0.2 + 0.5 + 0.9) / 3)
    assert transfer.forgetting(THREE) == pytest.approx([0.8 - 0.2, 1.0 - 0.5, 0.0])
    assert transfer.backward_transfer(THREE) == pytest.approx([0.2 - 0.8, 0.5 - 1.0, NAN], nan_ok=True)
    assert transfer.isolated_forgetting(THREE) == pytest.approx(
        np.array([[NAN, 0.2 / 0.8, 0.4 / 0.8], [NAN, NAN, 0.5], [NAN, NAN, NAN]]), nan_ok=True
    )
    assert transfer.zero_shot_transfer(THREE) == pytest.approx(
        np.array([[NAN, NAN, NAN], [0.2, NAN, NAN], [0.0, -0.1 / 0.9, NAN]]), nan_ok=True
    )
    assert transfer.measures(THREE) == pytest.approx(
        {
            "average_performance": 1.6 / 3,
            "forgetting": 1.1 / 3,
            "backward_transfer": -0.55,
            "isolated_forgetting": (0.25 + 0.5 + 0.5) / 3,
            "zero_shot_transfer": (0.2 + 0.0 - 0.1 / 0.9) / 3,
        }
    )


def test_two_cycles_by_hand() -> None:
    """A, B, A, B: forgetting counts from the last visit to a task, backward transfer from the first."""
    cycles = np.array([[0, 0], [4, 1], [1, 5], [6, 2], [3, 8]], float)
    visits = [0, 1, 0, 1]
    assert transfer.forgetting(cycles, visits).tolist() == [6 - 3, 0]
    assert transfer.backward_transfer(cycles, visits).tolist() == [3 - 4, 8 - 5]
    assert transfer.isolated_forgetting(cycles, visits) == pytest.approx(
        np.array([[NAN, 3 / 6, NAN, 3 / 6], [NAN, NAN, 3 / 8, NAN]]), nan_ok=True
    )
    assert transfer.zero_shot_transfer(cycles, visits) == pytest.approx(
        np.array([[NAN] * 4, [1 / 8, NAN, NAN, NAN]]), nan_ok=True
    )


def loops(matrix: np.ndarray, visits: list[int]) -> dict[str, list[float]]:
    """The definitions, written out as sums over pairs."""
    found: dict[str, list[float]] = {"forgetting": [], "isolated_forgetting": [], "zero_shot_transfer": []}
    for task in range(matrix.shape[1]):
        most = max(abs(value) for value in matrix[:, task])
        when = [index for index, learned in enumerate(visits) if learned == task]
        if when:
            found["forgetting"].append(matrix[when[-1] + 1, task] - matrix[-1, task])
        for index, learned in enumerate(visits):
            change = (matrix[index + 1, task] - matrix[index, task]) / most
            if when and index > when[0] and learned != task:
                found["isolated_forgetting"].append(-change)
            if not when or index < when[0]:
                found["zero_shot_transfer"].append(change)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_any_order_of_tasks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    visits = rng.integers(0, 4, 9).tolist()
    matrix = rng.normal(size=(10, 5))
    wanted = {name: np.mean(values) for name, values in loops(matrix, visits).items()}
    found = transfer.measures(matrix, visits)
    assert {name: found[name] for name in wanted} == pytest.approx(wanted)


def test_where_no_task_comes_again_backward_transfer_is_negative_forgetting() -> None:
    matrix = np.random.default_rng(0).normal(size=(6, 5))
    assert transfer.backward_transfer(matrix)[:-1] == pytest.approx(-transfer.forgetting(matrix)[:-1])


def test_one_task() -> None:
    found = transfer.measures(np.array([[0.1], [0.7]]))
    assert (found["average_performance"], found["forgetting"]) == (0.7, 0.0)
    assert all(np.isnan(found[name]) for name in ("backward_transfer", "isolated_forgetting", "zero_shot_transfer"))


def test_nothing_learned_yet() -> None:
    found = transfer.measures(np.array([[0.2, 0.4]]))
    assert found.pop("average_performance") == pytest.approx(0.3)
    assert np.isnan(list(found.values())).all()


def test_what_is_not_known_is_left_out() -> None:
    """No game of the second task ended after the first two visits."""
    holes = THREE.copy()
    holes[1:3, 1] = NAN
    assert transfer.forgetting(holes) == pytest.approx([0.6, NAN, 0.0], nan_ok=True)
    found = transfer.measures(holes)
    assert found["forgetting"] == pytest.approx(0.3)
    assert found["backward_transfer"] == pytest.approx(-0.6)
    assert found["isolated_forgetting"] == pytest.approx((0.25 + 0.5) / 2)
    assert found["zero_shot_transfer"] == pytest.approx((0.0 - 0.1 / 0.9) / 2)
    nothing = transfer.measures(np.full((4, 3), NAN))
    assert np.isnan(list(nothing.values())).all()


def test_tasks_in_which_nothing_was_ever_reached() -> None:
    found = transfer.measures(np.zeros((4, 3)))
    assert set(found.values()) == {0.0}


def test_negative_returns_are_scaled_by_the_largest() -> None:
    pendulum = np.array([[-1000.0, -800.0], [-200.0, -400.0], [-600.0, -100.0]])
    assert transfer.isolated_forgetting(pendulum)[0, 1] == pytest.approx(400 / 1000)
    assert transfer.zero_shot_transfer(pendulum)[1, 0] == pytest.approx(400 / 800)


def test_forward_transfer_by_hand() -> None:
    areas, reference = np.array([0.5, 0.2, 0.9, NAN, 1.0]), np.array([0.5, 0.6, 0.8, 0.5, 1.0])
    assert transfer.forward_transfer(areas, reference) == pytest.approx([0.0, -1.0, 0.5, NAN, NAN], nan_ok=True)
    many = transfer.forward_transfer(np.array([[150.0, 100.0], [200.0, 300.0]]), np.array([100.0, 200.0]), best=300)
    assert many == pytest.approx(np.array([[0.25, -1.0], [0.5, 1.0]]))


@pytest.mark.parametrize(
    ("matrix", "visits", "said"),
    [
        (np.zeros(3), None, r"the shape \(3,\)"),
        (np.zeros((3, 2)), [0], "2 are needed for a matrix of 3 rows, got 1"),
        (np.zeros((3, 2)), [0, 2], "columns 0 to 1, got 2"),
        (np.zeros((4, 2)), None, "columns 0 to 1, got 2"),
    ],
)
def test_shapes_that_do_not_fit(matrix: np.ndarray, visits: list[int] | None, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        transfer.measures(matrix, visits)


def test_from_the_rows_of_a_table() -> None:
    """Of a run whose third visit is being evaluated: it does not count yet."""
    learned = {0: 0, 1: 1, 2: 2, 3: 1}
    rows = [
        {"after": str(after), "learned": str(learned[after]), "on": str(on), "return": str(10 * after + on)}
        for after in range(4)
        for on in (1, 2, 4)
    ]
    rows[4]["return"] = ""
    matrix, visits = transfer.to_matrix(rows[:-1], "return")
    assert matrix == pytest.approx(np.array([[1, 2, 4], [11, NAN, 14], [21, 22, 24]]), nan_ok=True)
    assert visits == [0, 1]
    assert transfer.to_matrix(rows, "return")[1] == [0, 1, 0]
