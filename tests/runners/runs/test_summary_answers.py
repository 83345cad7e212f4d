"""What the summary says, by its lines."""

import pytest

from neoteny.runners.runs.answers import answers, in_runs


def visit(task, begin=0.1, final=0.5, error=0.05, name=None, **more):
    row = {"task": str(task), "name": name or f"task {task}", "headline": "return", "step": str(task), **more}
    given = {"begin": begin, "begin_error": error, "final": final, "final_error": error}
    return row | {f"return_{key}": str(value) for key, value in given.items()}


def joined(lines):
    return " ".join(line.strip() for line in lines)


def test_it_says_what_was_learned_what_drifted_and_how_sure_that_is():
    rows = [visit(0, spectral_norm_max="1.2"), visit(1, final=0.1), visit(2), visit(3, spectral_norm_max="6.3")]
    assert answers(rows, [{"step": "3", "spectral_norm/action_net": "6.3"}]) == [
        "Learned:       3 of 4 tasks (1, 3-4): at its end return higher than at its",
        "               beginning",
        "No gain:       task 2 (0.1 → 0.1: +0 [-0.14, 0.14])",
        "How sure:      95 % intervals, from the episodes of this run alone: of one seed.",
        "               Over seeds: report.py",
        "Drift:         σ_max since task 4 (worse by half than at the end of task 1, or",
        "               10 % more dormant). From there to the end of task 4: σ_max 1.2 →",
        "               6.3 (actor: action_net)",
    ]


def test_tasks_that_come_again_end_lower_or_do_not():
    lines = joined(answers([visit(0, name="a"), visit(1, final=0.2, name="a"), visit(2, name="a")]))
    assert (
        "2 visits to tasks that came before: 1 end with a lower return than the first one did (task 2: 0.5 → 0.2"
        in lines
    )


@pytest.mark.parametrize("error", ["nan", ""])
def test_what_is_not_known_is_not_called_not_learned(error):
    assert joined(answers([visit(0, error=error)] * 2)) == (
        "Learned:       not known of any task: too few episodes were seen to end"
    )
    assert "Not known:     task 2: too few episodes" in joined(answers([visit(0), visit(1, error=error)]))


def test_rows_of_earlier_versions_and_none():
    assert answers([]) == []
    old = {"task": "0", "name": "a", "step": "9", "return_mean": "0.5", "return_final": "0.6", "spectral_norm_max": "2"}
    assert joined(answers([old])).startswith("Learned:       not known of any task")


def test_a_hundred_tasks_with_long_names_stay_short():
    layer = "spectral_norm/" + ".".join(["features_extractor"] * 6)
    rows = [visit(task, final=0.1 * (task % 2), name=f"{task} " + "ü" * 90) for task in range(100)]
    rows = [row | {"spectral_norm_max": str(1.0 + int(row["task"]))} for row in rows]
    lines = answers(rows, [{"step": "99", layer: "100"}])
    assert len(lines) < 20
    assert max(len(line) for line in lines if "features_extractor" not in line) <= 80
    assert "and 97 more" in joined(lines)


def test_numbers_are_shortened():
    assert in_runs([1, 2, 3, 5, 7, 8]) == "1-3, 5, 7-8"
    assert in_runs([4]) == "4"
    assert in_runs([]) == ""
