"""Environments of other packages: registration on demand, and additions to them."""
