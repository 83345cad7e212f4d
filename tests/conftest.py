"""What holds for every test."""

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _denormal_numbers() -> None:
    """A run of an earlier test has turned them off for the whole process."""
    torch.set_flush_denormal(False)
