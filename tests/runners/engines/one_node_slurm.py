"""A real Slurm of one node, on this machine, in a folder: its daemons are started here and end here."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch", "srun")

CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={control}
SlurmdPort={node}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,bf_interval=1,defer_batch
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=10
ReturnToService=2
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=debug Nodes={host} Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes={host} Default=NO MaxTime=INFINITE State=UP PriorityTier=2
"""


def missing() -> str:
    """Why there can be no Slurm here; nothing, if there can."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    absent = [name for name in DAEMONS if not shutil.which(name, path=path)]
    if sys.platform != "linux" or os.geteuid():
        return "Slurm's daemons run as root, on Linux"
    return f"not installed: {', '.join(absent)} (apt-get install slurm-wlm munge)" if absent else ""


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def one_node(folder: Path, cpus: int = 2) -> Iterator[dict[str, str]]:
    """Start it; the environment variables with which Slurm's commands find it."""
    host = socket.gethostname().partition(".")[0]
    (folder / "state").mkdir(parents=True)
    (folder / "spool").mkdir()
    key, config = folder / "munge.key", folder / "slurm.conf"
    key.touch(0o600)
    key.write_bytes(secrets.token_bytes(128))
    config.write_text(CONFIG.format(folder=folder, host=host, control=free_port(), node=free_port(), cpus=cpus))
    variables = {"SLURM_CONF": str(config), "PATH": f"{os.environ['PATH']}:/usr/sbin"}
    munge = ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder}/munge.socket"]
    munge += [f"--log-file={folder}/munged.log", f"--pid-file={folder}/munged.pid", f"--seed-file={folder}/seed"]
    started: list[subprocess.Popen[bytes]] = []
    try:
        for command in (munge, ["slurmctld", "-D"], ["slurmd", "-D", "-N", host]):
            with (folder / f"{command[0]}.out").open("wb") as out:
                ends = ["setpriv", "--pdeathsig", "KILL"]  # with this process, whatever becomes of it
                started.append(subprocess.Popen([*ends, *command], env=os.environ | variables, stdout=out, stderr=out))
            if command is munge:
                wait_for(lambda: (folder / "munge.socket").exists(), folder)
        wait_for(lambda: "idle" in ask(variables, "sinfo", "-h", "-o", "%T"), folder)
        yield variables
    finally:
        ask(variables, "scancel", "--user=root")
        for process in started[::-1]:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


def ask(variables: dict[str, str], *command: str) -> str:
    """What one of Slurm's commands prints."""
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=False)
    return done.stdout


def wait_for(is_so, folder: Path, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        logs = "\n".join(path.read_text()[-1000:] for path in [*folder.glob("*.out"), *folder.glob("*.log")])
        assert time.monotonic() < deadline, logs
        time.sleep(0.1)
