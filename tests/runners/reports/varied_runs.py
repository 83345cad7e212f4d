"""Folders of many runs from one that was trained: its tables, with other numbers."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from neoteny.runners import continual_rl

TINY = (
    "--env cartpole-rotate --agent ppo-trac --num-tasks 3 --steps-per-task 2048 --num-envs 4 --agent.n_steps 32 "
    "--agent.network.hidden [8,8] --evaluate-all --evaluate-episodes 2 --probe on"
).split()
#: Columns whose numbers are varied, by how their names begin.
VARIED = (
    "return",
    "score",
    "rollout/return",
    "rollout/score",
    "spectral_norm",
    "dormant",
    "feature_rank",
    "seconds",
    "actor/",
    "critic/",
)


def train(out: Path) -> Path:
    """A very small run; its folder."""
    assert continual_rl.main([*TINY, "--out", str(out)]) == 0
    (folder,) = out.glob("*/*/seed-*")
    return folder


def vary(run: Path, env: Path, methods: Sequence[str], seeds: Sequence[int], fresh: bool = False) -> Path:
    """Runs of these methods in the folder ``env``, each with numbers of its own."""
    names = [f"ppo-trac-{method}" for method in methods] + ["ppo-trac,fresh-none"] * fresh
    for number, name in enumerate(names):
        for seed in seeds:
            folder = env / name / f"seed-{seed}"
            folder.mkdir(parents=True)
            rng = np.random.default_rng([number, seed])
            for table in ("tasks.csv", "progress.csv", "evaluations.csv"):
                _vary(run / table, folder / table, 1 + number / 10, rng)
            settings = yaml.safe_load((run / "config.yaml").read_text())
            settings |= {"seed": seed, "reg": {"method": name.removeprefix("ppo-trac-")}}
            (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return env


def _vary(source: Path, target: Path, factor: float, rng: np.random.Generator) -> None:
    with source.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    for row in rows:
        for column, text in row.items():
            if text and column.startswith(VARIED):
                row[column] = repr(float(text) * factor * rng.uniform(0.8, 1.2))
    with target.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def copy(env: Path, target: Path) -> Path:
    """Runs to be damaged."""
    return Path(shutil.copytree(env, target))
