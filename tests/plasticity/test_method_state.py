"""The state of every method: restored, going on as before, and refused where it is another's."""

import copy
import io

import pytest
import torch
from method_network import (
    Network,
    adam,
    assert_same,
    attached,
    every_method,
    train,
)
from method_zoo import make
from torch import Tensor


@every_method
def test_restored_state_goes_on_bit_for_bit(name: str):
    network, optimizer, method = attached(name)
    train(network, optimizer, range(5))
    saved = [copy.deepcopy(network.state_dict()), copy.deepcopy(optimizer.state_dict()), method.state_dict()]
    train(network, optimizer, range(5, 10))
    file = io.BytesIO()
    torch.save(saved, file)

    file.seek(0)
    weights, moments, state = torch.load(file, weights_only=True)
    other, again = Network(seed=1), make(name)
    optimizer = adam(other)
    again.attach(other, optimizer, seed=9)
    other.load_state_dict(weights)
    optimizer.load_state_dict(moments)
    again.load_state_dict(state)
    train(other, optimizer, range(5, 10))
    assert_same(other.state_dict(), network.state_dict())
    assert_same(again.state_dict(), method.state_dict())


@every_method
def test_state_dict_is_a_snapshot(name: str):
    network, optimizer, method = attached(name)
    state = method.state_dict()
    before = copy.deepcopy(state)
    train(network, optimizer, range(3))
    assert_same(state, before)
    method.load_state_dict(state)
    train(network, optimizer, range(3, 6))
    assert_same(state, before)


def another(state: dict[str, Tensor], how: str) -> dict[str, Tensor]:
    last = list(state)[-1]
    match how:
        case "missing":
            return {key: tensor for key, tensor in state.items() if key != last}
        case "unknown":
            return state | {"99.generator": state[next(iter(state))]}
        case "shape":
            return state | {last: torch.ones(3, 3)}
        case "shape that broadcasts":
            return state | {last: torch.ones(())}
    return {}


@pytest.mark.parametrize("how", ["missing", "unknown", "shape", "shape that broadcasts", "empty"])
@pytest.mark.parametrize("name", ["spectral", "l2-init", "compose"])
def test_state_of_another_is_refused_and_nothing_is_loaded(name: str, how: str):
    method = attached(name)[2]
    before = method.state_dict()
    state = {key: tensor if "generator" in key else tensor + 1 for key, tensor in before.items()}
    with pytest.raises(ValueError, match="this state is of another method or network"):
        method.load_state_dict(another(state, how))
    assert_same(method.state_dict(), before)


def test_state_says_whose_it_is_not():
    spectral, l2 = attached("spectral")[2], attached("l2")[2]
    with pytest.raises(ValueError, match=r"^l2: .*\(differs in: .*pull\.first\.0.*pull\.second\.3.*\)$"):
        l2.load_state_dict(spectral.state_dict())
