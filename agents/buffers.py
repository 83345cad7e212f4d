"""Rollout buffers: one that converts to tensors once, and one for sequences that does not pad them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from sb3_contrib.common.recurrent.buffers import RecurrentDictRolloutBuffer, RecurrentRolloutBuffer
from sb3_contrib.common.recurrent.type_aliases import RecurrentRolloutBufferSamples, RNNStates
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from neoteny.agents.learners.reading import Encode


class TensorRollouts(RolloutBuffer):
    """stable-baselines3's rollout buffer, converted to tensors once per rollout instead of once per minibatch.

    The minibatches, their order and all values are the same.

    Attributes:
        encode: within :meth:`encoding`, its argument.
        columns: within it, which of all features minibatches have; None for all.
    """

    encode: Encode | None = None
    columns: Tensor | None = None
    _observations: Tensor | None = None

    def reset(self) -> None:
        super().reset()
        self._observations = None

    @contextmanager
    def encoding(self, encode: Encode) -> Iterator[None]:
        """Give minibatches features in the place of observations, computed once for all of a rollout.

        Args:
            encode: of observations, (steps, …), the features, (steps, columns), and which of all these are.
        """
        self.encode, self._observations = encode, None
        try:
            yield
        finally:
            self.encode = self._observations = self.columns = None

    def _get_samples(self, batch_inds: np.ndarray[Any, Any], env: VecNormalize | None = None) -> RolloutBufferSamples:
        if self._observations is None:
            self._observations, self.columns = self.to_torch(self.observations), None
            if self.encode is not None:
                self._observations, self.columns = self.encode(self._observations)
            numbers = (self.values, self.log_probs, self.advantages, self.returns)
            self._rows = self.to_torch(np.stack([row.flatten() for row in numbers]).astype(np.float32, copy=False))
            self._actions = self.to_torch(self.actions.astype(np.float32, copy=False))
        index = torch.as_tensor(batch_inds, device=self.device)
        observations, actions = (t.index_select(0, index) for t in (self._observations, self._actions))
        return RolloutBufferSamples(observations, actions, *self._rows.index_select(1, index))


#: Marks, in the place of ``episode_starts``, the first step of a sequence in a batch without padding.
BEGINS = 2.0


class Unpadded(RolloutBuffer):
    """Mixin for sb3-contrib's recurrent buffers: batches hold their steps one sequence after the other.

    sb3-contrib pads all sequences of a batch to the longest, and a sequence ends where an episode does. Where episodes
    are short, most of such a batch is padding. Here nothing is: ``episode_starts`` is :data:`BEGINS` at the first step
    of each sequence and 0 elsewhere, and the states before sequences that begin with an episode are 0.
    """

    def _get_samples(  # type: ignore[override]
        self, batch_inds: np.ndarray[Any, Any], env_change: np.ndarray[Any, Any], env: VecNormalize | None = None
    ) -> RecurrentRolloutBufferSamples:
        begins = (self.episode_starts[batch_inds] + env_change[batch_inds]).flatten() > 0
        begins[0] = True
        first = batch_inds[begins]
        goes_on = 1 - self.episode_starts[first][:, :, None]

        def states(role: str) -> tuple[Tensor, Tensor]:  # each (layers, sequences, units)
            held = (getattr(self, f"{kind}_states_{role}")[first] for kind in ("hidden", "cell"))
            hidden, cell = (self.to_torch((state * goes_on).swapaxes(0, 1)).contiguous() for state in held)
            return hidden, cell

        def flat(array: np.ndarray[Any, Any]) -> Tensor:
            return self.to_torch(array[batch_inds].flatten())

        seen: Any = self.observations
        observations: Any = (
            {key: self.to_torch(array[batch_inds]) for key, array in seen.items()}
            if isinstance(seen, dict)
            else self.to_torch(seen[batch_inds])
        )
        return RecurrentRolloutBufferSamples(
            observations=observations,
            actions=self.to_torch(self.actions[batch_inds]),
            old_values=flat(self.values),
            old_log_prob=flat(self.log_probs),
            advantages=flat(self.advantages),
            returns=flat(self.returns),
            lstm_states=RNNStates(states("pi"), states("vf")),
            episode_starts=self.to_torch(np.where(begins, np.float32(BEGINS), np.float32(0))),
            mask=torch.ones(len(batch_inds), device=self.device),
        )


class SequenceRollouts(Unpadded, RecurrentRolloutBuffer):
    """sb3-contrib's recurrent rollout buffer without padding."""


class SequenceDictRollouts(Unpadded, RecurrentDictRolloutBuffer):  # type: ignore[misc]
    """The same, of observations that are dicts."""
