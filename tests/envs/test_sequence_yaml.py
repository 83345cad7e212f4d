"""Sequences written as YAML, and what is refused in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from neoteny import configs
from neoteny.envs import ConfigError, PermuteObservation, Task, TaskSequence

GOOD = {"env": "MiniGrid-Empty-5x5-v0", "steps": 10}


def read(**settings: Any) -> TaskSequence:
    return configs.build(TaskSequence, {"tasks": [GOOD], **settings}, "env")


def read_task(**settings: Any) -> TaskSequence:
    return read(tasks=[GOOD, {**GOOD, **settings}])


def test_yaml_means_what_it_says(tmp_path: Any) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        """
        tasks:
          - {env: A-v0, steps: 1_000, kwargs: {size: 5}, shifts: [permute-observation]}
          - {env: B-v0, steps: 20, shifts: [{shift: permute-observation}], backend: gymnasium}
        cycles: 3
        seed: 4
        """
    )
    a = Task("A-v0", 1000, {"size": 5}, (PermuteObservation(),))
    b = Task("B-v0", 20, {}, (PermuteObservation(),), backend="gymnasium")
    assert TaskSequence.load(str(file)) == TaskSequence((a, b), cycles=3, seed=4, name="mine")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        # unknown names, with the nearest
        (
            lambda: read(cycels=2),
            "env.cycels: there is no such setting; the settings here are tasks, cycles, order, switches, "
            "num_tasks, seed, score, family, segment_steps, source, name; "
            "did you mean 'cycles'?",
        ),
        (
            lambda: read_task(stpes=2),
            "env.tasks.1.stpes: there is no such setting; the settings here are env, steps, kwargs, shifts, "
            "actions, noop, mission, backend; "
            "did you mean 'steps'?",
        ),
        (
            lambda: read_task(shifts=["permute-observations"]),
            "env.tasks.1.shifts.0: shift: 'permute-observations' is not known; choose from dynamics, flip-reward, "
            "goal, noise-observation, offset-observation, permute-action, permute-observation, rotate-observation, "
            "scale-observation, scale-reward, slip, sticky-actions; "
            "did you mean 'permute-observation'?",
        ),
        (
            lambda: read_task(shifts=[{"shift": "permute-observation", "order": 1}]),
            "env.tasks.1.shifts.0: permute-observation.order: there is no such setting",
        ),
        (
            lambda: read_task(shifts=[{"order": 1}]),
            "env.tasks.1.shifts.0: a shift is a name or a mapping with the key 'shift', got {'order': 1}",
        ),
        (
            lambda: read_task(backend="envpol"),
            "env.tasks.1.backend: input should be 'auto', 'envpool', 'vector', 'gymnasium' or 'async', got 'envpol'",
        ),
        # wrong types and ranges
        (
            lambda: read_task(steps="many"),
            "env.tasks.1.steps: input should be a valid integer, unable to parse string as an integer, got 'many'",
        ),
        (lambda: read_task(steps=-5), "env.tasks.1.steps: input should be greater than 0, got -5"),
        (lambda: read_task(steps=0), "env.tasks.1.steps: input should be greater than 0, got 0"),
        (lambda: read_task(env=3), "env.tasks.1.env: input should be a valid string, got 3"),
        (lambda: read_task(kwargs=[1]), "env.tasks.1.kwargs: input should be a valid dictionary, got [1]"),
        (lambda: read(cycles=0), "env.cycles: input should be greater than 0, got 0"),
        (lambda: read(seed=-1), "env.seed: input should be greater than or equal to 0, got -1"),
        (lambda: read(tasks="all"), "env.tasks: input should be a valid tuple, got 'all'"),
        # what is missing
        (lambda: read(tasks=[]), "env.tasks: tuple should have at least 1 item after validation, not 0, got []"),
        (lambda: read(tasks=[{"env": "A-v0"}]), "env.tasks.0.steps: this setting is required"),
        (lambda: configs.build(TaskSequence, {}, "env"), "env.tasks: this setting is required"),
    ],
)
def test_errors_name_the_setting_and_what_is_allowed(make: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert str(caught.value) == message


def test_every_wrong_setting_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        read(tasks=[{"env": 1, "steps": 0}], cycles=0)
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        "env.tasks.0.env",
        "env.tasks.0.steps",
        "env.cycles",
    ]


@pytest.mark.parametrize(
    ("written", "steps"), [("1e5", 100_000), ("2.5e6", 2_500_000), ("1E3", 1000), ("1_0e+2", 1000), ("1.0e+3", 1000)]
)
def test_budgets_with_an_exponent(written: str, steps: int, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"tasks: [{{env: A-v0, steps: {written}, kwargs: {{size: {written}}}}}]")
    (task,) = TaskSequence.load(str(file)).tasks
    assert [task.steps, task.kwargs["size"]] == [steps, steps]
    assert type(task.steps) is type(task.kwargs["size"]) is int


@pytest.mark.parametrize("written", ["1.5", "1.5e0", "25e-1", "1e", "e5", ".inf"])
def test_budgets_that_are_not_whole(written: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"tasks: [{{env: A-v0, steps: {written}}}]")
    with pytest.raises(ConfigError, match=r"env\.tasks\.0\.steps: input should be "):
        TaskSequence.load(str(file))


def test_unknown_preset() -> None:
    presets = ", ".join(configs.names("envs"))
    with pytest.raises(ConfigError) as caught:
        TaskSequence.load("stationery")
    assert str(caught.value) == (f"--env: 'stationery' is not known; choose from {presets}; did you mean 'stationary'?")


@pytest.mark.parametrize(
    ("text", "message"),
    [("- a", "a mapping of settings is expected, got list"), ("a: [", "not valid YAML"), (None, "cannot be read")],
)
def test_unreadable_file(tmp_path: Any, text: str | None, message: str) -> None:
    file = tmp_path / "mine.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        TaskSequence.load(str(file))
    assert str(caught.value).startswith(str(file))
