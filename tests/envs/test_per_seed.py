"""Values that are written down for each seed of a run and each visit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neoteny.envs import ConfigError, ContinualVectorEnv, TaskSequence
from neoteny.envs.shifts import Table, parse_draw, parse_shift

POLES = """
tasks:
  - {env: CartPole-v1, steps: 4, shifts: [{shift: dynamics, set: {gravity: {per-seed: %s}}}]}
  - {env: CartPole-v1, steps: 4, shifts: [{shift: dynamics, set: {length: 2}}]}
num_tasks: %d
"""
NUMBERS = np.array([[1, 2, 3, 4], [10, 20, 30, 40]]) / 7


def load(tmp_path: Path, numbers: object, visits: int) -> TaskSequence:
    file = tmp_path / "poles.yaml"
    file.write_text(POLES % (numbers, visits))
    return TaskSequence.load(str(file))


def gravities(env: ContinualVectorEnv, visits: list[int]) -> list[float]:
    found = []
    for index in visits:
        env.start(index)
        assert env._backend is not None
        found.append(env._backend.parameter("gravity"))
    return found


@pytest.mark.parametrize("written", ["list", "file"])
def test_a_run_takes_the_row_of_its_seed_and_a_visit_its_column(
    written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savetxt("gravities.csv", NUMBERS, delimiter=",")
    sequence = load(tmp_path, "gravities.csv" if written == "file" else NUMBERS.tolist(), visits=4)
    for seed in (0, 1):
        env = ContinualVectorEnv(sequence, 2, seed=seed)
        assert gravities(env, [0, 2, 0]) == [NUMBERS[seed, 0], NUMBERS[seed, 2], NUMBERS[seed, 0]]
        env.reset(seed=1 - seed)  # another seed is another run
        assert gravities(env, [2]) == [NUMBERS[1 - seed, 2]]
        env.close()


def test_what_is_in_the_file_is_part_of_the_benchmark(tmp_path: Path) -> None:
    one, same, other = ([[1.0, 2.0]], [[1, 2]], [[1.0, 3.0]])
    prints = [load(tmp_path, numbers, visits=2).fingerprint() for numbers in (one, same, other)]
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize(
    ("seed", "visits", "message"),
    [
        (2, 4, "dynamics.set.gravity: there are rows for the seeds 0 to 1, the run's seed is 2"),
        (1, 5, "dynamics.set.gravity: row 1 has 4 values, visit 5 has none"),
    ],
)
def test_a_table_that_is_too_small_is_refused_before_the_run(
    seed: int, visits: int, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        ContinualVectorEnv(load(tmp_path, NUMBERS.tolist(), visits), 2, seed=seed)
    assert str(caught.value) == message


def test_one_visit_needs_one_column(tmp_path: Path) -> None:
    env = ContinualVectorEnv(load(tmp_path, [[5.0]], visits=1), 2, seed=0)
    assert gravities(env, [0]) == [5.0]
    env.close()


def test_rows_of_different_lengths_in_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "ragged.csv").write_text("1,2\n3\n")
    with pytest.raises(ConfigError, match=r"^dynamics\.set\.g: .*number of columns"):
        parse_shift({"shift": "dynamics", "set": {"g": {"per-seed": str(tmp_path / "ragged.csv")}}})


def test_it_is_the_table_that_was_written(tmp_path: Path) -> None:
    assert parse_draw({"per-seed": [[1, 2], [3]]}) == Table(((1.0, 2.0), (3.0,)))
