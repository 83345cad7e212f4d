"""Returns, scores and successes, against counts by hand."""

import numpy as np

from neoteny.envs.backends import Step
from neoteny.envs.tally import Tally

NONE = np.zeros(2, bool)


def step(rewards, ended=NONE, **more):  # type: ignore[no-untyped-def]
    return Step(np.zeros((2, 1)), np.array(rewards, float), np.array(ended), NONE, **more)


def test_a_lost_life_ends_the_episode_and_not_the_game() -> None:
    tally = Tally(2)
    lost = step([1, 1], [True, False], own_rewards=np.array([30.0, 5.0]), games_over=NONE)
    tally.add(lost, np.array([-1.0, -1.0]))
    info = tally.close(lost, np.array([True, False]))
    assert (info["return"][0], info["length"][0]) == (-1, 1)
    assert (info["_return"].tolist(), info["_score"].tolist()) == ([True, False], [False, False])
    over = step([1, 0], [True, True], own_rewards=np.array([20.0, 0.0]), games_over=np.array([True, True]))
    tally.add(over, np.array([-1.0, 0.0]))
    info = tally.close(over, np.array([True, True]))
    assert info["return"].tolist() == [-1, -1]
    assert info["score"].tolist() == [50, 5]
    assert (info["length"].tolist(), info["game_length"].tolist()) == ([1, 2], [2, 2])
    assert tally.paid.tolist() == [50, 5]


def test_a_cut_ends_the_count_of_games_that_run_on() -> None:
    tally = Tally(2)
    running = step([3, 4])
    tally.add(running, running.rewards)
    info = tally.close(running, np.array([True, True]))
    assert not info["_return"].any()
    assert not info["_score"].any()
    over = step([1, 1], [True, True])
    tally.add(over, over.rewards)
    assert tally.close(over, np.array([True, True]))["score"].tolist() == [1, 1]


def test_a_success_at_any_step_is_one_of_the_game() -> None:
    tally = Tally(2)
    for solved in ([False, True], [False, False]):
        taken = step([0, 0], success=np.array(solved))
        tally.add(taken, taken.rewards)
    over = step([0, 0], [True, True])  # an environment that says it only now and then
    tally.add(over, over.rewards)
    assert tally.close(over, np.array([True, True]))["success"].tolist() == [False, True]
    tally.add(over, over.rewards)
    assert tally.close(over, np.array([True, True]))["success"].tolist() == [False, False]
    assert "success" not in Tally(2).close(over, np.array([True, True]))
