"""What every test shares: one thread, no network, a cache of its own, and one freshly initialised ``nano``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # read when transformers is imported, so it comes first

import pytest
import torch

from burnish.engines.nano import build_nano
from burnish.errors import InputError
from burnish.rewards.sandbox import choose

torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test reads or writes the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        cache = tmp_path_factory.mktemp("burnish-cache")
        patch.setenv("BURNISH_CACHE", str(cache))
        yield cache


@pytest.fixture(scope="session")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory. Read only: tests copy what they change."""
    directory = tmp_path_factory.mktemp("nano")
    build_nano(directory)
    return directory


@cache
def no_sandbox() -> str:
    """Why no sandbox for programs works here, and what each of them needs; "" where one does."""
    try:
        choose()
    except InputError as error:
        return str(error)
    return ""


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("needs_sandbox") and (reason := no_sandbox()):
        pytest.skip(reason)
