"""What a search has found: a table of its trials, presets of the best, a plot."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from neoteny.configs import dump_yaml
from neoteny.runners.experiments.compose import deep_copy, put
from neoteny.runners.experiments.program import Program
from neoteny.runners.searches.study import Row, Study


def write_trials(studies: Sequence[Study], others: Mapping[str, float], file: Path) -> None:
    """A row for each trial of each study, and for what was reached without a search."""
    rows: list[dict[str, Any]] = [{"study": name, "state": "complete", "mean": mean} for name, mean in others.items()]
    for study in studies:
        for row in study.rows:
            seen = {"tasks": max(row.seen), "mean": row.reached} if row.seen else {}
            rows.append(
                {"study": study.name, "trial": row.number + 1, "state": row.state, **row.values, **seen, "why": row.why}
            )
    columns = dict.fromkeys(key for row in rows for key in row if key not in ("tasks", "mean", "why"))
    with file.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, [*columns, "tasks", "mean", "why"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_presets(study: Study, program: Program, folder: Path, about: str) -> dict[str, Path]:
    """A preset with the best values for each kind that has a range, by kind.

    Args:
        study: with a complete trial.
        program: whose presets they are.
        folder: where they are written.
        about: a line for its head.
    """
    best = study.best
    assert best is not None
    presets = program.load(study.point.programs_names)
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for kind in dict.fromkeys(key.partition(".")[0] for key in study.ranges):
        name, settings = presets[kind]
        settings = deep_copy(settings)
        for key, value in (study.point.settings | best.values).items():
            first, _, path = key.partition(".")
            if first == kind:
                put(settings, path.split("."), value, key)
        files[kind] = folder / f"{name.replace(':', '.')}-found.yaml"
        files[kind].write_text(f"# {about}\n{dump_yaml(settings)}")
    return files


def draw(studies: Sequence[Study], others: Mapping[str, float], measure: str, file: Path) -> None:
    """What trials have reached over the values of each setting; a star for the best; marks for those that were pruned.

    Args:
        studies: whose trials they are.
        others: what was reached without a search, by name.
        measure: what is reached.
        file: of the plot.
    """
    keys = [*dict.fromkeys(key for study in studies for key in study.ranges)]
    figure, (axes,) = plt.subplots(
        1, len(keys), figsize=(5.5 * len(keys) + 1, 4.2 + 0.2 * len(studies)), layout="constrained", squeeze=False
    )
    for axis, key in zip(axes, keys, strict=True):
        for number, study in enumerate(studies):
            if key in study.ranges:
                _dots(axis, study, key, f"C{number}", number)
        for number, (name, value) in enumerate(others.items()):
            axis.axhline(value, color="black", linestyle=("--", ":", "-.")[number % 3], linewidth=1, label=name)
        axis.set(xlabel=key, ylabel=measure)
        if all(study.ranges[key].log for study in studies if key in study.ranges):
            axis.set_xscale("log")
        axis.grid(alpha=0.25)
    named = {label: line for axis in axes for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(named.values(), named, loc="outside lower center", frameon=False, fontsize="small")
    figure.suptitle("Trials that ran to their end; at the foot, those that were pruned", fontsize="medium")
    figure.savefig(file, dpi=130)
    plt.close(figure)


def _dots(axis: Axes, study: Study, key: str, color: str, number: int) -> None:
    def points(rows: Sequence[Row]) -> tuple[list[float], list[float]]:
        return [row.values[key] for row in rows], [row.seen[study.looks[-1]] for row in rows]

    pruned = [row.values[key] for row in study.rows if row.state == "pruned"]
    foot = axis.get_xaxis_transform()  # what they had reached is of fewer tasks
    axis.plot(pruned, [0.02 + 0.03 * number] * len(pruned), "|", color=color, markersize=7, transform=foot)
    complete = [row for row in study.rows if row.state == "complete"]
    axis.plot(*points(complete), "o", color=color, markersize=5, label=study.name)
    if study.best:
        axis.plot(*points([study.best]), "*", color=color, markersize=14)
