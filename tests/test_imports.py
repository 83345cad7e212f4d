"""Who may import whom: by reading every file, so that late imports count too, and in a fresh interpreter."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import import_graph
import pytest
from import_graph import PACKAGES
from thinning import some

ROOT = Path(__file__).parents[1]

#: What each of our packages may import of ours.
ALLOWED = {
    "plasticity": set(),
    "configs": set(),
    "envs": {"configs"},
    "agents": {"configs", "plasticity"},
    "runners": {"agents", "configs", "envs", "plasticity"},
}

#: The rooms under runners/, each importing only those before it. The programs import all, and nobody imports them.
RUNNERS = (
    "measures",
    "experiments",
    "dashboards",
    "runs",
    "benchmarks",
    "attribution",
    "reports",
    "engines",
    "sweeps",
    "searches",
)

#: What each may not import of others', even where something else has loaded it.
FORBIDDEN = {
    "plasticity": {"stable_baselines3", "sb3_contrib", "gymnasium"},
    "configs": {"stable_baselines3", "gymnasium", "torch"},
    "envs": {"torch"},
}


def faults(root: Path) -> list[str]:
    """What breaks the rules in the checkout at ``root``."""
    found = []
    for module, path in import_graph.modules(root).items():
        _, package, room, *_ = f"{module}...".split(".")
        for source, name in import_graph.imports(path):
            first, target, target_room, *_ = f"{source}.{name}...".split(".")
            ours = first == "neoteny" and target in ALLOWED and package in ALLOWED
            if (
                first in PACKAGES  # without neoteny before it
                or first in FORBIDDEN.get(package, ())
                or (ours and target != package and target not in ALLOWED[package])
                or (ours and target == "runners" and not _in_order(room, target_room))
            ):
                found.append(f"{module} imports {source} ({name})")
    graphs = (import_graph.between_files(root), import_graph.between_rooms(root))
    return found + [f"circle: {' > '.join(way)}" for graph in graphs if (way := import_graph.circle(graph))]


def _in_order(room: str, target: str) -> bool:
    """Whether what is in ``room`` under runners/, a room's or a program's name, may import ``target``."""
    if target not in RUNNERS:  # a program
        return False
    return room not in RUNNERS or RUNNERS.index(target) <= RUNNERS.index(room)


def test_imports_go_one_way() -> None:
    assert faults(ROOT) == []


PLANTED = {
    "a program's": ("runners/runs/chain.py", "from neoteny.runners import sweep"),
    "a program's, in a program": ("runners/sweep.py", "import neoteny.runners.report"),
    "a later room's": ("runners/experiments/experiment.py", "from neoteny.runners.runs.chain import Chain"),
    "a later room's, late": ("runners/runs/chain.py", "def f():\n    import neoteny.runners.reports.tables"),
    "another package's": ("plasticity/method.py", "from neoteny.agents import PPO"),
    "another package's, as a whole": ("envs/spaces.py", "from neoteny import agents"),
    "the runners'": ("agents/ppo.py", "import neoteny.runners.experiments"),
    "a circle's": ("agents/config.py", "from neoteny.agents import ppo"),
    "a circle's, for types": ("agents/switch.py", "if TYPE_CHECKING:\n    import neoteny.agents.continual"),
    "a circle of rooms'": ("envs/shifts/base.py", "from neoteny.envs.suites.minigrid import SPACE"),
    "an old name's": ("envs/spaces.py", "from envs.shifts import describe"),
    "someone else's": ("plasticity/layers.py", "import gymnasium"),
}  # fmt: skip


@pytest.mark.parametrize(("file", "line"), some(PLANTED, "a circle's, for types"))
def test_a_planted_import_is_found(file: str, line: str, tmp_path: Path) -> None:
    for package in ("neoteny", *PACKAGES):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    assert faults(tmp_path) == []
    planted = tmp_path / file
    planted.write_text(f"{planted.read_text()}\n{line}\n")
    assert faults(tmp_path)


def test_every_package_is_in_the_wheel() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = setup["options"]["packages"].split()
    folders = [name for name, path in import_graph.modules(ROOT).items() if path.name == "__init__.py"]
    assert listed == sorted(folders)
    for path in import_graph.modules(ROOT).values():
        assert (path.parent / "__init__.py").exists(), f"{path.parent} needs an __init__.py, or no wheel has it"
    places = dict(line.split(" = ") for line in setup["options"]["package_dir"].split("\n") if line)
    assert places == {"neoteny": "neoteny"} | {f"neoteny.{name}": name for name in PACKAGES}


def loaded_by(module: str) -> set[str]:
    """The modules of a fresh interpreter that has imported ``module`` and nothing else; of others', the first name."""
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours = {".".join(name.split(".")[:2]) for name in done.stdout.split() if name.startswith("neoteny.")}
    return ours | {name.partition(".")[0] for name in done.stdout.split()}


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("package", "needs", "never"),
    [
        ("plasticity", {"torch"}, {"stable_baselines3", "gymnasium"}),
        ("configs", set(), {"stable_baselines3", "gymnasium", "torch"}),
        ("envs", {"gymnasium", "stable_baselines3"}, set()),
        ("agents", {"torch", "neoteny.plasticity", "stable_baselines3", "sb3_contrib"}, {"envpool", "minigrid"}),
    ],
)
def test_a_package_loads_what_it_may(package: str, needs: set[str], never: set[str]) -> None:
    loaded = loaded_by(f"neoteny.{package}")
    assert needs <= loaded
    assert {name for name in loaded if name.startswith("neoteny.")} <= {
        f"neoteny.{name}" for name in (package, *ALLOWED[package])
    }
    assert not loaded & never


def test_the_name_alone_loads_nothing() -> None:
    assert not loaded_by("neoteny") & {"torch", "numpy", "gymnasium", "neoteny.plasticity"}
