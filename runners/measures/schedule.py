"""How often networks are looked at, so that it takes a small share of the time that training takes.

What is counted is work, by formulas, never the clock: two runs of the same settings look at the same steps.
"""

from __future__ import annotations

from typing import Any

from neoteny.agents.attached import Attached
from neoteny.agents.supervised import Learner
from neoteny.plasticity.layers import Layer
from neoteny.runners.measures.instruments import STATES, trained_layers

#: Networks are looked at this often per task, at most.
LOOKS_PER_TASK = 10
#: The share of training that looks may take by this estimate, which is on the high side for looks, on the low side for
#: training.
SHARE = 0.02

#: Seconds of an environment step, an update and a look, beside the products of matrices.
STEP, UPDATE, LOOK = 1e-5, 2e-4, 1e-2
#: Floating-point operations per second, in training and in looks.
TRAINING_SPEED, LOOK_SPEED = 1e11, 2.5e10


def looks_per_task(agent: Attached, steps: int, rollout: int) -> int:
    """How often to look at the networks during a task, its end included.

    Args:
        agent: who learns.
        steps: environment steps of the task.
        rollout: environment steps between updates.
    """
    layers = trained_layers(agent)
    return min(LOOKS_PER_TASK, max(1, int(SHARE * _training(agent, layers, steps, rollout) / _look(layers))))


def _training(agent: Any, layers: list[Layer], steps: int, rollout: int) -> float:
    """Seconds of training: 6 operations per weight and sample of an update, 2 per environment step."""
    weights = sum(layer.weight.numel() for layer in layers)
    if isinstance(agent, Learner):
        batch = min(agent.net.batch_size, rollout)
        updates = -(-rollout // batch)
    elif not _on_policy(agent):
        batch = agent.batch_size
        updates = agent.gradient_steps if agent.gradient_steps >= 0 else rollout
    else:
        batch = min(getattr(agent, "batch_size", rollout), rollout)
        updates = getattr(agent, "n_epochs", 1) * -(-rollout // batch)
        if getattr(agent, "target_kl", None):
            updates = -(-updates // 2)  # it may stop early
    one = UPDATE + 6 * batch * weights / TRAINING_SPEED
    return steps * (STEP + 2 * weights / TRAINING_SPEED) + steps / rollout * updates * one


def _on_policy(agent: Any) -> bool:
    return getattr(agent, "rollout_buffer", None) is not None


def _look(layers: list[Layer]) -> float:
    """Seconds of a look: Gram matrices and their eigenvalues, and three passes of a batch."""
    operations = 0
    for layer in layers:
        short, long = sorted(layer.matrix.shape)
        operations += 2 * short**2 * long + 10 * short**3 + 6 * STATES * layer.weight.numel()
    return LOOK + operations / LOOK_SPEED
