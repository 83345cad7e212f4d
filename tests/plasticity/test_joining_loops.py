"""A penalty that joins in the loss: loops where it cannot, several at once, and what is left when it is detached."""

from __future__ import annotations

import copy
import pickle
import re
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from joining_loops import (
    INPUTS,
    TARGETS,
    Counting,
    Term,
    adam,
    clip,
    in_loss,
    loss_of,
    network,
    plain,
    weights,
    zero_after,
)
from method_zoo import PENALTIES
from torch import Tensor, nn
from torch.optim import Optimizer

from neoteny.plasticity import L2, Compose, ReDo


@pytest.fixture(autouse=True)
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


# Loops in which it cannot join in the loss --------------------------------------------------------------------------


def module_zeroes(net: nn.Module, optimizer: Optimizer, set_to_none: bool) -> None:
    net.zero_grad(set_to_none=set_to_none)
    loss_of(net).backward()


def by_hand(net: nn.Module, optimizer: Optimizer, set_to_none: bool) -> None:
    optimizer.zero_grad(set_to_none)
    for p, g in zip(net.parameters(), torch.autograd.grad(loss_of(net), list(net.parameters())), strict=True):
        p.grad = g


@pytest.mark.parametrize("set_to_none", [True, False])
@pytest.mark.parametrize("compute", [module_zeroes, by_hand])
def test_where_it_cannot_join_in_the_loss_it_joins_late_and_warns_once(compute: Any, set_to_none: bool) -> None:
    def train(joins: Any) -> tuple[Tensor, list[str]]:
        net = network()
        optimizer = adam(net)
        L2(strength=0.3, joins=joins).attach(net, optimizer)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(4):
                compute(net, optimizer, set_to_none)
                optimizer.step()
        return weights(net), [str(w.message) for w in caught]

    ours, said = train("in-loss")
    theirs, nothing = train("after-clipping")
    assert (ours - theirs).abs().max() < 1e-12
    assert not nothing
    assert len(said) == 1
    assert re.match(r"l2: joins is in-loss, but .*zero_grad\(\).* joins after clipping", said[0])


@pytest.mark.parametrize("options", [{}, {"fused": True}], ids=str)
@pytest.mark.parametrize("unscale", [False, True])
def test_a_loss_scaler_is_refused(options: dict[str, Any], unscale: bool) -> None:
    net = network()
    optimizer = torch.optim.Adam(net.parameters(), **options)
    L2(strength=0.3, joins="in-loss").attach(net, optimizer)
    before = weights(net)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    optimizer.zero_grad()
    scaler.scale(loss_of(net)).backward()
    if unscale:
        scaler.unscale_(optimizer)
    with pytest.raises(ValueError, match=r"^joins: in-loss does not work with a GradScaler.*use after-clipping"):
        scaler.step(optimizer)
    assert torch.equal(weights(net), before)


def test_a_loss_scaler_that_is_switched_off_is_not_refused() -> None:
    scaler = torch.amp.GradScaler("cpu", enabled=False)

    def train(net: nn.Module, optimizer: Optimizer, term: Any) -> Tensor:
        for _ in range(3):
            optimizer.zero_grad()
            scaler.scale(loss_of(net) + term()).backward()
            scaler.unscale_(optimizer)
            clip(net, 0.05)
            scaler.step(optimizer)
            scaler.update()
        return weights(net)

    ours, theirs = network(), network()
    optimizer = adam(ours)
    in_loss("l2").attach(ours, optimizer)
    expected = train(theirs, adam(theirs), Term(theirs, "l2"))
    assert (train(ours, optimizer, lambda: 0) - expected).abs().max() < 1e-9


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch is built without torch.distributed")
@pytest.mark.parametrize("view", [True, False])
def test_distributed_data_parallel_does_not_overwrite_it(view: bool) -> None:
    """DistributedDataParallel writes the averaged gradients at the end of the backward pass."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        ours, theirs = network(), network()
        optimizer = adam(ours)
        in_loss("l2").attach(ours, optimizer)
        wrapped = nn.parallel.DistributedDataParallel(ours, gradient_as_bucket_view=view)
        plain(wrapped, optimizer, 0.05, lambda: 0)
    finally:
        torch.distributed.destroy_process_group()
    plain(theirs, adam(theirs), 0.05, Term(theirs, "l2"))
    assert (weights(ours) - weights(theirs)).abs().max() < 1e-9


def test_parameters_unfrozen_or_added_later_count_too() -> None:
    """Here the gradients come from layers that had none when the penalty was attached."""

    def train(method: L2 | None) -> Tensor:
        net = network()
        net[3:].requires_grad_(False)
        optimizer = torch.optim.Adam([*net[0].parameters(), *net[3].parameters()], lr=0.01)
        if method:
            method.attach(net, optimizer)
        net[3:].requires_grad_(True)
        optimizer.add_param_group({"params": list(net[4].parameters())})
        for _ in range(3):
            optimizer.zero_grad()
            loss = (net[4](net[3](net[:3](INPUTS).detach())) - TARGETS).square().mean()
            if not method:
                acted_on = [*net[0].parameters(), *net[3].parameters()]
                loss = loss + 0.3 * sum(p.square().sum() for p in acted_on)
            loss.backward()
            clip(net, 0.05)
            optimizer.step()
        return weights(net)

    with pytest.warns(UserWarning, match="attached before its optimizer got 4"):
        ours = train(L2(strength=0.3, joins="in-loss"))
    assert (ours - train(None)).abs().max() < 1e-9


# Several methods, and what is left behind ---------------------------------------------------------------------------


def test_several_penalties_in_one_loss() -> None:
    ours, theirs = network(), network()
    optimizer = adam(ours)
    parts = (in_loss("l2"), ReDo(every=0), in_loss("parseval"), L2(strength=0.0))
    Compose(methods=parts).attach(ours, optimizer)
    plain(ours, optimizer, 0.05, lambda: 0)
    one, other = Term(theirs, "l2"), Term(theirs, "parseval")
    plain(theirs, adam(theirs), 0.05, lambda: one() + other())
    assert (weights(ours) - weights(theirs)).abs().max() < 1e-9


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (2, 0, 1)])
def test_they_are_detached_in_any_order(order: tuple[int, ...]) -> None:
    net = network()
    optimizer = adam(net)
    penalties = [Counting(strength=0.1, joins="in-loss") for _ in range(3)]
    handles = [penalty.attach(net, optimizer) for penalty in penalties]
    for done, i in enumerate(order):
        plain(net, optimizer, 0.05, lambda: 0)
        handles[i].remove()
        handles[i].remove()
        assert ("zero_grad" in vars(optimizer)) == (done < 2)
    assert [penalties[i].added for i in order] == [5, 10, 15]
    assert not any(p._post_accumulate_grad_hooks for p in net.parameters())
    plain(net, optimizer, 0.05, lambda: 0)
    assert sum(penalty.added for penalty in penalties) == 30


def test_somebody_elses_zero_grad_stays() -> None:
    net = network()
    optimizer = adam(net)
    calls = []
    original = optimizer.zero_grad

    def counted(set_to_none: bool = True) -> None:
        calls.append(set_to_none)
        original(set_to_none)

    optimizer.zero_grad = counted
    handle = in_loss().attach(net, optimizer)
    optimizer.zero_grad(set_to_none=False)
    handle.remove()
    assert optimizer.zero_grad is counted
    assert calls == [False]


def test_the_optimizer_and_the_network_are_copied_and_pickled_without_it() -> None:
    net = network()
    optimizer = adam(net)
    penalty = Counting(strength=0.1, joins="in-loss")
    penalty.attach(net, optimizer)
    plain(net, optimizer, 0.05, lambda: 0)
    both = (net, optimizer)
    for copied, its in (copy.deepcopy(both), pickle.loads(pickle.dumps(both))):
        assert "zero_grad" not in vars(its)
        plain(copied, its, 0.05, lambda: 0)
        assert penalty.added == 5
    fresh = adam(net)
    fresh.load_state_dict(optimizer.state_dict())
    optimizer.load_state_dict(fresh.state_dict())
    plain(net, optimizer, 0.05, lambda: 0)
    assert penalty.added == 10


@pytest.mark.parametrize("loop", [plain, zero_after], ids=lambda loop: loop.__name__)
@pytest.mark.parametrize("name", PENALTIES)
def test_a_resumed_run_goes_on_exactly(name: str, loop: Any) -> None:
    net = network()
    optimizer = adam(net)
    penalty = in_loss(name)
    penalty.attach(net, optimizer)
    loop(net, optimizer, 0.05, lambda: 0)
    saved = copy.deepcopy((net.state_dict(), optimizer.state_dict(), penalty.state_dict()))
    loop(net, optimizer, 0.05, lambda: 0)

    again = network()
    other = adam(again)
    restored = in_loss(name)
    restored.attach(again, other)
    for part, state in zip((again, other, restored), saved, strict=True):
        part.load_state_dict(state)
    loop(again, other, 0.05, lambda: 0)
    assert torch.equal(weights(again), weights(net))
