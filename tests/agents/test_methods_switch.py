"""What methods do when an agent is told of a task switch, and that plasticity injection changes no output."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from agent_zoo import difference
from method_witness import CASES, Tiny, agent, go_on, moment, same, wiring
from method_zoo import make
from thinning import one_in
from torch import Tensor

from neoteny.plasticity import METHODS

AT_SWITCH = ["layer-reset", "plasticity-injection", "shrink-and-perturb"]
LAST = {
    "ppo": {"action_net", "value_net"},
    "dqn": {"q_net.q_net.4"},
    "sac": {"actor.mu", "actor.log_std", "critic.qf0.4", "critic.qf1.4"},
}
every_case = pytest.mark.parametrize("case", CASES)


def states(agent: Any) -> dict[str, dict[str, Tensor]]:
    return {key: method.state_dict() for key, method in agent.methods.items()}


@functools.cache
def switched(case: str, name: str, **settings: Any) -> tuple[dict[str, Tensor], bool]:
    """Which entries a switch after some training changes, and whether anything of agent or method is another."""
    reg = make(name, **({"every": 0} if set(name.split("+")) <= set(AT_SWITCH) else {}), **settings)
    made = agent(case, reg)
    go_on(made, case)
    before, kept = moment(made), states(made)
    made.on_switch()
    after = moment(made)
    masks = {entry: before[entry].weight != after[entry].weight for entry in before}
    touched = not same(before, after) or difference(kept, states(made)) is not None
    return {entry: mask for entry, mask in masks.items() if mask.any()}, touched


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", one_in(2, [*METHODS]))
@every_case
def test_a_switch_is_an_occasion_for_those_who_say_so(case: str, name: str) -> None:
    changed, touched = switched(case, name)
    assert bool(changed) == touched == (name in AT_SWITCH)


@pytest.mark.parametrize("name", AT_SWITCH)
@every_case
def test_with_at_switch_off_it_is_none(case: str, name: str) -> None:
    assert switched(case, name, at_switch=False) == ({}, False)


@every_case
def test_both_of_two_composed_are_told(case: str) -> None:
    changed, _ = switched(case, "layer-reset+plasticity-injection")
    assert any(".added." in entry for entry in changed)
    assert {f"{layer}.weight" for layer in LAST[case.split("-")[0]]} <= changed.keys()


@pytest.mark.parametrize("last", [1, 2, 3])
@every_case
def test_a_layer_reset_is_of_the_last_layers_whole(case: str, last: int) -> None:
    changed, _ = switched(case, "layer-reset", last=last)
    expected = set(LAST[case.split("-")[0]])
    for _ in range(last - 1):
        expected |= {layer for layer, consumers in wiring(case).items() if expected & set(consumers)}
    assert {entry.rpartition(".")[0] for entry in changed} == expected
    assert all(changed[f"{layer}.weight"].all() for layer in expected)


@every_case
def test_shrink_and_perturb_moves_every_layer_and_nothing_else(case: str) -> None:
    changed, _ = switched(case, "shrink-and-perturb")
    layers = {*wiring(case), *LAST[case.split("-")[0]]}
    assert {entry.rpartition(".")[0] for entry in changed} == layers
    assert all(changed[f"{layer}.weight"].float().mean() > 0.8 for layer in layers)


# Plasticity injection ---------------------------------------------------------------------------------------


@torch.no_grad()
def outputs(agent: Any, case: str) -> list[Tensor]:
    """All that the agent computes from eight observations, in its own forward passes."""
    env = Tiny(case, seed=7)
    observations, _ = agent.policy.obs_to_tensor(
        torch.stack([torch.as_tensor(env.reset()[0]) for _ in range(8)]).numpy()
    )
    policy, name = agent.policy, case.split("-")[0]
    if name == "ppo":
        actions = policy.get_distribution(observations).distribution.logits
        return [actions, policy.predict_values(observations), *policy.evaluate_actions(observations, torch.ones(8))]
    if name == "dqn":
        return [policy.q_net(observations), policy.q_net_target(observations), agent.q_net_target(observations)]
    mean, log_std, _ = policy.actor.get_action_dist_params(observations)
    actions = torch.linspace(-1, 1, 16).view(8, 2)
    values = [q for net in (policy.critic, agent.critic_target) for q in net(observations, actions)]
    return [mean, log_std, policy.actor(observations, deterministic=True), *values]


@pytest.mark.parametrize("name", ["plasticity-injection", "redo+plasticity-injection"])
@every_case
def test_injection_leaves_every_output_as_it_is_bit_for_bit(case: str, name: str) -> None:
    """At that moment; with the next updates the outputs of networks move, those of targets do not."""
    made = agent(case, make(name, every=0))
    go_on(made, case)
    before = outputs(made, case)
    made.on_switch()
    assert all(head.injections == 1 for m in made.methods.values() for head in heads(m))
    after = outputs(made, case)
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [True] * len(before)
    go_on(made, case, 12, seed=1)
    still = [torch.equal(a, b) for a, b in zip(after, outputs(made, case), strict=True)]
    assert not still[0]
    assert still[{"ppo": slice(0), "dqn": slice(1, 2), "sac": slice(-2, None)}[case.split("-")[0]]].count(False) == 0


def heads(method: Any) -> list[Any]:
    method = method.methods[-1] if hasattr(method, "methods") else method
    return method.all_heads()
