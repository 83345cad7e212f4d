"""What runs leave for TensorBoard: read from their event files, by TensorBoard's own reader."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2

from neoteny.runners import continual_rl
from neoteny.runners.dashboards import layout
from neoteny.runners.experiments import parse
from neoteny.runners.runs.recorder import Recorder

CARTPOLE = """
tasks:
  - {env: CartPole-v1, steps: 1536}
  - {env: CartPole-v1, steps: 1536, shifts: [{shift: dynamics, set: {length: 1.0}}]}
cycles: 2
"""
PENDULUM = """
tasks:
  - {env: Pendulum-v1, steps: 1024}
  - {env: Pendulum-v1, steps: 1024, shifts: [{shift: dynamics, set: {g: 5.0}}]}
"""
SMALL = "--num-envs 4 --agent.network.hidden [8]".split()
REPLAY = "--agent.learning_starts 100 --agent.gradient_steps 1 --agent.train_freq 8".split()
QUANTILES = """
import sb3_contrib
from neoteny import Continual

class Quantiles(Continual, sb3_contrib.QRDQN):
    pass
"""
CASES = {
    "ppo": (CARTPOLE, "--agent.n_steps 32 --reg spectral --segment-steps 640".split()),
    "dqn": (CARTPOLE, ["--agent", "dqn", "--probe", "on", *REPLAY]),
    "sac": (PENDULUM, ["--agent", "sac", *REPLAY]),
    "recurrent-ppo": (CARTPOLE, "--agent recurrent-ppo --agent.n_steps 32 --agent.network.lstm_hidden_size 8".split()),
    "a user's": (CARTPOLE, ["--agent", "my_quantiles:Quantiles", *REPLAY]),
}


class Killed(BaseException):
    """Stands for the process dying: nothing may catch it."""


def command(tmp: Path, case: str, out: str, *more: str) -> tuple[list[str], Path]:
    sequence, options = CASES[case]
    (tmp / "tiny.yaml").write_text(sequence)
    argv = ["--env", str(tmp / "tiny.yaml"), *SMALL, *options, "--out", str(tmp / out), *more]
    return argv, parse(argv)[0].folder


def read(folder: Path) -> EventAccumulator:
    """All that is in a folder's event files."""
    return EventAccumulator(str(folder), size_guidance=dict.fromkeys(("scalars", "images", "tensors"), 0)).Reload()


def text(events: EventAccumulator, tag: str) -> str:
    return str(events.Tensors(f"{tag}/text_summary")[-1].tensor_proto.string_val[0].decode())


def page(events: EventAccumulator) -> dict[str, dict[str, list[str]]]:
    """The regular expressions of the last page of custom scalars, by category and chart."""
    found = layout_pb2.Layout.FromString(events.Tensors("custom_scalars__config__")[-1].tensor_proto.string_val[0])
    return {c.title: {chart.title: list(chart.multiline.tag) for chart in c.chart} for c in found.category}


def content(events: EventAccumulator, tag: str) -> Any:
    """What the HParams plugin finds at a tag."""
    raw = events.SummaryMetadata(f"_hparams_/{tag}").plugin_data.content
    return getattr(plugin_data_pb2.HParamsPluginData.FromString(raw), tag)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of each agent."""
    tmp = tmp_path_factory.mktemp("runs")
    (tmp / "my_quantiles.py").write_text(QUANTILES)
    folders = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp)
        patch.syspath_prepend(str(tmp))
        for case in CASES:
            argv, folders[case] = command(
                tmp, case, case, *(() if case == "ppo" else ("--num-tasks", "2", "--steps-per-task", "1024"))
            )
            assert continual_rl.main(argv) == 0
    return folders


@pytest.mark.parametrize("case", CASES)
def test_every_chart_has_data_and_all_data_is_in_its_chart(runs: dict[str, Path], case: str) -> None:
    events = read(runs[case])
    tags, charts = events.Tags()["scalars"], page(events)
    for category, titles in charts.items():
        assert titles, category
        for title, patterns in titles.items():
            assert any(re.match(pattern, tag) for pattern in patterns for tag in tags), title
    shown = {title for titles in charts.values() for title in titles}
    assert shown == {title for tag in tags for title in layout.charts_of(tag)}
    assert next(iter(charts)) == "1 · Does it learn each task?"
    networks = {
        name
        for name in ("actor", "critic")
        if f"2 · Can the {name} still learn?" in charts or f"3 · Can the {name} still learn?" in charts
    }
    assert networks == ({"critic"} if case in ("dqn", "a user's") else {"actor", "critic"})


@pytest.mark.sampled(3)
@pytest.mark.parametrize("case", CASES)
def test_numbers_of_layers_are_those_of_the_tables(runs: dict[str, Path], case: str) -> None:
    """The same values at the same steps; the worst of a network's layers; and what numpy makes of the checkpoint."""
    events = read(runs[case])
    with (runs[case] / "progress.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    layers = {key.partition("/")[2] for key in rows[0] | rows[-1] if key.startswith("spectral_norm/")}
    tags = [tag for tag in events.Tags()["scalars"] if "_layers/spectral_norm/" in tag]
    assert {tag.partition("/spectral_norm/")[2] for tag in tags} == layers
    for tag in tags:
        column = tag.partition("_layers/")[2]
        written = {int(row["step"]): np.float32(row[column]) for row in rows if row[column]}
        assert {event.step: np.float32(event.value) for event in events.Scalars(tag)} == written
    for network in {tag.partition("_")[0] for tag in tags}:
        worst = max(events.Scalars(tag)[-1].value for tag in tags if tag.startswith(network))
        assert events.Scalars(f"{network}/spectral_norm_max")[-1].value == worst
    agent = max((runs[case] / "checkpoints").glob("*.safetensors"))
    for tag in events.Tags()["histograms"]:
        group, _, layer = tag.split("/", 2)
        assert group == "singular_values"
        weights = [value for name, value in load_file(agent).items() if name.endswith(f"{layer}.weight")]
        histogram = events.Histograms(tag)[-1].histogram_value
        if weights and weights[0].ndim == 2:
            values = np.linalg.svd(weights[0].numpy(), compute_uv=False)
            assert histogram.num == len(values)
            assert histogram.max == pytest.approx(values[0], rel=1e-4)
            assert histogram.sum == pytest.approx(values.sum(), rel=1e-4)


def test_each_visit_has_a_line_of_its_own(runs: dict[str, Path]) -> None:
    """Also where a task comes again; and every value is of that visit's steps."""
    events = read(runs["ppo"])
    lines = sorted(tag for tag in events.Tags()["scalars"] if tag.startswith("return/"))
    names = ["CartPole-v1", "CartPole-v1 length 1"] * 2
    assert lines == [f"return/{number:02d} {name}" for number, name in enumerate(names, 1)]
    for visit, tag in enumerate(lines):
        assert all(visit * 1536 < event.step <= (visit + 1) * 1536 for event in events.Scalars(tag))


def test_settings_and_results_in_one_row(runs: dict[str, Path]) -> None:
    events = read(runs["ppo"])
    settings = content(events, "session_start_info").hparams
    assert settings["method"].string_value == "spectral"
    assert settings["strength"].string_value == "0.001"
    assert settings["seed"].number_value == 0
    experiment = content(events, "experiment")
    assert {info.name for info in experiment.hparam_infos} == set(settings)
    scalars = set(events.Tags()["scalars"])
    assert {info.name.tag for info in experiment.metric_infos} <= scalars
    with (runs["ppo"] / "tasks.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    means = [float(row["return_mean"]) for row in rows]
    assert events.Scalars("overall/return_mean")[-1].value == pytest.approx(np.nanmean(means))
    assert events.Scalars("overall/spectral_norm_max")[-1].value == pytest.approx(float(rows[-1]["spectral_norm_max"]))
    assert content(events, "session_end_info").status == 1


def test_answers_and_picture_at_the_end(runs: dict[str, Path]) -> None:
    events = read(runs["ppo"])
    (picture,) = events.Images("answers/0 the run so far")
    assert picture.step == 6144
    assert picture.encoded_image_string.startswith(b"\x89PNG")
    answer = text(events, "answers/1 which tasks were learned")
    assert answer.count("\n| ") == 5  # with the titles
    assert "| 4 CartPole-v1 length 1 |" in answer
    assert "the largest singular value" in text(events, "answers/2 since when its networks drift, and which")
    assert "method: spectral" in text(events, "config")


def points(events: EventAccumulator) -> dict[str, list[tuple[int, Any]]]:
    """What is shown of a run, without what tells the time."""
    tags = events.Tags()
    scalars = {
        t: [(e.step, e.value) for e in events.Scalars(t)]
        for t in tags["scalars"]
        if "second" not in t and not t.startswith("time")
    }
    pictures = {t: [(e.step, e.encoded_image_string) for e in events.Images(t)] for t in tags["images"]}
    spectra = {t: [(e.step, e.histogram_value) for e in events.Histograms(t)] for t in tags["histograms"]}
    texts = {
        t: [(e.step, e.tensor_proto.string_val) for e in events.Tensors(t)]
        for t in tags["tensors"]
        if t.startswith("answers")
    }
    return scalars | pictures | spectra | texts


@pytest.mark.full
def test_a_run_that_was_killed_shows_the_same(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each point once, the last page of custom scalars, one row of settings, one text of them."""
    argv, folder = command(tmp_path, "ppo", "ppo")
    original = Recorder._on_rollout_end
    for step in (1200, 2700):  # rows are written at 1024 and 2560, checkpoints at 640 and 2176

        def end(self: Recorder, step: int = step) -> None:
            original(self)
            if self.num_timesteps >= step:
                raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(Recorder, "_on_rollout_end", end)
            with pytest.raises(Killed):
                continual_rl.main(argv)
    assert continual_rl.main(argv) == 0
    whole, resumed = read(runs["ppo"]), read(folder)
    wanted, found = points(whole), points(resumed)
    assert {tag for tag in wanted.keys() | found.keys() if found.get(tag) != wanted.get(tag)} == set()
    assert page(resumed) == page(whole)
    assert len(resumed.Tensors("config/text_summary")) == 1
    assert content(resumed, "session_start_info").hparams == content(whole, "session_start_info").hparams


def test_a_run_that_goes_on_keeps_its_charts(tmp_path: Path) -> None:
    """Also those that it has no more numbers for."""
    argv, folder = command(tmp_path, "ppo", "longer", "--num-tasks", "1")
    assert continual_rl.main(argv) == 0
    before = page(read(folder))
    more = "--num-tasks 2 --instruments policy --evaluate-all --evaluate-episodes 1".split()
    assert continual_rl.main([*argv, *more]) == 0
    after = page(read(folder))
    assert all(after[category] == charts for category, charts in before.items())
    assert "5 · What has it kept of the tasks before?" in after.keys() - before.keys()


def test_a_run_without_instruments_has_what_there_is(tmp_path: Path) -> None:
    argv, folder = command(tmp_path, "ppo", "none", "--instruments", "none", "--num-tasks", "1", "--probe", "off")
    assert continual_rl.main(argv) == 0
    events = read(folder)
    assert [*page(events)] == ["1 · Does it learn each task?"]
    assert text(events, "answers/2 since when its networks drift, and which") == "Nothing was measured of the networks."
    assert not events.Tags()["histograms"]
    assert events.Images("answers/0 the run so far")


def test_spectra_that_are_not_finite_are_left_out(runs: dict[str, Path]) -> None:
    from stable_baselines3.common.logger import Logger

    from neoteny.runners.dashboards import record_look

    class Agent:
        policy = torch.nn.Module()

        def role(self, name: str) -> str:
            return "actor"

    logger = Logger(None, [])
    record_look(logger, Agent(), {"dormant/a": 0.5}, {"a": torch.ones(2), "b": torch.tensor([1.0, torch.inf])})  # type: ignore[arg-type]
    assert "singular_values/actor/a" in logger.name_to_value
    assert "singular_values/actor/b" not in logger.name_to_value
    assert logger.name_to_value["actor_layers/dormant/a"] == logger.name_to_value["actor/dormant_max"] == 0.5
