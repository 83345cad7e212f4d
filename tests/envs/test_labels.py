"""Names of tasks: short, different for what differs, and saying what was drawn."""

from typing import Any

import numpy as np
import pytest

from neoteny import TaskSequence, configs
from neoteny.envs import ContinualVecEnv, Task


def labels(*tasks: Any, **settings: Any) -> list[str]:
    sequence = TaskSequence(tasks=tuple(Task(steps=64, **{"env": "CartPole-v1"} | task) for task in tasks), **settings)
    return [visit.label for visit in sequence.visits]


@pytest.mark.parametrize(
    ("shift", "text"),
    [
        ({"shift": "dynamics", "set": {"gravity": 5, "force_mag": 2.5}}, "force mag 2.5, gravity 5"),
        ({"shift": "offset-observation", "value": [1, 2, 3, 4]}, "offset [1, 2, 3, 4]"),
        ({"shift": "offset-observation", "std": 2}, "offset #1"),
        ({"shift": "rotate-observation", "scales": 1}, "rotated #1"),
        ({"shift": "noise-observation", "std": 0.125}, "noise 0.125"),
        ({"shift": "scale-observation", "factor": 3}, "observations ×3"),
        ("permute-action", "actions permuted #1"),
        ({"shift": "sticky-actions", "probability": 0.25}, "sticky 0.25"),
        ({"shift": "slip", "probability": 0.5}, "slip 0.5"),
        ({"shift": "scale-reward", "factor": -2}, "reward ×-2"),
        ("flip-reward", "reward flipped"),
    ],
)
def test_a_shift_is_said(shift: Any, text: str) -> None:
    assert labels({"shifts": [shift]}) == [f"CartPole-v1 {text}"]


def test_only_what_tells_tasks_of_an_environment_apart_is_named() -> None:
    tasks = [{"kwargs": {"mode": mode, "size": 3}, "env": "Freeway-v5"} for mode in (0, 1)]
    assert labels(*tasks, {"env": "Pong-v5", "kwargs": {"mode": 4}}) == [
        "Freeway-v5 mode 0",
        "Freeway-v5 mode 1",
        "Pong-v5",
    ]


def test_different_tasks_have_different_names_and_equal_tasks_the_same() -> None:
    plain, other = {}, {"actions": (1, 0)}
    assert labels(plain, other, plain, other, cycles=2) == ["CartPole-v1", "CartPole-v1 (2)"] * 4


def test_visits_that_draw_anew_are_numbered() -> None:
    one, two = ({"shifts": [{"shift": "offset-observation", "std": std}]} for std in (1, 2))
    first, second = "CartPole-v1 offset #", "CartPole-v1 (2) offset #"
    assert labels(one, two, one, num_tasks=7) == [
        f"{first}1", f"{second}1", f"{first}2", f"{first}3", f"{second}2", f"{first}4", f"{first}5",
    ]  # fmt: skip


@pytest.mark.parametrize("order", ["given", "shuffled", "sampled"])
@pytest.mark.parametrize("name", [name for name in configs.names("envs") if "vizdoom" not in name])
def test_a_label_stands_for_one_thing(name: str, order: str) -> None:
    """Visits share a label only if they are to equal tasks, in which nothing is drawn."""
    loaded = TaskSequence.load(name)
    sequence = TaskSequence(tasks=loaded.tasks, order=order, num_tasks=12)  # type: ignore[arg-type]
    visits = sequence.visits
    assert [sequence.visit(index).label for index in reversed(range(12))] == [v.label for v in visits][::-1]
    for one in visits:
        for other in visits[one.index + 1 :]:
            if one.label == other.label:
                assert one.task == other.task
                fixed = {"dynamics", "goal"}
                assert {shift.name for shift in one.task.shifts} <= fixed
            assert (one.label == other.label) or one.task != other.task or one.task.shifts
    assert max(len(visit.label) for visit in visits) <= 60


def test_the_drawn_value_that_is_said_is_the_one_that_is_set() -> None:
    """Also behind a shift that draws nothing; behind one that does it is not known, and the visits are numbered."""
    draw = {"shift": "dynamics", "set": {"gravity": {"uniform": [1, 20]}, "length": {"log-uniform": [0.1, 1]}}}
    task = Task("CartPole-v1", 64, shifts=({"shift": "noise-observation", "std": 1}, draw))  # type: ignore[arg-type]
    sequence = TaskSequence(tasks=(task,), num_tasks=3, seed=5)
    env = ContinualVecEnv(sequence, 2)
    for index, visit in enumerate(sequence.visits):
        env.start(index)
        env.step(np.zeros(2, int))
        inner = env.vector._backend
        gravity, length = (inner.parameter(name) for name in ("gravity", "length"))
        assert visit.label == f"CartPole-v1 noise 1, gravity {gravity:.4g}, length {length:.4g}"
    hidden = labels({"shifts": [{"shift": "offset-observation", "std": 1}, draw]}, num_tasks=2)
    assert hidden == ["CartPole-v1 offset, gravity, length #1", "CartPole-v1 offset, gravity, length #2"]


def test_values_of_a_run_of_its_own_are_not_said() -> None:
    rows = {"shift": "dynamics", "set": {"gravity": {"per-seed": [[1, 2], [3, 4]]}}}
    assert labels({"shifts": [rows]}, num_tasks=2) == ["CartPole-v1 gravity #1", "CartPole-v1 gravity #2"]
