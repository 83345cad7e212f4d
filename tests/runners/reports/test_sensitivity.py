"""How much a swept setting matters: what is a sweep, and how wide its good range is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from neoteny.runners import results
from neoteny.runners.reports import Section, write_rows, writing
from neoteny.runners.reports.environment import Environment
from neoteny.runners.reports.sensitivity import Sweep, Width, sensitivity, sweeps, width
from neoteny.runners.reports.sources import Run

DECADES = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]


def env_of(reached: Mapping[str, Sequence[float]]) -> Environment:
    """Two tasks of each method and seed, about these means."""
    runs = []
    for method, of_seeds in reached.items():
        for seed, value in enumerate(of_seeds):
            rows = [
                {"name": "t", "step": str(step), "headline": "return", "return_mean": str(value + off)}
                for step, off in ((100, -1), (200, 1))
            ]
            runs.append(Run(method, seed, Path(method) / f"seed-{seed}", rows))
    return Environment("env", runs)


@pytest.mark.parametrize(
    ("reached", "wanted"),
    [
        ([0, 10, 10, 10, 0], Width(2 + 2 * 0.2, False)),
        ([10, 10, 10, 0, 0], Width(2 + 0.2, True)),
        ([0, 0, 0, 0, 9], Width(1 / 9, True)),
        ([10, 0, 9, 0, 0], Width(0.2, True)),  # about the best value alone
        ([7, 7.9, 7, 1, 1], Width(0, False)),
        ([8, 8, 8, 8, 8], Width(4, True)),
        ([-5, 8, -5, 0, 0], Width(0, False)),
    ],
)
def test_the_width_of_the_good_range(reached: list[float], wanted: Width) -> None:
    found = width(DECADES, reached, 8)
    assert (found.decades, found.is_open) == (pytest.approx(wanted.decades), wanted.is_open)


def test_it_is_what_is_counted_on_a_fine_grid() -> None:
    """Of curves that rise to one maximum and fall."""
    rng = np.random.default_rng(0)
    for _ in range(100):
        values = np.sort(10 ** rng.uniform(-6, 0, 6))
        top = rng.integers(0, 6)
        reached = [*np.sort(rng.uniform(0, 10, top)), 10.0, *np.sort(rng.uniform(0, 10, 5 - top))[::-1]]
        fine = np.linspace(*np.log10(values[[0, -1]]), 200_001)
        good = np.interp(fine, np.log10(values), reached) >= 8
        assert width([*values], reached, 8).decades == pytest.approx(good.mean() * (fine[-1] - fine[0]), abs=1e-3)


def test_what_is_a_sweep() -> None:
    names = ["none", "spectral", "trac", *(f"l2,strength={v}" for v in ("1e-05", "0.001", "0.1"))]
    names += [f"spectral,heads={heads},strength={v}" for heads in ("exempt", "include") for v in ("0.01", "0.1", "1.0")]
    names += [f"parseval,strength={v}" for v in ("0.1", "0.2")]  # two values are none
    names += [f"redo,every={v}" for v in ("0", "-1", "x")]
    env = env_of({f"ppo-{name}": [1.0] for name in names})
    found = {sweep.label: (sweep.setting, [*sweep.runs]) for sweep in sweeps(env)}
    assert found == {
        "l2,strength=*": ("strength", [1e-5, 1e-3, 0.1]),
        "spectral,heads=exempt,strength=*": ("strength", [0.01, 0.1, 1.0]),
        "spectral,heads=include,strength=*": ("strength", [0.01, 0.1, 1.0]),
    }
    assert sensitivity(env_of({"ppo-none": [1.0], "ppo-spectral": [2.0]})) is None


def test_a_setting_of_the_agent_too() -> None:
    env = env_of({f"ppo,learning_rate={v},n_steps=5-none": [v] for v in (1e-05, 0.001, 0.01)})
    (sweep,) = sweeps(env)
    assert (sweep.label, sweep.best) == ("ppo,learning_rate=*,n_steps=5-none", 0.01)


def test_against_fresh_agents_and_else_against_the_best() -> None:
    of = {f"ppo-l2,strength={v}": [r, r + 2] for v, r in zip(DECADES, (10, 80, 100, 78, 0), strict=True)}
    without = sensitivity(env_of(of | {"ppo-trac": [200, 200]}))
    fresh = sensitivity(env_of(of | {"ppo-trac": [200, 200], "ppo,fresh-none": [90, 110]}))
    assert without is not None
    assert fresh is not None
    assert (without.panels[0].guide, fresh.panels[0].guide) == (160, 80)
    assert "fresh agents" in fresh.how
    assert "the best method here" in without.how
    assert without.table[0]["good"] == "none"
    assert fresh.table[0]["good"] == "0.0001, 0.001"
    row = fresh.table[0]["width (orders of magnitude)"]
    assert str(row).startswith("2.0 [")
    assert fresh.panels[0].log_x


def test_one_run_has_no_interval_and_negative_returns_have_no_share() -> None:
    of = {f"ppo-l2,strength={v}": [10.0] for v in DECADES}
    figure = sensitivity(env_of(of))
    assert figure is not None
    assert figure.table[0]["width (orders of magnitude)"] == "≥ 4.0"
    assert not len(figure.panels[0].marks[0].numbers.low)
    negative = sensitivity(env_of({name: [-10.0, -11.0] for name in of}))
    assert negative is not None
    assert "good" not in negative.table[0]
    assert negative.panels[0].guide is None


def test_the_interval_holds_the_width_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    middle = np.array([20.0, 60, 100, 70, 30])
    true = width(DECADES, [*middle], 80).decades
    held = 0
    for _ in range(100):
        runs = {value: rng.normal(mean, 5, 10) for value, mean in zip(DECADES, middle, strict=True)}
        low, high = Sweep("", "", runs, rng.normal(100, 5, 10)).interval
        held += low <= true <= high
    assert 84 <= held <= 100
    assert not math.isnan(low)


def test_the_page_the_tables_and_results_have_it(tmp_path: Path) -> None:
    of = {f"ppo-l2,strength={v}": [10.0, 12.0] for v in DECADES}
    env = env_of(of | {"ppo,fresh-none": [9.0, 11.0]})
    section = Section(env)
    assert {figure.key: bool(figure.panels) for figure in section.figures}["sensitivity"]
    assert "## How much a swept setting matters" in writing.markdown(section, "report.py")
    write_rows(env.rows, tmp_path / "tasks.csv")
    made = {Path(line).name for line in results.rebuild(tmp_path)}
    assert {"table.md", "sensitivity.png"} <= made
    assert "| l2,strength=* |" in (tmp_path / "table.md").read_text()
    assert (tmp_path / "sensitivity.png").read_bytes().startswith(b"\x89PNG")
