"""What is said when a run begins: what was chosen or changed without being asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from neoteny.envs.backends import choose, time_limit
from neoteny.runners.experiments import Experiment
from neoteny.runners.runs.answers import in_runs


def notices(experiment: Experiment) -> list[str]:
    """A line each: budgets that were rounded up, the backends, and episodes that may take longer than a segment."""
    return [*_budgets(experiment), _backends(experiment), *_cut(experiment)]


def _budgets(experiment: Experiment) -> Iterable[str]:
    changes: dict[str, list[int]] = {}
    for visit in experiment.sequence.visits:
        if (budget := experiment.budget(visit)) != visit.task.steps:
            changes.setdefault(f"{budget:,} steps for {visit.task.steps:,}", []).append(visit.index)
    if changes:
        yield f"Budgets are whole rollouts of {experiment.rollout:,} steps: {_listed(changes)}"


def _backends(experiment: Experiment) -> str:
    chosen: dict[str, list[int]] = {}
    backends = [choose(task) for task in experiment.sequence.tasks]
    for visit in experiment.sequence.visits:
        chosen.setdefault(backends[visit.task_id], []).append(visit.index)
    return f"Backend: {next(iter(chosen)) if len(chosen) == 1 else _listed(chosen)}"


def _cut(experiment: Experiment) -> Iterable[str]:
    longest: dict[int, int] = {}
    for segment in experiment.segments:
        steps = segment.steps // experiment.agent.num_envs
        longest[segment.visit.index] = max(steps, longest.get(segment.visit.index, 0))
    cut: dict[str, list[int]] = {}
    limits = [time_limit(task) for task in experiment.sequence.tasks]
    for visit in experiment.sequence.visits:
        limit, steps = limits[visit.task_id], longest[visit.index]
        if limit is not None and limit > steps:
            cut.setdefault(f"up to {limit:,} steps, cut after {steps:,}", []).append(visit.index)
    if cut:
        yield (
            f"Episodes may be cut before they end: {_listed(cut)}. Where long ones are, there is no mean return; "
            "--segment-steps and --steps-per-task make room"
        )


def _listed(groups: Mapping[str, list[int]]) -> str:
    """``x (tasks 1-3, 5); y (task 4)``."""
    return "; ".join(
        f"{what} (task{'s' * (len(tasks) > 1)} {in_runs(index + 1 for index in tasks)})"
        for what, tasks in groups.items()
    )
