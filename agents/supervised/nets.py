"""Networks for examples, as settings: how each is built, and how it is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Self

import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from pydantic.dataclasses import dataclass
from torch import nn
from torch.nn.parameter import is_lazy

from neoteny import configs
from neoteny.agents.config import STRICT, Width
from neoteny.agents.networks import ACTIVATIONS, WIDENING, Activation, torso, units
from neoteny.agents.optimizers import ADAM, OptimizerSetting
from neoteny.agents.supervised.pictures import Norm, Residual, Transformer, convolutions
from neoteny.configs import ConfigError


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Net:
    """A network's settings. Subclasses add those of their kind.

    Attributes:
        learning_rate: of the optimizer.
        batch_size: examples per update.
        optimizer: a name (adam, muon, trac, upgd, or your own as module:Class) or a mapping of name and settings.
    """

    #: The numbers in the shape of an example: 1 for a vector, 3 for a picture; None for either.
    dimensions: ClassVar[int | None] = None
    #: The output layer; None to find it, see :mod:`neoteny.plasticity.heads`.
    head: ClassVar[str | None] = None

    learning_rate: Annotated[PositiveFloat, Field(allow_inf_nan=False)] = 1e-3
    batch_size: PositiveInt = 32
    optimizer: OptimizerSetting = ADAM

    @model_validator(mode="after")
    def _has_an_eps(self) -> Self:
        object.__setattr__(self, "optimizer", self.optimizer.with_eps(1e-8))
        return self

    @property
    def memory_format(self) -> torch.memory_format:
        """How examples lie in memory. Convolutions on a CPU are faster where channels come last."""
        return torch.contiguous_format

    def make(self, shape: Sequence[int], outputs: int) -> nn.Module:
        """The network, its weights drawn from torch's global generator.

        Args:
            shape: of an example.
            outputs: how many numbers it says of one.

        Raises:
            ConfigError: it cannot take such examples.
        """
        if self.dimensions not in (None, len(shape)):
            raise ConfigError(f"--net: it takes pictures (channels, height, width), the data's shape is {tuple(shape)}")
        return self.build(shape, outputs)

    def build(self, shape: Sequence[int], outputs: int) -> nn.Module:
        """:meth:`make`, of a shape that it can take."""
        raise NotImplementedError


@dataclass(frozen=True, config=STRICT, kw_only=True)
class MLP(Net):
    """Hidden layers on the example as one vector.

    Attributes:
        hidden: widths of the hidden layers, as the next layer receives them.
        activation: activation function of the hidden layers.
        layer_norm: a LayerNorm before each activation.
        crelu: [max(z, 0), max(−z, 0)] as activation, with half as many units.
        fourier: [sin z, cos z] as activation, with half as many units.
    """

    hidden: tuple[Width, ...] = (64, 64)
    activation: Activation = "relu"
    layer_norm: bool = False
    crelu: bool = False
    fourier: bool = False

    @model_validator(mode="after")
    def _has_one_activation(self) -> Self:
        if self.crelu and self.fourier:
            raise ValueError("fourier: a network has one activation, got fourier and crelu; choose one of them")
        for width in self.hidden:
            units(width, self._activation)
        return self

    @property
    def _activation(self) -> type[nn.Module]:
        widening = [kind for name, kind in WIDENING.items() if getattr(self, name)]
        return widening[0] if widening else ACTIVATIONS[self.activation]

    def build(self, shape: Sequence[int], outputs: int) -> nn.Module:
        inputs = 1
        for size in shape:
            inputs *= size
        hidden = torso(inputs, self.hidden, self._activation, self.layer_norm)
        return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(self.hidden[-1] if self.hidden else inputs, outputs))


@dataclass(frozen=True, config=STRICT, kw_only=True)
class CNN(Net):
    """Convolutions of 3×3, each halving the picture, and hidden layers: two parts, since plasticity injection acts on
    parts that have no convolution.

    Attributes:
        channels: of the convolutions.
        hidden: widths of the hidden layers after them.
        layer_norm: normalization before each activation: over all channels and places of a picture, and a LayerNorm in
            hidden layers.
    """

    dimensions: ClassVar[int | None] = 3

    channels: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (16, 32)
    hidden: tuple[Width, ...] = (64,)
    layer_norm: bool = False

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last

    def build(self, shape: Sequence[int], outputs: int) -> nn.Module:
        layers, features = convolutions(shape, self.channels, self.layer_norm)
        hidden = torso(features, self.hidden, nn.ReLU, self.layer_norm)
        last = nn.Linear(self.hidden[-1] if self.hidden else features, outputs)
        return nn.Sequential(nn.Sequential(*layers), nn.Sequential(*hidden, last))


@dataclass(frozen=True, config=STRICT, kw_only=True)
class ResNet18(Net):
    """ResNet-18 for small pictures: a first convolution of 3×3 without stride, and no pooling after it.

    He et al., 2016 (arXiv 1512.03385); the variant is the usual one for pictures of 32×32.

    Attributes:
        width: channels of the first of the four stages; each of the others has twice as many as the one before.
        batch_norm: BatchNorm after each convolution.
        layer_norm: in its place, normalization over all channels and places of a picture.
    """

    dimensions: ClassVar[int | None] = 3
    head: ClassVar[str | None] = "head"

    width: PositiveInt = 64
    batch_norm: bool = True
    layer_norm: bool = False

    @property
    def memory_format(self) -> torch.memory_format:
        # With channels last, a convolution of 1×1 with a stride and fewer than 7 input channels crashes torch 2.13 on a
        # CPU with AVX2, whose blocks are of 8. With AVX-512 they are of 16.
        return torch.contiguous_format if self.width % 16 else torch.channels_last

    def build(self, shape: Sequence[int], outputs: int) -> nn.Module:
        norm: Norm = "layer" if self.layer_norm else "batch" if self.batch_norm else "none"
        return Residual(shape[0], self.width, outputs, norm)


@dataclass(frozen=True, config=STRICT, kw_only=True)
class ViT(Net):
    """Vision Transformer on torch's own encoder, with a class token and learned positions.

    Dosovitskiy et al., 2021 (arXiv 2010.11929).

    Attributes:
        patch: side of a patch; the picture's sides are multiples of it.
        width: of a token.
        depth: layers.
        heads: of attention.
        feedforward: width of the layer between attentions.
        layer_norm: LayerNorm before attention, before the hidden layer, and at the end.
        dropout: share of what is dropped in training.
    """

    dimensions: ClassVar[int | None] = 3
    head: ClassVar[str | None] = "head"

    patch: PositiveInt = 4
    width: PositiveInt = 64
    depth: PositiveInt = 4
    heads: PositiveInt = 4
    feedforward: PositiveInt = 128
    layer_norm: bool = True
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def build(self, shape: Sequence[int], outputs: int) -> nn.Module:
        sizes = {"patch": self.patch, "width": self.width, "depth": self.depth, "heads": self.heads}
        return Transformer(
            shape, outputs, **sizes, feedforward=self.feedforward, norm=self.layer_norm, dropout=self.dropout
        )


@dataclass(frozen=True, config=STRICT, kw_only=True)
class OwnNet(Net):
    """Anybody's network.

    Attributes:
        network: a function as module:function, called with the shape of an example, the number of outputs and
            ``settings``. Lazy layers see an example of zeros.
        settings: more of its arguments, by name.
    """

    network: str
    settings: dict[str, Any] = Field(default_factory=dict)

    def build(self, shape: Sequence[int], outputs: int) -> nn.Module:
        function = configs.find_object("net.network", self.network)
        try:
            network = function(tuple(shape), outputs, **self.settings)
            if isinstance(network, nn.Module) and any(map(is_lazy, network.parameters())):
                with torch.no_grad():
                    network.eval()(torch.zeros(1, *shape))
                network.train()
        except ConfigError:
            raise
        except Exception as error:
            raise ConfigError(f"net.network: {self.network!r} makes none: {configs.raised(error)}") from error
        if not isinstance(network, nn.Module):
            raise ConfigError(f"net.network: {self.network!r} gives {type(network).__name__}, no torch.nn.Module")
        return network


#: All networks by their name in YAML and on the command line.
NETS: dict[str, type[Net]] = {"mlp": MLP, "cnn": CNN, "resnet18": ResNet18, "vit": ViT}


def find_net(settings: Mapping[str, Any]) -> tuple[type[Net], dict[str, Any]]:
    """The class that ``network`` names, and its settings.

    Raises:
        ConfigError: there is none.
    """
    if "network" not in settings:
        raise ConfigError(f"net.network: this setting is required; choose from {', '.join(NETS)}")
    name = str(settings["network"])
    if ":" not in name:
        rest = {key: value for key, value in settings.items() if key != "network"}
        return configs.choose("net.network", name, NETS), rest
    if not callable(configs.find_object("net.network", name)):
        raise ConfigError(f"net.network: {name!r} is no function")
    return OwnNet, dict(settings)
