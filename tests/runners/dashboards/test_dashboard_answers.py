"""Answers and pictures of small tables, against what a person reads in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from neoteny.runners.dashboards.answers import drifts, forgotten, learned, overall
from neoteny.runners.dashboards.hparams import strengths
from neoteny.runners.dashboards.layout import CHARTS, charts_of
from neoteny.runners.dashboards.pictures import draw_matrix, draw_story


def tasks(count: int, **columns: list[Any]) -> list[dict[str, str]]:
    """Rows of tasks.csv, of 100 steps each."""
    return [
        {
            "step": str(100 * (i + 1)),
            "task": str(i),
            "name": f"maze, | {i}",
            "steps": "100",
            "headline": "return",
            "return_mean": "0.5",
            "return_final": str(i),
            **{name: str(values[i]) for name, values in columns.items()},
        }
        for i in range(count)
    ]


def progress(count: int, **columns: list[Any]) -> list[dict[str, str]]:
    """Rows of progress.csv, two for each task; columns are of the second."""
    names = {name: name.replace("__", "/") for name in columns}
    return [
        {"step": str(50 * (row + 1)), "rollout/return": "" if row % 2 else str(row)}
        | ({names[name]: str(values[row // 2]) for name, values in columns.items()} if row % 2 else {})
        for row in range(2 * count)
    ]


def test_drifts_name_network_and_task() -> None:
    text = drifts(
        tasks(3, probe_critic=[1.0, 1.1, 4.0]),
        progress(
            3, critic__spectral_norm_max=[2, 4, 5], actor__spectral_norm_max=[1, 1, 1], actor__dormant_max=[0, 0, ""]
        ),
    )
    assert text.startswith(
        "Since task 2 maze, | 1: the critic's σ_max.\n\nSince task 3 maze, | 2: the critic's probe.\n\n| network |"
    )
    assert "| critic | σ_max, the largest singular value of its layers | 2 | 4 | 5 | **since task 2** |" in text
    assert "| actor | dormant units, the share in its worst layer | 0 | 0 | – | no |" in text


def test_a_wide_table_has_the_first_and_the_last_task() -> None:
    header = drifts(tasks(100), progress(100, critic__dormant_max=[0.1] * 100)).splitlines()[2]
    columns = header.strip("| ").split(" | ")
    assert columns[2] == "task 1"
    assert columns[-2] == "task 100"
    assert len(columns) == 13


def test_which_tasks_were_learned() -> None:
    """The second is not known; the third is the first again, and ends lower than the first did."""
    rows = tasks(
        3,
        return_begin=[0, "nan", 4],
        return_begin_error=[1, "nan", 1],
        return_final=[9, "nan", 5],
        return_final_error=[1, "nan", 1],
        note=["", "no episode came to its end", ""],
    )
    rows[2]["name"] = rows[0]["name"]
    lines = learned(rows).splitlines()
    assert lines[0] == "1 of 3 tasks learned."
    assert lines[2].startswith(
        "| task | learned? | return at its beginning | return, mean | return at its end | change"
    )
    assert lines[4].startswith("| 1 maze, \\| 0 | **yes** | 0 | 0.5 | 9 | +9 [6.23, 11.8] | –")
    assert lines[5].startswith("| 2 maze, \\| 1 | **not known** | – | 0.5 | – | – | –")
    assert lines[6].startswith("| 3 maze, \\| 0 | **no, worse** | 4 | 0.5 | 5 | +1 [-1.77, 3.77] | -4 [-6.77, -1.23]")
    assert lines[-1] == "2 maze, | 1: no episode came to its end."


def test_means_are_over_tasks_that_are_known() -> None:
    rows = tasks(3, spectral_norm_max=[1, 2, 3])
    rows[1]["return_mean"] = "nan"
    rows[2]["return_mean"] = "1.5"
    assert overall(rows) == {"tasks": 3, "return_mean": 1.0, "return_final": 1.0, "spectral_norm_max": 3.0}


def test_what_was_forgotten() -> None:
    """Task a is learned, then b, then a again: what counts of a is its last visit."""
    matrix = np.array([[0.0, 0.0, 0.0], [8.0, 0.0, 0.0], [3.0, 5.0, 0.0], [9.0, 2.0, 0.0]])
    lines = forgotten(matrix, [0, 1, 0], ["a", "b", "c"], "return").splitlines()
    assert lines[0].startswith("Lost on average: 1.5.")
    assert lines[4:] == ["| a | 9 | 9 | **0** |", "| b | 5 | 2 | **3** |"]
    assert forgotten(matrix[:1], [], ["a", "b", "c"], "return") == "No task is over yet."


def test_strengths_in_words() -> None:
    spectral, none = {"method": "spectral", "strength": 1e-3, "k": 2}, {"method": "none"}
    assert strengths(none) == "none"
    assert strengths(spectral) == "0.001"
    assert strengths({"methods": [spectral, {"method": "l2", "strength": 0.1}]}) == "spectral 0.001, l2 0.1"
    assert strengths({"actor": spectral, "critic": spectral | {"strength": 0}}) == "actor 0.001, critic 0"


def test_titles_are_unique_and_patterns_apart() -> None:
    titles = [title for charts in CHARTS.values() for title in charts]
    assert len(titles) == len(set(titles))
    assert charts_of("return/01 ALE/Pong-v5") == {"Return, a line for each task"}
    assert charts_of("actor_layers/spectral_norm/a.b") == {"Actor: largest singular value of each layer"}
    assert charts_of("rollout/return") == charts_of("evaluation/return") == frozenset()


@pytest.mark.parametrize("count", [1, 5, 60])
def test_a_picture_of_any_number_of_tasks(count: int) -> None:
    full = progress(
        count, critic__spectral_norm_max=[1e6] * count, actor__dormant_max=[0] * count, policy__entropy=[-3] * count
    )
    picture = draw_story(full, tasks(count), "return", "a title")
    assert picture.shape[2] == 3
    assert len(np.unique(picture)) > 50
    empty = draw_story(progress(count), tasks(count), "success", "no number at all")
    assert empty.shape[0] < picture.shape[0]


def test_a_picture_of_a_matrix_without_numbers() -> None:
    assert draw_matrix(np.full((2, 3), np.nan), ["a", "b", "a long name, with commas and ü"], "return").shape[2] == 3
