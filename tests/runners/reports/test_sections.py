"""What a report says of runs in whatever state they are, without a browser."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from thinning import some

from neoteny.runners import report
from neoteny.runners.reports import Section, environments, page

NAN = math.nan


def make(env: Path, method: str, seed: int, tasks: int = 3, wanted: int = 3, score: float = 1.0) -> Path:
    """The folder of a run: a return of ``score`` times the task's number, σ_max that doubles in the actor."""
    folder = env / method / f"seed-{seed}"
    folder.mkdir(parents=True)
    value = [score * (task + 1) + 0.01 * seed for task in range(tasks)]
    rows = [f"{100 * (i + 1)},{i},room {i},100,return,{v},{v},1,{2**i}" for i, v in enumerate(value)]
    head = "step,task,name,steps,headline,return_mean,return_final,seconds,spectral_norm_max"
    (folder / "tasks.csv").write_text("\n".join([head, *rows, ""]))
    head = "step,task/index,rollout/return,spectral_norm/action_net,spectral_norm/value_net,policy/entropy"
    rows = [f"{50 * (i + 1)},{i // 2},{value[i // 2] * (i % 2)},{2 ** (i // 2)},1.0,0.5" for i in range(2 * tasks)]
    (folder / "progress.csv").write_text("\n".join([head, *rows, ""]))
    settings = {"env": {"fingerprint": "f", "num_tasks": wanted}, "reg": {"method": method}, "seed": seed}
    settings["labels"] = {"env": "minigrid-seq,steps_per_task=100", "agent": "ppo,gamma=0.9", "reg": method[4:]}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return folder


def text_of(env: Path) -> str:
    """The page of the runs in this folder."""
    sections = [Section(each) for each in environments([env])]
    return page("Report", "report.py", sections, {section.env.name: "" for section in sections})


def sweep(env: Path) -> Path:
    for number, method in enumerate(("ppo-none", "ppo-l2", "ppo-redo")):
        for seed in range(3):
            make(env, method, seed, score=1.0 + number)
    return env


Damage = Callable[[Path], object]
DAMAGES: dict[str, tuple[Damage, str]] = {
    "a missing seed": (
        lambda env: shutil.rmtree(env / "ppo-l2/seed-1"),
        "ppo-l2: seed 1, which other methods have, is missing.",
    ),
    "a killed run": (
        lambda env: (shutil.rmtree(env / "ppo-l2/seed-1"), make(env, "ppo-l2", 1, tasks=1)),
        "ppo-l2, seed 1: unfinished, 1 of 3 tasks; it was stopped, or still runs.",
    ),
    "a run that has only begun": (
        lambda env: (shutil.rmtree(env / "ppo-l2/seed-1"), make(env, "ppo-l2", 1, tasks=0)),
        "ppo-l2, seed 1: no task is finished; it is left out.",
    ),
    "an empty table": (
        lambda env: (env / "ppo-l2/seed-1/progress.csv").write_text(""),
        "ppo-l2, seed 1: progress.csv is empty.",
    ),
    "a torn table": (
        lambda env: (env / "ppo-l2/seed-1/tasks.csv").write_text((env / "ppo-l2/seed-1/tasks.csv").read_text()[:-9]),
        "ppo-l2, seed 1: line 4 of tasks.csv is torn, and left out.",
    ),
    "bytes of something else": (
        lambda env: (env / "ppo-l2/seed-1/progress.csv").write_bytes(b"\xff\x00\n\xfe,,,\n"),
        "ppo-l2, seed 1: line 2 of progress.csv is torn",
    ),
    "no progress.csv": (
        lambda env: [file.unlink() for file in env.glob("*/*/progress.csv")],
        "There is no progress.csv, so each task is",
    ),
    "no settings": (
        lambda env: (env / "ppo-l2/seed-1/config.yaml").unlink(),
        "ppo-l2, seed 1: there is no config.yaml.",
    ),
    "torn settings": (
        lambda env: (env / "ppo-l2/seed-1/config.yaml").write_text("{a: [1"),
        "config.yaml cannot be read",
    ),
    "one seed": (
        lambda env: [shutil.rmtree(path) for path in env.glob("*/seed-[12]")],
        "with one run of a method nothing says how sure that is",
    ),
    "another number of tasks": (
        lambda env: [(shutil.rmtree(env / f"ppo-l2/seed-{s}"), make(env, "ppo-l2", s, 2, 2)) for s in range(3)],
        "Methods have different numbers of finished tasks (ppo-l2 2; ppo-none 3; ppo-redo 3)",
    ),
    "NaN": (
        lambda env: (env / "ppo-l2/seed-1/tasks.csv").write_text(
            (env / "ppo-l2/seed-1/tasks.csv").read_text().replace("4.01", "nan")
        ),
        "<h3>Which method is better</h3>",
    ),
    "infinity": (
        lambda env: (env / "ppo-l2/seed-1/tasks.csv").write_text(
            (env / "ppo-l2/seed-1/tasks.csv").read_text().replace("4.01", "inf")
        ),
        "<h3>Which method is better</h3>",
    ),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What is said of runs in which nothing is wrong."""
    return text_of(sweep(tmp_path_factory.mktemp("whole") / "runs"))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_report_says_what_is_wrong_with_runs(damage: str, whole: str, tmp_path: Path) -> None:
    env = sweep(tmp_path / "runs")
    do, said = DAMAGES[damage]
    do(env)
    text = text_of(env)
    assert said in text
    if not said.startswith("<h3>"):
        assert said not in whole


def test_the_answers(whole: str) -> None:
    """redo is three times as good; the actor's σ_max doubles in each task, and the critic's stays."""
    text = whole
    assert "<b>“redo” is better than “" in text
    assert " at the 95 % level, from 3 runs each. Intervals of so few runs are too narrow.</b>" in text
    assert "<b>Most of all the actor of “l2”, since task 2.</b>" in text
    assert "since task 2 largest singular value σ_max in action_net (1 to 4)" in text
    assert "critic of" not in text
    assert "<b>Not known: agents were not evaluated on earlier tasks" in text
    assert (
        "--env minigrid-seq --steps-per-task 100 --agent ppo --agent.gamma 0.9 --reg l2 --num-tasks 3 --seeds 0-2"
        in text
    )


def test_attributions_are_the_answer_to_why(tmp_path: Path) -> None:
    """A fresh head of the actor wins back nearly all of what a fresh agent has; a fresh optimizer nothing."""
    folder = make(tmp_path / "runs", "ppo-none", 0) / "attribution/task-0002"
    folder.mkdir(parents=True)
    areas = {"nothing": 1.0, "actor-head": 9.0, "optimizer": 1.0, "everything": 10.0}
    rows = [f"{name},{i},return,{area + 0.01 * i}" for name, area in areas.items() for i in range(3)]
    (folder / "trials.csv").write_text("\n".join(["intervention,trial,headline,return_mean", *rows, ""]))
    text = text_of(tmp_path / "runs")
    assert "<b>In “none”, seed 0, task 2 the loss sits in actor-head.</b>" in text
    assert "the loss sits in actor-head (share 0.89 [" in text
    (folder / "trials.csv").write_text("intervention,trial")
    assert "no intervention was made" in text_of(tmp_path / "runs")


def test_attributions_of_several_runs_are_one_answer(tmp_path: Path) -> None:
    """Each has two trials, of which one run's alone are not sure; a fourth run's was stopped at once."""
    for seed in range(4):
        folder = make(tmp_path / "runs", "ppo-none", seed) / "attribution/task-0002"
        folder.mkdir(parents=True)
        areas = {"nothing": 1.0, "torsos": 8.0 + seed, "rescale": 7.0, "everything": 10.0}
        if seed == 3:
            areas = {"torsos": -100.0}
        rows = [
            f"{name},{i},return,{area + (20 * i - 10) * (seed == 1)}" for name, area in areas.items() for i in (0, 1)
        ]
        (folder / "trials.csv").write_text("\n".join(["intervention,trial,headline,return_mean", *rows, ""]))
    text = text_of(tmp_path / "runs")
    assert "<b>In “none”, 3 runs, task 2 the loss sits in torsos.</b>" in text
    assert "the loss sits in torsos (share 0.89 [" in text, text[text.index("the loss sits in torsos (") :][:80]
    assert "old hidden layers scaled back to their first σ₁ have a share of 0.67" in text


def test_tasks_of_other_sizes_are_scaled(tmp_path: Path) -> None:
    make(tmp_path / "runs", "ppo-none", 0)
    (env,) = environments([tmp_path / "runs"])
    assert len(Section(env).figures[0].panels) == 1
    table = tmp_path / "runs/ppo-none/seed-0/tasks.csv"
    table.write_text(table.read_text().replace("return,1.0,", "return,100.0,"))
    (env,) = environments([tmp_path / "runs"])
    _, scaled = Section(env).figures[0].panels
    (line,) = scaled.marks
    known = [value for value in line.numbers.values if not math.isnan(value)]
    assert known == [0, 1] * 3


@pytest.mark.parametrize("given", some(["runs", "runs/rooms/ppo-l2/seed-1"], "runs"))
def test_every_folder_of_runs_has_a_report(given: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep(tmp_path / "runs/rooms")
    make(tmp_path / "runs/halls", "dqn-none", 0)
    folder = tmp_path / given
    assert report.main([str(folder)]) == 0
    assert str(folder / "report/report.html") in capsys.readouterr().out
    text = (folder / "report/report.html").read_text()
    assert ("halls" in text) == (given == "runs")
    assert ("ppo-redo" in text) == (given == "runs")
    if given == "runs":
        assert (folder / "report/halls/table.md").is_file()
        assert (folder / "report/rooms/figures/comparison.png").is_file()
    assert [env.methods for env in environments([tmp_path / "runs/rooms"])] == [["ppo-l2", "ppo-none", "ppo-redo"]]
    assert [len(env.runs) for env in environments([tmp_path / "runs/rooms/ppo-l2"])] == [3]


def test_runs_of_several_folders_are_put_together(tmp_path: Path) -> None:
    env = sweep(tmp_path / "runs")
    (found,) = environments([env / "ppo-none", env / "ppo-redo/seed-0", env / "ppo-redo"])
    assert found.methods == ["ppo-none", "ppo-redo"]
    assert len(found.of("ppo-redo")) == 3


def test_what_is_kept_in_results_can_be_reported(tmp_path: Path) -> None:
    results = Path(__file__).parents[3] / "results/methods"
    (tmp_path / "methods").mkdir()
    shutil.copy(results / "tasks.csv", tmp_path / "methods")
    (env,) = environments([tmp_path / "methods"])
    assert (len(env.live), len(env.tasks)) == (26, 5)
    assert env.ranked[0] == "ppo-layer-reset"
    text = text_of(tmp_path / "methods")
    assert "only tasks.csv is kept" in text
    assert "worst of all networks, at each task&#x27;s end: largest singular value" in text


def test_folders_that_are_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        report.main([str(tmp_path / "nowhere")])
    assert stop.value.code == 2
    assert "there is no folder" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()


# Numbers ------------------------------------------------------------------------------------------------------
