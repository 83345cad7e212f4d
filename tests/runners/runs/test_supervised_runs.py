"""Runs of networks that learn from examples: their files, and going on to the same numbers."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from thinning import some
from torch import nn

from neoteny.agents.supervised import Examples, Learner
from neoteny.agents.supervised.learner import Seen
from neoteny.envs.supervised.sources import _load
from neoteny.plasticity import ShrinkAndPerturb
from neoteny.runners import continual_supervised, doctor
from neoteny.runners.experiments import parse
from neoteny.runners.experiments.supervised import SUPERVISED
from neoteny.runners.runs.examples import ExamplesRecorder

SMALL = "--data.samples 64 --num-tasks 3 --epochs 6 --segment-steps 150".split()
NETS = {
    "mlp": ["--net", "mlp", "--net.hidden", "[16]"],
    "cnn": ["--net", "cnn", "--net.channels", "[4]", "--net.hidden", "[8]", "--net.layer_norm", "true"],
    "resnet18": ["--net", "resnet18", "--net.width", "4"],
    "vit": "--net vit --net.width 8 --net.depth 1 --net.heads 2 --net.feedforward 8 --net.dropout 0.2".split(),
}


class Killed(BaseException):
    """Stands for the process dying: nothing may catch it."""


def rows(folder: Path, file: str) -> list[dict[str, str]]:
    with (folder / file).open(newline="") as lines:
        return [{k: v for k, v in row.items() if "second" not in k} for row in csv.DictReader(lines)]


def command(out: Path, *more: str) -> tuple[list[str], Path]:
    argv = [*SMALL, "--out", str(out), *more]
    return argv, parse(argv, program=SUPERVISED)[0].folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(max((folder / "checkpoints").glob("*.safetensors")))
    return found


def same(one: Path, other: Path) -> bool:
    """Whether two runs have the same tables, but for the time that they took, and the same network."""
    mine, theirs = weights(one), weights(other)
    return all(rows(one, name) == rows(other, name) for name in ("tasks.csv", "progress.csv")) and all(
        torch.equal(mine[key], theirs[key]) for key in mine.keys() | theirs.keys()
    )


CASES = {
    "mlp": (*NETS["mlp"], "--reg", "spectral+redo", "--reg.methods.redo.every", "5"),
    "mlp, fresh": (*NETS["mlp"], "--fresh"),
    "mlp, shrink-and-perturb": (*NETS["mlp"], "--reg", "shrink-and-perturb"),
    "mlp, plasticity injection": (*NETS["mlp"], "--reg", "plasticity-injection"),
    "mlp, trac": (*NETS["mlp"], "--reg", "trac+l2-init"),
    "cnn, permuted pixels": (*NETS["cnn"], "--change", "permuted-pixels", "--reg", "l2"),
    "cnn, classes": (*NETS["cnn"], "--change", "class-incremental", "--reg", "parseval"),
    "resnet18": (*NETS["resnet18"], "--reg", "spectral", "--num-tasks", "2", "--epochs", "3"),
    "vit": (*NETS["vit"], "--reg", "spectral"),
    "mlp, teachers": (*NETS["mlp"], "--change", "random-teachers", "--reg", "wasserstein"),
}


@pytest.mark.parametrize("options", some({k: (v,) for k, v in CASES.items()}, "mlp", "vit"))
def test_killed_and_resumed(options: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    argv, whole = command(tmp_path / "whole", *options)
    assert continual_supervised.main(argv) == 0
    argv, resumed = command(tmp_path / "resumed", *options)
    original = ExamplesRecorder.end_pass
    for kill in (2, 5):  # segments of two passes: in the second of the first task, in the third
        with monkeypatch.context() as patch:
            count = 0

            def end(self: ExamplesRecorder, *args: object, kill: int = kill, **kwargs: object) -> None:
                nonlocal count
                original(self, *args, **kwargs)  # type: ignore[arg-type]
                count += 1
                if count == kill:
                    raise Killed

            patch.setattr(ExamplesRecorder, "end_pass", end)
            with pytest.raises(Killed):
                continual_supervised.main(argv)
    assert continual_supervised.main(argv) == 0
    assert same(whole, resumed)


def test_what_a_run_leaves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv, folder = command(tmp_path, *NETS["mlp"], "--change", "permuted-pixels", "--reg", "spectral", "--keep-agents")
    assert folder.parts[-3:] == (
        "digits,samples=64-permuted-pixels,epochs=6",
        "mlp,hidden=[16]-spectral",
        "seed-0",
    )
    assert continual_supervised.main(argv) == 0
    said = capsys.readouterr().out
    assert "permuted pixels #3" in said
    assert "σ₁" in said
    tasks = rows(folder, "tasks.csv")
    assert [row["name"] for row in tasks] == [f"permuted pixels #{number}" for number in (1, 2, 3)]
    assert [int(row["step"]) for row in tasks] == [384, 768, 1152]
    for row in tasks:
        assert row["headline"] == "accuracy"
        assert float(row["accuracy_begin"]) < float(row["accuracy_mean"]) < float(row["accuracy_final"])
        assert 0 < float(row["test_accuracy_final"]) < float(row["accuracy_final"])
        assert float(row["spectral_norm_max"]) > 0
        assert float(row["gradient_diversity_min"]) > 1
    assert sorted(path.name for path in (folder / "agents").iterdir()) == [
        f"task-000{i}.safetensors" for i in (1, 2, 3)
    ]
    events = EventAccumulator(str(folder)).Reload()
    tags = {*events.Tags()["scalars"]}
    assert {"train/accuracy", "train/loss", "network/spectral_norm_max", "reg/all/penalty", "task/index"} <= tags
    assert {"accuracy/01 permuted pixels #1", "network_layers/spectral_norm/1", "task/accuracy_mean"} <= tags
    assert doctor.main([str(tmp_path)]) == 0
    assert "finished" in capsys.readouterr().out


def test_the_same_command_again_learns_nothing_and_a_longer_one_goes_on(tmp_path: Path) -> None:
    argv, folder = command(tmp_path, *NETS["mlp"])
    assert continual_supervised.main(argv) == 0
    before = rows(folder, "tasks.csv"), (folder / "progress.csv").read_bytes()
    assert continual_supervised.main(argv) == 0
    assert (rows(folder, "tasks.csv"), (folder / "progress.csv").read_bytes()) == before
    assert continual_supervised.main([*argv, "--num-tasks", "4"]) == 0
    assert rows(folder, "tasks.csv")[:3] == before[0]
    assert len(rows(folder, "tasks.csv")) == 4
    assert continual_supervised.main([*argv, "--num-tasks", "4", "--threads", "2"]) == 2


def test_a_longer_run_is_refused_with_other_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "mine.npz", x=rng.random((40, 5)), y=np.arange(40) % 4)
    argv, folder = command(tmp_path, *NETS["mlp"], "--data", str(tmp_path / "mine.npz"), "--data.samples", "20")
    assert continual_supervised.main(argv) == 0
    before = rows(folder, "tasks.csv"), (folder / "config.yaml").read_bytes()
    np.savez(tmp_path / "mine.npz", x=rng.random((40, 5)), y=np.arange(40) % 4)
    _load.cache_clear()
    assert continual_supervised.main([*argv, "--num-tasks", "4"]) == 2
    assert "holds a run of other settings: env.examples" in capsys.readouterr().err
    assert (rows(folder, "tasks.csv"), (folder / "config.yaml").read_bytes()) == before


def test_the_order_of_examples_is_not_that_in_which_labels_were_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the run's seed that of the tasks, a pass must not go through the changed labels first."""
    orders, learn = [], Learner.learn

    def recorded(self: Learner, examples: Examples, order: torch.Tensor) -> Seen:
        orders.append(order.numpy())
        return learn(self, examples, order)

    monkeypatch.setattr(Learner, "learn", recorded)
    share = ["--data.samples", "256", "--change.share", "0.25", "--num-tasks", "3"]
    argv, _ = command(tmp_path, *NETS["mlp"], *share)
    assert continual_supervised.main(argv) == 0
    stream = parse(argv, program=SUPERVISED)[0].sequence
    assert len(orders) == 18
    for number, order in enumerate(orders):
        changed = stream.task(number // 6).y != stream.examples.y
        assert changed[order[:64]].sum() == pytest.approx(changed.sum() / 4, abs=14)  # four standard deviations


def flattening(shape: tuple[int, ...], outputs: int) -> nn.Module:
    """A network of a user's, which takes it that examples lie in memory in order."""

    class Flattening(nn.Linear):
        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            return super().forward(pictures.view(len(pictures), -1))

    return Flattening(math.prod(shape), outputs)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("net", "last"),
    [("cnn", True), ("resnet18", False), ("wide", True), ("vit", False), ("test_supervised_runs:flattening", False)],
)
def test_channels_come_last_in_memory_where_that_is_faster(
    net: str, last: bool, channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strides, learn = set(), Learner.learn

    def recorded(self: Learner, examples: Examples, order: torch.Tensor) -> Seen:
        (batch,) = examples.batches(order, len(order))
        strides.add(batch.inputs.stride())
        return learn(self, examples, order)

    monkeypatch.setattr(Learner, "learn", recorded)
    np.savez(tmp_path / "mine.npz", x=np.random.default_rng(0).random((64, channels, 8, 8)), y=np.arange(64) % 4)
    options = ["--net", "resnet18", "--net.width", "16"] if net == "wide" else NETS.get(net, ["--net", net])
    argv, _ = command(tmp_path, "--data", str(tmp_path / "mine.npz"), *options)
    assert continual_supervised.main(argv) == 0
    assert strides == {(64 * channels, 1, 8 * channels, channels) if last else (64 * channels, 64, 8, 1)}


@pytest.mark.parametrize("options", [NETS["vit"], [*NETS["mlp"], "--fresh"]], ids=["vit", "mlp, fresh"])
def test_results_do_not_depend_on_segments(options: list[str], tmp_path: Path) -> None:
    argv, whole = command(tmp_path / "whole", *options)
    _, cut = command(tmp_path / "cut", *options)
    assert continual_supervised.main([*argv, "--segment-steps", "100000"]) == 0
    assert continual_supervised.main([*argv, "--out", str(tmp_path / "cut")]) == 0
    assert rows(whole, "tasks.csv") == rows(cut, "tasks.csv")
    one, other = weights(whole), weights(cut)
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_fresh_networks_are_new_in_every_task(tmp_path: Path) -> None:
    argv, folder = command(tmp_path, *NETS["mlp"], "--fresh", "--change.recur", "1")
    assert continual_supervised.main(argv) == 0
    begins = [float(row["accuracy_begin"]) for row in rows(folder, "tasks.csv")]
    assert max(begins) < 0.35  # of labels by chance: 0.1, where one that has learned the task has more
    argv, folder = command(tmp_path, *NETS["mlp"], "--change.recur", "1")
    assert continual_supervised.main(argv) == 0
    tasks = rows(folder, "tasks.csv")
    assert {row["name"] for row in tasks} == {"random labels #1"}
    assert np.diff([float(row["accuracy_final"]) for row in tasks]).min() >= 0


@pytest.mark.parametrize(("more", "switches"), [([], 2), (["--fresh"], 0)])
def test_methods_are_told_of_switches(
    more: list[str], switches: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    monkeypatch.setattr(ShrinkAndPerturb, "on_switch", lambda self: told.append(self))
    argv, _ = command(tmp_path, *NETS["mlp"], "--reg", "shrink-and-perturb", *more)
    assert continual_supervised.main(argv) == 0
    assert len(told) == switches


def test_the_steps_to_90_percent_are_those_that_progress_shows(tmp_path: Path) -> None:
    options = "--change permuted-pixels --data.samples 1024 --num-tasks 2 --epochs 5 --net.learning_rate 3e-3".split()
    argv, folder = command(tmp_path, *options)
    assert continual_supervised.main(argv) == 0
    passes = [(int(row["step"]), float(row["train/accuracy"])) for row in rows(folder, "progress.csv")]
    assert [step for step, _ in passes] == [1024 * number for number in range(1, 11)]
    for number, row in enumerate(rows(folder, "tasks.csv")):
        begin = 5120 * number
        enough = [step - begin for step, reached in passes if begin < step <= begin + 5120 and reached >= 0.9]
        assert float(row["steps_to_90"]) == enough[0] > 1024
        assert float(row["accuracy_mean"]) == pytest.approx(
            np.mean([r for s, r in passes if begin < s <= begin + 5120])
        )
