"""Saving and loading of agents as data, without pickle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.save_util import recursive_getattr
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.utils import check_for_correct_spaces, get_device

from neoteny.agents import checkpoint, normalization
from neoteny.agents.attached import Reg
from neoteny.agents.bounds import Bounded
from neoteny.agents.checkpoint import CheckpointError
from neoteny.agents.replay import filled, refill
from neoteny.agents.switch import AtSwitch
from neoteny.plasticity import Method

#: The required entries of a file, see :meth:`Saved.save`, and what they are.
RECORD: dict[str, type | tuple[type, ...]] = {
    "arguments": dict,
    "needed": list,
    "reg": (Method, dict, type(None)),
    "spaces": list,
    "n_envs": int,
    "attributes": dict,
    "modules": dict,
    "variables": dict,
    "methods": dict,
}

#: What an attribute may be to be saved, and loaded, as it is.
PLAIN = (bool, int, float, str, type(None), np.bool, np.integer, np.floating)

#: Arguments that belong to the process and not to the agent. They are never saved.
TRANSIENT = ("env", "device", "_init_setup_model", "tensorboard_log")


class Saved(BaseAlgorithm):
    """The part of :class:`~neoteny.agents.continual.Continual` for saving and loading.

    Attributes:
        reg, at_switch, methods: see :class:`~neoteny.agents.continual.Continual`.
    """

    reg: Reg
    at_switch: AtSwitch
    methods: dict[str, Method]
    _arguments: dict[str, Any]

    def _attach_methods(self) -> None:
        raise NotImplementedError

    def save(self, path: str | Path, *_: Any, replay: bool = False, **__: Any) -> None:  # type: ignore[override]
        """Save the agent to one ``.safetensors`` file: weights, optimizer states, methods, counters, settings, and the
        running statistics of a ``VecNormalize``.

        Args:
            path: the file.
            replay: also save the filled part of the replay buffer, so that training resumes exactly.

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
        normalizer = self._vec_normalize_env
        replay_buffer = self.replay_buffer if replay and isinstance(self, OffPolicyAlgorithm) else None
        record = {
            "arguments": arguments,
            "needed": needed,
            "reg": self.reg if self.reg is None or isinstance(self.reg, Method) else dict(self.reg),
            "spaces": [self.observation_space, self.action_space],
            "n_envs": self.n_envs,
            "attributes": self._plain(vars(self)),
            "modules": {name: recursive_getattr(self, name).state_dict() for name in modules},
            "variables": {name: recursive_getattr(self, name) for name in variables},
            "methods": {name: method.state_dict() for name, method in self.methods.items()},
            "at_switch": self.at_switch.plain(),
            "normalization": normalizer and normalization.statistics(normalizer),
            "replay": replay_buffer and filled(replay_buffer),
        }
        checkpoint.write(_with_suffix(path), record)

    @classmethod
    def load(  # type: ignore[override]
        cls,
        path: str | Path,
        env: GymEnv | None = None,
        device: torch.device | str = "auto",
        replay: bool = True,
        **arguments: Any,
    ) -> Self:
        """Load an agent written by :meth:`save`, ready to predict and, given an ``env``, to continue training.

        Args:
            path: the file.
            env: the environment to train on; its spaces must match the agent's.
            device: the device of the networks.
            replay: also restore the replay buffer, if the file has it; an agent that is not to learn on needs none.
            arguments: settings to replace, or to supply if :meth:`save` could not save them (functions). Methods of a
                new ``reg`` start from the loaded weights.

        Raises:
            CheckpointError: the file is not a saved agent, needs a class that is not imported, or needs a setting.
        """
        record = checkpoint.read(_with_suffix(path), () if replay else ("replay",))
        if absent := [key for key in RECORD if key not in record]:
            raise CheckpointError(f"{path}: not a saved agent (it has no {absent[0]})")
        if wrong := [key for key, kind in RECORD.items() if not isinstance(record[key], kind)]:
            raise CheckpointError(f"{path}: not a saved agent ({wrong[0]} is {record[wrong[0]]!r:.60})")
        if missing := [key for key in record["needed"] if key not in arguments]:
            raise CheckpointError(
                f"{path}: {missing[0]} was not data and is not in the file; pass it: load(..., {missing[0]}=...)"
            )
        try:
            return cls._made_from(record, env, device, arguments)
        except Exception as error:
            raise CheckpointError(f"{path}: {' '.join(str(error).split()) or type(error).__name__}") from error

    @classmethod
    def _made_from(
        cls, record: Mapping[str, Any], env: GymEnv | None, device: torch.device | str, arguments: Mapping[str, Any]
    ) -> Self:
        """The agent in a file's record."""
        kept = {key: record.get(key) for key in ("reg", "at_switch")}
        written = {key: value for key, value in record["arguments"].items() if key not in TRANSIENT}
        settings = written | kept | dict(arguments) | {"_init_setup_model": False, "reg": kept["reg"]}
        with Bounded(record["modules"]):
            agent = cls(env=env, device=get_device(device), **settings)
            observation_space, action_space = record["spaces"]
            if env is not None:
                check_for_correct_spaces(agent.get_env() or env, observation_space, action_space)
            else:
                agent.observation_space, agent.action_space = observation_space, action_space
                agent.n_envs = record["n_envs"]
            attributes = agent._plain(record["attributes"])
            attributes = {k: v for k, v in attributes.items() if k.removeprefix("_") not in arguments}
            vars(agent).update(attributes)  # some set-ups read derived settings, but all overwrite counters: again
            agent._setup_model()
        vars(agent).update(attributes)
        agent.set_parameters(record["modules"], exact_match=True, device=device)
        for name, value in record["variables"].items():
            recursive_getattr(agent, name).data.copy_(value)
        for name, method in agent.methods.items():
            method.load_state_dict(record["methods"][name])
        if "reg" in arguments:
            agent.reg = arguments["reg"]
            agent._attach_methods()
        agent._restore_experience(record)
        return agent

    def _plain(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Those attributes that are saved and loaded as they are: numbers and texts, none of the process's own."""
        elsewhere = {*self._excluded_save_params(), *TRANSIENT, "n_envs", "start_time"}
        return {
            key: value
            for key, value in attributes.items()
            if isinstance(value, PLAIN) and key not in elsewhere and isinstance(getattr(type(self), key, None), PLAIN)
        }

    def _restore_experience(self, record: Mapping[str, Any]) -> None:
        """Restore normalization statistics and replay buffer, if the file has them and the agent uses them."""
        if self._vec_normalize_env is not None and record.get("normalization"):
            normalization.restore(self._vec_normalize_env, record["normalization"])
        if isinstance(self, OffPolicyAlgorithm) and self.replay_buffer is not None and record.get("replay"):
            refill(self.replay_buffer, record["replay"])


def _with_suffix(path: str | Path) -> Path:
    path = Path(path)
    return path if path.suffix == ".safetensors" else path.with_name(path.name + ".safetensors")
