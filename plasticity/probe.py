"""A probe: how fast a network fits random targets, compared with freshly initialized ones of the same kind."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from neoteny.plasticity.layers import Computed, layers_of

#: Learners on each side, each with its own head and teacher.
COPIES = 4
#: Targets of each learner with a unit head.
OUTPUTS = 8
#: Updates of each learner, with Adam at this learning rate.
UPDATES = 40
LEARNING_RATE = 3e-3


class Split(nn.Module):
    """A network in two parts.

    Args:
        torso: inputs (n, …) to features (n, width).
        head: features to outputs (n, outputs).
    """

    def __init__(self, torso: nn.Module, head: nn.Module):
        super().__init__()
        self.torso, self.head = torso, head

    def forward(self, inputs: Any) -> Tensor:
        return self.head(self.torso(inputs))


@dataclass(frozen=True)
class Probe:
    """Areas under the loss curve, those of the live network over those of fresh ones: 1 as good as new, above it worse.

    Attributes:
        torso: of the torso with a fresh head.
        scale_free: the same after :func:`rescale_`, so that only the weights' directions count.
        own_head: of the whole network with its own head; NaN if it was not asked for.
    """

    torso: float
    scale_free: float
    own_head: float = math.nan


def probe(
    live: Split, make: Callable[[], Split], inputs: Any, seed: int = 0, own_head: bool = True, copies: int = COPIES
) -> Probe:
    """How fast ``live`` fits the outputs of random teachers on ``inputs``, relative to fresh networks.

    A teacher is a fresh torso with a random head; its outputs are standardized over the inputs, so that predicting 0
    has the loss 1. The learners are ``copies`` copies of the live network, each with another head and teacher, and as
    many fresh networks with the same heads and teachers. Each makes :data:`UPDATES` full-batch updates of a new Adam on
    the mean squared error. This measures fitting, not return: what a network can be trained to, not what it explores.

    A fresh network reads 1, with a standard deviation of about 0.05 at width 64. One that has learned something reads
    more, also where its task has not changed (docs/instruments.md has such a control). Where weights are large their
    scale dominates ``torso`` (weights × 10: over 100); ``scale_free`` says what is left without it.

    Neither ``live`` nor torch's global random state is changed. Dropout and the like are as in evaluation mode.

    Args:
        live: the network. Its gradients, hooks and optimizer are not touched: all passes are of copies.
        make: gives a freshly initialized network of the same kind, another each time. It may draw from torch's global
            CPU generator, which is seeded here and restored.
        inputs: (n, …), as the torso takes them.
        seed: of the fresh networks and heads.
        own_head: also probe the network with its own head.
        copies: learners on each side, at least 2.

    Raises:
        ValueError: fewer than two inputs or copies.
    """
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.default_generator.manual_seed(seed)
        fresh = [make().eval() for _ in range(copies)]
        live = bare(live)
        rescaled = copy.deepcopy(live.torso)
        rescale_(rescaled, fresh[0].torso)
        with torch.no_grad():
            features = torch.stack([network.torso(inputs) for network in fresh])
        if min(features.shape[:2]) < 2:
            raise ValueError(f"inputs, copies: at least 2 are needed, got {features.shape[1]} and {copies}")
        heads = [unit_head(features.shape[-1], OUTPUTS).to(features) for _ in fresh]
        targets = teach(features)
        groups = [[live.torso] * copies, [rescaled] * copies, [network.torso for network in fresh]]
        learners = [Split(torso, head) for group in groups for torso, head in zip(group, heads, strict=True)]
        torso, scale_free, new = areas(learners, inputs, targets.repeat(3, 1, 1)).view(3, copies).mean(1)
        ratios = [float(torso / new), float(scale_free / new)]
        if own_head:
            with torch.no_grad():
                width = fresh[0].head(features[0]).shape[-1]
            targets = teach(features, width)
            mine, new = areas([live] * copies + fresh, inputs, targets.repeat(2, 1, 1)).view(2, copies).mean(1)
            ratios.append(float(mine / new))
    return Probe(*ratios)


def bare(network: Split) -> Split:
    """A copy in evaluation mode without gradients and hooks."""
    twin = copy.deepcopy(network).eval()
    for module in twin.modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
    return twin


def unit_head(width: int, outputs: int) -> nn.Linear:
    """A Linear layer whose outputs have the mean square of its inputs, on average."""
    head = nn.Linear(width, outputs)
    nn.init.normal_(head.weight, std=width**-0.5)
    nn.init.zeros_(head.bias)
    return head


def teach(features: Tensor, outputs: int = OUTPUTS) -> Tensor:
    """Targets for each learner: from the features of the next fresh network, standardized over the inputs.

    Args:
        features: of all fresh networks, (copies, n, width).

    Returns:
        (copies, n, outputs); NaN where a teacher says the same of all inputs.
    """
    copies, _, width = features.shape
    heads = torch.randn(copies, width, outputs).to(features)
    answers = features.roll(1, 0) @ heads
    answers = answers - answers.mean(1, keepdim=True)
    spread = answers.square().mean(1, keepdim=True).sqrt()
    return answers / torch.where(spread > 1e-6, spread, math.nan)


@torch.no_grad()
def rescale_(network: nn.Module, like: nn.Module) -> None:
    """Give each matrix, and the scales of each norm, the Frobenius norm that it has in ``like``; biases to match.

    The function of a chain of Linear and convolutional layers with ReLU or leaky ReLU stays the same up to one factor,
    so a network and the same one with its layers multiplied by positive numbers become the same. Elsewhere (tanh,
    gates, skip connections) it is no longer the same function. A matrix of zeros, and weights that are computed, stay.
    """
    factor = 1.0  # of what comes in
    for layer, other in zip(layers_of(network), layers_of(like), strict=True):
        norm = float(layer.weight.norm())
        if isinstance(layer.weights, Computed) or not 0 < norm < math.inf:
            continue
        own = float(other.weight.norm()) / norm
        chained = isinstance(layer.owner, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d))
        factor = factor * own if chained else own
        layer.weight.mul_(own)
        if layer.bias is not None:
            layer.bias.mul_(factor)
        if not (chained or layer.is_norm):
            factor = 1.0


def areas(learners: Sequence[nn.Module], inputs: Any, targets: Tensor) -> Tensor:
    """The mean loss of each learner over its updates, (learners): all learn at the same time.

    Args:
        learners: modules of the same structure, which are not changed.
        inputs: (n, …), for all of them.
        targets: (learners, n, outputs).
    """
    weights, buffers = stack_module_state(list(learners))
    trained = {name: weight.detach().clone().requires_grad_() for name, weight in weights.items()}
    optimizer = torch.optim.Adam(list(trained.values()), lr=LEARNING_RATE)
    call = batched(learners[0])
    losses = []
    for _ in range(UPDATES):
        loss = (call(trained, buffers, inputs) - targets).square().mean((1, 2))
        gradients = torch.autograd.grad(loss.sum(), list(trained.values()), allow_unused=True)
        for weight, gradient in zip(trained.values(), gradients, strict=True):
            weight.grad = None if gradient is None else gradient.contiguous()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses).mean(0)


def batched(module: nn.Module) -> Callable[..., Tensor]:
    """A pass of many copies of ``module``, as a function of their stacked weights and buffers, and of the inputs.

    Where torch cannot batch it (recurrent layers), the copies take their turns.
    """

    def one(weights: dict[str, Tensor], buffers: dict[str, Tensor], inputs: Any) -> Tensor:
        return functional_call(module, (weights, buffers), (inputs,))

    def in_turn(weights: dict[str, Tensor], buffers: dict[str, Tensor], inputs: Any) -> Tensor:
        count = len(next(iter(weights.values())))
        states = [({k: w[i] for k, w in weights.items()}, {k: b[i] for k, b in buffers.items()}) for i in range(count)]
        return torch.stack([one(*state, inputs) for state in states])

    together = vmap(one, in_dims=(0, 0, None))

    def whichever(weights: dict[str, Tensor], buffers: dict[str, Tensor], inputs: Any) -> Tensor:
        nonlocal together
        try:
            return together(weights, buffers, inputs)
        except RuntimeError:  # an operation without a batching rule
            together = in_turn
            return in_turn(weights, buffers, inputs)

    return whichever
