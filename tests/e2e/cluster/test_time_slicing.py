"""`kts k8s time-slicing` on a real cluster: the node really offers what was asked, and the old config comes back.

It restarts the device plugin, so nothing else may use the GPUs meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from tests.helpers_cli import kts
from tests.helpers_cluster import has_plugin, on_a_cluster

from kts.k8s.cluster import sharing
from kts.k8s.cluster.api import Api
from kts.k8s.objects import offers
from kts.k8s.objects.names import GPU
from kts.k8s.objects.pluginconfig import sharing_of

pytestmark = on_a_cluster()


@pytest.fixture
def api() -> Iterator[Api]:
    """The cluster; its config is afterwards, to the letter, as it was, whatever the test did."""
    api = Api.connect()
    if not has_plugin(api):
        api.close()
        pytest.skip("needs NVIDIA's device plugin, and this cluster has none")
    before = sharing.find(api)
    assert before.previous is None
    yield api
    if sharing.find(api).previous is not None:
        kts("k8s", "time-slicing", "--restore")
    after = sharing.find(api)
    lacking = sharing.missing(api, after, before.text)
    api.close()
    assert (after.text, after.previous, lacking) == (before.text, None, "")


def offered(api: Api) -> int:
    """Slots of all nodes."""
    return sum(offers.offered(node, [GPU])[1] for node in api.list("Node"))


def test_without_apply_the_change_is_only_shown(api: Api) -> None:
    """Else looking would disturb whoever measures."""
    before = sharing.find(api)
    wanted = sharing_of(before.text).replicas + 2
    done = kts("k8s", "time-slicing", "--replicas", str(wanted))
    assert done.returncode == 0, done.stderr
    assert re.search(rf"^\+ *replicas: {wanted}$", done.stdout, re.MULTILINE)
    assert sharing.find(api) == before


def test_the_node_offers_the_slots_and_the_old_text_comes_back(api: Api) -> None:
    """Else the command would say it is done while pods still wait, or would leave the cluster changed."""
    before = sharing.find(api)
    slots, each = offered(api), sharing_of(before.text).replicas
    for more in (2, 1):  # twice: what is kept is the first text, not the one in between
        done = kts("k8s", "time-slicing", "--replicas", str(each + more), "--apply")
        assert done.returncode == 0, done.stderr
        assert offered(api) == slots // each * (each + more)
        assert sharing.find(api).previous == before.text
    again = kts("k8s", "time-slicing", "--replicas", str(each + 1), "--apply")
    assert (again.returncode, again.stdout) == (0, "")
    assert "nothing to change" in again.stderr
    done = kts("k8s", "time-slicing", "--restore")
    assert done.returncode == 0, done.stderr
    assert offered(api) == slots
    assert sharing.find(api).text == before.text


@pytest.mark.usefixtures("api")
def test_nothing_kept_cannot_be_put_back() -> None:
    """Else --restore would pretend."""
    done = kts("k8s", "time-slicing", "--restore")
    assert done.returncode == 4
    assert "no earlier text is kept" in done.stderr
