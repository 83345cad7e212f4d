"""What a run shows: nothing is cut on a narrow terminal, and something every minute where there is none."""

import io
from typing import Any

import pytest
from rich.console import Console

from neoteny.runners.runs import display
from neoteny.runners.runs.display import Display, summary

LABEL = "MiniGrid-DoorKey-5x5-v0 permuted #3"


def row(task: int, **more: str) -> dict[str, str]:
    numbers = {"return_mean": "0.125", "return_final": "0.25", "score_mean": "11.5", "score_final": "123.25"}
    measured = {"success_mean": "0.4", "success_final": "0.6", "spectral_norm_max": "12.75"}
    place = {"task": str(task), "name": f"{LABEL}{task}", "steps": "100352", "episodes": "1234", "headline": "success"}
    return place | numbers | measured | more


@pytest.mark.parametrize("width", [80, 100, 120, 160])
def test_the_summary_is_not_cut(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(display, "Console", lambda width_=None, **_: Console(width=width))
    summary([row(0), row(1)], "runs/x", {})
    shown = capsys.readouterr().out
    table, _, left_out = shown.partition("Left out:")
    assert max(map(len, table.splitlines())) <= width
    assert "…" not in table
    assert all(text in table for text in ("0.400", "0.600", "0.125", "12.750", "#31"))  # the headline and the return
    numbers = {"episodes": "1,234", "steps": "100,352", "score (end)": "123.250"}
    for name, number in numbers.items():
        assert (number in table) != (name in left_out)
    assert bool(left_out) == (width < 120)


@pytest.mark.parametrize(
    ("last", "said"),
    [
        ({"reg/all/resets": "0.0", "reg/all/dormant": "0.0"}, "Never acted:   no resets in this run\n"),
        ({"reg/actor/redo.resets": "0.0", "reg/critic/redo.resets": "3.0"}, "Never acted:   no actor/redo.resets in"),
        ({"reg/all/resets": "3.0"}, ""),
        ({"reg/all/resets": ""}, ""),
        ({"resets": "0.0", "reg/all/penalty": "0.0"}, ""),
        (None, ""),
    ],
)
def test_a_method_that_never_acted_is_named(
    last: dict[str, str] | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    summary([row(0)], "runs/x", {}, [row(0) | {"reg/all/resets": "0.0"}, row(0) | last] if last else [])
    found = capsys.readouterr().out
    assert said in found
    assert ("Never acted" in found) == bool(said)


def test_a_mean_over_what_ended_is_marked_and_explained(capsys: pytest.CaptureFixture[str]) -> None:
    unknown = {"return_mean": "nan", "return_final": "nan", "return_of_ended": "0.625", "note": "all are cut"}
    summary([row(0), row(1, **unknown), row(2, **unknown | {"return_of_ended": "nan"})], "runs/x", {})
    table, _, below = capsys.readouterr().out.partition("└")
    assert table.count("0.625*") == 1
    assert table.count("*") == 1
    assert "—" in table
    assert "* over the episodes that ended" in below
    assert "Task 2: all are cut; see reward rate" in below


@pytest.mark.parametrize("width", [80, 160])
def test_the_live_line_shows_speed_time_left_and_the_headline(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    written = Console(file=io.StringIO(), width=width, force_terminal=True)
    monkeypatch.setattr(display, "Console", lambda **_: written)
    live = Display(1_200_000, 0, 12, "reward_rate")
    live.task(3, LABEL)
    live.update(345_600, 0.125)
    plain = Console(width=width, file=io.StringIO())
    plain.print(live.progress.get_renderable())
    (line,) = plain.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert all(text in line for text in ("task 4/12", "steps/s", "left", "reward rate 0.125"))
    assert ("345,600/1,200,000" if width == 160 else "29 %") in line


def test_without_a_terminal_there_is_a_line_a_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: now[0])
    quiet: Any = Display(1_000_000, 100_000, 5)
    quiet.task(1, LABEL)
    for now[0] in range(0, 181, 10):
        quiet.update(100_000 + int(now[0]) * 1000, 0.5 if now[0] < 100 else None)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        f"task 2/5 {LABEL}: step 160,000 of 1,000,000, 1,000 steps/s, 0:14:00 left, return 0.500",
        f"task 2/5 {LABEL}: step 220,000 of 1,000,000, 1,000 steps/s, 0:13:00 left",
        f"task 2/5 {LABEL}: step 280,000 of 1,000,000, 1,000 steps/s, 0:12:00 left",
    ]


def test_what_a_kill_would_cost_is_said_once_the_speed_is_known(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: now[0])
    quiet: Any = Display(1_000_000, 100_000, 5, segment=200_000)
    quiet.task(1, LABEL)
    for now[0] in range(0, 51, 10):
        quiet.update(100_000 + int(now[0]) * 500)
    assert capsys.readouterr().err.splitlines() == [
        "Stopped or killed, at most 200,000 steps, 0:06:40 would be learned again; --segment-steps changes that"
    ]
