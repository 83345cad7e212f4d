"""The replay buffer: fast sampling, saving and loading, and the start of learning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize

from neoteny.agents.checkpoint import CheckpointError


class TensorReplay(ReplayBuffer):
    """stable-baselines3's replay buffer with faster sampling: one flat index and a single copy.

    The sampled transitions, their order and all values are the same.
    """

    def _get_samples(self, batch_inds: np.ndarray[Any, Any], env: VecNormalize | None = None) -> ReplayBufferSamples:
        columns = np.random.randint(0, high=self.n_envs, size=(len(batch_inds),))  # noqa: NPY002  # as in SB3
        index = batch_inds * self.n_envs + columns
        after, index_after = self.observations, (batch_inds + 1) % self.buffer_size * self.n_envs + columns
        if not self.optimize_memory_usage:
            after, index_after = self.next_observations, index

        def take(array: np.ndarray[Any, Any], rows: np.ndarray[Any, Any] = index) -> np.ndarray[Any, Any]:
            return array.reshape(-1, *array.shape[2:]).take(rows, 0)

        data = (
            self._normalize_obs(take(self.observations), env),
            take(self.actions),
            self._normalize_obs(take(after, index_after), env),
            (take(self.dones) * (1 - take(self.timeouts)))[:, None],
            self._normalize_reward(take(self.rewards)[:, None], env),
        )
        return ReplayBufferSamples(*(torch.as_tensor(array, device=self.device) for array in data))


def choose_class(agent: OffPolicyAlgorithm) -> None:
    """Use our replay buffer where stable-baselines3 would use its plain one."""
    if (
        agent.replay_buffer_class is None
        and agent.n_steps == 1
        and not isinstance(agent.observation_space, spaces.Dict)
    ):
        agent.replay_buffer_class = TensorReplay


def count_from_empty(agent: Any) -> None:
    """Make ``learning_starts`` count from the step at which the replay buffer was last empty.

    stable-baselines3 counts from the agent's first step, which is the same if the buffer is never cleared.
    """
    buffer = agent.replay_buffer
    began = agent.num_timesteps if buffer.size() == 0 else min(agent._replay_began, agent.num_timesteps)
    agent.learning_starts += began - agent._replay_began
    agent._replay_began = began


def filled(buffer: ReplayBuffer) -> dict[str, Any]:
    """The filled part of a replay buffer."""
    # One row more than the filled part: with optimize_memory_usage it holds the last next observation.
    rows = buffer.buffer_size if buffer.full else min(buffer.pos + 1, buffer.buffer_size)
    return {
        "pos": buffer.pos,
        "full": buffer.full,
        "size": [buffer.buffer_size, buffer.n_envs],
        "arrays": {name: array[:rows] for name, array in _arrays(buffer).items()},
    }


def refill(buffer: ReplayBuffer, state: Mapping[str, Any]) -> None:
    """Restore the output of :func:`filled`.

    Raises:
        CheckpointError: the buffer has another shape.
    """
    ours, size = _arrays(buffer), [buffer.buffer_size, buffer.n_envs]
    if size != state["size"] or ours.keys() != state["arrays"].keys():
        raise CheckpointError(
            f"the replay buffer in the file holds {state['size'][0]} steps of {state['size'][1]} environments "
            f"({', '.join(map(str, state['arrays']))}), this agent's {size[0]} of {size[1]} ({', '.join(ours)})"
        )
    for name, array in state["arrays"].items():
        ours[name][: len(array)] = array
    buffer.pos, buffer.full = state["pos"], state["full"]


def _arrays(buffer: ReplayBuffer) -> dict[str, np.ndarray[Any, Any]]:
    """The buffer's arrays by name; for Dict observations ``observations.<key>``."""
    found = {}
    for name, value in vars(buffer).items():
        for key, array in value.items() if isinstance(value, Mapping) else [("", value)]:
            if isinstance(array, np.ndarray) and array.shape[:2] == (buffer.buffer_size, buffer.n_envs):
                found[f"{name}.{key}" if key else name] = array
    return found
