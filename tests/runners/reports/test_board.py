"""The comparison in TensorBoard: answers, pictures and curves of all seeds, made anew each time."""

from __future__ import annotations

import csv
from pathlib import Path

from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

from neoteny.runners.reports import compare


def write(env: Path, method: str, seed: int, means: list[float]) -> None:
    """The tables of a run with these mean returns of its tasks."""
    folder = env / method / f"seed-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "tasks.csv").open("w", newline="") as lines:
        names = ["step", "task", "name", "steps", "headline", "episodes", "return_mean", "return_begin", "return_final"]
        writer = csv.DictWriter(lines, names)
        writer.writeheader()
        for i, mean in enumerate(means):
            values = [100 * (i + 1), i, f"task, {i}", 100, "return", 9, mean, mean - 1, mean + 1]
            writer.writerow(dict(zip(names, values, strict=True)))


def read(board: Path) -> EventMultiplexer:
    return EventMultiplexer().AddRunsFromDirectory(str(board)).Reload()


def test_methods_are_compared_over_seeds(tmp_path: Path) -> None:
    """Three seeds of one method that is always better, one seed of another, one of a run that was killed at once."""
    env = tmp_path / "env,ü"
    for seed in range(3):
        write(env, "ppo-spectral", seed, [10 + seed, 20 + seed])
    write(env, "ppo-none", 0, [1, 2])
    write(env, "ppo-none", 1, [])
    assert compare(env) == env / "comparison"
    events = read(env / "comparison")
    assert set(events.Runs()) == {".", "spectral", "none"}
    points = {name: events.Scalars("spectral", f"over_seeds/{name}") for name in ("low", "mean", "high")}
    assert [point.step for point in points["mean"]] == [100, 200]
    assert [point.value for point in points["mean"]] == [11, 21]
    assert points["low"][0].value < 11 < points["high"][0].value
    assert events.Runs()["none"]["scalars"] == ["over_seeds/mean"]  # of one seed there is no interval
    texts = {
        tag: str(events.Tensors(".", tag)[0].tensor_proto.string_val[0].decode(errors="replace"))
        for tag in events.Runs()["."]["tensors"]
    }
    best = texts["all seeds/2 Which method is best, and how sure is that?/text_summary"]
    assert "“spectral” is ahead, but with one run of a method nothing says how sure that is" in best
    pictures = events.Runs()["."]["images"]
    assert "all seeds/3 Which method is better" in pictures
    assert "over_seeds" in texts["custom_scalars__config__"]


def test_it_is_made_anew(tmp_path: Path) -> None:
    for mean in (1.0, 5.0):
        for method in ("ppo-none", "ppo-l2"):
            write(tmp_path, method, 0, [mean])
        compare(tmp_path)
    events = read(tmp_path / "comparison")
    assert [point.value for point in events.Scalars("none", "over_seeds/mean")] == [5.0]
    assert len(list((tmp_path / "comparison").rglob("events.out.tfevents.*"))) == 3


def test_where_no_task_is_finished(tmp_path: Path) -> None:
    assert compare(tmp_path) is None
    write(tmp_path, "ppo-none", 0, [])
    assert compare(tmp_path) is None
    assert not (tmp_path / "comparison").exists()
