"""Networks that take pictures, (n, channels, height, width)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

Norm = Literal["none", "batch", "layer"]


def norm_of(kind: Norm, channels: int) -> list[nn.Module]:
    """What stands between a convolution and its activation; ``layer`` is GroupNorm with one group."""
    made: dict[str, list[nn.Module]] = {"none": [], "batch": [nn.BatchNorm2d(channels)]}
    return made[kind] if kind in made else [nn.GroupNorm(1, channels)]


def convolutions(shape: Sequence[int], channels: Sequence[int], layer_norm: bool) -> tuple[list[nn.Module], int]:
    """Convolutions of 3×3, each with an activation and followed by pooling, and the number of features they give."""
    layers: list[nn.Module] = []
    inputs, height, width = shape
    for count in channels:
        norm = norm_of("layer" if layer_norm else "none", count)
        layers += [nn.Conv2d(inputs, count, 3, padding=1), *norm, nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)]
        inputs, height, width = count, -(-height // 2), -(-width // 2)
    return [*layers, nn.Flatten()], inputs * height * width


class Block(nn.Module):
    """Two convolutions beside a shortcut, which is a convolution of 1×1 where shapes differ."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: Norm):
        super().__init__()
        bias = norm == "none"
        self.inner = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=bias),
            *norm_of(norm, outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=bias),
            *norm_of(norm, outputs),
        )
        same = stride == 1 and inputs == outputs
        through = nn.Conv2d(inputs, outputs, 1, stride, bias=bias)
        self.shortcut = nn.Identity() if same else nn.Sequential(through, *norm_of(norm, outputs))
        self.activation = nn.ReLU()

    def forward(self, pictures: Tensor) -> Tensor:
        out: Tensor = self.activation(self.inner(pictures) + self.shortcut(pictures))
        return out


class Residual(nn.Module):
    """ResNet-18 for small pictures: see :class:`~neoteny.agents.supervised.nets.ResNet18`."""

    def __init__(self, inputs: int, width: int, outputs: int, norm: Norm):
        super().__init__()
        first = nn.Conv2d(inputs, width, 3, 1, 1, bias=norm == "none")
        self.stem = nn.Sequential(first, *norm_of(norm, width), nn.ReLU())
        widths = [width << stage for stage in range(4)]
        blocks: list[nn.Module] = []
        for stage, (before, after) in enumerate(zip([width, *widths], widths, strict=False)):
            blocks += [Block(before, after, 2 if stage else 1, norm), Block(after, after, 1, norm)]
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(widths[-1], outputs)

    def forward(self, pictures: Tensor) -> Tensor:
        out: Tensor = self.head(self.pool(self.blocks(self.stem(pictures))))
        return out


class Transformer(nn.Module):
    """A Vision Transformer: see :class:`~neoteny.agents.supervised.nets.ViT`.

    Raises:
        ValueError: the patches do not fill the picture, or the heads do not fill a token.
    """

    def __init__(
        self,
        shape: Sequence[int],
        outputs: int,
        *,
        patch: int,
        width: int,
        depth: int,
        heads: int,
        feedforward: int,
        norm: bool,
        dropout: float,
    ):
        super().__init__()
        channels, high, wide = shape
        if high % patch or wide % patch:
            raise ValueError(f"patch: a picture of {high}×{wide} cannot be cut into patches of {patch}×{patch}")
        if width % heads:
            raise ValueError(f"heads: a width of {width} cannot be split into {heads}")
        self.patches = nn.Conv2d(channels, width, patch, patch)
        self.token = nn.Parameter(torch.zeros(width))
        self.positions = nn.Embedding(high * wide // patch**2 + 1, width)
        nn.init.normal_(self.positions.weight, std=0.02)
        layers = [
            nn.TransformerEncoderLayer(width, heads, feedforward, dropout, nn.GELU(), batch_first=True, norm_first=True)
            for _ in range(depth)
        ]
        for layer in layers:
            layer.activation_relu_or_gelu = (
                0  # all passes are of one kind, the fast path of inference differs by rounding
            )
            if not norm:
                layer.norm1, layer.norm2 = nn.Identity(), nn.Identity()  # type: ignore[assignment]
        self.layers = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()
        self.head = nn.Linear(width, outputs)

    def forward(self, pictures: Tensor) -> Tensor:
        tokens = self.patches(pictures).flatten(2).mT
        tokens = torch.cat([self.token.expand(len(tokens), 1, -1), tokens], 1)
        places = torch.arange(tokens.shape[1], device=tokens.device).expand(tokens.shape[:2])
        out: Tensor = self.head(self.norm(self.layers(tokens + self.positions(places))[:, 0]))
        return out
