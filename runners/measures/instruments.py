"""Instruments: what a run measures of an agent's networks, several times in each task and at every switch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neoteny.agents.attached import Attached
from neoteny.plasticity.layers import Layer, layers_of
from neoteny.plasticity.metrics import (
    Passes,
    condition_number,
    dormant_units,
    effective_rank,
    frobenius_norm,
    gradient_diversity,
    greedy_churn,
    policy_churn,
    policy_entropy,
    saturated_units,
    singular_values,
    stable_rank,
    threshold_rank,
    update_ratio,
    value_churn,
)
from neoteny.runners.measures.reading import Batch, Outputs, draw, evaluating, outputs

#: States that networks are looked at in, at most.
STATES = 64


def trained(agent: Attached) -> set[int]:
    """``id`` of all parameters that an agent trains."""
    held = [p for o in agent.optimizers().values() for group in o.param_groups for p in group["params"]]
    return {id(p) for p in held if p.requires_grad}


def network_of(agent: Attached, layer: str) -> str:
    """The network that a layer is in: ``actor``, ``critic`` or, if both use it, ``encoder``."""
    shared = getattr(agent.policy, "share_features_extractor", False) and layer.startswith("features_extractor.")
    return "encoder" if shared else agent.role(layer)


def trained_layers(agent: Attached) -> list[Layer]:
    """The matrices that an agent trains."""
    held = trained(agent)
    every = (layer for layer in layers_of(agent.policy) if not layer.is_norm)
    return [layer for layer in every if any(id(p) in held for p in layer.weights.parameters)]


class Look:
    """An agent's networks after the updates on a rollout, and what is known of them before these.

    Attributes:
        agent: whose networks.
        batch: states of that rollout, or of the replay buffer; None where there are none.
        before: what the networks said in these states before the updates; None if that is not known.
        weights: the weights of :attr:`layers` before the updates, by name.
        spectra: all singular values of :attr:`layers`, by name, where they were asked for.
        left_out: what could not be read, with the reason.
        rng: for what is drawn.
    """

    def __init__(self, agent: Attached, rng: np.random.Generator):
        self.agent, self.rng = agent, rng
        self.batch: Batch | None = None
        self.before: Outputs | None = None
        self.weights: dict[str, Tensor] = {}
        self.spectra: dict[str, Tensor] = {}
        self.left_out: dict[str, str] = {}

    @classmethod
    def begin(cls, agent: Attached, rng: np.random.Generator) -> Look:
        """What there is before the updates, on a rollout that has just ended."""
        look = cls(agent, rng)
        look.batch = draw(agent, STATES, rng)
        look.before = look.read(look.batch)
        return look

    def keep_weights(self) -> None:
        """Keep the weights as they are, to see how far updates move them."""
        self.weights = {name: layer.weight.detach().clone() for name, layer in self.layers.items()}

    def read(self, batch: Batch | None) -> Outputs | None:
        """What the networks say in ``batch``; None if they cannot be read."""
        if batch is None:
            self.left_out["units, gradients, policy, value"] = "there is no buffer that states could be taken from"
            return None
        with torch.no_grad(), evaluating(self.agent.policy):
            return self._outputs(batch)

    def _outputs(self, batch: Batch) -> Outputs | None:
        try:
            return outputs(self.agent.policy, batch)
        except (NotImplementedError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            self.left_out["units, gradients, policy, value"] = f"{type(self.agent.policy).__name__} not read: {reason}"
            return None

    @cached_property
    def layers(self) -> dict[str, Layer]:
        """The matrices that are trained, by name."""
        return {layer.name: layer for layer in trained_layers(self.agent)}

    @cached_property
    def trained(self) -> set[int]:
        """``id`` of all parameters that are trained."""
        return trained(self.agent)

    @cached_property
    def passes(self) -> tuple[Passes, Outputs | None]:
        """What the networks do and say in :attr:`batch` now."""
        passes = Passes(self.agent.policy)
        if self.batch is None:
            return passes, None
        with torch.enable_grad(), evaluating(self.agent.policy), passes:
            return passes, self._outputs(self.batch)

    @property
    def now(self) -> Outputs | None:
        """What the networks say now."""
        return self.passes[1]


Instrument = Callable[[Look], Mapping[str, float]]


def spectra(look: Look) -> dict[str, float]:
    """Of every trained matrix, by its layer's name, what its singular values say."""
    found = {}
    for name, layer in look.layers.items():
        values = look.spectra[name] = singular_values(layer.matrix)
        found[f"spectral_norm/{name}"] = float(values[0])
        found[f"condition_number/{name}"] = condition_number(values)
        found[f"stable_rank/{name}"] = stable_rank(values)
        found[f"effective_rank/{name}"] = effective_rank(values)
        found[f"frobenius_norm/{name}"] = frobenius_norm(values)  # ‖W‖_F = ‖σ‖
    return found


def units(look: Look) -> dict[str, float]:
    """Which shares of every layer's hidden units are dormant and saturated, and the rank of every head's features."""
    passes, now = look.passes
    if now is None:
        return {}
    agent, found = look.agent, {}
    read, held = passes.units(), {layer.module for layer in look.layers.values()}
    heads = agent.heads()
    for name, seen in read.items():
        if name not in held:
            continue
        found[f"dormant/{name}"] = _share(dormant_units(seen.activations), seen.activations)
        if seen.slopes is not None:
            found[f"saturated/{name}"] = _share(saturated_units(seen.slopes), seen.slopes)
        else:
            look.left_out[f"saturated units of {name}"] = "no activation function of theirs is known"
    for name in passes.unread():
        if name in held - heads:
            look.left_out[f"units of {name}"] = "what follows is no module of torch's kinds"
    for name in sorted(heads):
        features = passes.inputs(name)
        if features is not None:
            values = singular_values(features.flatten(0, -2))
            found[f"feature_rank/{name}"] = effective_rank(values)
            found[f"feature_srank/{name}"] = threshold_rank(values)
    return found


def _share(mask: Tensor, values: Tensor) -> float:
    return float(mask.double().mean()) if bool(torch.isfinite(values).all()) else float("nan")


def gradients(look: Look) -> dict[str, float]:
    """Gradient diversity of actor and critic, or of a network that learns from examples."""
    passes, now = look.passes
    if now is None:
        return {}
    found = {}
    for role, losses in (("actor", now.score), ("critic", now.value), ("network", now.loss)):
        if losses is None:
            continue
        gram, left_out = passes.products.gram(losses, look.trained)
        if gram is not None:
            found[f"gradient_diversity/{role}"] = gradient_diversity(gram)
        for name in left_out:
            look.left_out[f"gradients of {name}"] = "they are too many, or torch cannot batch their operation"
    return found


def policy(look: Look) -> dict[str, float]:
    """The policy's entropy."""
    entropy = entropy_of(look.agent, look.now, look.rng) if look.now else None
    if look.now and entropy is None:
        look.left_out["policy/entropy"] = "actions are not drawn from a distribution that has one"
    return {} if entropy is None else {"policy/entropy": entropy}


def entropy_of(agent: Any, said: Outputs, rng: np.random.Generator) -> float | None:
    """The entropy of the policy in nats; of ε-greedy actions with the ε of the moment; None of a deterministic policy.

    That of a squashed Gaussian is the Gaussian's and E[Σ log(1 − tanh²u)], the mean over one draw of u for each state.
    """
    if said.policy is not None:
        entropy = policy_entropy(said.policy)
        if said.squashed:
            (normal,) = said.policy
            mean, std = normal.mean.detach(), normal.stddev.detach()
            noise = torch.as_tensor(rng.standard_normal(mean.shape), dtype=mean.dtype, device=mean.device)
            u = mean + std * noise
            entropy += float(2 * (np.log(2) - u - torch.nn.functional.softplus(-2 * u)).sum(1).mean())
        return entropy
    if said.preferences is None or not hasattr(agent, "exploration_rate"):
        return None
    actions = said.preferences.shape[1]
    others = agent.exploration_rate / actions
    chances = torch.tensor([1 - others * (actions - 1)] + [others] * (actions - 1), dtype=torch.float64)
    return float(torch.special.entr(chances).sum())


def updates(look: Look) -> dict[str, float]:
    """How far the updates on a rollout have moved weights, policy and values."""
    held = {name: layer for name, layer in look.layers.items() if name in look.weights}
    same = {name: layer for name, layer in held.items() if layer.weight.shape == look.weights[name].shape}
    found = {f"update_ratio/{name}": update_ratio(look.weights[name], x.weight.detach()) for name, x in same.items()}
    old, new = look.before, look.now
    if old is None or new is None:
        return found
    if old.policy is not None and new.policy is not None:
        found["policy/churn"] = policy_churn(old.policy, new.policy)
    if old.preferences is not None and new.preferences is not None:
        found["policy/greedy_churn"] = greedy_churn(old.preferences, new.preferences)
    if old.actions is not None and new.actions is not None:
        found["policy/action_churn"] = float((new.actions - old.actions).norm(dim=1).mean())
    if old.value is not None and new.value is not None:
        found["value/churn"] = value_churn(old.value, new.value)
    return found


#: What is measured at each look, by the name that ``--instruments`` takes.
INSTRUMENTS: dict[str, Instrument] = {
    "spectra": spectra,
    "units": units,
    "gradients": gradients,
    "policy": policy,
    "updates": updates,
}
