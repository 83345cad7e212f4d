"""The command ``neoteny``, and the package that it belongs to."""

import json
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from thinning import some

import neoteny
from neoteny.__main__ import COMMANDS, main

ROOT = Path(__file__).parents[1]


def python(*command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False, cwd=cwd)


def test_version_names_what_a_bug_report_should(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert not stop.value.code
    shown = capsys.readouterr().out.split("\n")
    assert shown[0].startswith(f"neoteny {neoteny.__version__}")
    for part in ("torch", "stable-baselines3", "gymnasium", "envpool"):
        assert f"{part} {metadata.version(part)}" in shown


def test_the_version_is_the_same_everywhere():
    assert metadata.version("neoteny") == neoteny.__version__
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == neoteny.__version__


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_help_lists_the_commands(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert not stop.value.code
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in COMMANDS)


@pytest.mark.parametrize(
    ("word", "near"), [("trian", "'train'"), ("--versoin", "'--version'"), ("bench", "'benchmark'")]
)
def test_no_such_command(word, near, capsys):
    assert main([word]) == 2
    assert f"did you mean {near}?" in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_its_program(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert not stop.value.code
    assert capsys.readouterr().out.startswith(f"usage: neoteny {name}")
    with pytest.raises(SystemExit) as stop:
        main([name, "--no-such-option", *(["x"] if name in ("evaluate", "report", "check") else [])])
    assert stop.value.code == 2
    assert f"neoteny {name}: " in capsys.readouterr().err


def loaded(code: str) -> set[str]:
    """The modules that are loaded after ``code``, which may exit."""
    text = f"import sys, json, atexit; atexit.register(lambda: sys.stderr.write(json.dumps(list(sys.modules)))); {code}"
    return set(json.loads(python("-c", text).stderr))


def test_help_and_version_load_nothing_heavy():
    for option in ("--help", "--version"):
        names = loaded(f"from neoteny.__main__ import main; main([{option!r}])")
        assert not names & {"torch", "numpy", "yaml", "pydantic"}


@pytest.mark.parametrize("name", some([*COMMANDS], "train"))
def test_help_of_a_command_leaves_torchs_compiler_alone(name):
    """It takes as long to load as all the rest."""
    names = loaded(f"from neoteny.__main__ import main; main([{name!r}, '--help'])")
    assert f"{COMMANDS[name][0]}" in names
    assert "torch._dynamo" not in names


def test_names_that_a_user_wants_first():
    for name in neoteny.__all__:
        assert getattr(neoteny, name) is not None
    assert set(neoteny.__all__) <= set(dir(neoteny))
    with pytest.raises(ImportError, match="NoSuchThing"):
        from neoteny import NoSuchThing  # noqa: F401


@pytest.mark.full
def test_a_second_checkout_is_not_mixed_with_the_installed_one(tmp_path):
    for name in ("neoteny", "agents", "configs", "envs", "plasticity", "runners"):
        shutil.copytree(ROOT / name, tmp_path / name)
    code = (
        "import sys, neoteny.runners.continual_rl\nfrom neoteny.runners.experiments import parse\nparse([], prog='x')\n"
        "print(*{m.__file__ for name, m in sys.modules.items() if name.split('.')[0] == 'neoteny'}, sep='\\n')"
    )
    files = python("-c", code, cwd=tmp_path).stdout.split()
    assert len(files) > 50
    assert all(file.startswith(str(tmp_path)) for file in files)


@pytest.fixture
def busy_folder(tmp_path):
    """A user's folder, with packages of the names that ours have in the repository."""
    for name in ("agents", "configs", "envs", "plasticity", "runners", "experiments", "runs_", "reports"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"MINE = {name!r}\n")
    (tmp_path / "envs" / "mine.py").write_text(
        "import gymnasium\n"
        "gymnasium.register('Mine-v0', 'gymnasium.envs.classic_control:CartPoleEnv', max_episode_steps=50)\n"
    )
    (tmp_path / "agents" / "mine.py").write_text(
        "import agents, stable_baselines3\nfrom neoteny import Continual\n"
        "assert agents.MINE == 'agents'\nclass Mine(Continual, stable_baselines3.A2C): pass\n"
    )
    (tmp_path / "experiments" / "reg.py").write_text("from neoteny.plasticity import L2\nclass Mine(L2): pass\n")
    (tmp_path / "mine.yaml").write_text("tasks: [{env: 'envs.mine:Mine-v0', steps: 512}]\n")
    return tmp_path


JOB = "--env mine.yaml --agent agents.mine:Mine --reg experiments.reg:Mine --reg.strength 1e-4 --num-envs 4".split()


@pytest.mark.parametrize(
    "program",
    some(
        {
            "command": ["-m", "neoteny", "train"],
            "module": ["-m", "neoteny.runners.continual_rl"],
            "file": [str(ROOT / "runners" / "continual_rl.py")],
        },
        "command",
    ),
)
def test_beside_folders_of_the_users_own(program, busy_folder):
    done = python(*program, *JOB, cwd=busy_folder)
    assert done.returncode == 0, done.stderr
    assert "envs.mine:Mine-v0" in done.stdout
    code = "import envs, agents, configs; from neoteny import PPO, TaskSequence; print(envs.MINE, PPO.__module__)"
    assert python("-c", code, cwd=busy_folder).stdout.split() == ["envs", "neoteny.agents.ppo"]


@pytest.mark.slow
def test_the_wheel_has_everything(busy_folder, tmp_path_factory):
    """Built, unpacked and used without the checkout; the installed packages that it needs are those of this Python."""
    place = tmp_path_factory.mktemp("wheel")
    build = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(place), str(ROOT)]
    done = python(*build)
    assert done.returncode == 0, done.stderr
    (wheel,) = place.glob("neoteny-*.whl")
    site = place / "site"
    assert python("-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)).returncode == 0
    (top_level,) = site.glob("neoteny-*.dist-info/top_level.txt")
    assert top_level.read_text() == "neoteny\n"
    assert {path.name for path in site.iterdir() if not path.name.endswith(".dist-info")} == {"neoteny", "bin"}
    for kind in ("agents", "envs", "regs"):
        names = [{path.name for path in (root / "configs" / kind).glob("*.yaml")} for root in (ROOT, site / "neoteny")]
        assert names[0] == names[1] != set()
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r}); sys.path.append('')\n"
        "import neoteny, neoteny.envs, neoteny.__main__\n"
        f"assert neoteny.envs.__file__.startswith({str(site)!r}), neoteny.envs.__file__\n"
        f"sys.exit(neoteny.__main__.main(['train', *{JOB!r}]))"
    )
    done = python("-c", code, cwd=busy_folder)
    assert done.returncode == 0, done.stderr
    assert "envs.mine:Mine-v0" in done.stdout
