"""What all tests share: those that need the data sets are skipped where there are none."""

from __future__ import annotations

import os

import pytest

from zobnn_edge import datasets


def pytest_runtest_setup(item: pytest.Item) -> None:
    """The marker needs_data."""
    if item.get_closest_marker("needs_data") and not os.environ.get(datasets.DATA_VARIABLE):
        pytest.skip(f"{datasets.DATA_VARIABLE} is not set")
