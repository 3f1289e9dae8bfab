"""How tests are spread over processes, and that none fails because others run, or because it took long."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from kts.errors import SetupError

CLUSTER = "tests/e2e/cluster/"
IMAGES = f"{CLUSTER}test_image.py"
WEIGHT = 50

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as shells start background jobs, and they all they start
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_xdist_auto_num_workers() -> int:
    """One process per core, and one more for the cluster's tests: these mostly wait."""
    return (os.cpu_count() or 1) + bool(os.environ.get("KTS_IMAGE_LOADER"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those of the cluster first: they are one after the other, and wait. Of them the one that brings the worker's
    image there under two names: none of the others brings it again."""
    items.sort(key=lambda item: 2 - item.nodeid.startswith(CLUSTER) - item.nodeid.startswith(IMAGES))


@pytest.fixture(autouse=True)
def _first_served(request: pytest.FixtureRequest) -> Iterator[None]:
    """What measures gets the cores before whatever else runs on the machine, where one may say so: else a busy machine
    is in every figure. (Pods are not started from here.)"""
    if request.node.get_closest_marker("alone") is None or request.node.get_closest_marker("cluster") is not None:
        yield
        return
    from bench.injectors.cgroups import favoured

    with suppress(OSError), ExitStack() as stack:  # cgroups that may not be made, joined or removed are done without
        with suppress(SetupError, OSError):
            stack.enter_context(favoured(f"kts-alone-{os.getpid()}", WEIGHT))
        yield


class ByFile(LoadScopeScheduling):
    """Tests of a file run in one process, and so share what it made; those of the cluster, which has one set of slots,
    run one after the other."""

    def _split_scope(self, nodeid: str) -> str:
        return CLUSTER if nodeid.startswith(CLUSTER) else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """In place of what ``--dist`` names."""
    return ByFile(config, log)
