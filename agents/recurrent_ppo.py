"""Continual PPO with an LSTM, and its configuration."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import sb3_contrib
import torch
from gymnasium import spaces
from pydantic import PositiveFloat, PositiveInt, model_validator
from pydantic.dataclasses import dataclass
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from neoteny.agents.buffers import BEGINS, SequenceDictRollouts, SequenceRollouts
from neoteny.agents.config import STRICT, Network
from neoteny.agents.continual import Continual
from neoteny.agents.networks import ActorCritic
from neoteny.agents.ppo import ProximalConfig


@dataclass(frozen=True, config=STRICT)
class RecurrentNetwork(Network):
    """An encoder and an LSTM, followed by separate hidden layers for actor and critic.

    Attributes:
        lstm_hidden_size: units of each layer of the LSTM.
        n_lstm_layers: layers of the LSTM.
        shared_lstm: the critic uses the actor's LSTM, which then learns from the actor's loss only.
        enable_critic_lstm: the critic has an LSTM of its own; if neither, it has a Linear layer instead, and no memory.
    """

    lstm_hidden_size: PositiveInt = 64
    n_lstm_layers: PositiveInt = 1
    shared_lstm: bool = False
    enable_critic_lstm: bool = True

    @model_validator(mode="after")
    def _has_one_critic(self) -> Self:
        if self.shared_lstm and self.enable_critic_lstm:
            raise ValueError(
                "shared_lstm: the critic cannot share the actor's LSTM and have its own; "
                "with shared_lstm: true, set enable_critic_lstm: false"
            )
        return self

    def policy_kwargs(self) -> dict[str, Any]:
        names = ("lstm_hidden_size", "n_lstm_layers", "shared_lstm", "enable_critic_lstm")
        return super().policy_kwargs() | {name: getattr(self, name) for name in names}


@dataclass(frozen=True, config=STRICT, kw_only=True)
class RecurrentPPOConfig(ProximalConfig):
    """Settings of :class:`RecurrentPPO`, named as in sb3-contrib.

    Attributes:
        batch_size: minibatch size in steps, which stay in their order.
        clip_range_vf: new values are clipped to old ones ± this; null for no clipping.
    """

    policy: ClassVar[Any] = "RecurrentActorCritic"

    network: RecurrentNetwork = RecurrentNetwork(hidden=(64,))
    clip_range_vf: PositiveFloat | None = None

    @model_validator(mode="after")
    def _leaves_no_step_alone(self) -> Self:
        steps = self.n_steps * self.num_envs
        if steps % self.batch_size == 1:
            raise ValueError(
                f"batch_size: of a rollout of {steps} steps, batches of {self.batch_size} leave one step alone, whose "
                f"advantage cannot be normalized; choose a divisor of {steps}"
            )
        return self


class RecurrentActorCritic(ActorCritic, RecurrentActorCriticPolicy):
    """sb3-contrib's recurrent actor-critic policy with default encoders, optional LayerNorm and widening activations.

    Encoder → LSTM → hidden layers → output layer, with an LSTM for the actor and, by default, another for the critic.
    """

    forward = RecurrentActorCriticPolicy.forward  # type: ignore[assignment]

    @property
    def torso_inputs(self) -> int:
        return self.lstm_output_dim

    @staticmethod
    def _process_sequence(
        features: Tensor, lstm_states: tuple[Tensor, Tensor], episode_starts: Tensor, lstm: nn.LSTM
    ) -> tuple[Tensor, Any]:
        """The LSTM's outputs, (steps, units), and its states after them.

        Args:
            features: (steps, features), one sequence after the other; padded to one length in sb3-contrib's batches,
                which are left to it, not padded in those of :class:`~neoteny.agents.buffers.Unpadded`.
            lstm_states: hidden and cell states before the sequences, (layers, sequences, units) each.
            episode_starts: (steps,).
            lstm: of the actor or the critic.
        """
        if episode_starts[0] != BEGINS:
            return RecurrentActorCriticPolicy._process_sequence(features, lstm_states, episode_starts, lstm)
        ends = torch.tensor([len(features)], device=features.device)
        lengths = (episode_starts == BEGINS).nonzero().flatten().diff(append=ends)
        order, sizes, by_length = packing(lengths)
        packed = PackedSequence(features[order], sizes, by_length, by_length.argsort())
        outputs, states = lstm(packed, lstm_states)
        return outputs.data[order.argsort()], states


def packing(lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """How sequences that lie one after the other are packed for torch: step by step, the longest first.

    Args:
        lengths: of the sequences.

    Returns:
        The order of the steps, the number of sequences at each step (on the CPU), and the sequences by length.
    """
    sequence = torch.repeat_interleave(lengths)
    step = torch.arange(len(sequence), device=lengths.device) - (lengths.cumsum(0) - lengths)[sequence]
    by_length = lengths.argsort(descending=True)
    order = (step * len(lengths) + by_length.argsort()[sequence]).argsort()
    return order, step.bincount().cpu(), by_length


class RecurrentPPO(Continual, sb3_contrib.RecurrentPPO):
    """PPO with an LSTM, for tasks in which the observation does not tell the state, with plasticity methods.

    The memory is cleared where episodes start, and so at every task switch. Takes every argument of
    ``sb3_contrib.RecurrentPPO``, and those of :class:`~neoteny.agents.continual.Continual`.
    """

    Config: ClassVar[type] = RecurrentPPOConfig

    policy_aliases: ClassVar[dict[str, Any]] = {
        **sb3_contrib.RecurrentPPO.policy_aliases,
        "RecurrentActorCritic": RecurrentActorCritic,
    }

    def _setup_model(self) -> None:
        super()._setup_model()
        if isinstance(self.policy, RecurrentActorCritic):
            padded: Any = self.rollout_buffer
            kind = SequenceDictRollouts if isinstance(self.observation_space, spaces.Dict) else SequenceRollouts
            self.rollout_buffer = kind(
                self.n_steps,
                self.observation_space,
                self.action_space,
                padded.hidden_state_shape,
                self.device,
                gamma=self.gamma,
                gae_lambda=self.gae_lambda,
                n_envs=self.n_envs,
            )
