from functools import partial

import pytest
import torch
from layers_by_hand import Parts, mlp
from torch import nn

from neoteny.plasticity import Layer, select_layers


def names(layers: list[Layer]) -> list[str]:
    return [layer.name for layer in layers]


def sgd(*modules: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for module in modules for p in module.parameters()], lr=1.0)


class Everything(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.log_std = nn.Parameter(torch.zeros(4))
        self.table = nn.Parameter(torch.zeros(4, 4))
        self.linear = nn.Linear(4, 4)
        self.conv1d, self.conv2d, self.conv3d = nn.Conv1d(1, 1, 2), nn.Conv2d(1, 1, 2), nn.Conv3d(1, 1, 2)
        self.layer_norm, self.group_norm = nn.LayerNorm(4), nn.GroupNorm(2, 4)
        self.batch_norm1d, self.batch_norm2d = nn.BatchNorm1d(4), nn.BatchNorm2d(4)
        self.batch_norm3d, self.plain_norm = nn.BatchNorm3d(4), nn.LayerNorm(4, elementwise_affine=False)
        self.embedding, self.prelu, self.gru = nn.Embedding(4, 4), nn.PReLU(), nn.GRU(4, 4)
        self.deconv, self.bilinear = nn.ConvTranspose2d(1, 1, 2), nn.Bilinear(2, 2, 2)


def test_layers_are_chosen_by_the_type_of_their_module():
    module = Everything()
    chosen = select_layers(module, sgd(module), heads="include")
    matrices = ["linear", "conv1d", "conv2d", "conv3d", "embedding", "deconv"]
    matrices += [f"gru.weight_{side}_l0.{gate}" for side in ("ih", "hh") for gate in "rzn"]
    norms = ["layer_norm", "group_norm", "batch_norm1d", "batch_norm2d", "batch_norm3d"]
    assert {layer.name: layer.is_norm for layer in chosen} == dict.fromkeys(matrices, False) | dict.fromkeys(
        norms, True
    )
    for layer in chosen:
        if layer.name in ("embedding", "deconv") or layer.name.startswith("gru"):
            continue
        assert layer.weight is module.get_submodule(layer.name).weight
        assert layer.bias is module.get_submodule(layer.name).bias


def test_matrix_of_a_convolution_is_its_kernel_reshaped():
    module = nn.Conv2d(3, 4, (2, 5))
    (layer,) = select_layers(module, sgd(module), heads="include")
    assert layer.matrix.shape == (4, 30)
    assert layer.matrix[1, 13].item() == module.weight[1, 1, 0, 3].item()
    assert layer.matrix.data_ptr() == module.weight.data_ptr()


def test_frozen_layers_are_not_live_and_foreign_ones_are_out():
    net, target = mlp(4, 8, 8, 2), mlp(4, 8, 8, 2)
    net[0].requires_grad_(False)
    net[2].bias.requires_grad_(False)
    module = Parts(net=net, target=target)
    chosen = select_layers(module, sgd(net), heads="include")
    assert names(chosen) == ["net.0", "net.2", "net.4"]
    assert [layer.weights.live for layer in chosen] == [False, True, True]
    assert [layer.biases.live for layer in chosen] == [False, False, True]


def test_bias_that_the_optimizer_does_not_hold_is_out():
    module = nn.Linear(2, 2)
    (layer,) = select_layers(module, torch.optim.SGD([module.weight], lr=1.0), heads="include")
    assert layer.bias is None


def test_all_parameter_groups_count():
    module = mlp(4, 8, 2)
    optimizer = torch.optim.SGD([{"params": module[2].parameters()}, {"params": module[0].parameters()}], lr=1.0)
    assert names(select_layers(module, optimizer, heads="include")) == ["0", "2"]


def test_shared_weight_counts_once():
    module = Parts(a=nn.Linear(4, 4), b=nn.Linear(4, 4), c=nn.Linear(4, 4))
    module.c.weight = module.a.weight
    module.add_module("again", module.b)
    assert names(select_layers(module, sgd(module), heads="include")) == ["a", "b"]


@pytest.mark.parametrize(
    ("heads", "expected"),
    [
        ("exempt", ["torso.0", "torso.2"]),
        ("include", ["torso.0", "torso.2", "actor", "critic"]),
        (["actor"], ["torso.0", "torso.2", "critic"]),
        (("critic", "torso.0"), ["torso.2", "actor"]),
        ("torso.0", ["torso.2", "actor", "critic"]),
        ((), ["torso.0", "torso.2", "actor", "critic"]),
    ],
    ids=str,
)
def test_heads(heads: str | tuple[str, ...], expected: list[str]):
    module = Parts(torso=mlp(4, 8, 8), actor=nn.Linear(8, 2), critic=nn.Linear(8, 1))
    assert names(select_layers(module, sgd(module), heads)) == expected


@pytest.mark.parametrize(("heads", "named"), [(["actor", "critc"], "critc"), ("exemt", "exemt"), ("10", "10")])
def test_unknown_head(heads: str | list[str], named: str):
    module = nn.ModuleDict({"1": nn.Linear(4, 8), "0": nn.Linear(8, 8), "actor": nn.Linear(8, 2)})
    with pytest.raises(ValueError, match=rf"^heads: there is no layer '{named}'; the layers are 1, 0, actor$"):
        select_layers(module, sgd(module), heads)


def test_only():
    module = Parts(actor=mlp(4, 8, 8, 2), critic=mlp(4, 8, 1))
    select = partial(select_layers, module, sgd(module))
    assert names(select(only=lambda name: name.startswith("actor"))) == ["actor.0", "actor.2"]
    assert names(select(heads="include", only={"critic.2", "actor.0"}.__contains__)) == [
        "actor.0",
        "critic.2",
    ]
    assert select(only=lambda name: name == "critic.2") == []
