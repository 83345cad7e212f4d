"""Whether tasks were learned and networks have drifted, from rows of tasks.csv as agents of all kinds write them."""

import math

import numpy as np
import pytest

from neoteny.runners.measures.verdicts import Verdict, drift_since, drifts, measure_of, verdicts


def visit(task, name="A", begin=0.1, final=0.5, error=0.05, measure="return", **more):
    numbers = {"begin": begin, "begin_error": error, "final": final, "final_error": error}
    row = {"task": str(task), "name": name, "headline": measure, "step": str(1000 * (task + 1))}
    return row | {f"{measure}_{key}": str(value) for key, value in numbers.items()} | more


def kinds(*rows):
    return [verdict.kind for verdict in verdicts(rows)]


def test_a_return_is_judged_by_its_gain():
    found = verdicts([visit(0), visit(1, "B", final=0.11), visit(2, "C", begin=0.9), visit(3, "D", error=math.nan)])
    assert [verdict.kind for verdict in found] == ["learned", "same", "worse", "unknown"]
    half = 1.96 * math.hypot(0.05, 0.05)
    assert found[0] == Verdict(1, "learned", pytest.approx((0.1, 0.5, 0.4 - half, 0.4 + half)), None)


def test_negative_returns_and_reward_rates_are_judged_alike():
    assert kinds(visit(0, begin=-1450, final=-1228, error=30)) == ["learned"]
    assert kinds(visit(0, measure="reward_rate")) == ["learned"]


def test_success_is_judged_by_its_level():
    """From 0 to 0.3 is a gain and yet not half; from 0.9 to 0.95 is none, and more than half."""
    rows = [visit(0, begin=0.0, final=0.3), visit(1, "B", begin=0.9, final=0.95), visit(2, "C", final=0.52)]
    rows = [row | {key.replace("return", "success"): value for key, value in row.items()} for row in rows]
    assert measure_of(rows) == "success"
    assert kinds(*rows) == ["same", "learned", "unknown"]
    del rows[1]["success_final"]
    assert measure_of(rows) == "return"  # not known of all


def test_a_task_that_comes_again_is_compared_with_its_first_visit():
    first, kept, lost = visit(0), visit(1, begin=0.5, final=0.51), visit(2, begin=0.2, final=0.2)
    assert kinds(first, kept, lost) == ["learned", "learned", "worse"]
    again = verdicts([first, kept, lost])[2].again
    assert (again.before, again.after) == (0.5, 0.2)
    assert again.high < 0
    never = visit(0, final=0.1)
    assert kinds(never, visit(1, final=0.1)) == ["same", "same"]
    assert kinds(first, visit(1, begin=math.nan, final=math.nan, error=math.nan)) == ["learned", "unknown"]


def test_a_policy_that_does_not_change_is_seldom_called_learning():
    rng = np.random.default_rng(0)
    rows = [visit(task, str(task), *rng.normal(0.5, 0.05, 2)) for task in range(1000)]
    assert kinds(*rows).count("learned") / 1000 == pytest.approx(0.025, abs=0.015)


def looks(task, **columns):
    """The row of progress.csv at a task's end."""
    return {"step": str(1000 * (task + 1)), **{key: str(value) for key, value in columns.items()}}


def test_what_drifts_since_when_and_in_which_layer():
    tasks = [
        visit(task, spectral_norm_max=str(norm), dormant_max=str(dormant), feature_rank_min="12", probe_actor="1")
        for task, (norm, dormant) in enumerate([(1.2, 0.02), (1.7, 0.3), (1.9, 0.02), (6.3, 0.4)])
    ]
    layers = {"spectral_norm/mlp_extractor.policy_net.0": 6.3, "spectral_norm/value_net": 2.0, "dormant/q_net.2": 0.4}
    norm, dormant, rank = drifts(tasks, [looks(0, **dict.fromkeys(layers, 9.0)), looks(3, **layers)])
    assert norm == ("spectral_norm_max", "mlp_extractor.policy_net.0", "actor", 1.2, 6.3, 3)
    assert dormant == ("dormant_max", "q_net.2", "critic", 0.02, 0.4, 4)
    assert rank == ("feature_rank_min", "", "", 12, 12, None)


@pytest.mark.parametrize(
    ("layer", "network"),
    [("lstm_actor", "actor"), ("lstm_critic", "critic"), ("critic.qf0.2", "critic"), ("actor.latent_pi.0", "actor"),
     ("features_extractor.cnn.0", "encoder"), ("action_net", "actor")],
)  # fmt: skip
def test_layers_of_all_agents_are_told_apart(layer, network):
    tasks = [visit(task, spectral_norm_max=str(task + 1.0)) for task in range(2)]
    (found,) = drifts(tasks, [looks(1, **{f"spectral_norm/{layer}": 2.0})])
    assert (found.place, found.network) == (layer, network)


def test_without_instruments_nothing_drifts():
    assert drifts([visit(0), visit(1)], []) == []
    assert drifts([visit(0, dormant_max="0.1")], []) == []
    assert drifts([visit(0, dormant_max="0.1"), visit(1, dormant_max="nan")], []) == []
    assert drifts([visit(0, dormant_max=""), visit(1, dormant_max="0.1"), visit(2, dormant_max="inf")], []) == []


@pytest.mark.parametrize(
    ("values", "how", "much", "since"),
    [([1, 1.5, 1.6], "×", 1.5, 2), ([1, 1.6, 1.4], "×", 1.5, None), ([1, math.nan, 2], "×", 1.5, 3),
     ([3, 2, 2], "÷", 1.5, 2), ([0.0, 0.05, 0.1], "+", 0.1, 3), ([math.nan, 1, 1.2], "×", 1.5, None)],
)  # fmt: skip
def test_a_drift_lasts_to_the_end(values, how, much, since):
    assert drift_since(values, how, much) == since
