"""The examples of docs/extending.md, and the map in docs/architecture.md that leads to them."""

import ast
import csv
import re
import shlex
from pathlib import Path

import pytest
import yaml
from forked import forked
from safetensors import safe_open
from thinning import some

from neoteny.__main__ import COMMANDS
from neoteny.runners import continual_rl, sweep

ROOT = Path(__file__).parents[1]
EXTENDING = (ROOT / "docs" / "extending.md").read_text()
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()

FILES = {
    code.partition("\n")[0].removeprefix("# "): code.partition("\n")[2]
    for _, code in re.findall(r"```(python|yaml)\n(.*?)```", EXTENDING, re.DOTALL)
}
COMMAND_LINES = [
    line for block in re.findall(r"```sh\n(.*?)```", EXTENDING, re.DOTALL) for line in block.strip().splitlines()
]


@pytest.fixture
def examples(tmp_path, monkeypatch):
    """The files of the page, each called what its first line says, in the working directory."""
    monkeypatch.chdir(tmp_path)
    for name, code in FILES.items():
        Path(name).write_text(code)
    return tmp_path


def run(*command: str) -> str:
    """What ``python <command>`` prints, run as a user would from the working directory."""
    code, printed, errors = forked(*command)
    assert code == 0, errors
    return printed


def train(*argv: str) -> str:
    return run(continual_rl.__file__, *argv)


def resolved() -> str:
    """The configuration that the only run in the working directory was made with."""
    (config,) = Path("runs").rglob("config.yaml")
    return config.read_text()


@pytest.mark.parametrize("name", FILES)
def test_an_example_is_short(name):
    lines = [line for line in FILES[name].splitlines() if line.strip()]
    assert len(lines) <= 15 - 1, f"{name}: {len(lines) + 1} lines with its name"


def test_the_map_leads_to_every_example_and_to_files_that_are_there():
    wanted = {
        "a-sequence",
        "an-environment",
        "a-shift",
        "an-agent",
        "an-encoder",
        "a-network",
        "a-method",
        "a-metric",
        "a-callback",
        "a-program",
    }
    assert set(re.findall(r"extending\.md#([a-z-]+)", ARCHITECTURE)) == wanted
    headings = re.findall(r"^## (.*)$", EXTENDING, re.MULTILINE)
    assert wanted == {heading.lower().replace(" ", "-") for heading in headings}
    for name in re.findall(r"`([a-z_]+/[a-z_/.]*)`", ARCHITECTURE):
        assert any((ROOT / place / name).exists() for place in (".", "envs", "plasticity")), name


@pytest.mark.slow
@pytest.mark.parametrize("line", some(COMMAND_LINES, COMMAND_LINES[0], COMMAND_LINES[-1]))
def test_a_command_of_the_page_runs(line, examples):
    """Each, on budgets of a few hundred steps."""
    program, *argv = shlex.split(line)[1:]
    if program == "-m":
        assert "all promises kept" in run(program, *argv)
        return
    short = ["--steps-per-task", "512", "--num-tasks", "2", "--num-envs", "4"]
    if "dqn" not in argv:
        short += ["--agent.n_steps", "32"]
    printed = run(str(ROOT / program) if "/" in program else program, *argv, *short)
    assert ("MiniGrid-" if program == "my_program.py" else "Trained agent") in printed


def test_an_environment(examples):
    Path("echo.yaml").write_text("tasks: [{env: 'my_env:Echo-v0', steps: 4096}]")
    assert "my_env:Echo-v0" in train("--env", "echo.yaml", "--num-envs", "8", "--agent.n_steps", "64")
    assert "all promises kept" in run("-m", "neoteny.envs.checker", "echo.yaml")


def test_a_shift(examples):
    Path("dark.yaml").write_text(
        "tasks: [{env: CartPole-v1, steps: 512, shifts: [{shift: 'my_shift:Blackout', probability: 0.2}]}]"
    )
    assert "CartPole-v1 blackout #1" in train("--env", "dark.yaml", "--num-envs", "4", "--agent.n_steps", "64")
    assert "probability: 0.2" in resolved()


TINY = "--env cartpole-dynamics --num-tasks 2 --steps-per-task 512".split()


def test_an_agent_in_a_file_of_settings(examples):
    train(*TINY, "--agent", "a2c.yaml", "--agent.n_steps", "16", "--reg", "spectral")
    settings = yaml.safe_load(resolved())["agent"]
    assert settings["algorithm"] == "my_agent:A2C"
    assert (settings["n_steps"], settings["num_envs"], settings["gae_lambda"]) == (16, 16, 1.0)
    train(*TINY, "--agent", "a2c.yaml", "--agent.n_steps", "16", "--reg", "spectral")  # finished, and read again


def test_an_agent_and_a_method_by_class_in_a_sweep(examples, monkeypatch, capsys):
    monkeypatch.syspath_prepend(".")
    argv = [*TINY, "--agent", "my_agent:A2C", "--reg", "my_method:L1", "--reg.strenth", "1"]
    with pytest.raises(SystemExit) as stop:
        sweep.main(argv)
    assert stop.value.code == 2
    assert "did you mean 'strength'?" in capsys.readouterr().err
    argv = [*TINY, "--agent", "my_agent:A2C", "--reg", "spectral+my_method:L1", "--reg.methods.L1.strength", "0.1"]
    assert sweep.main(argv) == 0
    (folder,) = Path("runs").glob("*/*/seed-0")
    assert folder.parent.name == "A2C-spectral+L1,methods.L1.strength=0.1"
    assert [part["method"] for part in yaml.safe_load(resolved())["reg"]["methods"]] == ["spectral", "my_method:L1"]


def test_a_method_that_remembers(examples):
    """Its attributes are in the checkpoint."""
    train(*TINY, "--reg", "my_noise:Noise", "--agent.n_steps", "32", "--num-envs", "4")
    agent = max(Path("runs").rglob("checkpoints/*.safetensors"))
    with safe_open(agent, "pt") as file:
        counts = [file.get_tensor(name) for name in file.keys() if name.endswith("Noise.count:int")]  # noqa: SIM118
    assert [count.item() > 0 for count in counts] == [True]


def test_a_metric_is_logged_and_changes_nothing(examples):
    short = [*TINY, "--agent.n_steps", "32", "--num-envs", "4", "--reg", "spectral"]
    train(*short, "--out", "runs")
    train(*short, "--out", "measured", "--metrics", "my_metric:weight_norm")
    plain, measured = (next(Path(out).rglob("progress.csv")) for out in ("runs", "measured"))
    rows = [list(csv.DictReader(path.open(newline=""))) for path in (plain, measured)]
    assert float(rows[1][-1]["weight_norm/action_net.weight"]) > 0
    common = [name for name in rows[0][0] if not name.startswith("time/")]
    assert [[row[name] for name in common] for row in rows[0]] == [[row[name] for name in common] for row in rows[1]]


def test_a_callback_is_called(examples):
    train(*TINY, "--agent.n_steps", "32", "--num-envs", "4", "--callback", "my_callback:StopEarly")
    (table,) = Path("runs").rglob("progress.csv")
    assert all(row["mine/ended"] for row in csv.DictReader(table.open(newline="")))


def test_a_network_of_ones_own(examples):
    printed = run("my_network.py")
    names = [f"lstm.weight_{side}_l0.{gate}" for side in ("ih", "hh") for gate in "ifgo"]
    assert ast.literal_eval(printed) == dict.fromkeys(names, "acted on") | {"head": "output head"}
    Path("try.py").write_text(
        "import torch, my_cell\nfrom neoteny.plasticity import Spectral\ncell = my_cell.Cell(3, 5)\n"
        "method = Spectral(heads='include')\nmethod.attach(cell, torch.optim.Adam(cell.parameters()))\n"
        "print({layer.name: [*layer.matrix.shape, len(layer.bias)] for layer in method.layers})"
    )
    assert ast.literal_eval(run("try.py")) == {gate: [5, 8, 5] for gate in "ifgo"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("weight_norm", "module:function is expected; every run has reg, optimizer, spectral_norm, condition_number"),
        ("my_metric:weight_nrm", "cannot be imported"),
        ("my_metric:torch", "is no function"),
        ("neoteny.runners.measures.metrics:reg", "every run has a metric of this name"),
    ],
)
def test_a_wrong_metric(name, message, examples, monkeypatch, capsys):
    monkeypatch.syspath_prepend(".")
    with pytest.raises(SystemExit) as stop:
        continual_rl.main(["--metrics", name])
    assert stop.value.code == 2
    assert "--metrics: " in (error := capsys.readouterr().err)
    assert message in error
    assert not Path("runs").exists()


def test_every_program_is_a_command():
    programs = {path.stem for path in (ROOT / "runners").glob("*.py")} - {"__init__"}
    modules = {module for module, _ in COMMANDS.values()}
    assert modules == {f"neoteny.runners.{name}" for name in programs} | {"neoteny.envs.checker"}


@pytest.mark.full
def test_agents_of_others(examples):
    code = (
        FILES["my_sb3.py"]
        .replace("120_000", "6_000")
        .replace('"num_tasks": 3', '"num_tasks": 3, "steps_per_task": 2000')
    )
    space = {}
    exec(compile(code, "my_sb3.py", "exec"), space)
    (last,) = {copy.unwrapped._vector.segment.visit.index for copy in space["env"].envs}
    assert last == 2
