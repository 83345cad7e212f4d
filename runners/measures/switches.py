"""What is measured at a switch: what the agent brings along, on the first rollout of a visit."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3.common.utils import explained_variance

from neoteny.runners.measures.instruments import STATES, Look, entropy_of
from neoteny.runners.measures.reading import at, evaluating, outputs

Array = np.ndarray[Any, Any]


def first_rollout(look: Look, steps: int) -> dict[str, float]:
    """Policy entropy and value error on the first rollout of a visit.

    Args:
        look: begun when the rollout has ended, before it is learned from.
        steps: of one environment since the visit began.
    """
    found = {}
    entropy = entropy_of(look.agent, look.before, look.rng) if look.before else None
    if entropy is not None:
        found["switch/entropy"] = entropy
    values, returns = values_and_returns(look, steps)
    if values is None or returns is None:
        return found
    found["switch/value_error"] = float(np.mean((returns - values) ** 2))
    found["switch/explained_variance"] = float(explained_variance(values.flatten(), returns.flatten()))
    return found


def values_and_returns(look: Look, steps: int) -> tuple[Array | None, Array | None]:
    """Of each of the last ``steps`` steps of each environment the value, and the return that followed.

    On-policy these are V(s) and the λ-return that it learns from. With a replay buffer they are Q(s, a), and the
    discounted rewards up to the end of the episode or of these steps, where the value of the next state takes over.
    """
    agent: Any = look.agent
    rollouts = getattr(agent, "rollout_buffer", None)
    if rollouts is not None:
        return rollouts.values, rollouts.returns
    buffer = getattr(agent, "replay_buffer", None)
    if buffer is None or look.before is None or look.before.value is None:
        look.left_out["switch/value_error"] = "there are no values that could be read"
        return None, None
    count = min(steps, buffer.buffer_size - 1)
    rows = (buffer.pos - count + np.arange(count)) % buffer.buffer_size
    steps_of, envs_of = (index.flatten() for index in np.meshgrid(rows, np.arange(buffer.n_envs), indexing="ij"))
    shape = (count, buffer.n_envs)
    timeouts = buffer.timeouts[rows].astype(bool)
    ends = timeouts.copy()
    ends[-1] = True
    rewards = buffer._normalize_reward(buffer.rewards[rows], agent._vec_normalize_env)
    going_on = np.where(buffer.dones[rows].astype(bool) & ~timeouts, 0.0, agent.gamma)
    with torch.no_grad(), evaluating(agent.policy):
        values = _values(agent, steps_of, envs_of).reshape(shape)
        later = np.zeros(shape)
        later[ends] = _values(agent, steps_of[ends.flatten()], envs_of[ends.flatten()], after=True)
    returns = np.zeros(shape)
    following = np.zeros(buffer.n_envs)
    for row in range(count - 1, -1, -1):
        following = rewards[row] + going_on[row] * np.where(ends[row], later[row], following)
        returns[row] = following
    return values, returns


def _values(agent: Any, rows: Array, columns: Array, after: bool = False) -> Array:
    """Q(s, a), or of the states that followed Q(s', a'), where a' is what the agent would do without exploring."""
    found = []
    for first in range(0, len(rows), STATES):
        batch = at(agent, rows[first : first + STATES], columns[first : first + STATES], after)
        if after:
            batch.actions = agent.policy._predict(batch.observations, deterministic=True)
        value = outputs(agent.policy, batch).value
        assert value is not None
        found.append(value.cpu().numpy().astype(np.float64))
    return np.concatenate(found)
