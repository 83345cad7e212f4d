"""The commands of docs/clusters.md, from nothing to a result; what takes long only with `make clusters`."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import subprocess
import sys
from pathlib import Path

import grids
import one_node_slurm
import pytest

from neoteny.runners import sweep

PAGE = (grids.ROOT / "docs" / "clusters.md").read_text()
(FILE,) = re.findall(r"```yaml\n# my-experiment.yaml\n(.*?)```", PAGE, re.DOTALL)
LAPTOP, *RAY, SLURM = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
SWEEPS = [line for line in PAGE.splitlines() if line.startswith("python runners/sweep.py")]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the experiment."""
    monkeypatch.chdir(tmp_path)
    Path("my-experiment.yaml").write_text(FILE)
    return tmp_path


def execute(block: str, variables: dict[str, str] | None = None) -> str:
    """Run a block of commands as a shell would; what it says."""
    environment = os.environ | {"PYTHONPATH": str(grids.ROOT)} | (variables or {})
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    commands = block.replace("python runners/", f"python {grids.ROOT}/runners/")
    done = subprocess.run(["bash", "-ec", commands], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("command", SWEEPS)
def test_a_command_is_understood(command: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if "slurm" in command:
        pytest.importorskip("submitit")
    argv = shlex.split(command)[2:]
    assert sweep.main([*argv, *["--dry-run"] * ("--dry-run" not in argv)]) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 4
    assert "4 runs: 0 complete, 0 begun, 4 missing" in said.err


def results() -> dict[str, object]:
    """The tables, after a look at whether the page that says what they show is there."""
    (page,) = Path("runs/my-experiment/cartpole-rotate").rglob("report.html")
    assert "l2-init" in page.read_text()
    return dict(grids.tables(Path("runs/my-experiment")))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not grids.WHOLE, reason="in minutes; make clusters runs it")
def test_from_nothing_to_a_result(here: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert "4 of 4 runs are complete." in execute(LAPTOP)
    found = results()
    assert len(found) == 8
    Path("runs").rename("laptop")

    first, second, rest = RAY
    host = "127.0.0.1"
    token = {"RAY_AUTH_TOKEN": secrets.token_hex(32)}  # in place of the file
    execute(f"{first.rstrip()} --node-ip-address={host} --num-cpus=1", token)
    execute(f"{second.rstrip().replace('192.0.2.1', host)} --num-cpus=1", token)
    assert "4 of 4 runs are complete." in execute(rest, token)
    assert results() == found
    assert not grids.processes("raylet")
    Path("runs").rename("ray")

    if why := one_node_slurm.missing():
        pytest.skip(f"no Slurm: {why}")
    with one_node_slurm.one_node(tmp_path_factory.mktemp("slurm")) as variables:
        assert "4 of 4 runs are complete." in execute(SLURM, variables)
    assert results() == found
