"""What holds for every test."""

import os
import zlib

import pytest
import torch


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of some tests that are alike one runs, of others about one case in n, chosen by name, and all with FULL=1."""
    if "FULL" not in os.environ:
        for item in items:
            sampled = item.get_closest_marker("sampled")
            left = sampled and zlib.crc32(item.name.encode()) % sampled.args[0]
            if left or item.get_closest_marker("full"):
                item.add_marker(pytest.mark.skip(reason="one of several, for time; make full runs all"))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _logs_in_one_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Not one for each agent, left in the folder of temporary files for ever."""
    os.environ["SB3_LOGDIR"] = str(tmp_path_factory.mktemp("stable-baselines3"))


@pytest.fixture(autouse=True)
def _denormal_numbers() -> None:
    """A run of an earlier test has turned them off for the whole process."""
    torch.set_flush_denormal(False)
