from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest
import stable_baselines3 as sb3
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.envs import FakeImageEnv
from torch import nn

from neoteny.plasticity import Layer, select_layers


def names(layers: list[Layer]) -> list[str]:
    return [layer.name for layer in layers]


def sgd(*modules: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for module in modules for p in module.parameters()], lr=1.0)


def mlp(*widths: int, last: tuple[nn.Module, ...] = ()) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1], *last)


class Parts(nn.Module):
    """Its submodules are its attributes, registered in the order given."""

    def __init__(self, **parts: nn.Module):
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)


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


HEADS = {
    "MLP": (lambda: mlp(4, 8, 8, 2), ["4"]),
    "one layer": (lambda: nn.Linear(4, 2), [""]),
    "MLP with norms": (lambda: nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 2)), ["3"]),
    "MLP with squashed output": (lambda: mlp(4, 8, 2, last=(nn.Tanh(),)), ["2"]),
    "MLP as wide as it is deep": (lambda: mlp(4, 4, 4, 4), ["4"]),
    "torso whose output something else takes": (
        lambda: Parts(torso=mlp(4, 8, 16, last=(nn.ReLU(),)), memory=nn.GRU(16, 5), head=nn.Linear(5, 2)), ["head"]
    ),
    "CleanRL's PPO": (lambda: Parts(critic=mlp(4, 64, 64, 1), actor=mlp(4, 64, 64, 2)), ["critic.4", "actor.4"]),
    "CleanRL's SAC actor": (
        lambda: Parts(fc1=nn.Linear(3, 256), fc2=nn.Linear(256, 256), fc_mean=nn.Linear(256, 2),
                      fc_logstd=nn.Linear(256, 2)),
        ["fc_mean", "fc_logstd"],
    ),
    "twin critics": (lambda: Parts(qf0=mlp(6, 8, 8, 1), qf1=mlp(6, 8, 8, 1)), ["qf0.4", "qf1.4"]),
    "list of critics": (lambda: nn.ModuleList([mlp(6, 8, 1), mlp(6, 8, 1)]), ["0.2", "1.2"]),
    "shared torso": (
        lambda: Parts(torso=mlp(4, 8, 8), actor=mlp(8, 16, 2), critic=nn.Linear(8, 1)), ["actor.2", "critic"]
    ),
    "nested torso": (lambda: nn.Sequential(mlp(4, 8, 16, last=(nn.ReLU(),)), mlp(16, 8, 2)), ["1.2"]),
    "reshaped on the way": (
        lambda: nn.Sequential(nn.Sequential(nn.Linear(4, 16)), nn.Unflatten(1, (2, 8)), nn.Linear(8, 2)), ["2"]
    ),
    "dueling": (
        lambda: Parts(features=mlp(4, 8, 8), value=mlp(8, 8, 1), advantage=mlp(8, 8, 3)), ["value.2", "advantage.2"]
    ),
    "NatureCNN": (
        lambda: Parts(
            cnn=nn.Sequential(nn.Conv2d(4, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU(), nn.Flatten()),
            linear=nn.Sequential(nn.Linear(64 * 81, 512), nn.ReLU()), q=nn.Linear(512, 6),
        ),
        ["q"],
    ),
    "bare convolutions": (
        lambda: Parts(conv1=nn.Conv2d(1, 6, 5), conv2=nn.Conv2d(6, 10, 5), fc=nn.Linear(10 * 16, 20),
                      head=nn.Linear(20, 3)),
        ["head"],
    ),
    "concatenated activations": (
        lambda: Parts(a=nn.Linear(3, 8), b=nn.Linear(16, 8), c=nn.Linear(16, 5)), ["c"]
    ),
    "concatenated activations, two outputs": (
        lambda: Parts(torso=mlp(3, 12, 8), actor=nn.Linear(16, 2), critic=nn.Linear(16, 1)), ["actor", "critic"]
    ),
    "concatenated activations after convolutions": (
        lambda: Parts(a=nn.Conv2d(1, 6, 3), b=nn.Conv2d(12, 5, 3), c=nn.Linear(90, 7), d=nn.Linear(14, 3)), ["d"]
    ),
    "two outputs, half as many as the next network's inputs": (
        lambda: Parts(actor=mlp(4, 64, 64, 2), critic=mlp(4, 64, 64, 1)), ["actor.4", "critic.4"]
    ),
    "four outputs, half as many as the next head's inputs": (
        lambda: Parts(features=mlp(6, 8, 8), advantage=mlp(8, 8, 4), value=mlp(8, 8, 1)), ["advantage.2", "value.2"]
    ),
    "a convolution is not half of a Linear layer": (
        lambda: Parts(a=nn.Linear(3, 6), b=nn.Conv2d(12, 5, 3)), ["a", "b"]
    ),
    "fully convolutional": (lambda: Parts(a=nn.Conv2d(3, 8, 3), b=nn.Conv2d(8, 8, 3), out=nn.Conv2d(8, 5, 1)), ["out"]),
}  # fmt: skip


@pytest.mark.parametrize(("make", "heads"), HEADS.values(), ids=HEADS)
def test_output_heads(make: Callable[[], nn.Module], heads: list[str]):
    module = make()
    every = names(select_layers(module, sgd(module), "include"))
    assert names(select_layers(module, sgd(module))) == [name for name in every if name not in heads]
    assert set(heads) < set(every) or every == heads


def separate(*roles: str) -> list[str]:
    return [f"mlp_extractor.{role}_net.{i}" for role in roles for i in (0, 2)]


SB3 = {
    "PPO": (partial(sb3.PPO, "MlpPolicy", "CartPole-v1"), [separate("policy", "value")]),
    "A2C": (partial(sb3.A2C, "MlpPolicy", "CartPole-v1"), [separate("policy", "value")]),
    "PPO, continuous": (partial(sb3.PPO, "MlpPolicy", "Pendulum-v1"), [separate("policy", "value")]),
    "PPO, shared torso": (
        partial(sb3.PPO, "CnnPolicy", FakeImageEnv(), n_steps=8, batch_size=8),
        [["features_extractor.cnn.0", "features_extractor.cnn.2", "features_extractor.cnn.4",
          "features_extractor.linear.0"]],
    ),
    "DQN": (partial(sb3.DQN, "MlpPolicy", "CartPole-v1", buffer_size=1), [["q_net.q_net.0", "q_net.q_net.2"]]),
    "SAC": (
        partial(sb3.SAC, "MlpPolicy", "Pendulum-v1", buffer_size=1),
        [["actor.latent_pi.0", "actor.latent_pi.2"], [f"critic.qf{i}.{j}" for i in (0, 1) for j in (0, 2)]],
    ),
    "TD3": (
        partial(sb3.TD3, "MlpPolicy", "Pendulum-v1", buffer_size=1),
        [["actor.mu.0", "actor.mu.2"], [f"critic.qf{i}.{j}" for i in (0, 1) for j in (0, 2)]],
    ),
}  # fmt: skip
SB3_HEADS = {
    "PPO": [["action_net", "value_net"]],
    "A2C": [["action_net", "value_net"]],
    "PPO, continuous": [["action_net", "value_net"]],
    "PPO, shared torso": [["action_net", "value_net"]],
    "DQN": [["q_net.q_net.4"]],
    "SAC": [["actor.mu", "actor.log_std"], ["critic.qf0.4", "critic.qf1.4"]],
    "TD3": [["actor.mu.4"], ["critic.qf0.4", "critic.qf1.4"]],
}


@pytest.mark.parametrize("algorithm", SB3)
def test_stable_baselines3(algorithm: str):
    make, hidden = SB3[algorithm]
    model: BaseAlgorithm = make(device="cpu")
    owners = (model.actor, model.critic) if len(hidden) == 2 else (model.policy,)
    for owner, expected, heads in zip(owners, hidden, SB3_HEADS[algorithm], strict=True):
        assert names(select_layers(model.policy, owner.optimizer)) == expected
        assert sorted(names(select_layers(model.policy, owner.optimizer, "include"))) == sorted(expected + heads)
