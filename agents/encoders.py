"""Encoders (features extractors): one-hot, convolutional, pictures with words, or flatten."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, FlattenExtractor, NatureCNN
from torch import Tensor, nn

from neoteny.agents.one_hot import OneHot, one_hot_fits
from neoteny.configs import find_class

#: The smallest height and width, in pixels, of an image that NatureCNN can process.
PIXELS = 36


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
