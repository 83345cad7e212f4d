"""Every method in every agent, on hidden layers alone and behind a convolution: what it may touch and what it must."""

from __future__ import annotations

import pytest
import torch
from agent_zoo import global_random_state, reseed
from method_witness import (
    CASES,
    POSITIONS,
    Act,
    Run,
    acting,
    agent,
    first_layers,
    go_on,
    moment,
    plain,
    run,
    same,
    wiring,
)
from method_zoo import make
from thinning import some
from torch import Tensor

from neoteny.plasticity import METHODS

COMPOSED = ["l2-init+redo", "redo+weight-clipping"]
RESETS = ["continual-backprop", "layer-reset", "plasticity-injection", "redo", "self-normalized-resets",
          "shrink-and-perturb"]  # fmt: skip
UNITS = ["continual-backprop", "redo", "self-normalized-resets"]
AT_SWITCH = ["layer-reset", "plasticity-injection", "shrink-and-perturb"]

every_method = pytest.mark.parametrize("name", [*METHODS, *COMPOSED])
every_case = pytest.mark.parametrize("case", CASES)


def is_target(name: str) -> bool:
    return "_target." in name


def is_part(name: str) -> bool:
    """Of plasticity injection."""
    return ".added." in name or ".removed." in name


def resets(done: Run) -> list[Act]:
    """What methods that reset have done, as far as it was something."""
    return [a for a in done.acts if a.method.name in RESETS and a.when == "after_step" and a.changed()]


# Nothing where nothing is asked for -------------------------------------------------------------------------


@pytest.mark.sampled(3)
@every_method
@every_case
def test_idle_is_training_without(case: str, name: str) -> None:
    """Weights, optimizer, actions and the use of global random numbers: bit for bit."""
    done = run(case, make(name, idle=True))
    without = plain(case, done.closed_form)
    assert same(done.end, without.end)
    assert done.actions == without.actions
    assert done.random == without.random
    assert not same(done.start, done.end)


@pytest.mark.sampled(2)
@every_method
@every_case
def test_acting_changes_weights_and_uses_no_global_random_numbers(case: str, name: str) -> None:
    done = acting(case, name)
    without = plain(case, done.closed_form)
    assert not same(done.end, without.end)
    assert done.random == without.random


@every_method
@every_case
def test_attaching_switching_and_state_leave_global_random_numbers_alone(case: str, name: str) -> None:
    made = agent(case, make(name, **({"every": 1} if name in AT_SWITCH else {})))
    reseed(5)
    before = global_random_state()
    made._attach_methods()
    made.on_switch()
    for method in made.methods.values():
        method.scalars()
        method.load_state_dict(method.state_dict())
    assert global_random_state() == before


# Targets and frozen layers ----------------------------------------------------------------------------------


@every_method
@pytest.mark.parametrize("case", [case for case in CASES if "ppo" not in case])
def test_targets_stand_still(case: str, name: str) -> None:
    """They hold their first weights over a run without target updates; and moments, none."""
    done = acting(case, name)
    targets = [entry for entry in done.start if is_target(entry)]
    assert targets
    for entry in targets:
        if not is_part(entry):
            assert torch.equal(done.start[entry].weight, done.end[entry].weight), entry
        assert not any(kept.any() for kept in done.end[entry].moments), entry
        assert done.end[entry].grad is None
    if "plasticity-injection" in name:
        assert_injected_targets_compute_the_same(done)


def assert_injected_targets_compute_the_same(done: Run) -> None:
    added = [entry for entry in done.end if is_target(entry) and ".added." in entry]
    assert added
    for entry in added:
        assert torch.equal(done.end[entry].weight, done.end[entry.replace(".added.", ".removed.")].weight), entry


@pytest.mark.parametrize(
    "name", some([*METHODS, *COMPOSED], "weight-clipping", "normalize-and-project", "spectral", "redo", "layer-reset")
)
@pytest.mark.parametrize(
    ("case", "when"),
    [(case, when) for case in CASES for when in ("before attaching", "after") if "mlp" in case or when == "after"],
)
def test_frozen_layers_are_left_alone(case: str, name: str, when: str) -> None:
    """Neither the first layers are touched, which are frozen, nor a gradient is made for them."""
    made = agent(case, None if when == "before attaching" else make(name))
    frozen = [f"{layer}.{kind}" for layer in first_layers(case) for kind in ("weight", "bias")]
    for entry in frozen:
        made.policy.get_parameter(entry).requires_grad_(False)
    if when == "before attaching":
        made.reg = make(name)
        made._attach_methods()
    start = moment(made)
    go_on(made, case)
    made.on_switch()
    end = moment(made)
    for entry in frozen:
        assert torch.equal(start[entry].weight, end[entry].weight), entry
        assert end[entry].grad is None
        assert not any(kept.any() for kept in end[entry].moments), entry
    assert not same(start, end)


# New and reset weights --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*RESETS, "l2-init+redo"])
@every_case
def test_reset_weights_are_in_the_optimizer_and_move(case: str, name: str) -> None:
    """They move in the next two updates, wherever they have a gradient; and they have one.

    Not a unit's incoming weights in the first of them, since its outgoing ones are 0, nor those of silent units.
    """
    done = acting(case, name)
    held = {id(p) for o in done.agent.optimizers().values() for group in o.param_groups for p in group["params"]}
    parameters = dict(done.agent.policy.named_parameters())
    moved: dict[str, list[Tensor]] = {}
    for act in resets(done):
        later = [a for a in done.acts if a.method is act.method and a.when == "after_step"]
        later = later[later.index(act) :][:3]
        for entry, mask in act.changed().items():
            if not act.after[entry].learns:
                assert is_part(entry) or is_target(entry)
                continue
            assert id(parameters[entry]) in held, entry
            steps = [new.before[entry] for new in later[1:]]
            moves = [new.weight != old.after[entry].weight for old, new in zip(later[:-1], steps, strict=True)]
            for step, move in zip(steps, moves, strict=True):
                assert step.grad is not None, entry
                assert move[mask & (step.grad.abs() > 1e-6)].all(), entry
            if len(moves) == 2:
                moved.setdefault(entry, []).append((moves[0] | moves[1])[mask])
    assert moved
    assert torch.cat([mask for of in moved.values() for mask in of]).float().mean() > 0.3
    for entry, of in moved.items():
        assert sum(len(mask) for mask in of) < 30 or torch.cat(of).any(), entry


@pytest.mark.sampled(3)
@every_method
@every_case
def test_moments_are_forgotten_of_exactly_what_was_reset(case: str, name: str) -> None:
    done = acting(case, name)
    for act in done.acts:
        changed = act.changed()
        for entry, before in act.before.items():
            after = act.after[entry]
            forgotten = changed.get(entry, torch.zeros_like(after.weight, dtype=torch.bool))
            if act.method.name not in RESETS:
                forgotten = torch.zeros_like(forgotten)
            elif act.method.name == "shrink-and-perturb":  # which moves whole parameters
                forgotten = torch.full_like(forgotten, entry in changed)
            elif act.method.name == "continual-backprop" and entry.endswith("bias"):  # means are added to biases
                forgotten = act.new_units(entry.removesuffix(".bias"))
            for old, new in zip(before.moments, after.moments, strict=True):
                assert not new[forgotten].any(), entry
                assert torch.equal(new[~forgotten], old[~forgotten]), entry
    learned = [kept for act in resets(done) for entry in act.changed() for kept in act.before[entry].moments]
    assert name not in RESETS or name == "plasticity-injection" or any(kept.any() for kept in learned)


@pytest.mark.parametrize("name", [*UNITS, *COMPOSED])
@every_case
def test_a_reset_writes_a_unit_and_its_columns_in_the_next_layers_and_no_other_entry(case: str, name: str) -> None:
    """A unit was reset if all that comes in is new; what leads out of it is 0 then, and all else as before.

    Behind a convolution, a channel's columns are those of its positions.
    """
    done = acting(case, name)
    found: dict[str, set[int]] = {layer: set() for layer in wiring(case)}
    for act in resets(done):
        allowed = {entry: torch.zeros_like(of.weight, dtype=torch.bool) for entry, of in act.before.items()}
        changed = act.changed()
        for layer, consumers in wiring(case).items():
            rows = act.new_units(layer)
            found[layer] |= set(rows.nonzero().flatten().tolist())
            for kind in ("weight", "bias"):
                allowed[f"{layer}.{kind}"][rows] = True
            columns = rows.repeat_interleave(POSITIONS if layer.endswith("cnn.0") else 1)
            for consumer in consumers:
                allowed[f"{consumer}.weight"][:, : len(columns)] |= columns
                assert not act.after[f"{consumer}.weight"].weight[:, : len(columns)][:, columns].any()
                if act.method.name == "continual-backprop":  # what a unit gave on average
                    allowed[f"{consumer}.bias"] |= rows.any()
        wrong = [entry for entry, mask in changed.items() if (mask & ~allowed[entry]).any()]
        assert not wrong
    assert any(found.values())
    if "clipping" not in name:  # which wakes the silent units
        assert all(2 in found[layer] for layer in first_layers(case))
