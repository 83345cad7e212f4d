"""What tables and plots say of one seed, of many, and where a value is missing."""

import numpy as np
from matplotlib import pyplot as plt

from neoteny.runners.reports.plots import curves
from neoteny.runners.reports.tables import show


def test_one_seed_has_no_interval():
    assert show(np.array([0.348])) == "0.348"
    assert show(np.array([[0.348, 0.352]])) == "0.350"
    assert show(np.array([0.1, 0.3])) == "0.200 [0.100, 0.300]"


def test_a_mean_of_which_a_seed_has_no_value_is_not_known():
    assert show(np.array([np.nan])) == "—"
    assert show(np.array([0.5, np.nan, 0.6])) == "—"


def test_a_method_is_a_line_and_a_band_whatever_seeds_it_has():
    rng = np.random.default_rng(0)
    figure, axis = plt.subplots()
    curves(axis, {"one seed": rng.random((1, 6)), "ten": rng.random((10, 6)), "five": rng.random((5, 6))}, "return")
    assert len(axis.lines) == 3
    assert len(axis.collections) == 2  # no band of one seed
    plt.close(figure)
