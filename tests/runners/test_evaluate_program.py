"""The program that evaluates runs: its table and file, whatever state the run is in, and what it refuses."""

from __future__ import annotations

import csv
from pathlib import Path

import imageio
import numpy as np
import pytest
from thinning import one_in

import neoteny
from neoteny.runners import continual_rl, evaluate
from neoteny.runners.experiments import parse
from neoteny.runners.measures import evaluate_visit
from neoteny.runners.runs import video
from neoteny.runners.runs.recorder import Recorder

SEQUENCE = """
tasks:
  - {env: CartPole-v1, steps: 256, backend: gymnasium}
  - {env: MiniGrid-Empty-5x5-v0, steps: 256}
"""
CARTPOLE = """
tasks:
  - {env: CartPole-v1, steps: 256}
  - {env: CartPole-v1, steps: 256, shifts: [{shift: scale-reward, factor: 10}]}
"""
MINIGRID = """
tasks:
  - {env: MiniGrid-Empty-5x5-v0, steps: 256}
  - {env: MiniGrid-DoorKey-6x6-v0, steps: 256}
"""
SMALL = "--num-envs 4 --agent.n_steps 16 --agent.batch_size 32 --agent.network.hidden [16]".split()


def trained(tmp_path: Path, sequence: str, *more: str, code: int = 0) -> Path:
    (tmp_path / "tiny.yaml").write_text(sequence)
    argv = ["--env", str(tmp_path / "tiny.yaml"), *SMALL, "--out", str(tmp_path / "runs"), *more]
    assert continual_rl.main(argv) == code
    return parse(argv, "")[0].folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("cartpole"), CARTPOLE, "--keep-agents")


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def files(folder: Path) -> dict[Path, bytes]:
    found = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {path: data for path, data in found.items() if not path.name.startswith("evaluation-")}


def test_a_table_and_a_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(folder)
    assert evaluate.main([str(folder), "--episodes", "6"]) == 0
    printed = capsys.readouterr().out
    assert "agent last, after 512 steps" in printed
    first, second = found = rows(folder / "evaluation-last.csv")
    assert [(row["step"], row["task"], row["games"], row["deterministic"]) for row in found] == [
        ("512", "1", "6", "False"),
        ("512", "2", "6", "False"),
    ]
    assert float(second["return"]) == pytest.approx(10 * float(second["score"]))
    assert float(first["return"]) == float(first["score"])
    assert f"{float(first['return']):.3f}" in printed
    assert f"{float(second['score']):.3f}" in printed
    assert files(folder) == before


def test_one_task_of_a_kept_agent(folder: Path) -> None:
    assert evaluate.main([str(folder), "--task", "2", "--agent", "task-1", "--deterministic", "--episodes", "3"]) == 0
    (row,) = rows(folder / "evaluation-task-0001.csv")
    assert (row["step"], row["task"], row["games"], row["deterministic"]) == ("256", "2", "3", "True")
    found = neoteny.evaluate(neoteny.load_run(folder, task=1), [2], 3, deterministic=True)
    assert row["return"] == str(found[0]["return"])


@pytest.mark.full
def test_while_the_run_still_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two of its checkpoints; it goes on as if nothing had been."""
    codes: list[int] = []
    original = Recorder._on_rollout_end

    def end(self: Recorder) -> None:
        original(self)
        if self.num_timesteps == 320:
            argv = [str(self.experiment.folder), "--episodes", "2", "--task", "1-2"]
            codes.append(evaluate.main(argv))

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "_on_rollout_end", end)
        folder = trained(tmp_path, CARTPOLE)
    assert codes == [0]
    assert {row["step"] for row in rows(folder / "evaluation-last.csv")} == {"256"}
    undisturbed = trained(tmp_path, CARTPOLE, "--out", str(tmp_path / "others"))
    for name in ("tasks.csv", "progress.csv"):
        ours, theirs = (
            [{k: v for k, v in row.items() if "second" not in k} for row in rows(each / name)]
            for each in (folder, undisturbed)
        )
        assert ours == theirs


def test_where_no_task_is_done_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def stop(self: Recorder) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "_on_rollout_end", stop)
        folder = trained(tmp_path, CARTPOLE, code=130)
    assert evaluate.main([str(folder)]) == 2
    assert "no checkpoint yet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--task", "3"], "task: 3 is not in this run; it has the tasks 1 to 2"),
        (["--task", "0"], "task: 0 is not in this run"),
        (["--task", "x"], "--task: invalid list of numbers value: 'x'"),
        (["--agent", "first"], "--agent: invalid agent value: 'first'"),
        (["--agent", "task-3"], "the agent after task 3 is not kept; those after tasks 1, 2 are"),
        (["--episodes", "0"], "episodes: at least 1 is needed, got 0"),
        (["--device", "toaster"], "--device: 'toaster' is not there; this machine has cpu"),
        (["--render", "nowhere/film.mp4"], "--render: nowhere/film.mp4 cannot be written: there is no folder"),
        (["--render", "film.xyz"], "--render: film.xyz cannot be written"),
        (["--deterministic", "--stochastic"], "not allowed with"),
    ],
)
def test_what_is_refused(
    folder: Path,
    options: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        code: object = evaluate.main([str(folder), *options])
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert "Traceback" not in printed.err
    assert not list(tmp_path.glob("film*"))


def test_a_folder_that_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate.main([str(tmp_path)]) == 2
    assert "is not the folder of a run" in capsys.readouterr().err


@pytest.mark.parametrize("name", one_in(2, ["film.mp4", "film.gif"]))
def test_a_video_of_a_game_in_each_task(tmp_path: Path, name: str) -> None:
    """In frames as large as the largest task's; as many as the games have steps, and one more each."""
    folder = trained(tmp_path, MINIGRID)
    file = tmp_path / name
    assert evaluate.main([str(folder), "--episodes", "1", "--render", str(file)]) == 0
    frames = [np.asarray(frame)[..., :3] for frame in imageio.mimread(file, memtest=False)]
    run = neoteny.load_run(folder)
    env = run.experiment.make_env(1, "rgb_array")
    seen: list[np.ndarray] = []
    steps = 0
    for visit in env.vector.sequence.visits:
        found = evaluate_visit(run.agent, env, visit, 1, watch=lambda: seen.append(env.vector.render()[0]))
        steps += found["steps"] + 1
    assert len(seen) == steps
    if name.endswith(".mp4"):  # a GIF leaves out frames that are equal
        assert len(frames) == pytest.approx(steps, abs=1)
    assert frames[0].shape == (192, 192, 3)
    assert (
        np.abs(frames[0][16:-16, 16:-16].astype(float) - video.framed(seen[0], (192, 192))[16:-16, 16:-16]).mean() < 12
    )


def test_a_frame_in_a_larger_one() -> None:
    frame = video.framed(np.full((10, 20, 3), 7, np.uint8), (48, 32))
    assert frame.shape == (48, 32, 3)
    assert frame.sum() == 7 * 10 * 20 * 3
    assert (frame[19:29, 6:26] == 7).all()


def test_what_cannot_be_rendered_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is evaluated."""
    folder = trained(tmp_path, CARTPOLE.replace("CartPole-v1, ", "CartPole-v1, backend: envpool, "))
    assert evaluate.main([str(folder), "--render", str(tmp_path / "film.gif")]) == 2
    assert "EnvPool does not render" in capsys.readouterr().err
    assert not (folder / "evaluation-last.csv").exists()
