"""By which account the conductor's pod sees its neighbours."""

from __future__ import annotations

from typing import Any, cast

import pytest

from kts.k8s.cluster.api import Api
from kts.k8s.cluster.creation import with_account
from kts.k8s.objects.settings import ClusterSettings


class Accounts:
    """A namespace with one service account."""

    def __init__(self, name: str) -> None:
        self.name = name

    def get(self, kind: str, name: str, namespace: str) -> dict[str, Any] | None:
        """That account, if it is asked for."""
        return {} if (kind, name, namespace) == ("ServiceAccount", self.name, "kts") else None


@pytest.mark.parametrize(("there", "given"), [("kts-conductor", "kts-conductor"), ("kts", ""), ("default", "")])
def test_the_conductor_is_given_its_own_account_and_no_other(there: str, given: str) -> None:
    """Else its pod would get the token of an account that may create pods, as that of a fleet may."""
    assert with_account(cast(Api, Accounts(there)), ClusterSettings()).service_account == given
