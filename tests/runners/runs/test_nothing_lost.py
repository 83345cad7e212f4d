"""Runs whose files were damaged, or that were stopped at a bad moment, give right numbers or an error that says why."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from nothing_lost import command, equal, of
from thinning import one_in

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


@pytest.mark.parametrize("damage", one_in(2, [*DAMAGES]))
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


@pytest.mark.sampled(2)
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


def test_what_a_process_leaves_that_is_killed_at_the_very_end(copy: Path, whole: Path) -> None:
    folder = of(copy) / "checkpoints"
    (folder / "segment-0004.safetensors").write_bytes(b"left")  # its JSON is gone, and all is learned
    (folder / ".tmpGvey9k").write_bytes(b"begun")  # as safetensors does
    for suffix in (".json", ".safetensors"):  # it was about to go
        (folder / "segment-0005").with_suffix(suffix).write_bytes((folder / f"segment-0006{suffix}").read_bytes())
    assert continual_rl.main(command(copy)) == 0
    assert {path.name for path in folder.iterdir()} == {p.name for p in (of(whole) / "checkpoints").iterdir()}


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
