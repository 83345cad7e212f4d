"""The runs that a report is about: found under the folders that are given, and read, whatever state they are in."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from neoteny import configs
from neoteny.configs import ConfigError
from neoteny.runners.measures.verdicts import number
from neoteny.runners.reports.flat import Place, attributions, read_trials
from neoteny.runners.reports.scores import Runs, Scores
from neoteny.runners.runs.answers import in_runs
from neoteny.runners.runs.made_with import Parts, made_with

#: Methods that are named before "and … more".
NAMED = 5
#: Folders between one that is given and a run's, at most.
DEPTH = 4
#: What makes a folder a run's.
FILES = ("tasks.csv", "progress.csv", "config.yaml")
#: The columns of progress.csv that a report reads, as the beginnings of their names.
PROGRESS = (
    *("step", "task/index", "rollout/", "train/", "policy/entropy", "probe/", "gradient_diversity/"),
    *("spectral_norm/", "condition_number/", "dormant/", "feature_rank/"),
    *("actor/", "critic/", "encoder/", "network/"),
)

Row = dict[str, str]
Columns = dict[str, Scores]


@dataclass(frozen=True)
class Run:
    """What is on disk of one run.

    Attributes:
        method: the name of the folder above the run's, such as ``ppo-spectral``.
        seed: of the run.
        folder: of the run.
        tasks: the rows of tasks.csv.
        progress: columns of progress.csv, all of one length.
        evaluations: the rows of evaluations.csv.
        trials: the rows of its attributions, by the task that they are into, the first being 1.
        settings: of config.yaml; empty, if that is not there.
        made_with: versions and processor, by the step from which on; empty, if it is not recorded.
        problems: what could not be read.
    """

    method: str
    seed: int
    folder: Path
    tasks: list[Row] = field(default_factory=list)
    progress: Columns = field(default_factory=dict)
    evaluations: list[Row] = field(default_factory=list)
    trials: Mapping[int, list[Row]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    made_with: Mapping[int, Parts] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def wanted(self) -> int | None:
        """How many tasks its settings ask for; None if they do not say."""
        env = self.settings.get("env")
        if not isinstance(env, Mapping):
            return None
        if isinstance(env.get("num_tasks"), int):
            return int(env["num_tasks"])
        cycles, tasks = env.get("cycles"), env.get("tasks")
        return cycles * len(tasks) if isinstance(cycles, int) and isinstance(tasks, list) else None

    def inside(self, task: int, values: Scores) -> Scores:
        """The known ones of ``values``, one for each row of progress.csv, in a finished task; the first is 0."""
        if task >= len(self.tasks) or not self.progress:
            return np.empty(0)
        begin = number(self.tasks[task - 1], "step") if task else 0.0
        steps = self.progress["step"]
        return values[(steps > begin) & (steps <= number(self.tasks[task], "step")) & np.isfinite(values)]

    @property
    def unfinished(self) -> bool:
        return len(self.tasks) < (self.wanted or 1)


def find(given: Sequence[Path]) -> dict[Path, list[Run]]:
    """The runs in these folders, by the folder of their environment.

    A folder may be that of a run, of a method, of an environment, one that holds several of these, or one of results/,
    with a tasks.csv that has the columns ``method`` and ``seed``.
    """
    found: dict[Path, dict[Path, Run]] = {}
    for folder in given:
        if not folder.is_dir():
            continue
        for run in _below(folder.resolve()):
            found.setdefault(run.folder.parent.parent, {})[run.folder] = run
    return {env: [runs[path] for path in sorted(runs, key=_in_order)] for env, runs in sorted(found.items())}


def spans(numbers: Iterable[int]) -> str:
    """Seeds as ``0-4,7``."""
    return in_runs(sorted(set(numbers))).replace(" ", "")


def named(runs: Sequence[Run]) -> str:
    """``ppo-none, seeds 0-2; ppo-l2, seed 1``; of many methods the first ones."""
    seeds: dict[str, set[int]] = {}
    for run in runs:
        seeds.setdefault(run.method, set()).add(run.seed)
    of = [f"{method}, {'seeds' if len(some) > 1 else 'seed'} {spans(some)}" for method, some in seeds.items()]
    more = f"; and {len(of) - NAMED} more methods" if len(of) > NAMED else ""
    return "; ".join(of[:NAMED]) + more


def _in_order(path: Path) -> tuple[str, int]:
    return path.parent.name, int(path.name[5:])


def _below(folder: Path) -> Iterator[Run]:
    if _seed(folder) is not None:
        yield read_run(folder)
        return
    there = False
    for depth in range(1, DEPTH + 1):
        for path in sorted(folder.glob("*/" * (depth - 1) + "seed-*")):
            if _seed(path) is not None:
                there = True
                yield read_run(path)
    if not there and (folder / "tasks.csv").is_file():
        yield from _collected(folder)


def _seed(path: Path) -> int | None:
    match = re.fullmatch(r"seed-(\d+)", path.name)
    return int(match[1]) if match and any((path / name).is_file() for name in FILES) else None


def read_run(folder: Path) -> Run:
    """What is there of the run in ``folder``. Nothing is raised: what cannot be read is among its problems."""
    problems: list[str] = []
    tasks = read_table(folder / "tasks.csv", problems)
    evaluations = read_table(folder / "evaluations.csv", problems)
    trials = {task: read_table(file, problems) for task, file in attributions(folder).items()}
    progress = read_columns(folder / "progress.csv", problems)
    settings: Mapping[str, Any] = {}
    if not (folder / "config.yaml").is_file():
        problems.append("there is no config.yaml")
    else:
        try:
            read = configs.read_yaml(folder / "config.yaml")
            settings = read if isinstance(read, Mapping) else {}
        except (ConfigError, OSError, UnicodeDecodeError) as error:
            problems.append(f"config.yaml cannot be read ({error})")
    seed = _seed(folder)
    assert seed is not None
    made = made_with(folder)
    return Run(folder.parent.name, seed, folder, tasks, progress, evaluations, trials, settings, made, tuple(problems))


def _collected(folder: Path) -> Iterator[Run]:
    """The runs in the tasks.csv that a report has written."""
    problems: list[str] = []
    found: Runs = {}
    for row in read_table(folder / "tasks.csv", problems):
        if row.get("method") and (row.get("seed") or "").isdigit():
            found.setdefault(row["method"], {}).setdefault(int(row["seed"]), []).append(row)
    try:
        trials = read_trials(folder / "trials.csv")
    except (ConfigError, ValueError) as error:
        problems.append(f"trials.csv cannot be read ({error})")
        trials = {}
    yield from of_rows(found, folder, problems, trials)


def of_rows(
    runs: Runs, folder: Path, problems: Sequence[str] = (), trials: Mapping[Place, list[Row]] | None = None
) -> Iterator[Run]:
    """The runs of which only rows are kept.

    Args:
        runs: the rows.
        folder: where they are.
        problems: in reading them.
        trials: the rows of their attributions.
    """
    for method, seeds in runs.items():
        for seed, rows in seeds.items():
            place = folder / method.replace("/", "_") / f"seed-{seed}"
            own = {at.task: kept for at, kept in (trials or {}).items() if (at.method, at.seed) == (method, seed)}
            yield Run(method, seed, place, rows, trials=own, problems=(*problems, "only tasks.csv is kept"))


def _lines(file: Path, problems: list[str]) -> Iterator[list[str]]:
    """The whole lines of a CSV file, the names of its columns first. A torn one at the end is a problem."""
    if not file.is_file():
        return
    with file.open(newline="", errors="replace") as text:
        reader = csv.reader(text)
        columns = next(reader, None)
        if not columns:
            problems.append(f"{file.name} is empty")
            return
        yield columns
        try:
            for line in reader:
                if len(line) == len(columns):
                    yield line
                elif line:
                    problems.append(f"line {reader.line_num} of {file.name} is torn, and left out")
        except csv.Error as error:
            problems.append(f"{file.name} is torn at line {reader.line_num} ({error})")


def read_table(file: Path, problems: list[str]) -> list[Row]:
    """The rows of a table; none if there is no such file."""
    lines = _lines(file, problems)
    columns = next(lines, [])
    return [dict(zip(columns, line, strict=True)) for line in lines]


def read_columns(file: Path, problems: list[str]) -> Columns:
    """The columns of progress.csv that a report reads, as numbers; NaN where a field is empty."""
    lines = _lines(file, problems)
    names = next(lines, [])
    places = {name: i for i, name in enumerate(names) if name.startswith(PROGRESS)}
    values: dict[str, list[float]] = {name: [] for name in places}
    for line in lines:
        for name, place in places.items():
            try:
                values[name].append(float(line[place] or "nan"))
            except ValueError:
                values[name].append(math.nan)
    columns = {name: np.array(column) for name, column in values.items()}
    return columns if "step" in columns and len(columns["step"]) else {}


def as_rows(runs: Sequence[Run], table: str = "tasks") -> Runs:
    """The rows of a table by method and seed, as the tables in Markdown take them; of runs that have some."""
    found: Runs = {}
    for run in runs:
        if rows := getattr(run, table):
            found.setdefault(run.method, {})[run.seed] = rows
    return found
