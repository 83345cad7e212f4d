"""A mixin that adds continual learning to any stable-baselines3 algorithm."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from gymnasium import spaces
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.save_util import recursive_getattr
from stable_baselines3.common.type_aliases import GymEnv
from torch import nn

from neoteny.agents import normalization
from neoteny.agents.attached import Attached, Reg
from neoteny.agents.replay import choose_class, count_from_empty
from neoteny.agents.saving import TRANSIENT, Saved
from neoteny.agents.switch import AtSwitch, ReplayAtSwitch
from neoteny.agents.tasks import FollowsTasks

#: Layers with one of these parts in their dotted name belong to the critic, all others to the actor, including a shared
#: encoder.
CRITIC = re.compile(r"(^|\.)(value_net|vf_features_extractor|critic|lstm_critic|q_net|quantile_net)(\.|$)")


#: The modules of stable-baselines3's and sb3-contrib's policies that end in an output layer, and what is in them. Not
#: what plasticity injection adds.
OUTPUTS = re.compile(
    r"(action_net|value_net|q_net\.q_net|quantile_net\.quantile_net|actor\.mu|actor\.log_std|critic\.qf\d+)"
    r"(\.(?!added|removed)\w+)*"
)


class Continual(Attached, FollowsTasks, Saved):
    """Mixin that adds plasticity methods, settings for task switches, and safe saving to an algorithm: ``class
    PPO(Continual, sb3.PPO)``.

    Where an environment says that a task begins, the agent follows: see :class:`~neoteny.agents.tasks.FollowsTasks`.
    Methods are attached in ``_setup_model``, where the algorithm creates its networks and optimizers, so this is the
    same for new and loaded agents. Without a method, training is bit for bit that of the
    algorithm; agents that compute updates in closed form (:mod:`neoteny.agents.closed_form`) and the policy
    ``ActorCritic`` differ by rounding.

    Args:
        policy, env, ...: the algorithm's arguments.
        reg: a :class:`~neoteny.plasticity.Method` for all trained networks, or ``{"actor": ..., "critic": ...}``. The
            instances are templates: each optimizer gets its own copy. An agent with value networks only (DQN) has the
            role critic only.
        at_switch: what to do at a switch besides the methods: an instance of :attr:`SwitchPolicy` or its settings.

    Attributes:
        methods: the attached copies, by role (``all``, ``actor`` or ``critic``) and, if there are several optimizers,
            by optimizer.
    """

    #: The class of ``at_switch``; None for the settings shared by all algorithms, see :mod:`neoteny.agents.switch`.
    SwitchPolicy: ClassVar[type[AtSwitch] | None] = None
    #: The action space that the algorithm needs, and which agents to use for others.
    needs: ClassVar[type[spaces.Space[Any]]] = spaces.Space
    instead: ClassVar[str] = "another agent"

    def __init__(
        self,
        policy: Any,
        env: GymEnv | None,
        *args: Any,
        reg: Reg = None,
        at_switch: AtSwitch | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ):
        self._check_actions(env)
        bound = inspect.signature(super().__init__).bind_partial(policy, env, *args, **kwargs)
        self._arguments = dict(bound.arguments)
        self._arguments |= self._arguments.pop("kwargs", {})
        for transient in TRANSIENT:
            self._arguments.pop(transient, None)
        self.reg = reg
        self.methods = {}
        self._handles = []
        if not isinstance(at_switch, AtSwitch):
            general = ReplayAtSwitch if isinstance(self, OffPolicyAlgorithm) else AtSwitch
            at_switch = (self.SwitchPolicy or general)(**(at_switch or {}))
        self.at_switch = at_switch
        self._replay_began = 0
        super().__init__(policy, env, *args, **kwargs)

    def _check_actions(self, env: GymEnv | None) -> None:
        actions = getattr(env, "action_space", None)
        if actions is not None and not isinstance(actions, self.needs):
            raise ValueError(
                f"{type(self).__name__.lower()} needs {self.needs.__name__} actions, the tasks have {actions}; "
                f"choose {self.instead}"
            )

    def _setup_model(self) -> None:
        if isinstance(self, OffPolicyAlgorithm):
            choose_class(self)
        super()._setup_model()  # type: ignore[safe-super]  # the algorithm's
        self._prepare_optimizers()
        self._attach_methods()

    @property
    def updates(self) -> str:
        """How updates are computed, in words."""
        return "the algorithm's own"

    def role(self, name: str) -> str:
        """The role, ``actor`` or ``critic``, of the layer with this dotted name. Override for other naming schemes."""
        return "critic" if CRITIC.search(name) else "actor"

    def heads(self) -> set[str]:
        """The dotted names of the policy's output layers, for ``heads: exempt``. Override for other naming schemes.

        These are the last Linear layers of ``action_net``, ``value_net``, ``mu``, ``qf0`` and so on. Where an optimizer
        trains none of them, its heads are found as in any network, see :mod:`neoteny.plasticity.heads`.
        """
        layers = [name for name, module in self.policy.named_modules() if isinstance(module, nn.Linear)]
        last = {match[1]: name for name in layers if (match := OUTPUTS.fullmatch(name))}
        return set(last.values())

    def on_switch(self) -> None:
        """Handle a task switch: apply ``at_switch``, then call the methods' ``on_switch``."""
        for name, value in self.at_switch.plain().items():
            if value != "keep":
                getattr(self, f"{value}_{name}")()
        for method in self.methods.values():
            method.on_switch()

    def reset_optimizer(self) -> None:
        """Clear the state of all optimizers: moments and step counts."""
        for name in self._get_torch_save_params()[0]:
            if isinstance(optimizer := recursive_getattr(self, name), torch.optim.Optimizer):
                optimizer.state.clear()

    def reset_normalization(self) -> None:
        """Reset the running statistics of observations and rewards, if there are any."""
        if self._vec_normalize_env is not None:
            normalization.reset(self._vec_normalize_env)

    def clear_replay(self) -> None:
        """Empty the replay buffer; learning waits for ``learning_starts`` new steps."""
        assert isinstance(self, OffPolicyAlgorithm)
        assert self.replay_buffer is not None
        self.replay_buffer.reset()
        count_from_empty(self)

    def _logged(self) -> Mapping[str, float]:
        return self.logger.name_to_value if hasattr(self, "_logger") else {}

    def _place(self) -> str:
        return f"after {self.num_timesteps} environment steps and {getattr(self, '_n_updates', 0)} epochs of updates"
