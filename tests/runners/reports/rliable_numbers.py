"""What rliable says of random scores, in rliable_numbers.json.

`make rliable` runs this in an environment of its own: rliable's arch cannot be imported with pandas 3.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_suffix(".json")
DRAWS = 1000
THRESHOLDS = np.linspace(-1.5, 2.5, 9)

#: By name: the seed of the scores, (runs of X, runs of Y, tasks), and what is done with normal ones.
CASES = {
    "normal": (0, (10, 10, 12), lambda z: z),
    "few": (1, (2, 3, 1), lambda z: z),
    "unequal": (2, (5, 8, 6), lambda z: z),
    "ties": (3, (7, 7, 4), np.round),
    "skewed": (4, (6, 4, 20), np.exp),
    "one task": (5, (9, 9, 1), lambda z: z),
}


def scores(case):
    """X and Y of a case, (runs, tasks) each. Y is a little better."""
    seed, (runs, others, tasks), change = CASES[case]
    rng = np.random.default_rng(seed)
    return change(rng.normal(size=(runs, tasks))), change(rng.normal(0.3, 1, size=(others, tasks)))


def feed(*sides):
    """Have rliable draw what Neoteny draws with seed 0: of each side task by task, from a generator of its own."""
    generators = [np.random.default_rng(0)] if len(sides) == 1 else np.random.default_rng(0).spawn(len(sides))
    samples = []
    for (runs, tasks), rng in zip((side.shape for side in sides), generators, strict=True):
        samples.append(np.stack([rng.integers(0, runs, (DRAWS, runs)) for _ in range(tasks)], -1))
    waiting = (side[draw] for draw in range(DRAWS) for side in samples)
    np.random.choice = lambda runs, shape, replace: next(waiting)


def main():
    from rliable import library, metrics

    found = {"by": f"rliable {version('rliable')}, numpy {np.__version__}; make rliable"}
    for case in CASES:
        x, y = scores(case)
        feed(x)
        iqm = library.get_interval_estimates({"x": x}, lambda s: np.array([metrics.aggregate_iqm(s)]), reps=DRAWS)
        feed(x, y)
        better = library.get_interval_estimates(
            {"x": [x, y]}, lambda *pair: np.array([metrics.probability_of_improvement(*pair)]), reps=DRAWS
        )
        feed(x)
        profile = library.create_performance_profile({"x": x}, THRESHOLDS, reps=DRAWS)
        found[case] = {
            name: np.vstack([value["x"][None], ends["x"]]).tolist()
            for name, (value, ends) in {"iqm": iqm, "improvement": better, "profile": profile}.items()
        }
    lines = (f"{json.dumps(name)}: {json.dumps(value)}" for name, value in found.items())
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    sys.exit(main())
