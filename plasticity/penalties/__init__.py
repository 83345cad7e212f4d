"""Penalties: regularizers whose gradient is added to the task's gradient."""
