"""Every method in every agent is saved with it, and both go on bit for bit; two composed are as the two alone."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from agent_zoo import difference, learned_state
from method_witness import CASES, Act, agent, go_on, silence, watch
from method_zoo import make, parts
from thinning import one_in

from neoteny.plasticity import METHODS, Compose
from neoteny.plasticity.projections import SpectralNorm, WeightClipping
from neoteny.plasticity.seeding import own_seed

COMPOSED = ["l2-init+redo", "self-normalized-resets+plasticity-injection"]
every_case = pytest.mark.parametrize("case", CASES)


def learning(agent: Any) -> list[bool]:
    return [p.requires_grad for p in agent.policy.parameters()]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", one_in(3, [*METHODS, *COMPOSED]))
@every_case
def test_saved_and_loaded_it_goes_on_bit_for_bit(case: str, name: str, tmp_path: Path) -> None:
    """Through a switch and further updates, from the same data: networks, optimizers and methods."""
    made = agent(case, make(name))
    go_on(made, case, 18)  # off-policy an odd number of updates: what every second one does is due
    made.save(tmp_path / "agent", replay=True)
    loaded = type(made).load(tmp_path / "agent", env=made.get_env(), device="cpu", seed=99)  # which begins otherwise
    saved = copy.deepcopy(learned_state(made))
    assert all(saved[f"method {key}"] for key in made.methods)
    assert difference(saved, learned_state(loaded)) is None
    ends = []
    for one in (made, loaded):
        one.on_switch()
        go_on(one, case, 12, seed=1)
        ends.append(learned_state(one))
    assert difference(*ends) is None
    assert learning(made) == learning(loaded)
    assert difference(saved, ends[0]) is not None


@pytest.mark.parametrize(("was", "becomes"), [
    ("", "plasticity-injection"), ("plasticity-injection", ""), ("plasticity-injection", "l2"), ("redo", "spectral"),
])  # fmt: skip
@pytest.mark.parametrize("case", ["dqn-mlp", "sac-conv"])
def test_loaded_with_another_method_it_computes_the_same(case: str, was: str, becomes: str, tmp_path: Path) -> None:
    made = agent(case, make(was) if was else None)
    go_on(made, case)
    made.save(tmp_path / "agent", replay=True)
    reg = make(becomes) if becomes else None
    loaded = type(made).load(tmp_path / "agent", env=made.get_env(), device="cpu", reg=reg)
    assert bool(loaded.methods) == bool(becomes)
    seen = np.stack([made.observation_space.sample() for _ in range(5)])
    for one in (made, loaded):
        one.policy.set_training_mode(False)
    actions = [one.predict(seen, deterministic=True)[0] for one in (made, loaded)]
    np.testing.assert_array_equal(*actions)
    go_on(loaded, case)
    loaded.on_switch()
    go_on(loaded, case)


# Two at once ------------------------------------------------------------------------------------------------

PAIRS = ["l2+spectral-norm", "spectral+redo", "redo+weight-clipping", "continual-backprop+normalize-and-project",
         "parseval+shrink-and-perturb", "l2-init+plasticity-injection"]  # fmt: skip


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", one_in(2, PAIRS))
@every_case
def test_two_composed_are_the_two_attached_in_that_order(case: str, name: str) -> None:
    """And act as both: each changes something, and a projection that comes last holds after every update."""
    composed, apart = agent(case, make(name)), agent(case, silent=False)
    one_by_one = []
    for key, optimizer in apart.optimizers().items():
        for k, part in sorted(enumerate(parts(make(name))), key=lambda pair: not pair[1].adds_layers):
            part.attach(apart.policy, optimizer, seed=own_seed(str(k), own_seed(f"all{key}", apart.seed)))
            one_by_one.append((f"all{key}", k, part))
    silence(apart, case)
    acts = watch(composed, ("before_step", "after_step"))
    for one in (composed, apart):
        go_on(one, case)
    assert difference(dict(composed.get_parameters()), dict(apart.get_parameters())) is None
    for key, k, part in one_by_one:
        both = composed.methods[key]
        assert isinstance(both, Compose)
        assert difference(both.methods[k].state_dict(), part.state_dict()) is None
    for part in name.split("+"):
        assert any(did(act) for act in acts if act.method.name == part), part
    for act in acts:
        if act.when == "after_step" and isinstance(act.method, WeightClipping | SpectralNorm):
            assert_holds(act)


def did(act: Act) -> bool:
    pairs = [(act.before[name], act.after[name]) for name in act.before]
    return bool(act.changed()) or any(a.grad is not None and not torch.equal(a.grad, b.grad) for a, b in pairs)


def assert_holds(act: Act) -> None:
    for layer in act.method.layers:
        weight = next(of.weight for name, of in act.after.items() if name == f"{layer.name}.weight").flatten(1)
        if isinstance(act.method, WeightClipping):
            assert weight.abs().max() <= act.method.kappa / weight.shape[1] ** 0.5 * (1 + 1e-6), layer.name
        else:
            assert torch.linalg.matrix_norm(weight, 2) <= act.method.bound * (1 + 1e-6), layer.name
