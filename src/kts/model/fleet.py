"""A fleet: one experiment, once per node. The content of fleet.json. Versioned; see docs/formats.md."""

from __future__ import annotations

import re
from typing import Literal, cast

import msgspec

from kts.model.run import Outcome, OutcomeKind
from kts.shown import first_few

FLEET_VERSION = 1
NODES = "nodes"
"""Folder of a fleet directory that holds a run directory per node."""
NodeState = Literal["waiting", "running", "complete", "undetermined", "incomplete", "interrupted", "failed", "skipped"]
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
OPEN: tuple[NodeState, ...] = ("waiting", "running")


class FleetNode(msgspec.Struct, frozen=True, kw_only=True):
    """One node. ``state``: waiting for its turn, running, skipped before anything was tried, or how its run ended.

    ``run``: ID of its run in the cluster. ``has_run``: there is a run directory of it. Times are CLOCK_REALTIME of who
    follows, None where it did not come to that.
    """

    node: str
    state: NodeState = "waiting"
    reason: str = ""
    remedy: str = ""
    exit_code: int = 0
    run: str = ""
    has_run: bool = False
    started_ns: int | None = None
    ended_ns: int | None = None

    @property
    def directory(self) -> str:
        """Its run directory, relative to the fleet's."""
        return f"{NODES}/{self.node}"

    def ended(self, outcome: Outcome, now_ns: int) -> FleetNode:
        """The same, its run being over."""
        state: NodeState = "incomplete" if outcome.kind == "running" else outcome.kind
        return msgspec.structs.replace(
            self,
            state=state,
            reason=outcome.reason,
            remedy=outcome.remedy,
            exit_code=outcome.exit_code,
            ended_ns=now_ns,
        )

    def check(self) -> None:
        """ValueError where its name could not be a node's, and so no folder's."""
        if not _NAME.fullmatch(self.node) or ".." in self.node or len(self.node) > 253:
            raise ValueError(f"no node is called {self.node!r}")


class Fleet(msgspec.Struct, frozen=True, kw_only=True):
    """fleet.json. ``selector``: by which nodes were chosen. ``nodes``: all that it took, in order of name."""

    schema: int = FLEET_VERSION
    id: str
    kts: str
    experiment: str
    selector: str
    namespace: str
    created_ns: int
    nodes: tuple[FleetNode, ...]

    @property
    def outcome(self) -> Outcome:
        """How it ended as a whole: complete if every node is, else as the worst of them, in one line."""
        worst = max(self.nodes, key=lambda one: one.exit_code)
        bad = [one for one in self.nodes if one.state != "complete"]
        if any(one.state in OPEN for one in self.nodes):
            return Outcome(kind="running", reason=f"{len(bad)} of {len(self.nodes)} nodes are not over")
        if not bad:
            return Outcome(kind="complete")
        names = first_few([f"{one.node} {one.state}" for one in bad], 6)
        state = worst.state if worst.exit_code else bad[0].state
        return Outcome(
            kind=cast("OutcomeKind", "failed" if state == "skipped" else state),
            reason=f"{len(bad)} of {len(self.nodes)} nodes are not complete ({names})",
            remedy=worst.remedy or bad[0].remedy,
            exit_code=worst.exit_code,
        )

    def check(self) -> None:
        """ValueError where it has no nodes, or one of them twice."""
        if not self.nodes or len({one.node for one in self.nodes}) < len(self.nodes):
            raise ValueError("no nodes, or one of them twice")
