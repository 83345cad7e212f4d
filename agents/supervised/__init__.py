"""Networks that learn from examples, task after task, with plasticity methods attached."""

from neoteny.agents.supervised.learner import Examples, Learner
from neoteny.agents.supervised.nets import CNN, MLP, NETS, Net, OwnNet, ResNet18, ViT, find_net

__all__ = ["CNN", "MLP", "NETS", "Examples", "Learner", "Net", "OwnNet", "ResNet18", "ViT", "find_net"]
