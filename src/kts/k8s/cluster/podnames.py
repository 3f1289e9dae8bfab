"""What this node's containers are called, asked again whenever one turns up that nobody knew."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from kts.errors import SetupError, UsageError
from kts.k8s.cluster import nodefiles
from kts.k8s.cluster.kubelet import ACCOUNT, Kubelet
from kts.k8s.objects.names import ENV_HOST_IP, ENV_KUBELET_CA, ENV_NAMES, NAMES_BY
from kts.k8s.objects.podnames import NamesKnown
from kts.watch.calls import WatchedProcess

EVERY_S = 2.0
"""Between two questions at least: a container's name is there a moment after it starts."""
REFUSED_S = 30.0
"""After a question that was refused."""

Way = Callable[[], NamesKnown]
"""All names there are now. SetupError where they cannot be had."""


class NodeNames:
    """Gives processes the names of their pods. ``problem``: why the ways that come first do not answer; empty while
    they do."""

    def __init__(self, ways: Sequence[Way], now: Callable[[], float] = time.monotonic) -> None:
        """``ways``: the next is taken where one refuses; ``now``: a clock, in seconds."""
        self.problem = ""
        self._ways, self._now = ways, now
        self._known = NamesKnown({}, {})
        self._again_s = float("-inf")

    def __call__(self, process: WatchedProcess) -> WatchedProcess:
        """The process with namespace, pod and container's name, as far as they are known; as it was where it is in no
        pod, and where nobody tells. Raises nothing; asks at most every `EVERY_S`, within a second."""
        found = self._known.get(process.pod_uid, process.container)
        if process.pod_uid and (found is None or not found.container) and self._now() >= self._again_s:
            self._ask()
            found = self._known.get(process.pod_uid, process.container)
        if found is None:
            return process
        return msgspec.structs.replace(
            process, namespace=found.namespace, pod=found.pod, container_name=found.container
        )

    def _ask(self) -> None:
        """What is known is forgotten with the pods that are gone: memory stays bounded."""
        refused = []
        for way in self._ways:
            try:
                self._known = way()
                break
            except SetupError as error:
                refused.append(error.what)
        self.problem = "; ".join(refused)
        self._again_s = self._now() + (REFUSED_S if len(refused) == len(self._ways) else EVERY_S)


def names_here(env: Mapping[str, str], logs: Path = nodefiles.LOGS, account: Path = ACCOUNT) -> NodeNames:
    """Of this node, as the environment says: ``KTS_NAMES`` is ``files`` (the default), ``kubelet`` (then files, where
    it refuses) or ``none``. UsageError for anything else."""
    by = env.get(ENV_NAMES, "files")
    if by not in NAMES_BY:
        raise UsageError(f"{ENV_NAMES}={by!r}: names come from {', '.join(NAMES_BY)}", "unset it")
    files: list[Way] = [lambda: nodefiles.names(logs)] if logs.is_dir() and by != "none" else []
    if by != "kubelet":
        return NodeNames(files)
    vouching = env.get(ENV_KUBELET_CA)
    authorities = None if vouching is None else [Path(vouching)] if vouching else []
    return NodeNames([Kubelet(env.get(ENV_HOST_IP, "127.0.0.1"), account, authorities=authorities).names, *files])
