"""An API server over TLS, and kubeconfigs for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.helpers_apiserver import ApiServer, Authority, Cluster, serving


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Certificates for all tests of this file."""
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def server(authority: Authority) -> Iterator[ApiServer]:
    """An API server that speaks TLS."""
    with serving(authority) as server:
        yield server


@pytest.fixture
def cluster(tmp_path: Path, server: ApiServer, authority: Authority) -> Iterator[Cluster]:
    """Kubeconfigs for the server."""
    cluster = Cluster(tmp_path, server, authority)
    yield cluster
    for api in cluster.open:
        api.close()
