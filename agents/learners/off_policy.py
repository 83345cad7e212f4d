"""Updates on minibatches of a replay buffer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor


class OffPolicyUpdate:
    """Updates on minibatches of a replay buffer.

    Attributes:
        agent: is updated.
        optimizers: all of its optimizers.
    """

    agent: Any
    optimizers: list[Any]

    def intact(self) -> bool:
        """Whether the networks are still what was read."""
        raise NotImplementedError

    def update(self, batch: Any, step: int) -> Tensor:
        """One update, the ``step``-th of a call of ``train``; what is logged of it."""
        raise NotImplementedError

    def log(self, found: list[Tensor]) -> None:
        """Record what stable-baselines3 records."""
        raise NotImplementedError

    def train(self, rest: Callable[[int, int], None], gradient_steps: int, batch_size: int = 64) -> None:
        """So many updates. The networks stay in the mode that they are in: it changes nothing in what can be read.

        Args:
            rest: makes so many updates on minibatches of a size, for those after a change of the networks. It logs its
                own, and counts ``target_update_interval`` anew.
            gradient_steps: number of updates.
            batch_size: transitions per update.
        """
        agent, found = self.agent, []
        agent._update_learning_rate(self.optimizers)
        for step in range(gradient_steps):
            if step and not self.intact():
                break
            batch = agent.replay_buffer.sample(batch_size, env=agent._vec_normalize_env)
            found.append(self.update(batch, step))
        agent._n_updates += len(found)
        agent.logger.record("train/n_updates", agent._n_updates, exclude="tensorboard")
        if found:
            self.log(found)
        if len(found) < gradient_steps:
            rest(gradient_steps - len(found), batch_size)
