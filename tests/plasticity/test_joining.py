"""A penalty that joins in the loss: held to the loss term, in training loops of many kinds."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from joining_loops import LOOPS, NORMS, Counting, Term, adam, closure, in_loss, network, plain, weights
from method_zoo import PENALTIES, make
from torch import nn
from torch.optim import Optimizer

from neoteny.plasticity import L2, METHODS, Spectral


@pytest.fixture(autouse=True)
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def compare(loop: Any, norm: float, name: str, make_optimizer: Callable[[nn.Module], Optimizer] = adam) -> None:
    """In-loss gives the loss term's weights. Joining after clipping gives these too where nothing is clipped."""
    ours, theirs, after = network(), network(), network()
    method, late = in_loss(name), make(name, heads="include", strength=0.3)
    for net, joining in ((ours, method), (after, late)):
        optimizer = make_optimizer(net)
        joining.attach(net, optimizer)
        loop(net, optimizer, norm, lambda: 0)
    term = Term(theirs, name)
    loop(theirs, make_optimizer(theirs), norm, term)
    assert (weights(ours) - weights(theirs)).abs().max() < 1e-9
    for mine, its in zip(method.state().values(), term.penalty.state().values(), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-9, atol=1e-9)
    assert ((weights(after) - weights(theirs)).abs().max() < 1e-9) == (norm == NORMS["not clipped"])


@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_in_loss_is_the_loss_term_in_every_loop(loop: Any, norm: float) -> None:
    compare(loop, norm, "spectral")


@pytest.mark.parametrize("name", PENALTIES)
def test_in_loss_is_the_loss_term_for_every_penalty(name: str) -> None:
    compare(plain, NORMS["clipped"], name)


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
def test_in_loss_is_the_loss_term_for_lbfgs(norm: float, search: str | None) -> None:
    def lbfgs(net: nn.Module) -> Optimizer:
        return torch.optim.LBFGS(net.parameters(), lr=0.1, max_iter=4, line_search_fn=search)

    compare(closure, norm, "l2", lbfgs)


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_it_is_added_once_per_update(loop: Any) -> None:
    net = network()
    optimizer = adam(net)
    penalty = Counting(strength=0.1, joins="in-loss")
    penalty.attach(net, optimizer)
    loop(net, optimizer, 0.05, lambda: 0)
    assert penalty.added == (3 if loop is closure else 5)


def test_by_hand() -> None:
    """The gradient (3, 4) and the penalty's 2λw = (6, 8) have norm 15 together, and are clipped to 1."""
    module = nn.Linear(1, 2, bias=False)
    module.weight.data.copy_(torch.tensor([[3.0], [4.0]]))
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    L2(strength=1.0, joins="in-loss").attach(module, optimizer)
    optimizer.zero_grad()
    (module.weight * torch.tensor([[3.0], [4.0]])).sum().backward()
    assert module.weight.grad.tolist() == [[9.0], [12.0]]
    assert float(nn.utils.clip_grad_norm_(module.parameters(), 1.0)) == 15
    optimizer.step()
    torch.testing.assert_close(module.weight.data, torch.tensor([[3 - 0.6], [4 - 0.8]]))


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
@pytest.mark.parametrize("name", PENALTIES)
def test_at_strength_0_nothing_differs_in_any_bit(name: str, loop: Any) -> None:
    ours, theirs = network(), network()
    optimizer = adam(ours)
    make(name, idle=True, joins="in-loss").attach(ours, optimizer)
    loop(ours, optimizer, 0.05, lambda: 0)
    loop(theirs, adam(theirs), 0.05, lambda: 0)
    assert torch.equal(weights(ours), weights(theirs))
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None)


# The setting --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PENALTIES)
def test_a_wrong_choice_is_named(name: str) -> None:
    assert METHODS[name]().joins == "after-clipping"
    with pytest.raises(ValueError, match=r"^joins: one of after-clipping, in-loss is needed, got 'before'$"):
        METHODS[name](joins="before")


def test_methods_that_are_no_penalty_have_no_such_setting() -> None:
    for name in METHODS.keys() - set(PENALTIES):
        with pytest.raises(TypeError, match="joins"):
            METHODS[name](joins="in-loss")


def test_after_clipping_hooks_nothing_but_the_step() -> None:
    net = network()
    optimizer = adam(net)
    Spectral().attach(net, optimizer)
    assert "zero_grad" not in vars(optimizer)
    assert not any(p._post_accumulate_grad_hooks for p in net.parameters())
