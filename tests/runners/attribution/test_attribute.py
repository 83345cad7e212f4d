"""The program: trials that are the run's own, resumed, side by side; what it writes, says and refuses."""

from __future__ import annotations

import csv
import fcntl
import os
import sys
from pathlib import Path

import pytest
from sb3_contrib import QRDQN as StockQRDQN
from thinning import some

from neoteny.agents import Continual, NonFiniteError
from neoteny.runners import attribute, continual_rl
from neoteny.runners.attribution import find_switch, study, trials
from neoteny.runners.experiments import parse

SEQUENCE = """
tasks:
  - {env: CartPole-v1, steps: 256}
  - {env: CartPole-v1, steps: 512, shifts: [{shift: offset-observation, std: 1}]}
  - {env: CartPole-v1, steps: 256, shifts: [{shift: dynamics, set: {length: {uniform: [1, 2]}}}]}
"""
PENDULUM = "tasks:\n  - {env: Pendulum-v1, steps: 256}\n  - {env: Pendulum-v1, steps: 700}\n"
SMALL = "--num-envs 4 --agent.network.hidden [16] --agent.batch_size 32 --segment-steps 320".split()


class QRDQN(Continual, StockQRDQN):
    """Of a user's own."""


OFF_POLICY = "--agent.buffer_size 500 --agent.learning_starts 40".split()
AGENTS = {
    "ppo": "--agent.n_steps 16 --reg spectral --agent.normalize.observation true".split(),
    "dqn": ["--agent", "dqn", *OFF_POLICY, "--reg", "redo", "--reg.every", "20"],
    "sac": ["--agent", "sac", *OFF_POLICY, "--segment-steps", "4000", "--num-envs", "2", "--agent.gradient_steps", "1"],
    "qrdqn": ["--agent", "test_attribute:QRDQN", "--agent.train_freq", "4", *OFF_POLICY],
    "recurrent-ppo": "--agent recurrent-ppo --agent.n_steps 16 --agent.network.lstm_hidden_size 8".split(),
}


@pytest.fixture(scope="module")
def make_run(tmp_path_factory):
    """Runs with kept agents, each made once: the folder."""
    made: dict[tuple[str, ...], Path] = {}

    def make(agent: str, *more: str) -> Path:
        key = (agent, *more)
        if key not in made:
            folder = tmp_path_factory.mktemp("run")
            (folder / "tiny.yaml").write_text(PENDULUM if agent == "sac" else SEQUENCE)
            argv = ["--env", str(folder / "tiny.yaml"), *SMALL, *AGENTS[agent], *more, "--out", str(folder / "runs")]
            assert continual_rl.main([*argv, "--keep-agents"]) == 0
            made[key] = parse(argv, "")[0].folder
        return made[key]

    return make


@pytest.fixture
def run(make_run, tmp_path):
    """A copy of a PPO's run."""
    source, copy = make_run("ppo"), tmp_path / "run"
    copy.mkdir()
    for file in source.rglob("*"):
        if file.is_file() and "attribution" not in file.parts:
            target = copy / file.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    return copy


def table(file: Path) -> list[dict[str, str]]:
    """Its rows, without the columns that tell the time."""
    with file.open(newline="") as lines:
        return [{k: v for k, v in row.items() if "second" not in k} for row in csv.DictReader(lines)]


def contents(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file() and "attribution" not in file.parts)
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@pytest.mark.parametrize("agent", some([*AGENTS], "ppo"))
def test_nothing_is_what_the_run_did_and_everything_what_a_fresh_one_does(agent, make_run, capsys):
    run = make_run(agent)
    before = contents(run)
    assert attribute.main([str(run), "--task", "2", "--seeds", "2", "--jobs", "1", "--only", "optimizer"]) == 0
    assert contents(run) == before
    rows = table(run / "attribution/task-0002/trials.csv")
    assert [(row["intervention"], row["trial"]) for row in rows] == [
        (name, seed) for name in ("nothing", "optimizer", "everything") for seed in ("0", "1")
    ]
    columns = ("return_mean", "return_final", "episodes", "reward_rate_mean", "step", "task", "spectral_norm_max")
    of_run, of_fresh = (table(folder / "tasks.csv")[1] for folder in (run, make_run(agent, "--fresh")))
    for mine, theirs in ((rows[0], of_run), (rows[4], of_fresh)):
        assert {column: mine[column] for column in columns} == {column: theirs[column] for column in columns}
    assert rows[1]["return_mean"] != rows[0]["return_mean"]  # another seed
    assert "nothing" in capsys.readouterr().out


def test_the_whole_table(run, capsys):
    assert attribute.main([str(run), "--task", "3", "--seeds", "2", "--jobs", "1"]) == 0
    shown = capsys.readouterr()
    rows = table(run / "attribution/task-0003/attribution.csv")
    names = [row["fresh"] for row in rows]
    assert names[0] == "nothing"
    assert names[-1] == "everything"
    assert {"actor-head", "critic-head", "heads", "torsos", "optimizer", "normalization", "rescale"} < {*names}
    assert (
        "Left out: encoder (it has no encoder with weights of its own); replay (it has no replay buffer)" in shown.out
    )
    assert "12/24" in shown.err
    (mean_of,) = (column for column in rows[0] if column.endswith("_mean"))  # the reward rate, where all are cut
    trial = {
        (r["intervention"], r["trial"]): float(r[mean_of]) for r in table(run / "attribution/task-0003/trials.csv")
    }
    for row in rows:
        mean = (trial[row["fresh"], "0"] + trial[row["fresh"], "1"]) / 2
        assert float(row[mean_of]) == pytest.approx(mean, rel=1e-4)
        assert row["seeds"] == "2"
    assert (run / "attribution/task-0003/attribution.png").read_bytes().startswith(b"\x89PNG")


class Killed(BaseException):
    """Stands for the process dying: nothing may catch it."""


@pytest.mark.parametrize(
    ("ended_by", "code"), [(Killed, None), pytest.param(KeyboardInterrupt, 130, marks=pytest.mark.full)]
)
def test_stopped_and_gone_on_with_gives_the_same(run, make_run, monkeypatch, capsys, ended_by, code):
    argv = ["--task", "2", "--seeds", "2", "--jobs", "1", "--only", "heads"]
    assert attribute.main([str(make_run("ppo")), *argv[:4], "--jobs", "1", "--only", "heads", "optimizer"]) == 0
    whole = table(make_run("ppo") / "attribution/task-0002/trials.csv")
    done = []

    def until_the_third(switch, *key):
        if len(done) == 3:
            raise ended_by
        done.append(key)
        return trials.learn_after(switch, *key)

    with monkeypatch.context() as patch:
        patch.setattr(study, "learn_after", until_the_third)
        if code is None:
            with pytest.raises(ended_by):
                attribute.main([str(run), *argv])
        else:
            assert attribute.main([str(run), *argv]) == code
            assert "The same command goes on" in capsys.readouterr().err
    file = run / "attribution/task-0002/trials.csv"
    assert len(table(file)) == 3
    counted = []
    monkeypatch.setattr(study, "learn_after", lambda s, *key: counted.append(key) or trials.learn_after(s, *key))
    assert attribute.main([str(run), *argv]) == 0
    assert len(counted) == 3
    assert not {*counted} & {*done}
    assert table(file) == [row for row in whole if row["intervention"] != "optimizer"]
    assert attribute.main([str(run), *argv[:2], "--seeds", "2", "--jobs", "1", "--only", "optimizer"]) == 0
    assert len(counted) == 5  # what was there counts, and stays
    assert {tuple(row.items()) for row in table(file)} == {tuple(row.items()) for row in whole}


@pytest.mark.slow
@pytest.mark.full
@pytest.mark.parametrize("agent", ["qrdqn"])
def test_side_by_side_gives_the_same(agent, make_run, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    run = make_run(agent)
    argv = [str(run), "--task", "2", "--seeds", "2", "--only", "critic-head"]
    file = run / "attribution/task-0002/trials.csv"
    file.unlink(missing_ok=True)
    assert attribute.main([*argv, "--jobs", "1"]) == 0
    one = table(file)
    file.unlink()
    assert attribute.main([*argv, "--jobs", "2"]) == 0
    assert [row for row in one if row["intervention"] != "optimizer"] == table(file)


@pytest.mark.full
def test_the_first_task_needs_no_kept_agent(run, capsys):
    for file in (run / "agents").iterdir():
        file.unlink()
    assert attribute.main([str(run), "--task", "1", "--seeds", "2", "--jobs", "1", "--only", "heads"]) == 0
    rows = {
        (row["intervention"], row["trial"]): row["return_mean"]
        for row in table(run / "attribution/task-0001/trials.csv")
    }
    assert rows["nothing", "0"] == rows["everything", "0"] == table(run / "tasks.csv")[0]["return_mean"]
    assert "there is no gap to explain" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--task", "4"], "--task: a number from 1 to 3 is needed, got 4"),
        (["--task", "0"], "--task: a number from 1 to 3 is needed, got 0"),
        (["--task", "2", "--only", "actor-haed"], "did you mean 'actor-head'?"),
        (["--task", "2", "--only", "replay"], "replay cannot be made fresh in this agent: it has no replay buffer"),
        (["--task", "2", "--seeds", "1"], "--seeds: at least 2 is needed, got 1"),
        (["--task", "2", "--jobs", "0"], "--jobs: at least 1 is needed, got 0"),
        (["--task", "2", "--seedz", "3"], "did you mean '--seeds'?"),
        (["--task", "two"], "--task"),
        ([], "--task"),
    ],
)
def test_bad_input_is_said_and_nothing_written(run, options, said, capsys):
    with pytest.raises(SystemExit) as stop:
        sys.exit(attribute.main([str(run), *options]))
    assert stop.value.code == 2
    assert said in capsys.readouterr().err
    assert not (run / "attribution").exists()


def test_without_kept_agents_it_says_how_to_keep_them(run, tmp_path, capsys):
    for file in (run / "agents").iterdir():
        file.unlink()
    assert attribute.main([str(run), "--task", "2"]) == 2
    assert "--keep-agents" in capsys.readouterr().err
    assert attribute.main([str(tmp_path), "--task", "2"]) == 2
    assert "is not the folder of a run" in capsys.readouterr().err


@pytest.mark.full
def test_trials_of_another_agent_are_not_mixed_in(run, make_run, capsys):
    argv = [str(run), "--task", "2", "--seeds", "2", "--jobs", "1", "--only", "heads"]
    assert attribute.main(argv) == 0
    other = make_run("ppo", "--seed", "1") / "agents/task-0001.safetensors"
    (run / "agents/task-0001.safetensors").write_bytes(other.read_bytes())
    assert attribute.main(argv) == 2
    assert "holds trials of another agent; remove it" in capsys.readouterr().err


def test_one_process_at_a_time(run, capsys):
    folder = run / "attribution/task-0002"
    folder.mkdir(parents=True)
    lock = os.open(folder, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert attribute.main([str(run), "--task", "2", "--seeds", "2", "--jobs", "1"]) == 2
    os.close(lock)
    assert "another process works there" in capsys.readouterr().err


@pytest.mark.full
def test_a_trial_that_diverges_is_a_row_and_the_others_go_on(run, monkeypatch, capsys):
    original = trials.learn

    def diverge(experiment, *arguments):
        if experiment.run.fresh:
            raise NonFiniteError("weights of everything are not finite")
        return original(experiment, *arguments)

    monkeypatch.setattr(trials, "learn", diverge)
    assert attribute.main([str(run), "--task", "2", "--seeds", "2", "--jobs", "1", "--only", "heads"]) == 0
    shown = capsys.readouterr().out
    assert "everything, seed 1: diverged: weights of everything are not finite" in shown
    assert "The gap is not known" in shown


def test_seeds_of_trials(make_run):
    switch = find_switch(make_run("ppo"), 2)
    first, second = switch.segments(0), switch.segments(1)
    assert first == [each for each in switch.experiment.segments if each.visit.index == 1]
    assert {each.seed(0) for each in first}.isdisjoint(each.seed(0) for each in second)
    env = switch.make_env(1)
    assert env.vector.run_seed == switch.experiment.run.seed  # settings per seed are the run's
    assert [each for each in env.vector.segments if each.visit.index == 1] == second
