"""Who may import whom: in a fresh interpreter, and by reading every file, so that late imports count too."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: What each of our packages may import of ours.
ALLOWED = {
    "plasticity": set(),
    "configs": set(),
    "envs": {"configs"},
    "agents": {"configs", "plasticity"},
    "runners": {"agents", "configs", "envs", "plasticity"},
}

#: What each may not import of others', even where something else has loaded it.
FORBIDDEN = {
    "plasticity": {"stable_baselines3", "sb3_contrib", "gymnasium"},
    "configs": {"stable_baselines3", "gymnasium", "torch"},
    "envs": {"torch"},
}


def imported(package: str) -> dict[str, set[str]]:
    """The top-level names that the files of ``package`` import, anywhere in them, with the files that do."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Import():
                    names = [alias.name for alias in node.names]
                case ast.ImportFrom(level=0):
                    names = [node.module or ""]
                case ast.ImportFrom():
                    names = [package]
                case _:
                    continue
            for name in names:
                found.setdefault(name.split(".")[0], set()).add(path.name)
    return found


@pytest.mark.parametrize("package", ALLOWED)
def test_files_import_what_their_package_may(package: str) -> None:
    names = imported(package)
    assert names, f"{package} has no files that import anything"
    refused = (ALLOWED.keys() - ALLOWED[package] - {package}) | FORBIDDEN.get(package, set())
    assert {name: files for name, files in names.items() if name in refused} == {}


def loaded_by(module: str) -> set[str]:
    """The top-level modules of a fresh interpreter that has imported ``module`` and nothing else."""
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("package", "needs", "never"),
    [
        ("plasticity", {"torch"}, {"stable_baselines3", "gymnasium"}),
        ("configs", set(), {"stable_baselines3", "gymnasium", "torch"}),
        ("envs", {"gymnasium", "stable_baselines3"}, set()),
        ("agents", {"torch", "plasticity", "stable_baselines3"}, {"sb3_contrib"}),
    ],
)
def test_a_package_loads_what_it_may(package: str, needs: set[str], never: set[str]) -> None:
    loaded = loaded_by(package)
    assert needs <= loaded
    assert loaded & ALLOWED.keys() <= ALLOWED[package] | {package}
    assert not loaded & never
