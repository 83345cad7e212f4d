"""Who is better than no method, and than fresh agents: of the same agent, counted pair by pair."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neoteny.runners.reports.comparison import Comparison, compared
from neoteny.runners.reports.environment import Environment
from neoteny.runners.reports.sources import Run
from neoteny.runners.reports.tables import as_markdown

METHODS = [f"{agent}{kind}" for agent in ("ppo", "ppo-trac") for kind in ("-none", "-l2,strength=0.1", ",fresh-none")]


def env_of(reached: dict[str, np.ndarray]) -> Environment:
    """Methods by what their runs reach in each task, (runs × tasks)."""
    runs = [
        Run(method, seed, Path(method), [{"name": "t", "headline": "return", "return_mean": str(v)} for v in row])
        for method, values in reached.items()
        for seed, row in enumerate(values)
    ]
    return Environment("env", runs)


def share_of_wins(one: np.ndarray, other: np.ndarray) -> float:
    wins = [(a > b) + (a == b) / 2 for task in range(3) for a in one[:, task] for b in other[:, task]]
    return float(np.mean(wins))


def test_each_with_those_of_its_own_agent() -> None:
    rng = np.random.default_rng(0)
    reached = {method: rng.integers(0, 4, (5, 3)).astype(float) for method in METHODS}
    env = env_of(reached)
    rows = {str(row["method"]): row for row in compared(env, Comparison(env))}
    assert rows.keys() == set(METHODS)
    for agent in ("ppo", "ppo-trac"):
        of = rows[f"{agent}-l2,strength=0.1"]
        for name, other in (("none", f"{agent}-none"), ("fresh", f"{agent},fresh-none")):
            wanted = share_of_wins(reached[f"{agent}-l2,strength=0.1"], reached[other])
            assert float(str(of[f"P(better than {name})"]).split()[0]) == pytest.approx(wanted, abs=2e-3)
        assert "P(better than none)" not in rows[f"{agent}-none"]
        assert "P(better than fresh)" in rows[f"{agent}-none"]
        assert not {"P(better than none)", "P(better than fresh)"} & rows[f"{agent},fresh-none"].keys()


def test_one_method_is_not_compared() -> None:
    env = env_of({"ppo-none": np.ones((2, 2))})
    assert compared(env, Comparison(env)) == []


def test_rows_in_markdown_may_lack_columns() -> None:
    assert as_markdown([{"method": "a", "x": 0.12345}, {"method": "b", "y": "c", "x": None}]) == (
        "| method | x | y |\n| --- | ---: | ---: |\n| a | 0.123 |  |\n| b |  | c |"
    )
