"""On a GPU: updates recorded as CUDA graphs are those of stable-baselines3."""

from typing import Any

import pytest
import torch
from test_same_updates import farthest, twins, update
from torch import Tensor, nn

from neoteny.agents import PPO
from neoteny.plasticity import L2Init

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

KINDS = ["ppo discrete", "ppo gaussian", "dqn", "double-dqn", "sac"]


class Waiting(nn.Module):
    """A ReLU that waits for the device on its way back."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp_min(0)

    def backward(self, gradient: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return gradient * (y > 0) if y.sum().item() > 0 else gradient * 0


def several(agent: Any, updates: int = 5) -> None:
    if isinstance(agent, PPO):
        agent.n_epochs = updates
    update(agent, updates)


def recorded(agent: Any) -> int:
    return sum(each is not None for each in agent._closed_form()[0]._recorded._recordings.values())


@pytest.mark.parametrize("reg", [None, L2Init(strength=1e-3)], ids=["none", "l2-init"])
@pytest.mark.parametrize("kind", KINDS)
def test_recorded_updates_are_those_of_stable_baselines3(kind: str, reg: Any) -> None:
    mine, theirs = twins(kind, False, device="cuda", reg=reg)
    for agent in (mine, theirs):
        several(agent)
        several(agent)
    assert recorded(mine) == 1
    assert farthest(mine, theirs) < 1e-4


@pytest.mark.parametrize("given", [{"ent_coef": 0.2}, {"target_update_interval": 3}], ids=str)
def test_settings_of_sac(given: dict[str, Any]) -> None:
    mine, theirs = twins("sac", False, device="cuda", **given)
    for agent in (mine, theirs):
        several(agent, 9)
    assert recorded(mine) == (2 if "target_update_interval" in given else 1)
    assert farthest(mine, theirs) < 1e-4


def test_a_schedule_is_recorded_anew() -> None:
    mine, theirs = twins("ppo discrete", False, device="cuda")
    for clip in (0.2, 0.1, 0.01):
        for agent in (mine, theirs):
            agent.clip_range = lambda _, clip=clip: clip
            several(agent)
    assert recorded(mine) == 3
    assert farthest(mine, theirs) < 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_what_waits_for_the_device_is_not_recorded(kind: str) -> None:
    mine, theirs = twins(kind, False, device="cuda", network={"activation_fn": Waiting})
    for agent in (mine, theirs):
        several(agent)
    assert mine.updates == "closed form"
    assert not mine._closed_form()[0]._recorded._can
    assert farthest(mine, theirs) < 1e-4


@pytest.mark.parametrize("kind", ["dqn", "double-dqn", "sac"])
def test_an_update_does_not_wait_for_the_device(kind: str) -> None:
    mine, _ = twins(kind, False, device="cuda")
    several(mine)
    batch, closed = mine.replay_buffer.sample(48), mine._closed_form()[0]
    torch.cuda.set_sync_debug_mode("error")
    try:
        closed.update(batch, 0)
    finally:
        torch.cuda.set_sync_debug_mode("default")
