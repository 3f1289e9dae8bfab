"""Workers as pods that somebody else starts. Runs in the conductor's pod, which may not talk to the API server."""

from __future__ import annotations

from collections import deque

from kts.conduct.ports import Endpoint, WorkerExit
from kts.model.plan import Plan


class PodsBackend:
    """Implements `kts.conduct.ports.Backend`. `exited` and `note` may be called from any thread.

    That a pod ended is known to the API server alone; whoever watches it there tells `exited`. Without a
    watcher the worker's closed connection has to do.
    """

    name = "k8s"
    sees_ends = False

    def __init__(self) -> None:
        self._tenants: frozenset[str] = frozenset()
        self._told: deque[WorkerExit] = deque()
        self._known: set[tuple[str, int | None, str]] = set()
        self._notes: list[str] = []

    def start(self, plan: Plan, endpoint: Endpoint) -> None:
        """The tenants' Jobs were created with this conductor's pod, or will be."""
        del endpoint
        self._tenants = frozenset(tenant.name for tenant in plan.tenants)

    def exited(self, ended: WorkerExit) -> bool:
        """Tells that a tenant's pod ended; False if there is no such tenant. Repeating it does nothing."""
        if ended.tenant not in self._tenants:
            return False
        which = (ended.tenant, ended.block, ended.hostname)
        if which not in self._known:
            self._known.add(which)
            self._told.append(ended)
        return True

    def note(self, text: str) -> None:
        """Something that a reader of the results must know, one line."""
        if text not in self._notes:
            self._notes.append(text)

    def notes(self) -> list[str]:
        """What was told by `note`."""
        return list(self._notes)

    def poll(self) -> list[WorkerExit]:
        """Pods that ended since the last call. Never blocks."""
        ended = []
        while self._told:
            ended.append(self._told.popleft())
        return ended

    def stop(self, grace_s: float) -> None:
        """Nothing: workers end with Finish, and their Jobs have deadlines of their own."""
        del grace_s
