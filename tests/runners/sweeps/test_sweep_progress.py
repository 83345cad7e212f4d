"""What of a sweep is there, how long the rest takes, and what is said of processes that end."""

from __future__ import annotations

import csv
import json
import sys
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from neoteny import configs
from neoteny.configs import ConfigError, dump_yaml
from neoteny.runners import sweep
from neoteny.runners.engines.engine import Engine
from neoteny.runners.engines.local import Local
from neoteny.runners.engines.work import Job
from neoteny.runners.experiments import Experiment, Plan, Sweep
from neoteny.runners.sweeps import attributions, collected, describe, progress_of, run_all
from neoteny.runners.sweeps.progress import duration


def planned(out: Path, **settings: object) -> Plan:
    data = {"env": "cartpole-rotate", "agent": "ppo-trac", "reg": ["none", "redo"], **settings}
    return Plan(configs.build(Sweep, data, "mine"), ["--num-tasks", "3", "--out", str(out)], prog="sweep.py")


def pretend(experiment: Experiment, segment: int, speeds: list[float]) -> None:
    """The files of a run that was stopped after a segment."""
    folder = experiment.folder
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text(dump_yaml(experiment.plain))
    state = {"segment": segment, "step": 10_000 * (segment + 1), "visit": {}}
    (folder / f"checkpoints/segment-{segment:04d}.safetensors").touch()
    (folder / f"checkpoints/segment-{segment:04d}.json").write_text(json.dumps(state))
    with (folder / "tasks.csv").open("w", newline="") as lines:
        writer = csv.DictWriter(lines, ["step", "steps_per_second", "headline", "return_mean"])
        writer.writeheader()
        writer.writerows(
            {"step": i, "steps_per_second": speed, "headline": "return", "return_mean": 10 * i}
            for i, speed in enumerate(speeds)
        )


def test_states_and_times(tmp_path: Path) -> None:
    plan = planned(tmp_path, seeds=2)
    none, none_1, *_ = plan.runs
    assert "not known" in describe(progress_of(plan.runs), 2)
    pretend(none.experiment, 2, [100.0, 500.0, 1000.0])
    pretend(none_1.experiment, 0, [500.0])
    found = progress_of(plan.runs)
    assert [each.state for each in found] == ["complete", "begun", "missing", "missing"]
    assert [each.seconds for each in found] == [0, 20_000 / 500, 30_000 / 500, 30_000 / 500]
    assert describe(found, 2) == "4 runs: 1 complete, 1 begun, 2 missing; about 80 s left at 2 at a time"
    assert describe(found[:1], 2) == "1 runs: 1 complete, 0 begun, 0 missing"
    (none.experiment.folder / "checkpoints/segment-0002.safetensors").unlink()
    assert progress_of(plan.runs)[0].state == "begun"  # and continual_rl.py says what is damaged
    with (none_1.experiment.folder / "tasks.csv").open("a") as table:
        table.write("1,")  # a row that was not written to its end
    assert progress_of(plan.runs)[1].seconds == 20_000 / 500


def test_the_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    pretend(plan.runs[0].experiment, 2, [1.0])
    other = planned(tmp_path, options={"threads": 2})
    with pytest.raises(ConfigError, match="holds a run of other settings: threads is 1 there and 2 here"):
        progress_of(other.runs)
    longer = Plan(plan.sweep, ["--num-tasks", "5", "--out", str(tmp_path)], prog="sweep.py")
    assert [each.state for each in progress_of(longer.runs)] == ["begun", "missing"]


def test_attributions_that_share_processes_begin_when_the_others_have_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(tmp_path, seeds=3, attribution={"tasks": [2], "seeds": 2, "only": ["heads"], "of": {"reg": "none"}})
    asked: list[list[int]] = []
    monkeypatch.setattr(sweep, "run_all", lambda jobs, *_: asked.append([job.threads for job in jobs]) or [])
    monkeypatch.setattr(sweep, "ended_early", lambda *_: [])
    monkeypatch.setattr(sweep, "compare", lambda _: None)
    assert sweep.carry_out(plan, progress_of(plan.runs), cast(Engine, None), 2) == 0
    assert asked == [[1] * len(plan.runs), [1, 1], [2]]


def test_attributions_that_are_missing(tmp_path: Path) -> None:
    wanted = {"tasks": [2, 3], "seeds": 2, "only": ["heads"], "of": {"reg": "none"}}
    plan = planned(tmp_path, seeds=2, attribution=wanted)
    program = Path("attribute.py")
    jobs = attributions(plan, program, 8)
    none = [run.folder for run in plan.runs[:2]]
    assert [job.name for job in jobs] == [f"{run}/attribution/task-000{task}" for run in none for task in (2, 3)]
    words = "--task 2 --jobs 2 --seeds 2 --part-of-sweep --only heads".split()
    assert jobs[0].command[1:] == ["attribute.py", none[0], *words]
    for room, shares in {1: "1111", 2: "1111", 3: "1113", 4: "1111", 5: "1111", 9: "2222"}.items():
        made = attributions(plan, program, room)
        assert "".join(job.command[job.command.index("--jobs") + 1] for job in made) == shares
        assert "".join(str(job.threads) for job in made) == shares
    assert len(attributions(plan, program, 8, done=none[1:])) == 2
    table = Path(jobs[0].name) / "attribution.csv"
    table.parent.mkdir(parents=True)
    table.write_text("fresh,seeds\nnothing,2\nheads,2\neverything,2\n")
    assert [job.name for job in attributions(plan, program, 8)] == [job.name for job in jobs[1:]]
    table.write_text("fresh,seeds\nnothing,2\nheads,1\neverything,2\n")  # another seed is asked for
    assert len(attributions(plan, program, 8)) == 4
    for wrong, message in (({"only": ["head"]}, "did you mean 'heads'"), ({"tasks": [4]}, "has 3 tasks, got 4")):
        with pytest.raises(ConfigError, match=message):
            attributions(planned(tmp_path, attribution=wanted | wrong), program, 1)


def test_processes_and_what_is_said_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = planned(tmp_path)
    pretend(plan.runs[0].experiment, 2, [1.0, 1.0, 1.0])
    jobs = [
        Job(plan.runs[0].folder, [sys.executable, "-c", "import os; assert os.environ['OMP_NUM_THREADS'] == '1'"]),
        Job("[broken]", [sys.executable, "-c", "raise SystemExit('[no] luck')"]),
        Job("fine", [sys.executable, "-c", ""]),
    ]
    with closing(Local(1, None)) as engine:
        failed = run_all(jobs, engine)
    assert [(outcome.job.name, outcome.code) for outcome in failed] == [("[broken]", 1)]
    assert collected(failed) == "FAILED [broken] (exit code 1)\n[no] luck\nlog: [broken]/log.txt\n"
    error = capfd.readouterr().err
    assert f"1/3  {plan.runs[0].folder}  mean return 10, 0 s, about" in error
    assert "FAILED [broken]: [no] luck" in error
    assert error.strip().endswith("3/3  fine  0 s")


def test_durations() -> None:
    assert [duration(seconds) for seconds in (0.4, 89, 90, 3600, 12_000)] == [
        "0 s",
        "89 s",
        "2 min",
        "60 min",
        "3 h 20 min",
    ]
