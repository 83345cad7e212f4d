"""A run says what it was made with, and a report in what that is not the same for all."""

from __future__ import annotations

import csv
import logging
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from thinning import some

from neoteny.runners import report
from neoteny.runners.runs.made_with import goes_on, made_with
from neoteny.versions import commit
from tests.runners.runs.nothing_lost import command, main, of

ROOT = Path(__file__).parents[3]


def stopped_run(folder: Path, agent: str, *more: str) -> Path:
    """A run's folder after two of four tasks, of which the last checkpoint is that of the second."""
    assert main(command(folder, agent, *more, "--num-tasks", "2")) == 0
    return of(folder, agent, *more)


@pytest.mark.parametrize("agent", some(["ppo", "mlp"], "ppo"))
def test_a_run_says_what_it_was_made_with(agent: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = stopped_run(tmp_path, agent)
    found = yaml.safe_load((folder / "made_with.yaml").read_text())
    assert list(found) == [0]
    assert found[0]["torch"] == torch.__version__
    assert found[0]["python"] == platform.python_version()
    assert torch.backends.cpu.get_cpu_capability() in found[0]["processor"]
    assert found[0]["device"] == "cpu"
    before = (folder / "made_with.yaml").read_bytes()
    assert main(command(tmp_path, agent, "--num-tasks", "4")) == 0
    assert (folder / "made_with.yaml").read_bytes() == before
    assert "may be others" not in caplog.text


@pytest.mark.full
def test_a_run_that_goes_on_elsewhere_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = stopped_run(tmp_path, "ppo")
    file = folder / "made_with.yaml"
    here = yaml.safe_load(file.read_text())[0]
    file.write_text(yaml.safe_dump({0: here | {"torch": "1.0", "processor": "Z80 (DEFAULT)"}}))
    with caplog.at_level(logging.WARNING, "neoteny"):
        assert main(command(tmp_path, "ppo", "--num-tasks", "4")) == 0
    assert f"torch was 1.0, is {torch.__version__}" in caplog.text
    assert f"processor was Z80 (DEFAULT), is {here['processor']}" in caplog.text
    assert "From step 512 on" in caplog.text
    found = made_with(folder)
    assert list(found) == [0, 512]
    assert found[512] == here
    assert found[0]["torch"] == "1.0"
    assert report.main([str(tmp_path / "runs"), "--out", str(tmp_path / "report")]) == 0
    (page,) = tmp_path.glob("report/*.html")
    said = (
        f"Not all runs were made with the same torch, which can change numbers too: 1.0: {folder.parent.name}, seed 0"
    )
    assert said in page.read_text()
    assert "the same numpy" not in page.read_text()
    (table,) = tmp_path.glob("report/**/made-with.csv")
    with table.open(newline="") as lines:
        kept = [(row["from step"], row["torch"]) for row in csv.DictReader(lines)]
    assert kept == [("0", "1.0"), ("512", torch.__version__)]


def test_what_came_to_nothing_is_not_recorded(tmp_path: Path) -> None:
    """Of a process that was killed before its first checkpoint no number is left."""
    assert goes_on(tmp_path, 0, {"torch": "1"}) == ""
    assert goes_on(tmp_path, 0, {"torch": "2"}) == ""
    assert goes_on(tmp_path, 100, {"torch": "3"}) == "torch was 2, is 3"
    assert goes_on(tmp_path, 100, {"torch": "4", "numpy": "1"}) == "torch was 2, is 4; numpy was None, is 1"
    assert goes_on(tmp_path, 200, {"torch": "2"}) == "torch was 4, is 2; numpy was 1, is None"
    assert made_with(tmp_path) == {0: {"torch": "2"}, 100: {"torch": "4", "numpy": "1"}, 200: {"torch": "2"}}
    assert goes_on(tmp_path, 100, {"torch": "2"}) == ""
    assert made_with(tmp_path) == {0: {"torch": "2"}}


@pytest.mark.parametrize("damage", [b"", b"[1, 2]", b"\xff\xfe", b"{0: [", b"{a: {torch: 1}, 3: 4}"])
def test_a_damaged_record_stops_nothing(damage: bytes, tmp_path: Path) -> None:
    (tmp_path / "made_with.yaml").write_bytes(damage)
    assert made_with(tmp_path) == {}
    assert goes_on(tmp_path, 100, {"torch": "1"}) == ""
    assert made_with(tmp_path) == {100: {"torch": "1"}}


def test_the_commit_is_that_of_the_checkout() -> None:
    if not (ROOT / ".git").exists():
        assert commit() == ""
        return
    head = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    changed = subprocess.run(["git", "-C", ROOT, "diff", "--quiet", "HEAD"], check=False).returncode
    assert commit() == f" ({head.stdout[:12]}{'-dirty' * bool(changed)})"


def test_an_installed_copy_has_no_commit_of_the_folder_around_it(tmp_path: Path) -> None:
    """A user's environment is often a folder of a project of their own, with its own commits."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    somebody = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", tmp_path, *somebody, "commit", "-q", "--allow-empty", "-m", "mine"], check=True)
    packages = tmp_path / "env"
    (packages / "neoteny").mkdir(parents=True)
    for file in ("__init__.py", "versions.py"):
        (packages / "neoteny" / file).write_bytes((ROOT / "neoteny" / file).read_bytes())
    code = "import neoteny.versions as v; print(repr(v.commit()), v.__file__)"
    found = subprocess.run([sys.executable, "-c", code], cwd=packages, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["''", str(packages / "neoteny/versions.py")]


def test_a_checkout_need_not_be_installed(tmp_path: Path) -> None:
    """Its packages may be there without its own metadata: then it has its commit alone."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from neoteny.versions import versions; print(versions())"
    found = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert "torch" not in found.stdout
    assert "'python'" in found.stdout
    assert commit().strip() in found.stdout
