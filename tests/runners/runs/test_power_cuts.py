"""After a power cut at any moment a run goes on to the numbers of one that had none."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from nothing_lost import command, equal, main, of, program, scalars
from power_cuts import STRACE, Disk, calls

#: How many cuts are tried; `make soak` tries more.
CUTS = int(os.environ.get("CUTS", "4"))


def can_trace() -> bool:
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not can_trace(), reason="strace is not installed, or may not trace")
@pytest.mark.parametrize("agent", ["ppo", "dqn", "mlp"] if "CUTS" in os.environ else ["ppo"])
def test_power_cuts(agent: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = tmp_path / "home"
    home.mkdir()
    argv = command(home, agent)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    log = tmp_path / "log"
    subprocess.run(
        [*STRACE, "-o", log, sys.executable, program(argv), *argv], env=environment, check=True, capture_output=True
    )
    whole, expected = tmp_path / "whole", scalars(of(home, agent))
    home.rename(whole)
    all_calls = list(calls(log))
    disk = Disk(home / "runs")
    changing = [index for index, call in enumerate(all_calls) if disk.apply(*call)]
    assert set(disk.now) == {
        str(home / path.relative_to(whole)) for path in (whole / "runs").rglob("*") if path.is_file()
    }
    rng = random.Random(f"{agent}0")
    cuts = sorted(rng.choices(changing, k=CUTS // 2))
    disk = Disk(home / "runs")
    for index, call in enumerate(all_calls):
        disk.apply(*call)
        for _ in range(cuts.count(index)):
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir()
            for path, content in disk.after_a_cut(rng).items():
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                Path(path).write_bytes(content)
            assert main(command(home, agent)) == 0, (index, capsys.readouterr().err)
            assert equal(of(home, agent), of(whole, agent)), index
            assert scalars(of(home, agent)) == expected, index
