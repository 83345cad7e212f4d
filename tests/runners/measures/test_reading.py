"""What is read of networks, against what the algorithms themselves say and keep."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from measured_agents import BOX, DISCRETE, EVERY, VECTOR, Reader, environment, learn, make
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecNormalize

from neoteny import agents
from neoteny.runners.measures.instruments import Look
from neoteny.runners.measures.reading import Batch, at, draw, evaluating, outputs
from neoteny.runners.measures.switches import values_and_returns
from neoteny.runners.measures.visit import VisitMeasures

ON_POLICY = [name for name in EVERY if any(word in name for word in ("PPO", "A2C", "TRPO"))]
OFF_POLICY = [name for name in EVERY if name not in ON_POLICY and name != "blind"]


class AtEnds(BaseCallback):
    """Calls ``look`` with the agent when a rollout has ended, before it is learned from."""

    def __init__(self, look):
        super().__init__()
        self.look, self.calls = look, 0

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self.calls += 1
        self.look(self.model)


def everywhere(buffer) -> tuple[np.ndarray, np.ndarray]:
    rows = buffer.buffer_size if buffer.full else buffer.pos
    return tuple(index.flatten() for index in np.meshgrid(range(rows), range(buffer.n_envs), indexing="ij"))


@pytest.mark.parametrize("name", ON_POLICY)
def test_read_on_policy_is_what_the_rollout_keeps(name):
    """The values and log π(a|s) that were found when the rollout was collected, LSTM states and masks included."""

    def look(agent):
        buffer = agent.rollout_buffer
        with torch.no_grad(), evaluating(agent.policy):
            said = outputs(agent.policy, at(agent, *everywhere(buffer)))
        np.testing.assert_allclose(said.value, buffer.values.flatten(), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(said.score, buffer.log_probs.flatten(), rtol=1e-4, atol=1e-4)

    agent, watch = EVERY[name](), AtEnds(look)
    agent.learn(96, callback=watch)
    assert watch.calls >= 3


@pytest.mark.parametrize("name", OFF_POLICY)
def test_read_off_policy_is_what_the_networks_say(name):
    def look(agent):
        buffer, policy = agent.replay_buffer, agent.policy
        rows, columns = everywhere(buffer)
        batch = at(agent, rows, columns)
        with torch.no_grad(), evaluating(policy):
            said = outputs(policy, batch)
        for i in range(0, len(batch), 7):
            one = buffer.observations
            one = (
                {key: torch.as_tensor(array[rows[i], columns[i]][None]) for key, array in one.items()}
                if isinstance(one, dict)
                else torch.as_tensor(one[rows[i], columns[i]][None])
            )
            action = torch.as_tensor(buffer.actions[rows[i], columns[i]])
            policy.set_training_mode(False)
            with torch.no_grad():
                best = policy._predict(one, deterministic=True)[0]
                if isinstance(agent.action_space, spaces.Discrete):
                    net = getattr(policy, "q_net", None) or policy.quantile_net
                    values = net(one).reshape(-1, agent.action_space.n).mean(0)
                    assert said.value[i] == pytest.approx(float(values[action]), rel=1e-4, abs=1e-5)
                    assert said.preferences[i].argmax() == best
                else:
                    found = policy.critic(one, action[None])
                    values = np.concatenate([part.flatten() for part in found])
                    assert said.value[i] == pytest.approx(values.mean(), rel=1e-4, abs=1e-5)
                    mean = said.actions[i] if said.policy is None else said.policy[0].mean[i].tanh()
                    torch.testing.assert_close(mean, best, rtol=1e-4, atol=1e-5)

    agent, watch = EVERY[name](), AtEnds(look)
    agent.learn(48, callback=watch)
    assert watch.calls >= 3


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", OFF_POLICY)
def test_returns_off_policy_are_those_of_a_loop(name):
    """Step after step, with single states: to the end of the episode, or to where it is cut."""

    def look(agent):
        steps = min(agent.num_timesteps // 2, 20)
        reader = Look.begin(agent, np.random.default_rng(0))
        values, returns = values_and_returns(reader, steps)
        buffer = agent.replay_buffer
        assert values.shape == returns.shape == (steps, 2)

        def q(row, column, after):
            batch = at(agent, np.array([row]), np.array([column]), after)
            with torch.no_grad(), evaluating(agent.policy):
                if after:
                    batch.actions = agent.policy._predict(batch.observations, deterministic=True)
                return float(outputs(agent.policy, batch).value)

        for column in (0, 1):
            for step in range(steps):
                total, discount, row = 0.0, 1.0, (buffer.pos - steps + step) % buffer.buffer_size
                assert values[step, column] == pytest.approx(q(row, column, False), rel=1e-4, abs=1e-5)
                for later in range(step, steps):
                    row = (buffer.pos - steps + later) % buffer.buffer_size
                    total += discount * buffer.rewards[row, column]
                    discount *= agent.gamma
                    if buffer.dones[row, column] and not buffer.timeouts[row, column]:
                        break
                    if buffer.timeouts[row, column] or later == steps - 1:
                        total += discount * q(row, column, True)
                        break
                assert returns[step, column] == pytest.approx(total, rel=1e-4, abs=1e-5)

    agent, watch = EVERY[name](), AtEnds(look)
    agent.learn(96, callback=watch)
    assert watch.calls >= 3


def test_on_policy_value_error_is_that_of_the_rollout():
    seen = []

    class Watch(Reader):
        def _on_rollout_end(self):
            buffer = self.model.rollout_buffer
            seen.append((buffer.values.copy(), buffer.returns.copy()))
            super()._on_rollout_end()

    agent, reader = EVERY["our PPO"](), Watch()
    agent.learn(96, callback=reader)
    values, returns = seen[0]
    errors = [(r - v) ** 2 for v, r in zip(values.flatten().tolist(), returns.flatten().tolist(), strict=True)]
    assert reader.switch["switch/value_error"] == pytest.approx(sum(errors) / len(errors), rel=1e-5)
    explained = 1 - np.var(returns - values) / np.var(returns)
    assert reader.switch["switch/explained_variance"] == pytest.approx(explained, rel=1e-4)


def test_normalized_observations_are_what_networks_get():
    env = VecNormalize(environment(VECTOR, DISCRETE))
    agent = agents.DQN("QPolicy", env, learning_starts=10, buffer_size=100, seed=0)
    agent.learn(60)
    raw = agent.replay_buffer.observations[3, 1]
    batch = at(agent, np.array([3]), np.array([1]))
    torch.testing.assert_close(batch.observations[0], torch.as_tensor(env.normalize_obs(raw)).float())
    assert not torch.equal(batch.observations[0], torch.as_tensor(raw))


def test_batches_are_drawn_without_repetition_and_no_larger_than_what_is_there():
    sizes = []

    def look(agent):
        batch = draw(agent, 1000, np.random.default_rng(0))
        kept = agent.rollout_buffer.observations.reshape(-1, 3)
        sizes.append(len(batch))
        assert np.unique(batch.observations.numpy(), axis=0).shape == np.unique(kept, axis=0).shape
        one, other = (draw(agent, 8, np.random.default_rng(seed)).observations for seed in (0, 1))
        assert len(one) == 8
        assert not torch.equal(one, other)
        assert torch.equal(one, draw(agent, 8, np.random.default_rng(0)).observations)

    agent = EVERY["our PPO"]()
    agent.learn(64, callback=AtEnds(look))
    assert sizes == [32, 32]
    assert draw(agent, 8, np.random.default_rng(0)) is None  # it has been learned from
    assert draw(EVERY["our SAC"](), 8, np.random.default_rng(0)) is None  # nothing in it


def test_a_kind_of_policy_can_be_added():
    class Own(BasePolicy):
        def _predict(self, observation, deterministic=False):
            raise NotImplementedError

    policy = Own(VECTOR, BOX)
    batch = Batch(torch.zeros(2, 3), torch.zeros(2, 2))
    with pytest.raises(NotImplementedError, match="a Own is none of the policies that can be read"):
        outputs(policy, batch)
    found = outputs.register(Own)(lambda policy, batch: "read")
    assert outputs(policy, batch) == found(policy, batch) == "read"


@pytest.mark.parametrize(("epsilon", "entropy"), [(0.0, 0.0), (1.0, math.log(3)), (0.3, None)])
def test_entropy_of_epsilon_greedy_actions(epsilon, entropy):
    _, reader = learn(lambda: make(agents.DQN, exploration_initial_eps=epsilon, exploration_final_eps=epsilon))
    if entropy is None:
        chances = [0.8, 0.1, 0.1]
        entropy = -sum(p * math.log(p) for p in chances)
    assert reader.found[-1]["policy/entropy"] == pytest.approx(entropy)
    assert reader.switch["switch/entropy"] == pytest.approx(entropy)


def test_firsts_by_hand():
    """The first update is after 10 steps. Episodes 0–4, 4–12, 12–15, 15–20 and 20–22 pay 1, 3, 2, 4 and 5."""
    visit = VisitMeasures()
    for end, length, paid, solved in ((4, 4, 1, 0), (12, 8, 3, 0), (15, 3, 2, 0), (20, 5, 4, 0), (22, 2, 5, 1)):
        info = {"episode": {"r": paid, "l": length}, "game": {"r": paid, "l": length}, "is_success": bool(solved)}
        visit.add(end, info)
    assert visit.firsts(10) == {"first_success": 22, "first_improvement": 20}
    assert visit.firsts(13) == {"first_success": 22, "first_improvement": 20}
    assert visit.firsts(21) == {"first_success": 22, "first_improvement": None}
    assert visit.firsts(0) == {"first_success": 22, "first_improvement": None}  # nothing to compare with
    assert VisitMeasures().firsts(10) == {"first_success": None, "first_improvement": None}
    assert VisitMeasures(visit.state()).firsts(10) == visit.firsts(10)
