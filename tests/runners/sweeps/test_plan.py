"""The plan of a sweep: which runs there are, each once, and what is refused before anything runs."""

from __future__ import annotations

import dataclasses
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from neoteny import configs
from neoteny.configs import ConfigError
from neoteny.runners import sweep
from neoteny.runners.experiments import Plan, Sweep, load_sweep, parse, parse_grid, parse_seeds, regs, split_names

SHORT = ("--num-tasks", "2")


def plan(words: tuple[str, ...] = SHORT, **settings: Any) -> Plan:
    data = {"env": "stationary", **{key: value for key, value in settings.items() if key not in ("grid_given", "only")}}
    return Plan(
        configs.build(Sweep, data, "mine"),
        words,
        grid=settings.get("grid_given"),
        only=settings.get("only"),
        prog="sweep",
    )


def labels(found: Plan) -> list[str]:
    return [run.folder.split("/", 1)[1] for run in found.runs]


def test_every_combination_once_and_as_continual_rl_names_it() -> None:
    found = plan(
        env=["stationary", "minigrid-goals"],
        agent=["ppo", {"dqn": {"learning_rate": [1e-3, 1e-4]}}],
        reg=["none", {"spectral": {"strength": [1e-5, 1e-4], "heads": ["exempt", "include"]}}],
        seeds=[0, 7],
    )
    assert len(found.runs) == 2 * (1 + 2) * (1 + 4) * 2 == len({run.folder for run in found.runs})
    for run in found.runs:
        experiment, _ = parse(run.arguments)
        assert str(experiment.folder) == run.folder
        assert experiment.plain == run.experiment.plain
    assert "stationary/dqn,learning_rate=0.0001-spectral,heads=include,strength=1e-05/seed-7" in labels(found)


def test_a_setting_goes_to_those_that_have_it() -> None:
    methods = ["none", "spectral", "layer-norm", "spectral+redo", "l2-init"]
    found = plan(reg=methods, grid_given={"reg.strength": [1e-4, 1e-3]})
    assert labels(found) == [
        "stationary/ppo-none/seed-0",
        "stationary/ppo-spectral,strength=0.0001/seed-0",
        "stationary/ppo-spectral,strength=0.001/seed-0",
        "stationary/ppo-layer-norm/seed-0",
        "stationary/ppo-spectral+redo/seed-0",
        "stationary/ppo-l2-init,strength=0.0001/seed-0",
        "stationary/ppo-l2-init,strength=0.001/seed-0",
    ]
    assert found.notes == ["reg.strength: none, layer-norm, spectral+redo have no such setting"]


def test_a_setting_of_one_by_name_and_who_wins() -> None:
    found = plan(
        reg=["spectral", {"l2-init": {"strength": 0.5}}],
        grid={"reg.strength": [0.1, 0.2], "agent.gamma": [0.9]},
        grid_given={"spectral.k": [1, 2]},
    )
    assert labels(found) == [
        *(f"stationary/ppo,gamma=0.9-spectral,k={k},strength={s}/seed-0" for s in (0.1, 0.2) for k in (1, 2)),
        "stationary/ppo,gamma=0.9-l2-init,strength=0.5/seed-0",
    ]
    given = plan((*SHORT, "--reg.strength=3"), reg=["spectral", {"l2-init": {"strength": 0.5}}])
    assert labels(given) == [f"stationary/ppo-{name},strength=3/seed-0" for name in ("spectral", "l2-init")]


def test_roles_parts_and_networks_are_settings_too() -> None:
    found = plan(
        reg=["none", "spectral", "spectral+redo", "layer-norm"],
        grid_given={"reg.critic.strength": [0], "reg.methods.redo.every": [7], "reg.network.layer_norm": ["actor"]},
    )
    assert labels(found) == [
        "stationary/ppo-none/seed-0",
        "stationary/ppo-spectral,critic.strength=0/seed-0",
        "stationary/ppo-spectral+redo,methods.redo.every=7/seed-0",
        "stationary/ppo-layer-norm,network.layer_norm=actor/seed-0",
    ]


def test_equal_settings_run_once_and_it_is_said() -> None:
    found = plan(reg=["spectral", {"spectral": {"strength": [1e-4, 1e-3]}}, "spectral"])
    assert labels(found) == ["stationary/ppo-spectral/seed-0", "stationary/ppo-spectral,strength=0.0001/seed-0"]
    assert found.notes == [
        "stationary/ppo-spectral,strength=0.001 has the settings of stationary/ppo-spectral, which is run"
    ]


def test_two_runs_of_one_folder_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"two different runs would be in one folder, stationary/ppo-none"):
        _ = plan((), env=[{"stationary": {"num_tasks": 2}}, {"stationary": {"num_tasks": 3}}], reg="none").runs


def test_the_reference_has_the_agents_settings_and_none_of_the_methods() -> None:
    found = plan(reg=["spectral"], reference="fresh", grid_given={"reg.k": [3], "agent.gamma": [0.9, 0.8]})
    assert labels(found) == [
        "stationary/ppo,gamma=0.9-spectral,k=3/seed-0",
        "stationary/ppo,gamma=0.8-spectral,k=3/seed-0",
        "stationary/ppo,gamma=0.9,fresh-none/seed-0",
        "stationary/ppo,gamma=0.8,fresh-none/seed-0",
    ]


def test_what_is_excluded() -> None:
    found = plan(
        env=["stationary", "minigrid-goals"],
        agent=["ppo", "dqn"],
        reg=["none", {"spectral": {"strength": [1, 2]}}],
        reference="fresh",
        seeds=2,
        exclude=[
            {"env": "minigrid-goals", "agent": ["dqn"]},
            {"reg.strength": 2, "seed": 1},
            {"reg": "fresh", "seed": 0},
        ],
    )
    assert len(found.runs) == 3 * (4 * 2 - 1 - 1)
    assert not any("goals/dqn" in label or "strength=2/seed-1" in label for label in labels(found))
    with pytest.raises(ConfigError, match=r"exclude: .*strenth.* is true of no run"):
        plan(reg="spectral", exclude={"reg.strenth": 2})


def test_a_part_of_an_experiment() -> None:
    settings: dict[str, Any] = {"reg": ["none", "spectral", "redo"], "agent": ["ppo", "dqn"], "reference": "fresh"}
    found = plan(only={"reg": ["redo"], "agent": ["dqn"]}, **settings)
    assert labels(found) == ["stationary/dqn-redo/seed-0", "stationary/dqn,fresh-none/seed-0"]
    with pytest.raises(ConfigError, match=r"--reg: 'reddo' is not known.*did you mean 'redo'"):
        plan(only={"reg": ["reddo"]}, **settings)


def test_agents_are_kept_where_they_are_attributed() -> None:
    found = plan(
        reg=["none", "redo"], seeds=2, reference="fresh", attribution={"tasks": [2], "of": {"reg": "none", "seed": 1}}
    )
    kept = [run.folder for run in found.runs if run.experiment.run.keep_agents]
    assert kept == ["runs/stationary/ppo-none/seed-1"]
    assert [run.folder for run in found.runs if parse(run.arguments)[0].run.keep_agents] == kept


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reg": "spectral", "seads": 3}, "mine.seads: there is no such setting.*did you mean 'seeds'"),
        ({"reg": [{"spectral": {}, "redo": {}}]}, "one name with its settings"),
        ({"reg": []}, "at least one"),
        ({"seeds": "a"}, "seeds: 'a' is no list of seeds"),
        ({"reference": "stale"}, "'fresh' or 'none'"),
        ({"grid": {"rog.strength": [1]}}, "begins with none of env, agent, reg.*did you mean 'reg'"),
        ({"reg": "spectral", "attribution": {"tasks": [0]}}, "attribution.tasks"),
        ({"reg": "none", "attribution": {"tasks": [2], "seeds": 1}}, "attribution.seeds"),
    ],
)
def test_what_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(**settings)


def test_seeds() -> None:
    assert parse_seeds(3) == parse_seeds("3") == parse_seeds("0-2") == [0, 1, 2]
    assert parse_seeds([3]) == parse_seeds("3,") == parse_seeds("3-3") == [3]
    assert parse_seeds("0,3,7-8,3") == parse_seeds([0, 3, 7, 8]) == [0, 3, 7, 8]
    for wrong in (0, "0", "", "-3", "4-2", 1.5, [], True):
        with pytest.raises(ConfigError, match="seeds"):
            parse_seeds(wrong)


def test_names_and_values_with_commas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a,b [1].yaml").touch()
    assert split_names(["none,spectral", "l2-init+redo,", "a,b [1].yaml"]) == [
        "none",
        "spectral",
        "l2-init+redo",
        "a,b [1].yaml",
    ]
    grid = parse_grid(
        ["agent.network.hidden=[8,8],[16]", "reg.strength=1e-5,1e-4", "1e-3", "reg.heads=exempt", "agent.x='a,b'"]
    )
    assert grid == {
        "agent.network.hidden": [[8, 8], [16]],
        "reg.strength": [1e-5, 1e-4, 1e-3],
        "reg.heads": ["exempt"],
        "agent.x": ["a,b"],
    }
    for wrong in ("reg.strength", "reg.strength=", "reg.strength=[1", "strength=3"):
        with pytest.raises(ConfigError):
            parse_grid([wrong])


def test_all_experiments_can_be_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those with files of results/ need a checkout as working directory. Of many methods two are planned."""
    monkeypatch.chdir(Path(__file__).parents[3])
    for name in configs.names("experiments"):
        if name.startswith("fashion-") and not Path("/usr/share/datasets/fashion-mnist").is_dir():
            continue  # their data is a package of Debian's
        called, found = load_sweep(name)
        assert called == name
        assert found.about.endswith(".")
        for choice in found.choices["reg"]:
            settings = regs.load(choice.name)[1]
            assert all(regs.has(settings, key.split(".")) for key in choice.settings), choice
        ends = [found.choices["reg"][end].name for end in (0, -1)]
        planned = Plan(dataclasses.replace(found, seeds=[1]), only={"reg": ends}, prog="sweep.py")
        assert planned.runs_of([point.usual for point in planned.points])
        assert bool(found.search) == any(point.ranges for point in planned.points)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's, with a sequence, a method and an experiment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("seq, größer.yaml").write_text("tasks: [{env: CartPole-v1, steps: 512}]\ncycles: 2\n")
    Path("my_swept.py").write_text(
        "from neoteny.plasticity import L2Init\nfrom dataclasses import dataclass\n\n\n"
        "@dataclass\nclass Mine(L2Init):\n    extra: float = 1.0\n"
    )
    mine = {
        "env": "seq, größer.yaml",
        "agent": {"ppo": {"network.hidden": [[8], [4, 4]]}},
        "reg": ["none", {"my_swept:Mine": {"extra": [1, 2]}}],
        "seeds": 2,
        "reference": "fresh",
    }
    Path("my experiment.yaml").write_text(yaml.safe_dump(mine, allow_unicode=True))
    return tmp_path


def test_from_a_folder_of_ones_own(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep.main(["--experiment", "my experiment.yaml", "--dry-run", "--seed", "4"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 2 * 4
    name = "runs/my experiment/seq, größer/ppo,network.hidden=[4,4]-Mine,extra=2/seed-4"
    assert f"missing   {name}" in out
    words = [
        "--env",
        "seq, größer.yaml",
        "--reg",
        "none,my_swept:Mine",
        "--grid",
        "my_swept:Mine.extra=1,2",
        "--dry-run",
    ]
    assert sweep.main(words) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert not list(folder.glob("runs"))


def test_the_page_on_experiments(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[3] / "docs/experiments.md").read_text()
    (text,) = re.findall(r"```yaml\n# (?:my-experiment.yaml)\n(.*?)```", page, re.DOTALL)
    Path("my-experiment.yaml").write_text(text)
    Path("seq, größer.yaml").rename("my-seq.yaml")
    Path("my_swept.py").rename("my_method.py").write_text(Path("my_method.py").read_text().replace("Mine", "L1"))
    commands = re.findall(r"^python runners/sweep\.py (.*?[^\\])$", page, re.MULTILINE | re.DOTALL)
    found = []
    for command in commands:
        assert sweep.main([*shlex.split(command.replace("\\\n", "")), "--dry-run"]) == 0
        found.append(capsys.readouterr().out.splitlines())
    grid, _, whole, part, searched = found
    assert len(grid) == 10 * (1 + 3 + 3 + 1)
    runs, attributed = 5 * 2 * (7 + 8), 2 * (2 + 2)
    assert len(whole) == runs + attributed
    assert len(part) == 2 * 2 * 2 * (1 + 4 + 1) + attributed
    (text,) = re.findall(r"```yaml\n# (?:my-search.yaml)\n(.*?)```", page, re.DOTALL)
    Path("my-search.yaml").write_text(text)
    assert sweep.main(["--experiment", "my-search.yaml", "--dry-run"]) == 0
    file = [line.replace("my-search/", "") for line in capsys.readouterr().out.splitlines()]
    assert searched == file
    assert len(searched) == 3 + 2
    assert len([*configs.names("experiments")]) == sum(f"`{name}`" in page for name in configs.names("experiments")) + 4
    listed = re.findall(r"^\| `(\w+)`", page.partition("| key |")[2].partition("Paths are")[0], re.MULTILINE)
    assert {*listed, "agent", "reg", "change", "net"} == {field.name for field in dataclasses.fields(Sweep)}


@pytest.mark.parametrize(
    "argv",
    [
        ["--experiment", "plastcity"],
        ["--experiment", "nothing.yaml"],
        ["--experiment", "plasticity", "--reg", "redo"],
        ["--experiment", "plasticity", "--num-tasks", "5"],  # the attribution is of task 7
        ["--env", "stationary,nowhere"],
        ["--env", "stationary", "--seeds", "0"],
        ["--env", "stationary", "--grid", "reg.strenth=1,2"],
        ["--env", "stationary", "--no-such-option"],
    ],
)
def test_refused_with_code_2_before_anything_runs(
    argv: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        code = sweep.main(argv)
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert capsys.readouterr().err.startswith("sweep.py: ")
    assert not list(tmp_path.iterdir())
