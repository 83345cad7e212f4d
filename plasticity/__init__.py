"""Methods that keep a network trainable, for any torch training loop. Needs torch and nothing else.

Spectral(strength=1e-3).attach(network, optimizer)
"""

from plasticity.l2 import L2, L2Init
from plasticity.layers import Layer, select_layers
from plasticity.method import Compose, Handle, Method, Penalty
from plasticity.metrics import spectral_norms
from plasticity.spectral import Spectral

#: Every method by the name that YAML and the command line call it.
METHODS: dict[str, type[Method]] = {method.name: method for method in (Spectral, L2, L2Init)}

__all__ = [
    "L2", "METHODS", "Compose", "Handle", "L2Init", "Layer", "Method", "Penalty", "Spectral", "select_layers",
    "spectral_norms",
]  # fmt: skip
