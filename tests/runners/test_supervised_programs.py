"""Supervised tasks through the programs: a sweep, report and explanation; and the examples of docs/supervised.md."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from neoteny.configs import ConfigError, names
from neoteny.envs.supervised import CHANGES, SOURCES
from neoteny.runners import attribute, continual_supervised, evaluate, explain, report, sweep
from neoteny.runners.experiments import Plan, Sweep, from_plain, load_sweep, parse, parse_grid
from neoteny.runners.experiments.supervised import SUPERVISED
from neoteny.runners.experiments.supervised import from_plain as supervised_from_plain

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "supervised.md").read_text()
TINY = "--data.samples 32 --num-tasks 2 --epochs 2 --net.hidden [8]".split()


@pytest.mark.slow
@pytest.mark.parametrize("by_the_sweep", [False, pytest.param(True, marks=pytest.mark.full)])
def test_a_sweep_its_report_and_its_explanation(
    by_the_sweep: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The runs are those of the sweep or, which takes less time, were made before it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    command = ["--net", "mlp", "--reg", "none", "--reference", "fresh", "--jobs", "1", *TINY]
    for run in [] if by_the_sweep else Plan(Sweep(net=["mlp"], reg=["none"], reference="fresh"), TINY).runs:
        assert continual_supervised.main(run.arguments) == 0
    assert sweep.main(command) == 0
    said = capfd.readouterr()
    assert "2 of 2 runs are complete." in said.out
    assert not by_the_sweep or "mean accuracy 0." in said.err
    folder = Path("runs/digits,samples=32-random-labels,epochs=2")
    assert {path.name for path in folder.iterdir()} >= {"mlp,hidden=[8]-none", "mlp,hidden=[8],fresh-none"}
    assert sweep.main(command) == 0
    assert "2 complete, 0 begun, 0 missing" in capfd.readouterr().err
    assert report.main([str(folder)]) == 0
    table = (folder / "report/table.md").read_text()
    assert "## Mean accuracy of each task" in table
    assert "Examples are of training." in table
    assert "episode" not in table
    assert (folder / "report/accuracy.png").read_bytes().startswith(b"\x89PNG")
    page = re.sub(r"<script>.*?</script>", "", (folder / "report/report.html").read_text(), flags=re.DOTALL)
    assert "examples learned from" in page
    assert "a fresh network" in page
    assert not re.search(r"\bagents?\b(?![.]\w)", page, re.IGNORECASE)
    assert "--data digits --data.samples 32 --change random-labels --epochs 2 --net mlp" in page
    assert explain.main([str(folder)]) == 0
    first, second, *_ = capfd.readouterr().out.partition("Without a method")[2].splitlines()
    assert "that of networks that begin every task anew" in first
    assert second == "No method was tried."


def test_what_is_named_says_whose_runs_a_sweep_has() -> None:
    plan = Plan(
        Sweep(data=["digits"], reg=["none", "l2"], seeds=[0, 1]), TINY, grid=parse_grid(["net.batch_size=8,16"])
    )
    assert plan.program is SUPERVISED
    assert len(plan.runs) == 8
    assert {run.experiment.net.batch_size for run in plan.runs} == {8, 16}  # type: ignore[attr-defined]
    assert plan.runs[0].folder.split("/")[1:] == ["digits,samples=32-random-labels,epochs=2", *_last(plan)]
    assert Plan(Sweep(env=["cartpole-offset"], agent=["ppo-trac"])).program.file == "continual_rl.py"
    with pytest.raises(ValueError, match="env: data, change and net are of supervised learning"):
        Sweep(env=["cartpole-offset"], net=["mlp"])
    with pytest.raises(ConfigError, match=r"grid: 'agent.gamma' begins with none of data, change, net, reg"):
        Plan(Sweep(net=["mlp"]), grid=parse_grid(["agent.gamma=0.9"]))
    notes = Plan(Sweep(net=["mlp", "cnn"]), ["--data.samples", "32"], grid=parse_grid(["net.channels=[4]"])).notes
    assert notes == ["net.channels: mlp has no such setting"]


def _last(plan: Plan) -> list[str]:
    return ["mlp,batch_size=8,hidden=[8]-none", "seed-0"]


def test_the_experiment_of_make_supervised_is_planned() -> None:
    _, found = load_sweep("supervised")
    plan = Plan(found)
    assert plan.program is SUPERVISED
    assert {"mlp-none", "mlp-spectral,strength=0.01", "mlp,fresh-none"} <= {Path(r.folder).parts[-2] for r in plan.runs}


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--data", "digit"], "--data: 'digit' is not known"),
        (["--change", "random-label"], "did you mean 'random-labels'?"),
        (["--net", "resnet"], "--net: 'resnet' is not known"),
        (["--net.hiden", "[3]"], "net.hiden: there is no such setting"),
        (["--change.share", "2"], "change.share: input should be less than or equal to 1, got 2"),
        (["--reg", "spectral", "--reg.actor.strength", "0"], "there is no actor and no critic"),
        (
            ["--net", "cnn", "--reg", "crelu"],
            "--reg: crelu sets crelu in the network, which this one has not; --net mlp",
        ),
        (["--data", "fashion-mnist", "--data.folder", "nowhere"], "apt-get install dataset-fashion-mnist"),
        (["--change", "class-incremental", "--num-tasks", "10"], "10 classes make 9 tasks"),
        (["--num-tasks", "0"], "--num-tasks: input should be greater than 0, got 0"),
        (["--epochs", "x"], "--epochs"),
        (["--instruments", "policy"], "choose from default, gradients, none, spectra, units, updates"),
        (["--data.samples", "99999"], "there are 1,438 examples"),
        (["--agent", "ppo"], "--agent: there is no such option"),
        (["--net", "math:pi"], "is no function"),
    ],
)
def test_wrong_settings_are_named(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        continual_supervised.main(argv)
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


def test_the_plain_data_of_a_run_is_the_way_back_to_it() -> None:
    argv = [
        "--change",
        "mixtures",
        "--change.of",
        "permuted-pixels",
        "--net",
        "vit",
        "--reg",
        "spectral+redo",
        "--fresh",
    ]
    experiment = parse(argv, program=SUPERVISED)[0]
    again = supervised_from_plain(experiment.plain)
    assert again.plain == experiment.plain
    assert again.folder == experiment.folder
    other = experiment.plain | {"env": experiment.plain["env"] | {"tasks_seed": 3}}
    with pytest.raises(ConfigError, match="is not that of the tasks"):
        supervised_from_plain(other)
    with pytest.raises(ConfigError):
        from_plain(experiment.plain)


def test_programs_for_agents_say_that_this_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [*TINY, "--out", str(tmp_path)]
    assert continual_supervised.main(argv) == 0
    folder = str(parse(argv, program=SUPERVISED)[0].folder)
    for main, more in ((evaluate.main, []), (attribute.main, ["--task", "2"])):
        capsys.readouterr()
        assert main([folder, *more]) == 2
        assert "has a network that learns from examples" in capsys.readouterr().err


def test_the_page_names_all_there_is() -> None:
    for name in (*CHANGES, *names("data"), *names("nets")):
        assert f"`{name}`" in PAGE
    assert {*SOURCES} >= {"idx", "npz"}
    assert all(name in CHANGES for name in names("changes"))


def test_the_examples_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        name = re.match(r"# (\w+\.py)", code)
        assert name is not None
        Path(name[1]).write_text(code)
    own = ["--net", "my_nets:wide", "--net.settings", "{width: 16}", "--change", "my_changes:Darker"]
    argv = [*own, "--reg", "spectral", *TINY[:-2]]
    assert continual_supervised.main(argv) == 0
    folder = parse(argv, program=SUPERVISED)[0].folder
    assert folder.parts[-3:-1] == ("digits,samples=32-Darker,epochs=2", "wide,settings={'width':16}-spectral")
    with (folder / "tasks.csv").open(newline="") as lines:
        assert [row["name"] for row in csv.DictReader(lines)] == ["darker #1", "darker #2"]
