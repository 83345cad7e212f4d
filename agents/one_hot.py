"""One-hot encoding of observations of small integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

#: One-hot encoding uses a lookup table for cells with at most this many values.
TABLE = 4096


class OneHot(BaseFeaturesExtractor):
    """One-hot encoding of observations of small integers, such as MiniGrid's cells, as a flat vector.

    An entry with bounds [low, high] becomes high − low + 1 features, with a 1 at index (entry − low). A
    MiniGrid image, uint8 of shape (7, 7, 3), becomes 7 · 7 · (11 + 6 + 3) = 980 features. There are no parameters.

    Raises:
        ValueError: the space is not a Box of integers, or has more than 2**16 features.
    """

    def __init__(self, observation_space: spaces.Space[Any]):
        if not one_hot_fits(observation_space):
            raise ValueError(f"one-hot encoding needs a Box of small integers, got {observation_space}")
        assert isinstance(observation_space, spaces.Box)
        channels = observation_space.shape[-1] if observation_space.shape else 1
        low = torch.as_tensor(observation_space.low.astype("int64")).reshape(-1, channels)
        sizes = torch.as_tensor(observation_space.high.astype("int64")).reshape(-1, channels) - low + 1
        super().__init__(observation_space, int(sizes.sum()))
        self.channels = channels
        self.offsets: Tensor
        self.register_buffer(
            "offsets", (sizes.flatten().cumsum(0) - sizes.flatten() - low.flatten()).int(), persistent=False
        )
        widths = sizes.flatten().numpy()
        self.low = low.flatten().numpy()
        self.entry = np.repeat(np.arange(len(widths)), widths)  # of each feature
        self.value = np.arange(self.features_dim) - self.offsets.numpy()[self.entry]  # at which it is 1
        self.bits = next((kind for kind in (np.uint16, np.uint64) if widths.max() <= 8 * kind().itemsize), None)
        self.bit = (self.value - self.low[self.entry]).astype(self.bits or int)
        self.places: list[int] = []
        self.table: Tensor | None = None
        if (low == low[0]).all() and (sizes == sizes[0]).all() and sizes[0].prod() <= TABLE:
            self._make_table(low[0], sizes[0])

    def _make_table(self, low: Tensor, sizes: Tensor) -> None:
        """If all cells have the same bounds, the encoding of a cell is one row of a table of all possible cells."""
        places = torch.stack([sizes[channel + 1 :].prod() for channel in range(self.channels)])
        self.places = places.tolist()
        kinds = torch.cartesian_prod(*map(torch.arange, sizes)).reshape(-1, self.channels)
        columns = [nn.functional.one_hot(kinds[:, c], int(sizes[c])) for c in range(self.channels)]
        del self.table
        self.register_buffer("table", torch.cat(columns, 1).float(), persistent=False)
        self.first = int(low @ places)

    def forward(self, observations: Tensor) -> Tensor:
        """(batch, …) integers to (batch, features_dim) float32."""
        if self.table is not None:
            cells = observations.reshape(len(observations), -1, self.channels).int()
            kinds = cells[..., 0] * self.places[0] - self.first
            for channel, place in enumerate(self.places[1:], 1):
                kinds.add_(cells[..., channel], alpha=place)
            return nn.functional.embedding(kinds, self.table).flatten(1)
        indices = (observations.flatten(1).int() + self.offsets).long()
        return torch.zeros(len(indices), self.features_dim, device=indices.device).scatter_(1, indices, 1.0)

    def compact(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """The encoding without the features that are 0 in the whole batch, (batch, columns), and which ones these are.

        Of MiniGrid's 980 features a quarter to a half are somewhere 1 in a rollout. The others need no arithmetic.
        In numpy, whose operations on bytes are faster than torch's.
        """
        rows = observations.flatten(1).numpy()
        columns = self._present(rows).nonzero()[0]
        encoding = rows.take(self.entry[columns], 1) == self.value[columns].astype(rows.dtype)
        return torch.from_numpy(encoding.astype(np.float32)), torch.from_numpy(columns)

    def _present(self, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Which features are 1 in one of ``rows``, (batch, entries): 0 for the others, (features_dim)."""
        if self.bits is None:
            indices = rows.astype(np.int64) + self.offsets.numpy()
            return np.bincount(indices.ravel(), minlength=self.features_dim)
        levels = np.subtract(rows, self.low, dtype=self.bits, casting="unsafe")
        seen: np.ndarray[Any, Any] = np.bitwise_or.reduce(np.left_shift(1, levels, dtype=self.bits), 0)
        return seen[self.entry] >> self.bit & self.bits(1)


def one_hot_fits(space: spaces.Space[Any]) -> bool:
    """Whether :class:`OneHot` can take observations of ``space``."""
    if not isinstance(space, spaces.Box) or space.dtype.kind not in "iu":
        return False
    return float((space.high.astype(float) - space.low.astype(float) + 1).sum()) <= 2**16
