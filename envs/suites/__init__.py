"""The environments of other packages: what they lack, and how they are registered when they are asked for."""
