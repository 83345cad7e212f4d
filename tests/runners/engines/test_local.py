"""Runs on this machine are forks of one process; nobody who looks at a run can tell."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import grids
import pytest

from neoteny.runners.engines import fork_server
from neoteny.runners.engines.engine import Settings
from neoteny.runners.engines.local import Local, start
from neoteny.runners.engines.work import LOST, Job, Outcome

SERVER = fork_server.__file__
#: What a program of its own could be told by.
LOOK = """\
import json, os, signal, sys, threading
import torch

handlers = [str(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)]
blocked = [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())]
print(json.dumps({
    "argv": sys.argv, "name": __name__, "file": __file__, "path": sys.path[0], "cwd": os.getcwd(),
    "handlers": handlers, "blocked": blocked, "threads": len(os.listdir("/proc/self/task")), "stdin": sys.stdin.read(),
    "torch": torch.get_num_threads(), "fork": torch.cuda._is_in_bad_fork(), "flags": str(sys.flags),
    "module": sys.modules["__main__"].__name__, "parent": "NEOTENY_PARENT" in os.environ,
}))
"""


def program(name: str, text: str) -> list[str]:
    Path(name).write_text(text)
    return [sys.executable, str(Path(name).resolve()), "a word", "ü"]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Outcome]]:
    """How many jobs of one server end, by name, in the working directory of that sweep."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("sweep"))
        Path("file").write_text("")
        imports = program("imports.py", "import neoteny.runners.continual_rl")
        commands = {
            "first": imports,
            "second": imports,
            "look": program("look.py", LOOK),
            "exits": program("exits.py", "import atexit, sys\natexit.register(print, 'last')\nsys.exit(3)"),
            "raises": program(
                "raises.py", "import threading\nthreading.Thread(target=print, args=['said']).start()\n1 / 0"
            ),
            "killed": program("killed.py", "import os\nprint('here', flush=True)\nos.kill(os.getpid(), 9)"),
            "missing": [sys.executable, "missing.py"],
            "nobody": ["/no/such/program"],
            "other": ["/bin/sh", "-c", "echo $OMP_NUM_THREADS"],
            "file/folder": imports,
        }
        jobs = [Job(name, command) for name, command in commands.items()]
        with closing(Local(1, 0.001)) as local:
            yield {outcome.job.name: outcome for some in local.run(jobs) for outcome in some}


@pytest.mark.slow
def test_a_fork_is_as_a_process_of_its_own(outcomes: dict[str, Outcome]) -> None:
    assert outcomes["look"].code == 0, outcomes["look"].words
    found = json.loads(Path("look/log.txt").read_text())
    command, alone = outcomes["look"].job.command, os.environ | {"OMP_NUM_THREADS": "1"}
    said = subprocess.run(command, env=alone, input="", capture_output=True, text=True, check=True)
    assert found == json.loads(said.stdout)
    assert found["threads"] == 1


@pytest.mark.slow
def test_how_programs_end_is_told(outcomes: dict[str, Outcome]) -> None:
    codes = {name: outcome.code for name, outcome in outcomes.items() if outcome.code}
    assert codes == {"exits": 3, "raises": 1, "killed": -9, "missing": 1, "nobody": 1, "file/folder": 1}
    words = {name: outcome.words for name, outcome in outcomes.items()}
    assert words["exits"] == "last"
    assert "ZeroDivisionError: division by zero" in words["raises"]
    assert "said" in words["raises"]
    assert words["killed"] == "here"
    assert "missing.py" in words["missing"]
    assert words["nobody"] == "/no/such/program: No such file or directory"
    assert "file" in words["file/folder"]
    assert Path("other/log.txt").read_text() == "1\n"


@pytest.mark.full
@pytest.mark.slow
def test_a_run_begins_at_once(outcomes: dict[str, Outcome]) -> None:
    """Not in the seconds that a program's imports take."""
    began = time.monotonic()
    subprocess.run(outcomes["first"].job.command, check=True)
    assert outcomes["first"].seconds + outcomes["second"].seconds < (time.monotonic() - began) / 2


@pytest.mark.full
@pytest.mark.slow
def test_stopped_it_waits_for_what_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before that, jobs that end in the same moment, and one whose folder is removed."""
    monkeypatch.chdir(tmp_path)
    closes = """
import signal, sys, time
def close(*_):
    time.sleep(1)
    sys.exit("closed")
signal.signal(signal.SIGTERM, close)
print("begun", flush=True)
time.sleep(1000)
"""
    gone = "import shutil, sys\nshutil.rmtree('gone')\nsys.exit(1)"
    jobs = [Job(f"{i}", ["/bin/true"]) for i in range(40)]
    jobs += [Job("gone", program("gone.py", gone)), Job("closes", program("closes.py", closes))]
    running, ended = Local(4, 0.001).run(jobs), list[Outcome]()
    while len(ended) < 41 or Path("closes/log.txt").read_text() != "begun\n":
        ended += next(running)
    (failed,) = [outcome for outcome in ended if outcome.code]
    assert (failed.job.name, failed.code) == ("gone", 1)
    assert "gone/log.txt" in failed.words
    running.close()
    assert Path("closes/log.txt").read_text() == "begun\nclosed\n"


@pytest.mark.slow
def test_stopped_while_it_imports_nothing_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    running = Local(1, 0.001).run([Job("a", ["/bin/echo", "begun"])])
    assert next(running) == []
    began = time.monotonic()
    running.close()
    assert time.monotonic() - began < 2
    assert not Path("a/log.txt").read_text()


@pytest.mark.slow
def test_the_server_is_killed_and_the_rest_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ran is stopped, as by a scheduler, and told of as lost; what had not begun is run by another."""
    monkeypatch.chdir(tmp_path)
    waits = f"import time\nprint('begun', flush=True)\ntime.sleep(1000)  # {Path.cwd()}"
    jobs = [Job("waits", program("waits.py", waits)), Job("next", program("next.py", "print('done')"))]
    local = Local(1, 0.001)
    running, outcomes = local.run(jobs), list[Outcome]()
    assert next(running) == []
    grids.until(lambda: Path("waits/log.txt").exists() and Path("waits/log.txt").read_text())
    (fork,) = grids.processes(str(Path("waits.py").resolve()))
    parent = int(Path(f"/proc/{fork}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(parent, signal.SIGKILL)
    for some in running:
        outcomes += some
    assert [(each.job.name, each.code, each.words) for each in outcomes] == [("waits", LOST, "begun"), ("next", 0, "")]
    assert not Path(f"/proc/{fork}").exists()
    local.close()


@pytest.mark.full
@pytest.mark.slow
def test_a_server_is_of_all_jobs_of_a_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    asks = ["/bin/sh", "-c", "echo $PPID"]
    with start(Settings(tmp_path, jobs=1, memory=0.001)) as local:
        for name in ("a", "b"):
            assert [outcome.code for some in local.run([Job(name, asks)]) for outcome in some] == [0]
        one, other = (int(Path(name, "log.txt").read_text()) for name in ("a", "b"))
        assert one == other
        assert Path(f"/proc/{one}").exists()
    assert not Path(f"/proc/{one}").exists()


@pytest.mark.slow
def test_what_is_imported_asks_for_no_gpu_and_starts_no_thread() -> None:
    """CUDA cannot be used in a fork of a process that has asked for it."""
    code = f"""
import importlib, os, runpy
import torch
def asked(*args): raise SystemExit("asked for a GPU")
torch.cuda.is_available = torch.cuda.device_count = torch.cuda.init = torch.cuda._lazy_init = asked
for name in runpy.run_path({SERVER!r})["WANTED"]:
    importlib.import_module(name)
print(len(os.listdir("/proc/self/task")))
"""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert said.stdout == "1\n", said.stderr
