"""What was run: settings, what differs between methods, what is missing."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Mapping
from typing import Any

from neoteny import configs
from neoteny.runners.experiments.program import REINFORCEMENT, Program
from neoteny.runners.experiments.supervised import SUPERVISED
from neoteny.runners.reports.environment import Environment
from neoteny.runners.reports.figures import Cell
from neoteny.runners.reports.provenance import differing as made_otherwise
from neoteny.runners.reports.sources import Run, named, spans
from neoteny.runners.runs.folder import MAY_DIFFER

#: Settings in which runs of one method may differ without being other runs.
OF_RUN = ("seed", *MAY_DIFFER)
#: Settings in a label that the command has without their kind.
WITHOUT_KIND = ("steps_per_task", "epochs", "tasks_seed")


def flat(data: Any, prefix: str = "") -> dict[str, str]:
    """Nested settings by dotted name, as text."""
    if isinstance(data, Mapping):
        items = data.items()
        return {k: v for key, value in items for k, v in flat(value, f"{prefix}.{key}".strip(".")).items()}
    return {prefix: ", ".join(map(str, data)) if isinstance(data, list) else str(data)}


def missing(env: Environment) -> list[str]:
    """What is not there: seeds that other methods have, tasks that runs did not come to, files that cannot be read."""
    said = []
    every = sorted({run.seed for run in env.all})
    for method in dict.fromkeys(run.method for run in env.all):
        runs = [run for run in env.all if run.method == method]
        seeds = {run.seed for run in runs}
        if lacking := [seed for seed in every if seed not in seeds]:
            s = "s" * (len(lacking) > 1)
            said.append(
                f"{method}: seed{s} {', '.join(map(str, lacking))}, which other methods have, {'are' if s else 'is'} "
                "missing."
            )
        for run in runs:
            said += _of_run(run)
    troubles: dict[str, list[Run]] = {}
    for run in env.all:
        notes = {f"a task has no mean return ({row['note']})" for row in run.tasks if row.get("note")}
        for trouble in (*sorted(notes), *run.problems):
            troubles.setdefault(trouble, []).append(run)
    said += [f"{named(where)}: {trouble}." for trouble, where in troubles.items()]
    lengths = {method: max(len(run.tasks) for run in env.of(method)) for method in env.methods}
    if len(set(lengths.values())) > 1:
        some = "; ".join(f"{method} {count}" for method, count in lengths.items())
        said.append(
            f"Methods have different numbers of finished tasks ({some}): they are compared on those that all have."
        )
    fingerprints = {str(f) for run in env.all if (f := flat(run.settings).get("env.fingerprint"))}
    wanted = {run.wanted for run in env.all}
    if len(fingerprints) > 1 and len(wanted) == 1:
        said.append(
            f"Runs have different tasks (fingerprints {', '.join(sorted(fingerprints))}): what is compared here may "
            "not be alike."
        )
    return [*said, *made_otherwise(env)]


def _of_run(run: Run) -> list[str]:
    name = f"{run.method}, seed {run.seed}"
    said = []
    if not run.tasks:
        said.append(f"{name}: no task is finished; it is left out.")
    elif run.wanted is not None and run.unfinished:
        said.append(f"{name}: unfinished, {len(run.tasks)} of {run.wanted} tasks; it was stopped, or still runs.")
    return said


def methods(env: Environment) -> list[dict[str, Cell]]:
    """A row for each method: its seeds, tasks, steps, and a command."""
    rows: list[dict[str, Cell]] = []
    for method in dict.fromkeys(run.method for run in env.all):
        runs = [run for run in env.all if run.method == method]
        steps = [sum(int(float(row.get("steps") or 0)) for row in run.tasks) for run in runs]
        done = sorted({len(run.tasks) for run in runs})
        wanted = sorted({str(run.wanted) for run in runs if run.wanted is not None})
        rows.append(
            {
                "method": env.called.get(method, method),
                "folder": method,
                "seeds": spans([run.seed for run in runs]),
                "tasks finished": f"{' or '.join(map(str, done))} of {', '.join(wanted) or '?'}",
                "steps of a run": max(steps),
                "updates": ", ".join(
                    sorted({row["updates"] for run in runs for row in run.tasks if row.get("updates")})
                ),
                "fingerprint": ", ".join(sorted({flat(r.settings).get("env.fingerprint", "") for r in runs} - {""})),
                "command": command(runs),
            }
        )
    return rows


def command(runs: list[Run]) -> str:
    """The command that its settings' labels name, and settings of the run; empty where they do not name all: names that
    are no presets were given by path or class, and have lost it."""
    settings = runs[0].settings
    env, labels = settings.get("env"), settings.get("labels")
    if not isinstance(env, Mapping) or not isinstance(labels, Mapping) or not (chosen := _chosen(env, labels)):
        return ""
    program = SUPERVISED if "data" in env else REINFORCEMENT
    words = ["python", "runners/sweep.py"]
    for kind, label in chosen.items():
        name, *others = re.split(r",(?=[\w.-]+=)", label)
        if not {*name.split("+")} <= {*configs.names(program.choices[kind][0])}:
            return ""
        words += [f"--{kind}", name]
        for each in others:
            key, _, value = each.partition("=")
            words.append(f"--{key.replace('_', '-')}" if key in WITHOUT_KIND else f"--{kind}.{key}")
            words.append("null" if value == "None" else value)
    words += ["--num-tasks", str(env["num_tasks"])] if env.get("num_tasks") else []
    words += ["--fresh"] * bool(settings.get("fresh"))
    words += ["--evaluate-all"] * bool(settings.get("evaluate_all"))
    for key, usual in _usual(program, chosen).items():
        words += [f"--{key.replace('_', '-')}", str(settings[key])] if settings.get(key, usual) != usual else []
    seeds = sorted({run.seed for run in runs})
    words += ["--seeds", spans(seeds)] if len(seeds) > 1 else ["--seed", str(seeds[0])]
    return shlex.join(words)


def _chosen(env: Mapping[str, Any], labels: Mapping[str, Any]) -> dict[str, str]:
    """The label of what was chosen, by kind, with its settings; nothing, if there are not all."""
    kinds = ("data", "change", "agent", "reg") if "data" in env else ("env", "agent", "reg")
    if not {"env", *kinds} <= labels.keys():
        return {}
    found = {kind: str(labels[kind]) for kind in kinds}
    if "data" not in found:
        return found
    options = str(labels["env"]).removeprefix(f"{found['data']}-{found['change']}")
    return {"data": found["data"], "change": found["change"] + options, "net": found["agent"], "reg": found["reg"]}


def _usual(program: Program, chosen: Mapping[str, str]) -> dict[str, Any]:
    """The settings of a run on which its numbers depend and that no label has, as they are unless given."""
    kind, label = next(iter(chosen.items()))
    _, preset = configs.load(program.choices[kind][0], label.partition(",")[0])
    names = ("threads", "precision", "segment_steps")
    usual = {field.name: field.default for field in dataclasses.fields(program.run) if field.name in names}
    return usual | {key: preset[key] for key in names if key in preset}


def differing(env: Environment) -> list[dict[str, Cell]]:
    """The settings in which methods differ: a row for each and a column per method; of many methods the reverse."""
    found: dict[str, dict[str, str]] = {}
    for run in env.all:
        if run.settings:
            settings = {k: v for k, v in flat(run.settings).items() if k.partition(".")[0] not in OF_RUN}
            found.setdefault(run.method, {}).update(settings)
    every = dict.fromkeys(key for settings in found.values() for key in settings)
    keys = [key for key in every if len({settings.get(key) for settings in found.values()}) > 1]
    names = {method: env.called.get(method, method) for method in found}
    if not keys:
        return []
    if len(found) > len(keys):
        return [{"method": names[m], **{key: settings.get(key, "—") for key in keys}} for m, settings in found.items()]
    return [{"setting": key, **{names[m]: settings.get(key, "—") for m, settings in found.items()}} for key in keys]


def common(env: Environment) -> dict[str, str]:
    """The settings that all runs share."""
    of_runs = [flat(run.settings) for run in env.all if run.settings]
    if not of_runs:
        return {}
    return {
        key: value
        for key, value in of_runs[0].items()
        if key.partition(".")[0] not in OF_RUN and all(other.get(key) == value for other in of_runs)
    }
