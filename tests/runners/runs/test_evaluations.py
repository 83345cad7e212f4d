"""--evaluate-all: the same training; the same matrix however often the run dies; the program's and Python's numbers."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from thinning import some

import neoteny
from neoteny.runners import continual_rl
from neoteny.runners import evaluate as program
from neoteny.runners.experiments import parse
from neoteny.runners.runs import evaluations
from neoteny.runners.runs.recorder import Recorder
from neoteny.runners.runs.tables import Table

SEQUENCE = """
tasks:
  - {env: CartPole-v1, steps: 256}
  - {env: CartPole-v1, steps: 256, shifts: [{shift: offset-observation, std: 1}]}
num_tasks: 4
"""
PENDULUM = """
tasks:
  - {env: Pendulum-v1, steps: 256}
  - {env: Pendulum-v1, steps: 256, shifts: [{shift: noise-observation, std: 1}]}
"""
SMALL = "--num-envs 4 --agent.network.hidden [16] --agent.batch_size 32 --segment-steps 160".split()
ALL = "--evaluate-all --evaluate-episodes 5".split()
REPLAY = "--agent.buffer_size 400 --agent.learning_starts 40 --agent.gradient_steps 1 --agent.train_freq 1".split()
QUANTILES = """
import sb3_contrib
from neoteny import Continual

class Quantiles(Continual, sb3_contrib.QRDQN):
    pass
"""
CASES = {
    "ppo": (SEQUENCE, "--agent.n_steps 16 --reg redo --agent.normalize.observation true".split()),
    "dqn": (SEQUENCE, ["--agent", "dqn", "--reg", "self-normalized-resets", *REPLAY]),
    "sac": (PENDULUM, ["--agent", "sac", "--agent.normalize.observation", "true", *REPLAY]),
    "recurrent-ppo": (SEQUENCE, "--agent recurrent-ppo --agent.n_steps 16 --agent.network.lstm_hidden_size 8".split()),
    "quantiles": (SEQUENCE, ["--agent", "my_quantiles:Quantiles", *REPLAY]),
    "ppo, fresh": (SEQUENCE, "--agent.n_steps 16 --fresh".split()),
}


class Killed(BaseException):
    """Stands for the process dying: nothing may catch it."""


@pytest.fixture(autouse=True)
def _module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_quantiles.py").write_text(QUANTILES)
    monkeypatch.syspath_prepend(tmp_path)


def command(tmp_path: Path, case: str, out: str, *more: str) -> tuple[list[str], Path]:
    sequence, options = CASES[case]
    (tmp_path / "tiny.yaml").write_text(sequence)
    argv = ["--env", str(tmp_path / "tiny.yaml"), *SMALL, *options, "--out", str(tmp_path / out), *more]
    return argv, parse(argv, "")[0].folder


def rows(folder: Path, file: str = "evaluations.csv") -> list[dict[str, str]]:
    with (folder / file).open(newline="") as lines:
        return [{k: v for k, v in row.items() if "second" not in k} for row in csv.DictReader(lines)]


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    *_, path = sorted((folder / "checkpoints").glob("*.safetensors"))
    return load_file(path)


@pytest.mark.parametrize("case", some([*CASES], "dqn"))
def test_training_is_the_same_without(case: str, tmp_path: Path) -> None:
    argv, plain = command(tmp_path, case, "plain")
    assert continual_rl.main(argv) == 0
    argv, evaluated = command(tmp_path, case, "evaluated", *ALL)
    assert continual_rl.main(argv) == 0
    for table in ("tasks.csv", "progress.csv"):
        assert rows(plain, table) == rows(evaluated, table)
    ours, theirs = tensors(plain), tensors(evaluated)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert not (plain / "evaluations.csv").exists()
    steps = len(rows(evaluated, "tasks.csv"))
    on = [1, 2] if case == "sac" else [1, 2, 4]  # the third visit is to the first task
    assert [(int(row["after"]), int(row["on"])) for row in rows(evaluated)] == [
        (after, task) for after in range(steps + 1) for task in on
    ]
    assert {row["games"] for row in rows(evaluated)} == {"5"}


@pytest.mark.full
@pytest.mark.parametrize("case", ["ppo", "dqn", "sac"])
def test_killed_at_any_moment(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it learns, between two evaluations, and after the last checkpoint of all."""
    argv, whole = command(tmp_path, case, "whole", *ALL)
    assert continual_rl.main(argv) == 0
    argv, resumed = command(tmp_path, case, "resumed", *ALL)
    add, end = Table.add, Recorder._on_rollout_end
    for moment in range(1, len(rows(whole)) + 1, 2):
        with monkeypatch.context() as patch:

            def dying(self: Table, row: dict[str, Any], moment: int = moment) -> None:
                add(self, row)
                if self.path.name == "evaluations.csv" and len(self.rows) == moment:
                    raise Killed

            patch.setattr(Table, "add", dying)
            with pytest.raises(Killed):
                continual_rl.main(argv)
    with monkeypatch.context() as patch:

        def stop(self: Recorder) -> None:
            end(self)
            raise Killed

        patch.setattr(Recorder, "_on_rollout_end", stop)
        try:
            continual_rl.main(argv)
        except Killed:
            assert continual_rl.main(argv) == 0
    assert continual_rl.main(argv) == 0
    assert rows(resumed) == rows(whole)
    for table in ("tasks.csv", "progress.csv"):
        assert rows(resumed, table) == rows(whole, table)


@pytest.mark.parametrize("case", some([*CASES], "ppo, fresh"))
def test_the_program_python_and_the_run_agree(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """To the digit: of the last agent, and of one that was kept."""
    argv, folder = command(tmp_path, case, "runs", *ALL, "--keep-agents")
    assert continual_rl.main(argv) == 0
    last = max(int(row["after"]) for row in rows(folder))
    for task, name in ((None, "last"), (1, "task-0001"), (last, f"task-{last:04d}")):
        agent = ["--agent", name] if task else []
        assert program.main([str(folder), "--episodes", "5", *agent]) == 0
        told = rows(folder, f"evaluation-{name}.csv")
        found = neoteny.evaluate(neoteny.load_run(folder, task), episodes=5)
        recorded = [row for row in rows(folder) if int(row["after"]) == (task or last)]
        assert len(told) == len(found) == len(recorded) > 1
        for key in ("return", "score", "success", "reward_rate", "games"):
            assert [row[key] for row in told] == [str(row[key]) for row in found] == [row[key] for row in recorded]


def test_the_new_agent_is_the_one_that_begins(tmp_path: Path) -> None:
    """Row 0 is of the weights that learning starts from: with a learning rate of next to nothing, nothing changes."""
    CASES["slow"] = (SEQUENCE, "--agent.n_steps 16 --agent.learning_rate 1e-30".split())
    argv, folder = command(tmp_path, "slow", "runs", *ALL)
    assert continual_rl.main(argv) == 0
    returns = np.array([float(row["return"]) for row in rows(folder)]).reshape(5, 3)
    assert (returns == returns[0]).all()
    assert len(set(returns[0])) == 3


@pytest.mark.full
def test_begun_late(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On a finished run: the new agent and the last one, and those that were kept; the others are said to be gone."""
    argv, folder = command(tmp_path, "ppo", "runs")
    assert continual_rl.main([*argv, "--num-tasks", "2", "--keep-agents"]) == 0
    assert continual_rl.main(argv) == 0
    before = tensors(folder)
    assert continual_rl.main([*argv, *ALL]) == 0
    after = tensors(folder)
    assert all(torch.equal(before[key], after[key]) for key in before)
    known = {int(row["after"]) for row in rows(folder) if row["return"]}
    assert known == {0, 1, 2, 4}
    assert "after task 3 nothing is evaluated: that agent was not kept" in capsys.readouterr().err
    again = (folder / "evaluations.csv").read_bytes()
    assert continual_rl.main([*argv, *ALL]) == 0
    assert (folder / "evaluations.csv").read_bytes() == again


@pytest.mark.full
def test_a_longer_run_has_the_longer_matrix(tmp_path: Path) -> None:
    """If agents are kept; otherwise of new tasks the past is not known."""
    argv, whole = command(tmp_path, "ppo", "whole", *ALL)
    assert continual_rl.main(argv) == 0
    for keep in (["--keep-agents"], []):
        argv, longer = command(tmp_path, "ppo", f"longer{len(keep)}", *ALL, *keep)
        assert continual_rl.main([*argv, "--num-tasks", "2"]) == 0
        assert continual_rl.main(argv) == 0
        key = lambda row: (int(row["after"]), int(row["on"]))  # noqa: E731
        ours, wanted = sorted(rows(longer), key=key), sorted(rows(whole), key=key)
        unknown = [key(row) for row, other in zip(ours, wanted, strict=True) if row != other]
        assert unknown == ([] if keep else [(1, 4)])


@pytest.mark.full
def test_what_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv, folder = command(tmp_path, "ppo", "runs", *ALL)
    assert continual_rl.main(argv) == 0
    printed = capsys.readouterr()
    assert "before the first task return" in printed.err
    assert "after task 4 return" in printed.err
    assert "Evaluated:     15 times in" in printed.out
    assert "backward transfer" in printed.out
    events = EventAccumulator(str(folder)).Reload()
    tags = set(events.Tags()["scalars"])
    of_tasks = sorted(tag for tag in tags if tag.startswith("evaluation/return/"))
    assert [tag.split()[0] for tag in of_tasks] == [f"evaluation/return/0{number}" for number in (1, 2, 4)]
    assert "transfer/forgetting" in tags
    assert [event.step for event in events.Scalars(of_tasks[1])] == [0, 256, 512, 768, 1024]
    assert [event.step for event in events.Images("answers/3 what was kept")] == [256, 512, 768, 1024]


@pytest.mark.full
def test_an_agent_without_a_game(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from neoteny.runners.measures import evaluation

    monkeypatch.setattr(evaluation, "LONGEST", 3)
    argv, folder = command(tmp_path, "ppo", "runs", *ALL)
    assert continual_rl.main(argv) == 0
    assert {row["return"] for row in rows(folder)} == {"nan"}
    assert "return — on average at the end" in capsys.readouterr().out
    assert program.main([str(folder), "--task", "1"]) == 0
    assert "no game has ended" in capsys.readouterr().out


@pytest.mark.full
def test_environments_of_evaluations_are_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[bool] = []
    close = evaluations.Evaluations.close

    def counted(self: evaluations.Evaluations) -> None:
        close(self)
        closed.append(self._env.vector._backend is None)

    monkeypatch.setattr(evaluations.Evaluations, "close", counted)
    argv, _ = command(tmp_path, "ppo", "runs", *ALL)
    assert continual_rl.main(argv) == 0
    assert closed == [True]
