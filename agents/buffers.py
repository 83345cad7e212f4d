"""A rollout buffer that converts to tensors once."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor


class TensorRollouts(RolloutBuffer):
    """stable-baselines3's rollout buffer, converted to tensors once per rollout instead of once per minibatch.

    The minibatches, their order and all values are the same.
    """

    _tensors: tuple[Tensor, ...] = ()

    def reset(self) -> None:
        super().reset()
        self._tensors = ()

    def _get_samples(self, batch_inds: np.ndarray[Any, Any], env: VecNormalize | None = None) -> RolloutBufferSamples:
        if not self._tensors:
            flat = (self.values, self.log_probs, self.advantages, self.returns)
            arrays = (self.observations, self.actions.astype(np.float32, copy=False), *(a.flatten() for a in flat))
            self._tensors = tuple(map(self.to_torch, arrays))
        index = torch.as_tensor(batch_inds, device=self.device)
        return RolloutBufferSamples(*(tensor[index] for tensor in self._tensors))
