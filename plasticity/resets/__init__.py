"""Resets and perturbations of units, layers or whole networks."""
