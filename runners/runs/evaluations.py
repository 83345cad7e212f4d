"""Evaluation of a run's agents, in tables: of one agent on request, and of all agents on all tasks during a run."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.logger import Image, Logger

from neoteny.agents import Continual
from neoteny.configs import ConfigError
from neoteny.envs import ContinualVecEnv, TaskSequence
from neoteny.runners.dashboards import draw_matrix, forgotten, numbered, only_dashboards
from neoteny.runners.experiments import Experiment
from neoteny.runners.measures import HEADLINES, evaluate_visit, generators_kept, in_words, transfer
from neoteny.runners.runs.display import Display, number
from neoteny.runners.runs.folder import RunFolder, kept_agent
from neoteny.runners.runs.loading import LoadedRun
from neoteny.runners.runs.tables import Table, read_rows

#: What agents that begin every task anew have forgotten.
FRESH = "Nothing can be: each task has an agent of its own."
FILE = "evaluations.csv"


def evaluate(
    run: LoadedRun, tasks: Sequence[int] | None = None, episodes: int = 20, deterministic: bool = False
) -> list[dict[str, Any]]:
    """What a run's agent reaches in tasks of the run's sequence. It does not learn, and the run is not touched.

    .. code-block:: python

        run = neoteny.load_run("runs/minigrid-seq/ppo-spectral/seed-0")
        for row in neoteny.evaluate(run, tasks=[1, 2]):
            print(row["name"], row["return"])

    Args:
        run: from :func:`~neoteny.runners.runs.load_run`.
        tasks: which, the first being 1; also such as the agent has not met. By default all of the sequence, each once.
        episodes: whole games in each task.
        deterministic: take the most likely action; otherwise the agent acts as when it learns.

    Returns:
        A row for each task: ``task``, its ``name``, and what
        :func:`~neoteny.runners.measures.evaluate_visit` says.

    Raises:
        ConfigError: there is no such task, or episodes are fewer than 1.
        EnvironmentFault: an environment has broken.
    """
    sequence = run.experiment.sequence
    wanted = check_tasks(sequence, tasks)
    env = run.experiment.make_env(_side_by_side(run.experiment, episodes))
    try:
        visits = [sequence.visit(task - 1) for task in wanted]
        return [
            {"task": visit.index + 1, "name": visit.label}
            | evaluate_visit(run.agent, env, visit, episodes, deterministic)
            for visit in visits
        ]
    finally:
        env.close()


def check_tasks(sequence: TaskSequence, tasks: Sequence[int] | None) -> list[int]:
    """The tasks that are asked for, the first being 1; by default all of the sequence, each once.

    Raises:
        ConfigError: the sequence has no such task.
    """
    if tasks is None:
        return sorted({index + 1 for index in sequence.first_visits})
    if beyond := [task for task in tasks if not 1 <= task <= len(sequence.visits)]:
        raise ConfigError(f"task: {beyond[0]} is not in this run; it has the tasks 1 to {len(sequence.visits)}")
    return list(tasks)


def _side_by_side(experiment: Experiment, episodes: int) -> int:
    """How many environments play so many games.

    Raises:
        ConfigError: there are no games.
    """
    if episodes < 1:
        raise ConfigError(f"episodes: at least 1 is needed, got {episodes}")
    return min(int(experiment.agent.num_envs), episodes)


class Evaluations:
    """The matrix of a run, ``evaluations.csv``: what its agents reach on every task, after each visit and before all.

    An agent is evaluated from its checkpoint, so the one that learns on does not see it; and only once that checkpoint
    is complete, so a run that is killed meanwhile makes up for it when it goes on.

    Args:
        experiment: of the run.
        folder: of the run.
        env: the environments that the agent learns in; none is stepped.
    """

    def __init__(self, experiment: Experiment, folder: RunFolder, env: ContinualVecEnv):
        self.experiment = experiment
        self.folder = folder
        self._training_env = env
        self.tasks = check_tasks(experiment.sequence, None)
        segments = experiment.segments
        done = itertools.accumulate(segment.steps for segment in segments)
        self.steps = [0, *(step for step, segment in zip(done, segments, strict=True) if segment.ends_visit)]

    @property
    def rows(self) -> list[dict[str, str]]:
        """Those that were written."""
        return read_rows(self.folder.path / FILE, self.folder.state["step"])

    @property
    def missing(self) -> dict[int, list[int]]:
        """The tasks to be evaluated still, by the number of visits before."""
        there = {(int(row["after"]), int(row["on"])) for row in self.rows}
        wanted = {after: [on for on in self.tasks if (after, on) not in there] for after in range(self._visited() + 1)}
        return {after: tasks for after, tasks in wanted.items() if tasks}

    def _visited(self) -> int:
        """How many visits are over."""
        return sum(step <= self.folder.state["step"] for step in self.steps[1:])

    def catch_up(self, logger: Logger, display: Display) -> None:
        """Evaluate what is missing. Where an agent is not there any more, its rows have no numbers."""
        missing = self.missing
        table = Table(self.folder.path / FILE, self.folder.state["step"]) if missing else None
        events = only_dashboards(logger)
        for after, tasks in missing.items():
            assert table is not None
            with generators_kept(self.experiment.device):
                agent = self._agent(after)
                rows = [self._row(agent, after, on) for on in tasks]
            for row in rows:
                table.add(row)
            self._tell(after, rows, events, display)

    def close(self) -> None:
        if "_env" in vars(self):
            self._env.close()

    @cached_property
    def _env(self) -> ContinualVecEnv:
        return self.experiment.make_env(_side_by_side(self.experiment, self.experiment.run.evaluate_episodes))

    def _agent(self, after: int) -> Continual | None:
        """The agent after so many visits, to be thrown away, if it can be had."""
        experiment = self.experiment
        if after == 0:
            return experiment.make_agent(self._training_env, experiment.segments[0].seed(experiment.run.seed))
        path: Path | None = kept_agent(self.folder.path, after)
        if self.folder.state["step"] == self.steps[after]:
            path = self.folder.agent
        if path is None or not path.is_file():
            return None
        seen = experiment.as_seen(self._training_env)
        return experiment.algorithm.load(path, seen, experiment.device, replay=False)

    def _row(self, agent: Continual | None, after: int, on: int) -> dict[str, Any]:
        sequence, began = self.experiment.sequence, time.perf_counter()
        visit = sequence.visit(on - 1)
        found: dict[str, Any] = dict.fromkeys(("return", "score", "success", "reward_rate", "episodes", "games"), "")
        if agent is not None:
            found = evaluate_visit(agent, self._env, visit, self.experiment.run.evaluate_episodes)
            del found["steps"]
        learned = sequence.first_visits[after - 1] + 1 if after else 0
        place = {"step": self.steps[after], "after": after, "learned": learned, "on": on, "name": visit.label}
        return {**place, **found, "seconds": round(time.perf_counter() - began, 2)}

    def _tell(self, after: int, rows: Sequence[dict[str, Any]], events: Logger, display: Display) -> None:
        """On the console and in TensorBoard."""
        headline = HEADLINES[self.experiment.sequence.score]
        for row in rows:
            for name in {"return", headline}:
                if row[name] != "":
                    events.record(f"evaluation/{name}/{numbered(row['on'] - 1, row['name'])}", row[name])
        matrix, visits = transfer.to_matrix(self.rows, headline)
        labels = [numbered(on - 1, self.experiment.sequence.visit(on - 1).label) for on in self.tasks]
        said = FRESH if self.experiment.run.fresh else forgotten(matrix, visits, labels, headline)
        events.record("answers/3 what was forgotten", said)
        if visits:
            events.record("answers/3 what was kept", Image(draw_matrix(matrix, labels, headline), "HWC"))
        for name, value in {} if self.experiment.run.fresh else transfer.measures(matrix, visits).items():
            events.record(f"transfer/{name}", value)
        events.dump(self.steps[after])
        where = f"after task {after}" if after else "before the first task"
        if rows[0][headline] == "":
            display.say(f"{where} nothing is evaluated: that agent was not kept (--keep-agents)")
            return
        seconds = sum(row["seconds"] for row in rows)
        mean = float(np.nanmean([row[headline] for row in rows])) if any(row["games"] for row in rows) else float("nan")
        display.say(
            f"{where} {in_words(headline)} {number(mean)} on average over {len(rows)} tasks "
            f"(evaluated in {seconds:.1f} s)"
        )
