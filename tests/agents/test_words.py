"""Encoders of a picture and a mission: what they compute, that all of it learns, and that order can matter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from neoteny.agents import DQN, PPO, CellsAndWords, CellsAndWordsGRU, DQNConfig, Network, PPOConfig, encoder_for
from neoteny.envs import ContinualVecEnv, Task, TaskSequence
from neoteny.envs.backends.missions import WITH_MISSION
from neoteny.plasticity import Spectral

EACH = pytest.mark.parametrize("encoder", [CellsAndWords, CellsAndWordsGRU])
TASKS = tuple(Task(env, 64, mission="shown") for env in ("MiniGrid-GoToDoor-5x5-v0", "BabyAI-GoToLocal-v0"))


def box(cells: int = 2, bounds: tuple[int, ...] = (10, 5, 2), words: int = 4, last: int = 20, ids: int = 0) -> Any:
    high = [*bounds * cells, *[last] * words, *[1] * ids]
    return spaces.Box(0, np.array(high, np.uint8), dtype=np.uint8)


def test_a_picture_with_a_mission_is_known_by_its_bounds() -> None:
    for space in (WITH_MISSION, box(), box(ids=1), box(ids=90), box(cells=1, words=2)):
        assert encoder_for(space) is CellsAndWordsGRU


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(0, 255, (128,), np.uint8),  # a game's memory
        spaces.Box(0, 20, (6,), np.uint8),
        box(bounds=(10, 5, 2, 3)),
        box(bounds=(5, 5, 5)),
        box(words=1),
        box(cells=0),
        box(last=9),
        spaces.Box(0, np.array([10, 5, 2, 20, 20], np.float32)),
        spaces.MultiDiscrete([11, 6, 3, 21, 21]),
    ],
    ids=str,
)
def test_others_are_not_and_the_encoder_refuses_them(space: spaces.Space[Any]) -> None:
    assert not issubclass(encoder_for(space), CellsAndWords)
    with pytest.raises(ValueError, match="entries and then words is needed"):
        CellsAndWords(space)


def test_the_mean_by_hand() -> None:
    encoder = CellsAndWords(box(ids=2))
    observations = torch.tensor([[3, 1, 0, 10, 5, 2, 7, 20, 0, 0, 0, 1], [0] * 12]).float()
    mission = (encoder.embedding.weight[7] + encoder.embedding.weight[20]) / 2
    expected = []
    for said, entries in ((mission, [(3, 1, 0), (10, 5, 2)]), (0 * mission, [(0, 0, 0)] * 2)):
        scale, shift = encoder.film(said).split(encoder.channels)
        for thing, colour, state in entries:
            one = torch.zeros(20)
            one[[thing, 11 + colour, 17 + state]] = 1
            expected.append(((1 + scale) * encoder.cell(one) + shift).relu())
        expected += [said, torch.tensor([0.0, 1.0]) if said is mission else torch.zeros(2)]
    torch.testing.assert_close(encoder(observations).flatten(), torch.cat(expected))


@EACH
def test_what_others_in_the_batch_say_does_not_matter(encoder: type[CellsAndWords]) -> None:
    """Padding is not read, however long the longest mission of the batch is."""
    part = encoder(WITH_MISSION)
    observations = torch.zeros(3, 219)
    observations[:, 147:150] = torch.tensor([18, 50, 48])
    observations[1, 150:] = 5
    observations[2, 147:] = 0
    together = part(observations)
    torch.testing.assert_close(together, torch.cat([part(row[None]) for row in observations]))
    assert not together[2, -part.width :].any()
    assert together.isfinite().all()
    assert together.shape == (3, part.features_dim)


def test_only_the_gru_hears_the_order() -> None:
    one = torch.zeros(2, 219)
    one[0, 147:150], one[1, 147:150] = torch.tensor([7, 23, 10]), torch.tensor([23, 7, 10])
    for encoder, alike in ((CellsAndWords, True), (CellsAndWordsGRU, False)):
        features = encoder(WITH_MISSION)(one)
        assert torch.allclose(features[0], features[1]) == alike


@EACH
def test_every_weight_learns(encoder: type[CellsAndWords]) -> None:
    part = encoder(WITH_MISSION)
    observations = torch.as_tensor(np.stack([WITH_MISSION.sample() for _ in range(64)]))
    part(observations).square().sum().backward()
    for name, weight in part.named_parameters():
        assert weight.grad is not None
        assert weight.grad.any(), name
    assert not part.embedding.weight.grad[0].any()  # type: ignore[index]  # no word, no meaning


def weights(agent: Any) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in agent.policy.named_parameters()}


@pytest.mark.full
@pytest.mark.parametrize("name", ["cells-and-words", "cells-and-words-gru", "auto"])
@pytest.mark.parametrize("switches", ["signalled", "task-id"])
def test_agents_learn_with_a_method_and_are_saved(name: str, switches: Any, tmp_path: Path) -> None:
    network = Network(hidden=(16,), encoder=name)
    for cls, config in (
        (PPO, PPOConfig(network=network, n_steps=8, batch_size=16)),
        (DQN, DQNConfig(network=network, learning_starts=8, buffer_size=100)),
    ):
        env = ContinualVecEnv(TaskSequence(tasks=TASKS, switches=switches), num_envs=4)
        agent = cls(env=env, reg=Spectral(strength=1e-3), seed=0, device="cpu", **config.arguments())
        before = weights(agent)
        agent.learn(96)
        after = weights(agent)
        assert any((before[key] != after[key]).any() for key in before if "embedding" in key)
        acted = {layer.name for method in agent.methods.values() for layer in method.layers}
        assert any("embedding" in layer for layer in acted)
        assert any("gru" in layer for layer in acted) == (name != "cells-and-words")
        agent.save(tmp_path / "agent")
        again = cls.load(tmp_path / "agent", env)
        observations = env.reset()
        for state in (observations, np.zeros_like(observations)):
            np.testing.assert_array_equal(
                agent.predict(state, deterministic=True)[0], again.predict(state, deterministic=True)[0]
            )
