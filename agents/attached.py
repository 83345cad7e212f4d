"""What learns with plasticity methods attached to its network and its optimizers."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from neoteny.plasticity import Handle, Method
from neoteny.plasticity.optimizers import Prepared
from neoteny.plasticity.seeding import own_seed
from neoteny.plasticity.survey import share, survey

#: One method for the whole agent, or one per role; None or a missing role for no method.
Reg = Method | Mapping[str, Method | None] | None


class NonFiniteError(RuntimeError):
    """Training has diverged: a loss or a weight is not finite."""


class Attached:
    """Mixin of whatever trains a network, :attr:`policy`, with optimizers that are attributes of its modules.

    Attributes:
        policy: the network, by stable-baselines3's name.
        seed: of its initial weights; methods draw from generators of their own, seeded from it.
        reg: the methods, as templates: each optimizer gets its own copy.
        methods: the attached copies, by role (``all``, ``actor`` or ``critic``) and, if there are several optimizers,
            by optimizer.
    """

    policy: Any
    seed: int | None
    reg: Reg
    methods: dict[str, Method]
    num_timesteps: int
    _handles: list[Handle]

    def _prepare_optimizers(self) -> None:
        """Show the network to optimizers that need it."""
        for name, optimizer in self.optimizers().items():
            if isinstance(optimizer, Prepared):
                seed = own_seed(name, self.seed or 0)
                optimizer.prepare(self.policy, seed=seed, output_layers=self._heads_of(optimizer))

    def _attach_methods(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles, self.methods = [], {}
        roles = {"all": self.reg} if isinstance(self.reg, Method) else dict(self.reg or {})
        if unknown := sorted(roles.keys() - {"all", "actor", "critic"}):
            raise ValueError(f"reg: {unknown[0]!r} is no role; the roles are actor and critic")
        if any(roles.values()) and not self.optimizers():
            raise ValueError(
                f"reg: {type(self).__name__} learns without an optimizer; methods act when an optimizer steps"
            )
        for role, template in roles.items():
            if template is None:
                continue
            for name, optimizer in self.optimizers().items():
                names = {n for n, m in self.policy.named_modules() if self._trains(optimizer, m)}
                if any(self._plays(role, name) for name in names):
                    method = copy.deepcopy(template)
                    handle = method.attach(
                        self.policy,
                        optimizer,
                        seed=own_seed(f"{role}{name}", self.seed or 0),
                        only=functools.partial(self._plays, role),
                        output_layers=self._heads_of(optimizer),
                    )
                    self._handles.append(handle)
                    self.methods[f"{role}{name}"] = method
        if self.reg is not None and roles and not self.methods and any(roles.values()):
            raise ValueError(f"reg: this agent has no weights in the roles {', '.join(roles)}")

    def _plays(self, role: str, name: str) -> bool:
        """Whether the layer ``name`` is in ``role``; also one that is added later."""
        return role in ("all", self.role(name))

    @staticmethod
    def _trains(optimizer: torch.optim.Optimizer, module: nn.Module) -> bool:
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        return any(id(p) in held for p in module.parameters(recurse=False))

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """The optimizers of the policy's networks: ``{"": …}`` if there is one, else ``{".actor": …, …}``."""
        return {
            f".{name}" if name else "": optimizer
            for name, module in self.policy.named_modules()
            if isinstance(optimizer := getattr(module, "optimizer", None), torch.optim.Optimizer)
        }

    def role(self, name: str) -> str:
        """The role, ``actor`` or ``critic``, of the layer with this dotted name."""
        raise NotImplementedError

    def coverage(self) -> dict[str, str]:
        """What the methods do with each matrix that the agent trains, by name.

        See :meth:`neoteny.plasticity.Method.coverage`; ``no method`` for a role that has none.
        """
        found = dict.fromkeys(self._sizes(), "no method")
        for method in self.methods.values():
            found |= method.coverage()
        return found

    def acted_on(self) -> float:
        """The share of the weights in trained matrices that a method acts on."""
        return share(self._sizes(), self.coverage())

    def _sizes(self) -> dict[str, int]:
        surveys = [survey(self.policy, optimizer, "include") for optimizer in self.optimizers().values()]
        return {name: size for found in surveys for name, size in found.sizes().items()}

    def heads(self) -> set[str]:
        """The dotted names of the network's output layers, for ``heads: exempt``."""
        raise NotImplementedError

    def _heads_of(self, optimizer: torch.optim.Optimizer) -> set[str] | None:
        """Those of :meth:`heads` that ``optimizer`` trains; None if there is none.

        Raises:
            ValueError: :meth:`heads` names a layer that the policy does not have.
        """
        layers, heads = dict(self.policy.named_modules()), self.heads()
        if unknown := sorted(heads - layers.keys()):
            raise ValueError(f"heads(): the policy has no layer {unknown[0]!r}")
        return {name for name in heads if self._trains(optimizer, layers[name])} or None

    def check_finite(self) -> None:
        """Raises:
        NonFiniteError: a logged loss or a weight is not finite. The message says which, and after how many steps.
        """
        for key, value in self._logged().items():
            if "loss" in key and not math.isfinite(value):
                raise NonFiniteError(f"{key} is {value} {self._place()}")
        parameters = dict(self.policy.named_parameters())
        norms = torch.stack([n.float() for n in torch._foreach_norm(list(parameters.values()))])
        if not torch.isfinite(norms.sum()):
            bad = [name for name, p in parameters.items() if not torch.isfinite(p).all()]
            if bad:
                raise NonFiniteError(f"weights of {', '.join(bad[:3])} are not finite {self._place()}")

    def _logged(self) -> Mapping[str, float]:
        """What the last updates have logged."""
        return {}

    def _place(self) -> str:
        """How far training is, in words."""
        raise NotImplementedError
