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


<<<<<<< HEAD
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

    def loop(net: nn.Module, optimizer: Optimizer, norm: float, term: Any) -> None:
        optimizer.zero_grad()
        scaler.scale(loss_of(net) + term()).backward()
        scaler.unscale_(optimizer)
        clip(net, norm)
        scaler.step(optimizer)
        scaler.update()

    compare(loop, NORMS["clipped"], "l2")


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
        for _ in range(3):
            optimizer.zero_grad()
            loss_of(wrapped).backward()
            clip(ours, 0.05)
            optimizer.step()
    finally:
        torch.distributed.destroy_process_group()
    term, optimizer = Term(theirs, "l2"), adam(theirs)
    for _ in range(3):
        optimizer.zero_grad()
        (loss_of(theirs) + term()).backward()
        clip(theirs, 0.05)
        optimizer.step()
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


=======
>>>>>>> joins
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
