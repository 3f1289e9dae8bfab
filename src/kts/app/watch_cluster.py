"""`kts watch` on the nodes of a cluster: printed, put there, taken away."""

from __future__ import annotations

import msgspec

from kts.app.images import ensured
from kts.app.printing import Say, silent
from kts.k8s.cluster.api import Api
from kts.k8s.follow import watching as there
from kts.k8s.follow.watching import WatchedNodes
from kts.k8s.objects import manifests, watching
from kts.k8s.objects.settings import Extra
from kts.k8s.objects.watching import WatchSettings

VARIANT: Extra = "cpu"
"""Of the workers that the image would start."""


def render_watching(settings: WatchSettings, *, namespace: bool = True) -> str:
    """The objects as one YAML stream; ``namespace``: it is among them."""
    return manifests.to_yaml(watching.render(msgspec.structs.replace(settings, create_namespace=namespace)))


def watch_image(context: str | None = None, say: Say = silent) -> str:
    """The name of this kts's image, which is built and loaded where a node has not got it. It starts no workers, so
    theirs is not built."""
    api = Api.connect(context)
    try:
        return ensured(api, VARIANT, None, say, full=True)
    finally:
        api.close()


def install_watching(settings: WatchSettings, context: str | None = None) -> WatchedNodes:
    """Makes the objects be there, and waits until each node's pod serves. SetupError where one cannot."""
    api = Api.connect(context)
    try:
        return there.install(api, settings)
    finally:
        api.close()


def remove_watching(namespace: str, context: str | None = None) -> bool:
    """Takes all of it away; False if there was nothing. SetupError naming what is left."""
    api = Api.connect(context)
    try:
        return there.remove(api, namespace)
    finally:
        api.close()
