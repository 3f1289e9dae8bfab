"""How tests are spread over processes (``--dist loadgroup``)."""

from __future__ import annotations

import os

import pytest


def pytest_xdist_auto_num_workers() -> int:
    """One process per core, and one more for the cluster's tests: these mostly wait."""
    return (os.cpu_count() or 1) + bool(os.environ.get("KTS_IMAGE_LOADER"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of a file run in one process, and so share what it made; those of the cluster, which has one set of slots,
    run one after the other."""
    for item in items:
        group = "cluster" if item.get_closest_marker("cluster") else item.nodeid.partition("::")[0]
        item.add_marker(pytest.mark.xdist_group(group))
