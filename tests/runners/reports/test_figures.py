"""What figures are made of: correlations, means, verdicts, ticks, words, rows."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure as Canvas
from scipy import stats

from neoteny.runners.measures.verdicts import RULES, has_drifted
from neoteny.runners.reports import Environment, Section, drawn
from neoteny.runners.reports.correlates import spearman
from neoteny.runners.reports.drift import KINDS, network_of
from neoteny.runners.reports.environment import means
from neoteny.runners.reports.figures import Dots, Figure, Line, Numbers, Panel, Style, log_ticks
from neoteny.runners.reports.flat import read_flat
from neoteny.runners.reports.learning import verdict
from neoteny.runners.reports.sources import of_rows

NAN = math.nan


def test_rank_correlations_are_scipys() -> None:
    rng = np.random.default_rng(1)
    for ties in (3, 100):
        x = rng.integers(0, ties, 40).astype(float)
        y = x * rng.normal(size=40)
        assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    assert math.isnan(spearman(np.ones(5), np.arange(5.0)))


def test_means_of_columns_have_intervals_of_the_known_runs() -> None:
    values = np.array([[1.0, NAN, NAN], [3.0, 2.0, NAN], [5.0, NAN, NAN]])
    middle, low, high = means(values)
    assert middle[:2].tolist() == [3, 2]
    assert (low[0], high[0]) == (1, 5)
    assert np.isnan([middle[2], low[1], high[1], low[2]]).all()
    theirs = stats.bootstrap((np.arange(12.0),), np.mean, method="percentile", random_state=0).confidence_interval
    assert means(np.arange(12.0)[:, None]).at(0)[1:] == pytest.approx((theirs.low, theirs.high), abs=0.25)


@pytest.mark.parametrize(
    ("numbers", "said"),
    [((5, 4, 6, 0, 8), "learned"), ((3, 2, 4, 0, 8), "partly learned"), ((5, -1, 8, 0, 8), "not sure"),
     ((1, -1, 2, 0, 8), "not learned"), ((NAN, NAN, NAN, 0, 8), "not known"), ((5, 4, 6, NAN, 8), "not known"),
     ((5, NAN, NAN, 0, 8), "learned"), ((0, 0, 0, 0, 0), "not learned")],
)  # fmt: skip
def test_verdicts_on_tasks(numbers: tuple[float, ...], said: str) -> None:
    assert verdict(*numbers) == said


@pytest.mark.parametrize(
    ("column", "network"),
    [("spectral_norm/action_net", "actor"), ("spectral_norm/mlp_extractor.value_net.0", "critic"),
     ("spectral_norm/q_net.q_net.0", "critic"), ("spectral_norm/features_extractor.cnn.0", "encoder"),
     ("spectral_norm/actor.mu", "actor"), ("spectral_norm/critic.qf0.0", "critic"),
     ("spectral_norm/lstm_critic", "critic"), ("dormant/x", None)],
)  # fmt: skip
def test_layers_belong_to_networks(column: str, network: str | None) -> None:
    assert network_of(column, KINDS[0]) == network


def test_drift_is_in_the_direction_of_worse() -> None:
    up, down, share = RULES["spectral_norm_max"], RULES["feature_rank_min"], RULES["dormant_max"]
    assert [has_drifted(2, now, *up) for now in (2.9, 3, 1)] == [False, True, False]
    assert [has_drifted(3, now, *down) for now in (2.1, 2, 9)] == [False, True, False]
    assert [has_drifted(0.0, now, *share) for now in (0.05, 0.2)] == [False, True]
    assert {kind.worse for kind in KINDS if kind.summary in ("feature_rank_min", "policy_entropy")} == {-1}


@pytest.mark.parametrize(("low", "high"), [(1.2, 8.0), (0.3, 30.0), (1.0, 1e9), (2.0, 2.0)])
def test_ticks_are_few_plain_numbers(low: float, high: float) -> None:
    ticks = log_ticks(low, high)
    assert all(low * 0.99 <= tick <= high * 1.01 for tick in ticks)
    assert len(ticks) <= 10
    assert len(ticks) >= 2 or low == high


def test_a_figure_has_words_and_rows() -> None:
    dots = Dots(["a", "b"], Numbers.of([(1, 0.5, 1.5), (2, NAN, NAN)]), [Style()] * 2)
    panel = Panel("score", "x", "y", [Line("a", [1, 2], Numbers([3, 4])), dots])
    assert panel.words() == "score. a goes from 3 to 4; a 1 [0.5, 1.5]; b 2."
    assert [row["panel"] for row in Figure("k", "t", "h", [panel]).rows()] == ["score"] * 4


def test_empty_fields_stand_for_nan(tmp_path: Path) -> None:
    Figure("k", "t", "h", [Panel("p", "", "", [Line("a", [1], Numbers([NAN]))])]).write(tmp_path)
    with (tmp_path / "k.csv").open(newline="") as lines:
        assert [*csv.DictReader(lines)] == [{"panel": "p", "method": "a", "x": "1", "y": ""}]


def test_long_names_are_whole_in_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(drawn, "Canvas", lambda **how: made.append(Canvas(**how)) or made[0])
    names = [f"ppo-trac,learning_rate=0.0{i},network.activation=leaky-relu-0.1-spectral" for i in range(3)]
    lines = [Line(name, [1, 2], Numbers([1.0, 2.0])) for name in names]
    title = f"“{names[0]}”, 3 runs, task 7: no gap to explain"
    drawn.save(Figure("long", "Long", "how", [Panel(title, "x", "y", lines)] * 2), tmp_path, "runs")
    (canvas,) = made
    texts = [axis.title for axis in canvas.axes] + canvas.legends[0].get_texts()
    edges = [text.get_window_extent() for text in texts]
    assert all(0 <= edge.x0 < edge.x1 <= canvas.bbox.width for edge in edges)
    left, right = edges[:2]
    assert left.x1 < right.x0


def test_correlates_are_of_what_was_measured_and_wide_numbers_on_a_logarithmic_axis() -> None:
    file = Path(__file__).parents[3] / "results" / "digits-correlates" / "tasks.csv"
    (runs,) = read_flat(file).values()
    section = Section(Environment("digits", [*of_rows(runs, file.parent, trials={})]))
    (figure,) = [each for each in section.figures if each.key == "correlates"]
    assert figure.title == "What goes with the next task's accuracy"
    wide = {panel.title.partition(":")[0]: panel.log_x for panel in figure.panels}
    assert wide == {
        "largest singular value σ_max": True,
        "share of dormant units": False,
        "feature rank": False,
        "gradient diversity": False,
        "condition number": True,
    }
    (why,) = [answer for answer in section.answers if answer.key == "correlates"]
    assert "goes with the next task's accuracy: feature rank" in str(why)
