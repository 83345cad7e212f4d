"""Runs whose files were damaged, or that were stopped at a bad moment, give right numbers or an error that says why."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from nothing_lost import ON_POLICY, PROGRAM, SMALL, command, equal, of

from neoteny.agents import durable
from neoteny.runners import continual_rl, doctor
from neoteny.runners.runs.lock import Lock


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of eight segments."""
    folder = tmp_path_factory.mktemp("whole")
    argv = command(folder)
    assert continual_rl.main(argv) == 0
    return folder


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    return tmp_path


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(bytes(content))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def tear(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 7)


DAMAGES: dict[str, Callable[[Path], None]] = {"flipped": flip, "empty": empty, "torn": tear, "gone": Path.unlink}


def latest(folder: Path, suffix: str) -> Path:
    return max((of(folder) / "checkpoints").glob(f"*{suffix}"))


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
def test_a_damaged_checkpoint_is_made_again_from_the_one_before(
    suffix: str, damage: str, copy: Path, whole: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = latest(copy, suffix)
    if suffix == ".json" and damage == "flipped":
        file.write_text(file.read_text().replace('"step": 1024', '"step": 1025'))  # what a flip of a bit can come to
    else:
        DAMAGES[damage](file)
    assert continual_rl.main(command(copy)) == 0
    assert equal(of(copy), of(whole))
    if damage != "gone" or suffix == ".safetensors":
        assert f"{file.with_suffix('.json').name} is left out" in caplog.text


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("table", ["tasks.csv", "progress.csv"])
def test_a_damaged_table_is_never_gone_on_with(
    table: str, damage: str, copy: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A torn last line belongs to the last segment, which is learned again; more than that cannot be made up for."""
    DAMAGES[damage](of(copy) / table)
    before = {path: path.read_bytes() for path in of(copy).rglob("*") if path.is_file() and path.name != "lock"}
    code = continual_rl.main(command(copy))
    if code == 0:
        assert damage in ("torn", "flipped")
        assert equal(of(copy), of(whole))
    else:
        assert code == 2
        error = capsys.readouterr().err
        assert f"{table} has not the rows" in error
        assert "Traceback" not in error
        assert before == {path: path.read_bytes() for path in before}


def test_nothing_whole_is_left(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in (of(copy) / "checkpoints").glob("*.safetensors"):
        flip(file)
    assert continual_rl.main(command(copy)) == 2
    assert "segment-0007.safetensors is damaged" in capsys.readouterr().err
    shutil.rmtree(of(copy) / "checkpoints")
    assert continual_rl.main(command(copy)) == 2
    assert "checkpoints/ has no checkpoint of them" in capsys.readouterr().err


def test_without_its_settings_a_run_does_not_go_on(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (of(copy) / "config.yaml").unlink()
    assert continual_rl.main(command(copy)) == 2
    assert "config.yaml is gone" in capsys.readouterr().err


def test_what_a_killed_process_leaves_is_tidied(copy: Path, whole: Path) -> None:
    folder = of(copy) / "checkpoints"
    latest(copy, ".json").unlink()  # killed between the agent and its JSON
    (folder / "segment-0001.safetensors").write_bytes(b"left")
    (folder / "segment-0003.part").write_bytes(b"left")
    (folder / "segment-x.json").write_text("a user's")
    assert continual_rl.main(command(copy)) == 0
    assert equal(of(copy), of(whole))
    expected = {path.name for path in (of(whole) / "checkpoints").iterdir()} | {"segment-x.json"}
    assert {path.name for path in folder.iterdir()} == expected


def test_files_can_be_read_by_those_who_may(whole: Path) -> None:
    umask = os.umask(0)
    os.umask(umask)
    modes = {path.stat().st_mode & 0o777 for path in of(whole).rglob("*") if path.is_file()}
    assert modes == {0o666 & ~umask}


def test_everything_is_on_disk_before_anything_older_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the last sync and the removal of a file nothing is written; each name is synced after its bytes."""
    log: list[tuple[str, str]] = []

    def spy(module: object, name: str, shown: Callable[..., str]) -> None:
        original = getattr(module, name)

        def spied(*args: object, **kwargs: object) -> object:
            log.append((name, shown(*args)))
            return original(*args, **kwargs)

        monkeypatch.setattr(module, name, spied)

    spy(os, "fsync", lambda handle: Path(os.readlink(f"/proc/self/fd/{handle}")).name)
    spy(os, "replace", lambda _, new: Path(new).name)
    spy(Path, "unlink", lambda path: path.name)
    assert continual_rl.main(command(tmp_path)) == 0
    for at, (what, name) in enumerate(log):
        if what == "replace":
            part = Path(name).with_suffix(".part").name if name.endswith(".safetensors") else f"{name}.part"
            assert log[at - 1] == ("fsync", part)
            assert log[at + 1][0] == "fsync"  # of its folder
        if what == "unlink" and name.endswith(".json"):
            before = log[:at]
            new = f"segment-{int(Path(name).stem[-4:]) + 2:04d}"
            place = max(i for i, entry in enumerate(before) if entry == ("replace", f"{new}.json"))
            first = max(i for i, entry in enumerate(before) if entry == ("replace", f"{new}.safetensors"))
            synced = {entry[1] for entry in log[:first] if entry[0] == "fsync"}
            assert {"tasks.csv", "progress.csv"} <= synced
            assert first < place
            assert any(entry[1].startswith("events.out") for entry in log[:first] if entry[0] == "fsync")
    assert durable.sync  # what is spied on is what is used
    assert sum(what == "unlink" for what, _ in log) >= 12


def test_a_doctor_sees_what_going_on_would_do(copy: Path, whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*options: str) -> tuple[int, str]:
        code = doctor.main([str(copy / "runs"), *options])
        return code, capsys.readouterr().out

    folder = of(copy)
    assert said() == (0, f"finished      {folder}\n")
    flip(latest(copy, ".safetensors"))
    assert said()[0] == 1
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    code, text = said()
    assert code == 1
    assert "segment-0007.safetensors is damaged; after step 896 of 1,024, in task 4 CartPole-v1" in text
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert said("--repair")[0] == 0
    assert said() == (0, f"can go on     {folder}: after step 896 of 1,024, in task 4 CartPole-v1\n")
    lock = Lock(folder)
    assert said() == (0, f"running       {folder}: process {os.getpid()} on {socket.gethostname()}\n")
    lock.release()
    assert continual_rl.main(command(copy)) == 0
    assert equal(folder, of(whole))
    (folder / "tasks.csv").unlink()
    capsys.readouterr()
    code, text = said("--repair")
    assert code == 1
    assert text.startswith("cannot go on")
    assert doctor.main([str(copy / "nowhere")]) == 2


def start(argv: list[str]) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), *argv],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_two_processes_begin_in_one_new_folder(tmp_path: Path) -> None:
    both = [start(command(tmp_path)) for _ in range(2)]
    said = [process.communicate(timeout=200) for process in both]
    codes = [process.returncode for process in both]
    assert sorted(codes) in ([0, 2], [0, 0]), said
    if 2 in codes:  # else one began when the other had finished
        error = said[codes.index(2)][1]
        assert f"process {both[codes.index(0)].pid} on" in error
    (tasks,) = tmp_path.rglob("tasks.csv")
    assert len(tasks.read_text().splitlines()) == 5


def test_a_lock_names_its_holder_and_is_not_a_childs(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "run")
    with pytest.raises(ValueError, match=f"another process is running in .*run: process {os.getpid()} on"):
        Lock(tmp_path / "run")
    child = os.fork()
    if not child:
        time.sleep(5)
        os._exit(0)
    time.sleep(0.5)
    lock.release()
    Lock(tmp_path / "run").release()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


@pytest.fixture
def long_run(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A process that has learned its first segment."""
    argv = command(tmp_path, "ppo", "--steps-per-task", "1000000", "--segment-steps", "1024")
    process = start(argv)
    while not [*tmp_path.rglob("segment-*.json")]:
        time.sleep(0.05)
        assert process.poll() is None, process.communicate()
    yield process, argv
    process.kill()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_that_is_told_to_stop(number: int, code: int, long_run: tuple[subprocess.Popen[str], list[str]]) -> None:
    process, _ = long_run
    process.send_signal(number)
    _, error = process.communicate(timeout=20)
    assert process.returncode == code
    assert "The same command goes on from the last checkpoint" in error
    assert "Traceback" not in error


def test_ctrl_c_while_it_is_loaded(tmp_path: Path) -> None:
    process = start(command(tmp_path))
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=20)
    assert process.returncode in (130, -signal.SIGINT)
    assert "Traceback" not in error


def test_the_folder_goes_away(long_run: tuple[subprocess.Popen[str], list[str]]) -> None:
    process, argv = long_run
    shutil.rmtree(Path(argv[argv.index("--out") + 1]), ignore_errors=True)
    _, error = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "files cannot be written or read" in error
    assert "Traceback" not in error


def test_the_disk_is_full(long_run: tuple[subprocess.Popen[str], list[str]]) -> None:
    """As far as a program can tell: no file may grow any more. Then there is room again, and the run goes on."""
    process, argv = long_run
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, 0))
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "files cannot be written or read" in error
    assert "The last good state is" in error
    assert "Traceback" not in error
    again = start(argv)
    before = [*Path(argv[argv.index("--out") + 1]).rglob("segment-*.json")]
    while not {*Path(argv[argv.index("--out") + 1]).rglob("segment-*.json")} - {*before}:
        time.sleep(0.05)
        assert again.poll() is None, again.communicate()
    again.kill()
    again.communicate()


def children_of(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux to end processes with their parent")
def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    (tmp_path / "slow.yaml").write_text("tasks: [{env: CartPole-v1, steps: 1000000, backend: async}]\n")
    argv = ["--env", str(tmp_path / "slow.yaml"), *SMALL, *ON_POLICY, "--out", str(tmp_path / "runs")]
    process = start(argv)
    while not [*tmp_path.rglob("segment-*.json")]:
        time.sleep(0.05)
        assert process.poll() is None, process.communicate()
    workers = children_of(process.pid)
    assert len(workers) >= 4
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 5
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)
