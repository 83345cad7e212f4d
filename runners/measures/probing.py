"""The probe of an agent at the beginning of a task: can the networks that go into it still be trained?"""

from __future__ import annotations

import copy
import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.preprocessing import preprocess_obs
from torch import Tensor, nn

from neoteny.agents import Continual
from neoteny.plasticity.metrics.recurrent import replay
from neoteny.plasticity.probe import COPIES, Split, probe
from neoteny.plasticity.seeding import own_seed

log = logging.getLogger("neoteny.runners")

#: Observations that the probe's learners fit.
OBSERVATIONS = 64
#: They are spread over at least so many environment steps.
SPREAD = 1024
#: Recurrent networks get runs of so many consecutive observations.
RUN = 8


class Unrolled(nn.Module):
    """A recurrent layer (or a Linear layer in its place) over runs of :data:`RUN` observations, each from zeros."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, features: Tensor) -> Tensor:
        """(runs · RUN, features), one run after the other, to (runs · RUN, units)."""
        layer = self.layer
        if not isinstance(layer, nn.RNNBase):
            return layer(features)
        runs = features.unflatten(0, (-1, RUN))
        sequence = runs if layer.batch_first else runs.transpose(0, 1)
        # Step by step, since torch does not batch its own over copies.
        outputs, _ = replay(layer, (sequence,), lambda *_: None) or layer(sequence)
        return (outputs if layer.batch_first else outputs.transpose(0, 1)).flatten(0, 1)


class WithActions(nn.Module):
    """An encoder whose features are followed by actions, as critics of continuous actions have them."""

    def __init__(self, encoder: nn.Module, actions: Tensor):
        super().__init__()
        self.encoder, self.actions = encoder, actions

    def forward(self, observations: Tensor) -> Tensor:
        return torch.cat([self.encoder(observations), self.actions], 1)


def networks(policy: BasePolicy, actions: Tensor) -> dict[str, Split]:
    """The actor and the critic of a stable-baselines3 or sb3-contrib policy, those that it has, by role.

    Of several critics, the first.

    Args:
        policy: its networks are shared, not copied.
        actions: for critics of continuous actions, (n, actions), from −1 to 1.
    """
    if hasattr(policy, "mlp_extractor"):
        return _of_actor_critic(policy)
    found = {}
    actor: Any = getattr(policy, "actor", None)
    if actor is not None and hasattr(actor, "latent_pi"):
        found["actor"] = Split(nn.Sequential(actor.features_extractor, actor.latent_pi), actor.mu)
    elif actor is not None and isinstance(getattr(actor, "mu", None), nn.Sequential):
        found["actor"] = _cut(actor.mu, actor.features_extractor)
    critic: Any = getattr(policy, "critic", None)
    for name in ("q_networks", "quantile_critics"):
        if hasattr(critic, name):
            encoder = critic.features_extractor or actor.features_extractor
            found["critic"] = _cut(getattr(critic, name)[0], WithActions(encoder, actions))
    for net, inner in (("q_net", "q_net"), ("quantile_net", "quantile_net")):
        if hasattr(outer := getattr(policy, net, None), inner):
            found["critic"] = _cut(getattr(outer, inner), outer.features_extractor)  # type: ignore[union-attr]
    return found


def _of_actor_critic(policy: Any) -> dict[str, Split]:
    torsos, found = policy.mlp_extractor, {}
    critic_lstm = getattr(policy, "lstm_critic", None) or getattr(policy, "critic", None)
    for role, encoder, lstm, torso, head in (
        ("actor", "pi_features_extractor", getattr(policy, "lstm_actor", None), "policy_net", policy.action_net),
        ("critic", "vf_features_extractor", critic_lstm, "value_net", policy.value_net),
    ):
        if lstm is None and hasattr(policy, "lstm_actor"):
            lstm = policy.lstm_actor  # shared
        if hasattr(torsos, torso) and hasattr(policy, encoder):
            memory = [] if lstm is None else [Unrolled(lstm)]
            found[role] = Split(nn.Sequential(getattr(policy, encoder), *memory, getattr(torsos, torso)), head)
    return found


def _cut(layers: nn.Sequential, encoder: nn.Module) -> Split:
    """At the last Linear layer; what follows it (a squashing function) is left out."""
    last = max(i for i, layer in enumerate(layers) if isinstance(layer, nn.Linear))
    return Split(nn.Sequential(encoder, layers[:last]), layers[last])


def encoded(alike: Sequence[Split], inputs: Any) -> Any:
    """The inputs of the layers after encoders without weights, which are cut off the networks, to compute them once.

    Features that are 0 for all of the inputs (most of a one-hot encoding) are dropped, with their weights, which do
    nothing and get no gradient.
    """
    layers = [list(_flat(split.torso)) for split in alike]
    encoder = layers[0][0]
    if isinstance(inputs, dict) or any(True for _ in encoder.parameters()):
        return inputs
    features: Tensor = encoder(inputs)
    takes = layers[0][1] if layers[0][1:] else None
    present = (features != 0).any(0)
    if type(takes) not in (nn.Linear, Unrolled):
        present = torch.ones_like(present)
    for split, (_, *rest) in zip(alike, layers, strict=True):
        if not present.all():
            rest[0] = _narrowed(rest[0], present)
        split.torso = nn.Sequential(*rest)
    return features[:, present] if features.ndim == 2 else features


def _flat(module: nn.Module) -> Iterator[nn.Module]:
    if type(module) is nn.Sequential:
        for part in module:
            yield from _flat(part)
    else:
        yield module


def _narrowed(layer: nn.Module, present: Tensor) -> nn.Module:
    """A copy that takes only some of its inputs."""
    made = copy.deepcopy(layer)
    for name, parameter in made.named_parameters():
        if name.endswith(("weight", "weight_ih_l0")):
            parameter.data = parameter.data[:, present].clone()
    return made


@contextmanager
def untouched() -> Iterator[None]:
    """Put every global random state back: torch's on the CPU, numpy's and Python's."""
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)


def new_policy(agent: Continual) -> Any:
    """A freshly initialized policy of the agent's kind, drawn from torch's global generator."""
    arguments: dict[str, Any] = {**agent.policy_kwargs}
    if isinstance(agent.policy, ActorCriticPolicy):
        arguments["use_sde"] = agent.use_sde
    made = agent.policy_class(agent.observation_space, agent.action_space, lambda _: 0.0, **arguments)
    return made.to(agent.device).eval()


def probe_agent(agent: Continual, state: Mapping[str, Tensor], observations: Any, seed: int) -> dict[str, float]:
    """What :func:`~neoteny.plasticity.probe.probe` says of each network, by role: ``actor``, ``actor_scale_free`` and
    ``actor_own_head``, and the same of the critic.

    A network is left out if it is not found in the policy, or has other layers than a fresh one; the log says so.

    Args:
        agent: is not changed, and nor is any global random state.
        state: of its policy (``state_dict``), at the moment that is asked about.
        observations: (n, …), as the agent sees them; a dict of such for Dict spaces.
        seed: of fresh networks, heads and teachers.
    """
    with untouched(), torch.no_grad():
        torch.default_generator.manual_seed(own_seed("probe", seed))
        seen, _ = agent.policy.obs_to_tensor(observations)
        inputs: Any = preprocess_obs(seen, agent.observation_space, agent.policy.normalize_images)
        count = len(next(iter(observations.values())) if isinstance(observations, dict) else observations)
        actions = (2 * torch.rand(count, int(np.prod(agent.action_space.shape or (1,)))) - 1).to(agent.device)
        template = new_policy(agent)
        fresh = [networks(new_policy(agent), actions) for _ in range(COPIES)]
        theirs = template.state_dict()
        odd = {
            n for n in theirs.keys() | state.keys() if n not in theirs or n not in state or not _fits(theirs, state, n)
        }
        template.load_state_dict({n: state.get(n, t) if n not in odd else t for n, t in theirs.items()})
        names = {id(p): name for name, p in template.named_parameters()}
        live = networks(template, actions)
        found: dict[str, float] = {}
        for role in ("actor", "critic"):
            if role not in live:
                if any(agent.role(name) == role for name, _ in agent.policy.named_parameters()):
                    say(f"the probe leaves out the {role}: it is not found in a {type(agent.policy).__name__}")
                continue
            if odd & {names[id(p)] for p in live[role].torso.parameters()}:
                say(f"the probe leaves out the {role}: it has other layers than a fresh one")
                continue
            own = not any(agent.role(name) == role for name in odd)
            if not own:
                say(f"the probe leaves out the {role}'s own head: it has other layers than a fresh one")
            alike = [live[role], *(each[role] for each in fresh)]
            features = encoded(alike, inputs)
            mine, *others = alike
            result = probe(mine, iter(others).__next__, features, seed, own_head=own)
            found |= {role: result.torso, f"{role}_scale_free": result.scale_free}
            found |= {f"{role}_own_head": result.own_head} if own else {}
    return found


def _fits(theirs: Mapping[str, Tensor], state: Mapping[str, Tensor], name: str) -> bool:
    return theirs[name].shape == state[name].shape


_said: set[str] = set()


def say(what: str) -> None:
    """Warn, once in this process."""
    if what not in _said:
        _said.add(what)
        log.warning(what)


class Prober:
    """Gathers observations while a task begins, then probes the networks as they went into it.

    One observation in every ``stride`` steps, of one environment after the other; for recurrent networks a run of
    :data:`RUN` consecutive ones of one environment. Then or at :meth:`finish` the probe is made, once.

    Args:
        agent: as it goes into the task, after it has acted on the switch. Only looked at.
        seed: of the run: all its probes have the same fresh networks.

    Attributes:
        found: the result, once it is there.
    """

    def __init__(self, agent: Continual, seed: int):
        self.agent, self.seed = agent, seed
        self.state = {name: tensor.detach().clone() for name, tensor in agent.policy.state_dict().items()}
        self.run = RUN if hasattr(agent.policy, "lstm_actor") else 1
        self.every = self.run * max(1, SPREAD // (OBSERVATIONS * agent.n_envs))
        self.steps = 0
        self.seen: list[Any] = []
        self.found: dict[str, float] | None = None

    def step(self) -> None:
        """Called at each step of the environments, before the agent's last observations are replaced."""
        if self.found is not None:
            return
        turn, place = divmod(self.steps, self.every)
        self.steps += 1
        if place < self.run:
            env, last = turn % self.agent.n_envs, self.agent._last_obs
            one = {k: v[env].copy() for k, v in last.items()} if isinstance(last, dict) else last[env].copy()  # type: ignore[index]
            self.seen.append(one)
        if len(self.seen) == OBSERVATIONS:
            self.finish()

    def finish(self) -> None:
        """Probe with what has been seen so far."""
        seen, self.seen = self.seen[: len(self.seen) // self.run * self.run], []
        if self.found is not None:
            return
        self.found = {}
        if len(seen) < OBSERVATIONS // 4:
            say(f"the probe needs {OBSERVATIONS // 4} observations of a task, there were {len(seen)}; it is left out")
            return
        stacked = (
            {k: np.stack([one[k] for one in seen]) for k in seen[0]} if isinstance(seen[0], dict) else np.stack(seen)
        )
        self.found = probe_agent(self.agent, self.state, stacked, self.seed)
