"""Encoders (features extractors): one-hot, convolutional, pictures with words, or flatten."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, FlattenExtractor, NatureCNN
from torch import Tensor, nn

from neoteny.configs import find_class

#: One-hot encoding uses a lookup table for cells with at most this many values.
TABLE = 4096
#: The smallest height and width, in pixels, of an image that NatureCNN can process.
PIXELS = 36


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


class SmallCNN(BaseFeaturesExtractor):
    """One convolution, 16 filters of 3×3, and a ReLU: the encoder of MinAtar's own DQN (Young & Tian, 2019, arXiv
    1903.03176), for images of about 10×10 cells.

    An image is (height, width, channels), or (channels, height, width) if the first axis is shorter than the last.
    MinAtar's (10, 10, C) becomes 8 · 8 · 16 = 1024 features.

    Raises:
        ValueError: the space is not a Box with three axes, or is smaller than the filters.
    """

    def __init__(self, observation_space: spaces.Space[Any]):
        if not small_cnn_fits(observation_space):
            raise ValueError(
                f"small-cnn needs a Box of at least 3 x 3 cells and some channels, got {observation_space}"
            )
        order, (channels, height, width) = _channels_first(observation_space)
        super().__init__(observation_space, 16 * (height - 2) * (width - 2))
        self.order = order
        self.cnn = nn.Sequential(nn.Conv2d(channels, 16, 3), nn.ReLU(), nn.Flatten())

    def forward(self, observations: Tensor) -> Tensor:
        """(batch, height, width, channels) or (batch, channels, height, width) to (batch, features_dim)."""
        return self.cnn(observations.permute(self.order))


def _channels_first(space: spaces.Space[Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """How the axes of a batch of images become (batch, channels, height, width), and the last three of these sizes."""
    shape = space.shape
    assert shape is not None
    if shape[0] < shape[2]:
        return (0, 1, 2, 3), shape
    return (0, 3, 1, 2), (shape[2], *shape[:2])


def small_cnn_fits(space: spaces.Space[Any]) -> bool:
    """Whether :class:`SmallCNN` can take observations of ``space``."""
    return isinstance(space, spaces.Box) and len(space.shape) == 3 and min(_channels_first(space)[1][1:]) >= 3


class Residual(nn.Module):
    """x + f(x), where f is twice a ReLU and a convolution of 3×3 that keeps the shape."""

    def __init__(self, channels: int):
        super().__init__()
        first, second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.body = nn.Sequential(nn.ReLU(), first, nn.ReLU(), second)

    def forward(self, images: Tensor) -> Tensor:
        return images + self.body(images)


class ImpalaCNN(BaseFeaturesExtractor):
    """The residual network of IMPALA (Espeholt et al., 2018, arXiv 1802.01561, fig. 3), which Procgen's agents use.

    Three stages of 16, 32 and 32 channels: a convolution of 3×3, max-pooling of 3×3 that halves height and width, and
    two residual blocks. Then a ReLU, a layer of 256 units and a ReLU. Images are ordered as for :class:`SmallCNN`.

    Raises:
        ValueError: the space is not a Box with three axes.
    """

    def __init__(self, observation_space: spaces.Space[Any]):
        if not small_cnn_fits(observation_space):
            raise ValueError(f"impala-cnn needs a Box of pixels and some channels, got {observation_space}")
        super().__init__(observation_space, 256)
        self.order, (channels, height, width) = _channels_first(observation_space)
        layers: list[nn.Module] = []
        for wider in (16, 32, 32):
            layers += [nn.Conv2d(channels, wider, 3, padding=1), nn.MaxPool2d(3, stride=2, padding=1)]
            layers += [Residual(wider), Residual(wider)]
            channels, height, width = wider, (height + 1) // 2, (width + 1) // 2
        flat = channels * height * width
        self.cnn = nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(flat, 256), nn.ReLU())

    def forward(self, observations: Tensor) -> Tensor:
        """(batch, height, width, channels) or (batch, channels, height, width) to (batch, 256)."""
        return self.cnn(observations.permute(self.order))


def words_in(space: spaces.Space[Any]) -> slice | None:
    """Where the ids of words are in a vector of a MiniGrid picture's entries and then a mission; None if it is none.

    The bounds say it. Entries of a picture come in threes, with the same three bounds for each cell. After them come
    the words, at least two, which have one bound, larger than those of the cells. Other small integers may follow.
    """
    if not isinstance(space, spaces.Box) or len(space.shape) != 1 or space.dtype.kind not in "iu" or space.low.any():
        return None
    high = space.high.astype("int64")
    first = int((high == high.max()).argmax())
    last = first + int((high[first:] != high.max()).argmax() or len(high) - first)
    cells = high[:first].reshape(-1, 3) if first and first % 3 == 0 else high[:0]
    alike = len(cells) and (cells == cells[0]).all() and len(set(cells[0])) > 1
    return slice(first, last) if alike and last - first > 1 and one_hot_fits(space) else None


class CellsAndWords(BaseFeaturesExtractor):
    """A MiniGrid picture, each of whose cells is looked at in the light of the mission.

    A cell becomes :attr:`channels` features: ReLU((1 + γ) · W · one-hot(cell) + β), where γ and β, one of each per
    channel, are linear in the mission (FiLM, Perez et al., 2018, arXiv 1709.07871). The mission is the mean of the
    embeddings of its words. Integers that follow the words, such as a task's index, are passed on.

    Args:
        observation_space: entries of cells, then words, see :func:`words_in`.

    Raises:
        ValueError: the space is another one.
    """

    #: Features per cell.
    channels: ClassVar[int] = 16
    #: Features of the mission.
    width: ClassVar[int] = 32

    def __init__(self, observation_space: spaces.Space[Any]):
        words = words_in(observation_space)
        if words is None:
            raise ValueError(f"a vector of a picture's entries and then words is needed, got {observation_space}")
        assert isinstance(observation_space, spaces.Box)
        high = observation_space.high[: words.start].reshape(-1, 3)
        rest = observation_space.shape[0] - words.stop
        super().__init__(observation_space, self.channels * len(high) + self.width + rest)
        self.words = words
        self.kinds = OneHot(spaces.Box(0, high[0], dtype=high.dtype.type))
        self.cell = nn.Linear(self.kinds.features_dim, self.channels)
        vocabulary = int(observation_space.high[words.start]) + 1
        self.embedding = nn.Embedding(vocabulary, self.width, padding_idx=0)
        self.film = nn.Linear(self.width, 2 * self.channels)

    def mission(self, words: Tensor) -> Tensor:
        """(batch, length) ids, 0 after the last word, to (batch, width)."""
        return self.embedding(words).sum(1) / (words != 0).sum(1, keepdim=True).clamp(min=1)

    def forward(self, observations: Tensor) -> Tensor:
        """(batch, entries) integers to (batch, features_dim) float32."""
        words = observations[:, self.words].long()
        mission = self.mission(words[:, : int((words != 0).sum(1).max())])
        scale, shift = self.film(mission).unsqueeze(1).chunk(2, -1)
        cells = self.kinds(observations[:, : self.words.start].reshape(-1, 3)).unflatten(0, (len(observations), -1))
        seen = ((1 + scale) * self.cell(cells) + shift).relu()
        return torch.cat([seen.flatten(1), mission, observations[:, self.words.stop :].float()], 1)


class CellsAndWordsGRU(CellsAndWords):
    """:class:`CellsAndWords` with a GRU that reads the words in their order: the mission is its last state."""

    def __init__(self, observation_space: spaces.Space[Any]):
        super().__init__(observation_space)
        self.gru = nn.GRU(self.width, self.width, batch_first=True)

    def mission(self, words: Tensor) -> Tensor:
        if not words.shape[1]:
            return self.embedding.weight.new_zeros(len(words), self.width)
        states, _ = self.gru(self.embedding(words))
        lengths = (words != 0).sum(1)
        last = states[torch.arange(len(words), device=words.device), lengths.clamp(min=1) - 1]
        return last * (lengths > 0).unsqueeze(1)


#: All encoders by their name in YAML.
ENCODERS: dict[str, type[BaseFeaturesExtractor]] = {
    "one-hot": OneHot,
    "flatten": FlattenExtractor,
    "nature-cnn": NatureCNN,
    "small-cnn": SmallCNN,
    "impala-cnn": ImpalaCNN,
    "cells-and-words": CellsAndWords,
    "cells-and-words-gru": CellsAndWordsGRU,
}


def encoder_for(space: spaces.Space[Any]) -> type[BaseFeaturesExtractor]:
    """The default encoder for observations of ``space``.

    A picture with a mission is read by :class:`CellsAndWordsGRU`. Other small integers are one-hot encoded, unless they
    are binary planes. Images of at least 36×36 pixels use NatureCNN, all other arrays with three axes
    :class:`SmallCNN`. The rest is flattened.
    """
    if isinstance(space, spaces.Dict):
        return CombinedExtractor
    if not isinstance(space, spaces.Box):
        return FlattenExtractor
    if words_in(space):
        return CellsAndWordsGRU
    binary = space.dtype.kind in "biu" and space.low.min() >= 0 and space.high.max() <= 1
    if one_hot_fits(space) and not (binary and small_cnn_fits(space)):
        return OneHot
    if is_image_space(space) and min(sorted(space.shape)[1:]) >= PIXELS:
        return NatureCNN
    return SmallCNN if small_cnn_fits(space) else FlattenExtractor


def find_encoder(name: str) -> type[BaseFeaturesExtractor] | None:
    """An encoder by its name in :data:`ENCODERS`, or your own as ``module:Class``; None for ``auto``.

    Raises:
        ValueError: there is no such encoder, or it is not a ``BaseFeaturesExtractor``.
    """
    if name == "auto":
        return None
    return find_class("encoder", name, {"auto": BaseFeaturesExtractor, **ENCODERS}, BaseFeaturesExtractor)
