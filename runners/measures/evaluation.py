"""Evaluation: what an agent does in a task that it does not learn meanwhile."""

from __future__ import annotations

import copy
import inspect
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.utils import set_random_seed

from neoteny.agents import Continual
from neoteny.envs import ContinualVecEnv, Segment, Visit
from neoteny.runners.measures.visit import VisitMeasures

#: Where a game has not ended after so many steps, its environment is left: as long as Atari's games may take.
LONGEST = 27_000

#: The place of evaluations in a run's seeds; its segments have those from 0.
PLACE = 2**40

MEASURES = ("return", "score", "success")


def evaluate_visit(
    agent: Continual,
    env: ContinualVecEnv,
    visit: Visit,
    episodes: int = 20,
    deterministic: bool = False,
    watch: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """What ``agent`` reaches in a task, as the task is at the end of a visit: with its shifts at their full level.

    Environments and draws are seeded by the run's seed and the visit, so that all agents meet the same beginnings. The
    global random generators and the agent are left as they were; but methods that watch a network's passes see these,
    so give an agent that does not learn on.

    Args:
        agent: who acts. It gets observations as it has learned from them: normalized, if it normalizes.
        env: environments of the run's tasks, at most as many as ``episodes``, for this purpose alone.
        visit: the task.
        episodes: whole games to be played, spread evenly over the environments, so that short games do not count more
            than long ones.
        deterministic: take the most likely action. Otherwise the agent acts as at the end of a task that it learns:
            actions are drawn from its policy or, of DQN, ε-greedy with the final ε. Noise that an algorithm adds to
            actions (TD3) is left out.
        watch: called before each step, and once after the last.

    Returns:
        The means ``return`` (of the agent's rewards in an episode), ``score`` (the task's own rewards in a game),
        ``success`` (if the environment says it) and ``reward_rate`` (the task's own reward per step), NaN of nothing;
        and how many ``episodes``, ``games`` and ``steps`` that is. Games that took longer than :data:`LONGEST` are not
        counted.

    Raises:
        EnvironmentFault: an environment has broken.
    """
    segment = Segment(PLACE, visit, 2**62, False, visit.task.steps)
    env.enter(segment)
    seed = segment.seed(env.vector.run_seed)
    with generators_kept(agent.device), _acting(agent, seed):
        set_random_seed(seed)
        return _play(agent, env, episodes, deterministic, watch or (lambda: None))


def _play(
    agent: Continual, env: ContinualVecEnv, episodes: int, deterministic: bool, watch: Callable[[], None]
) -> dict[str, Any]:
    left = np.array([(episodes + i) // env.num_envs for i in range(env.num_envs)])
    running = np.zeros(env.num_envs, int)  # steps of each game so far
    found: dict[str, list[float]] = {name: [] for name in MEASURES}
    normalizer = agent.get_vec_normalize_env()
    masked = "action_masks" in inspect.signature(agent.predict).parameters
    observations: Any = env.reset()
    state, begins, steps = None, np.ones(env.num_envs, bool), 0
    while left.any():
        watch()
        seen = normalizer.normalize_obs(observations) if normalizer else observations
        masks = {"action_masks": np.stack(env.env_method("action_masks"))} if masked else {}
        actions, state = agent.predict(seen, state, begins, deterministic, **masks)
        observations, _, begins, infos = env.step(actions)
        steps, running = steps + 1, running + 1
        for i in np.flatnonzero(left):
            for name, value in VisitMeasures().add(steps, infos[i]).items() if infos[i] else ():
                if name in found:
                    found[name].append(value)
            if "game" in infos[i]:
                left[i] -= 1
                running[i] = 0
        left[running >= LONGEST] = 0
    watch()
    means = {name: float(np.mean(values)) if values else float("nan") for name, values in found.items()}
    rate = float(env.vector.tally.paid.sum() / (steps * env.num_envs))
    counts = {"episodes": len(found["return"]), "games": len(found["score"]), "steps": steps * env.num_envs}
    return {**means, "reward_rate": rate, **counts}


@contextmanager
def generators_kept(device: torch.device | str) -> Iterator[None]:
    """Whatever is drawn meanwhile, Python's, numpy's and torch's global generators are afterwards as they were."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    device = torch.device(device)
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        np.random.set_state(numpy)  # noqa: NPY002
        random.setstate(python)


@contextmanager
def _acting(agent: Any, seed: int) -> Iterator[None]:
    """The agent draws actions from a space of its own seed, and with its final ε if it is ε-greedy."""
    before = {name: vars(agent)[name] for name in ("action_space", "exploration_rate") if name in vars(agent)}
    agent.action_space = copy.deepcopy(agent.action_space)
    agent.action_space.seed(seed)
    if "exploration_rate" in before:
        agent.exploration_rate = agent.exploration_final_eps
    try:
        yield
    finally:
        vars(agent).update(before)
