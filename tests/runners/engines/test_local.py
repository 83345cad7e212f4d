"""Runs on this machine are forks of one process; nobody who looks at a run can tell."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import grids
import pytest

from neoteny.runners.engines import fork_server
from neoteny.runners.engines.local import Local
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


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def program(name: str, text: str) -> list[str]:
    Path(name).write_text(text)
    return [sys.executable, str(Path(name).resolve()), "a word", "ü"]


def carry_out(*jobs: Job, room: int = 2) -> list[Outcome]:
    return [outcome for some in Local(room, 0.001).run(jobs) for outcome in some]


@pytest.mark.slow
def test_a_fork_is_as_a_process_of_its_own() -> None:
    command = program("look.py", LOOK)
    (outcome,) = carry_out(Job("a", command))
    assert outcome.code == 0, outcome.words
    found = json.loads(Path("a/log.txt").read_text())
    alone = subprocess.run(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, input="", capture_output=True, text=True, check=True
    )
    assert found == json.loads(alone.stdout)
    assert found["threads"] == 1


@pytest.mark.slow
def test_how_programs_end_is_told() -> None:
    jobs = {
        "exits": Job("exits", program("exits.py", "import atexit, sys\natexit.register(print, 'last')\nsys.exit(3)")),
        "raises": Job(
            "raises",
            program("raises.py", "import threading\nthreading.Thread(target=print, args=['said']).start()\n1 / 0"),
        ),
        "killed": Job("killed", program("killed.py", "import os\nprint('here', flush=True)\nos.kill(os.getpid(), 9)")),
        "missing": Job("missing", [sys.executable, "missing.py"]),
        "nobody": Job("nobody", ["/no/such/program"]),
        "other": Job("other", ["/bin/sh", "-c", "echo $OMP_NUM_THREADS"]),
    }
    Path("file").write_text("")
    jobs["unwritable"] = Job("file/folder", [sys.executable, "exits.py"])
    ended = {Path(outcome.job.name).name: outcome for outcome in carry_out(*jobs.values())}
    codes = {name: outcome.code for name, outcome in ended.items()}
    assert codes == {"exits": 3, "raises": 1, "killed": -9, "missing": 1, "nobody": 1, "other": 0, "folder": 1}
    assert ended["exits"].words == "last"
    assert "ZeroDivisionError: division by zero" in ended["raises"].words
    assert "said" in ended["raises"].words
    assert ended["killed"].words == "here"
    assert "missing.py" in ended["missing"].words
    assert "/no/such/program" in ended["nobody"].words
    assert "file" in ended["folder"].words
    assert Path("other/log.txt").read_text() == "1\n"


@pytest.mark.slow
def test_the_server_is_killed_and_the_rest_goes_on() -> None:
    """What ran is stopped, as by a scheduler, and told of as lost; what had not begun is run by another."""
    waits = f"import time\nprint('begun', flush=True)\ntime.sleep(1000)  # {Path.cwd()}"
    jobs = [Job("waits", program("waits.py", waits)), Job("next", program("next.py", "print('done')"))]
    running, outcomes = Local(1, 0.001).run(jobs), list[Outcome]()
    assert next(running) == []
    grids.until(lambda: Path("waits/log.txt").exists() and Path("waits/log.txt").read_text())
    (fork,) = grids.processes(str(Path("waits.py").resolve()))
    parent = int(Path(f"/proc/{fork}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(parent, signal.SIGKILL)
    for some in running:
        outcomes += some
    assert [(each.job.name, each.code, each.words) for each in outcomes] == [("waits", LOST, "begun"), ("next", 0, "")]
    assert not Path(f"/proc/{fork}").exists()


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


@pytest.mark.slow
def test_after_the_first_a_run_begins_at_once() -> None:
    """Not in the seconds that a program's imports take."""
    imports = program("imports.py", "import neoteny.runners.continual_rl")
    first, *rest = carry_out(*(Job(str(i), imports) for i in range(4)), room=1)
    began = time.monotonic()
    subprocess.run(imports, check=True)
    alone = time.monotonic() - began
    assert first.code == 0
    assert sum(outcome.seconds for outcome in rest) < alone
