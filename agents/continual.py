"""The mixin that makes any stable-baselines3 algorithm a continual learner."""

from __future__ import annotations

import copy
import inspect
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.save_util import recursive_getattr
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.utils import check_for_correct_spaces, get_device
from torch import nn

from agents import checkpoint
from agents.checkpoint import CheckpointError
from plasticity import Handle, Method

#: One method for the whole agent, or one for each role; None or a missing role: nothing.
Reg = Method | Mapping[str, Method | None] | None

#: Layers whose dotted name has one of these parts belong to the critic, all others to the actor.
CRITIC = re.compile(r"(^|\.)(value_net|vf_features_extractor|critic|q_net|quantile_net)(\.|$)")

#: What a file holds, see :meth:`Continual.save`.
RECORD = ("arguments", "needed", "reg", "spaces", "n_envs", "attributes", "modules", "variables", "methods")

#: Arguments that belong to a process, not to the agent: they are never written.
TRANSIENT = ("env", "device", "_init_setup_model", "tensorboard_log")


class NonFiniteError(RuntimeError):
    """Training has diverged: a loss or a weight is not a finite number."""


class Continual(BaseAlgorithm):
    """Put before an algorithm, it adds plasticity methods and safe saving: ``class PPO(Continual, sb3.PPO)``.

    Methods are attached where the algorithm's networks and optimizers are made, in ``_setup_model``, so that building
    and loading an agent take the same path. Without a method, training is the algorithm's own, bit for bit.

    Args:
        policy, env, ...: as the algorithm takes them.
        reg: a :class:`~plasticity.Method` for all networks that are trained, or ``{"actor": ..., "critic": ...}``.
            The instances given are templates: each optimizer gets its own copy. An agent that only has value
            networks (DQN) is all critic.

    Attributes:
        methods: the attached copies, by role (``all``, ``actor`` or ``critic``) and, where roles have several
            optimizers, by optimizer.
    """

    methods: dict[str, Method]

    def __init__(self, policy: Any, env: GymEnv | None, *args: Any, reg: Reg = None, **kwargs: Any):
        bound = inspect.signature(super().__init__).bind_partial(policy, env, *args, **kwargs)
        self._arguments = dict(bound.arguments)
        self._arguments |= self._arguments.pop("kwargs", {})
        for transient in TRANSIENT:
            self._arguments.pop(transient, None)
        self.reg = reg
        self.methods = {}
        self._handles: list[Handle] = []
        super().__init__(policy, env, *args, **kwargs)

    def _setup_model(self) -> None:
        super()._setup_model()  # type: ignore[safe-super]  # the algorithm's, next in line
        self._attach_methods()

    def _attach_methods(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles, self.methods = [], {}
        roles = {"all": self.reg} if isinstance(self.reg, Method) else dict(self.reg or {})
        if unknown := sorted(roles.keys() - {"all", "actor", "critic"}):
            raise ValueError(f"reg: {unknown[0]!r} is no role; the roles are actor and critic")
        for role, template in roles.items():
            if template is None:
                continue
            for name, optimizer in self.optimizers().items():
                names = {n for n, m in self.policy.named_modules() if self._trains(optimizer, m)}
                names = {n for n in names if role in ("all", self.role(n))}
                if names:
                    method = copy.deepcopy(template)
                    handle = method.attach(
                        self.policy,
                        optimizer,
                        seed=(self.seed or 0) + len(self.methods),
                        only=names.__contains__,
                    )
                    self._handles.append(handle)
                    self.methods[f"{role}{name}"] = method
        if self.reg is not None and roles and not self.methods and any(roles.values()):
            raise ValueError(f"reg: this agent has no weights in the roles {', '.join(roles)}")

    @staticmethod
    def _trains(optimizer: torch.optim.Optimizer, module: nn.Module) -> bool:
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        return any(id(p) in held for p in module.parameters(recurse=False))

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """The optimizers of the policy's networks: ``{"": …}`` for a single one, else ``{".actor": …, …}``."""
        return {
            f".{name}" if name else "": optimizer
            for name, module in self.policy.named_modules()
            if isinstance(optimizer := getattr(module, "optimizer", None), torch.optim.Optimizer)
        }

    def role(self, name: str) -> str:
        """``actor`` or ``critic``: whose the layer of this dotted name is. Override for networks named otherwise."""
        return "critic" if CRITIC.search(name) else "actor"

    def on_switch(self) -> None:
        """Another task begins: tell the methods."""
        for method in self.methods.values():
            method.on_switch()

    def check_finite(self) -> None:
        """Raises:
        NonFiniteError: a logged loss, or a weight, is not finite; says which, and after how many steps.
        """
        place = f"after {self.num_timesteps} environment steps and {getattr(self, '_n_updates', 0)} epochs of updates"
        logged = self.logger.name_to_value if hasattr(self, "_logger") else {}
        for key, value in logged.items():
            if "loss" in key and not math.isfinite(value):
                raise NonFiniteError(f"{key} is {value} {place}")
        parameters = dict(self.policy.named_parameters())
        norms = torch.stack([n.float() for n in torch._foreach_norm(list(parameters.values()))])
        if not torch.isfinite(norms.sum()):
            bad = [name for name, p in parameters.items() if not torch.isfinite(p).all()]
            if bad:
                raise NonFiniteError(f"weights of {', '.join(bad[:3])} are not finite {place}")

    def save(self, path: str | Path, *_: Any, **__: Any) -> None:  # type: ignore[override]
        """Write the agent to one ``.safetensors`` file: weights, optimizers, methods, counters and settings.

        Raises:
            CheckpointError: a setting that shapes the networks is not data.
        """
        arguments, needed = {}, []
        for key, value in self._arguments.items():
            try:
                checkpoint.encode(value, {}, key)
                arguments[key] = value
            except CheckpointError:
                needed.append(key)
        modules, variables = self._get_torch_save_params()
        plain = (bool, int, float, str, type(None))
        elsewhere = {*self._excluded_save_params(), *TRANSIENT, "n_envs", "start_time"}
        record = {
            "arguments": arguments,
            "needed": needed,
            "reg": self.reg if self.reg is None or isinstance(self.reg, Method) else dict(self.reg),
            "spaces": [self.observation_space, self.action_space],
            "n_envs": self.n_envs,
            "attributes": {k: v for k, v in vars(self).items() if type(v) in plain and k not in elsewhere},
            "modules": {name: recursive_getattr(self, name).state_dict() for name in modules},
            "variables": {name: recursive_getattr(self, name) for name in variables},
            "methods": {name: method.state_dict() for name, method in self.methods.items()},
        }
        checkpoint.write(_with_suffix(path), record)

    @classmethod
    def load(  # type: ignore[override]
        cls,
        path: str | Path,
        env: GymEnv | None = None,
        device: torch.device | str = "auto",
        **arguments: Any,
    ) -> Self:
        """The agent that :meth:`save` wrote, ready to predict and, given an ``env``, to train on.

        Args:
            path: the file.
            env: what to train on; its spaces must be those of the agent.
            device: where the networks go.
            arguments: settings to replace, or to supply where :meth:`save` could not write them (functions). Methods
                of a new ``reg`` begin with the loaded weights.

        Raises:
            CheckpointError: the file is no saved agent, needs a class that is not imported, or needs a setting.
        """
        record = checkpoint.read(_with_suffix(path))
        if absent := [key for key in RECORD if key not in record]:
            raise CheckpointError(f"{path}: not a saved agent (it has no {absent[0]})")
        if missing := [key for key in record["needed"] if key not in arguments]:
            raise CheckpointError(
                f"{path}: {missing[0]} was not data and is not in the file; pass it: load(..., {missing[0]}=...)"
            )
        settings = record["arguments"] | {"reg": record["reg"]} | arguments
        agent = cls(env=env, device=get_device(device), _init_setup_model=False, **settings)
        observation_space, action_space = record["spaces"]
        if env is not None:
            check_for_correct_spaces(agent.get_env() or env, observation_space, action_space)
        else:
            agent.observation_space, agent.action_space, agent.n_envs = (
                observation_space,
                action_space,
                record["n_envs"],
            )
        attributes = {k: v for k, v in record["attributes"].items() if k.removeprefix("_") not in arguments}
        vars(agent).update(attributes)  # some set-ups read derived settings, and all overwrite counters: so again below
        agent._setup_model()
        vars(agent).update(attributes)
        agent.set_parameters(record["modules"], exact_match=True, device=device)
        for name, value in record["variables"].items():
            recursive_getattr(agent, name).data.copy_(value)
        if "reg" in arguments:
            agent._attach_methods()
        else:
            for name, method in agent.methods.items():
                method.load_state_dict(record["methods"][name])
        return agent


def _with_suffix(path: str | Path) -> Path:
    path = Path(path)
    return path if path.suffix == ".safetensors" else path.with_name(path.name + ".safetensors")
