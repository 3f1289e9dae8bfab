"""One tenant alone in a process of this machine, for its profile."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import msgspec

from kts.backends.local import POLL_S, LocalBackend
from kts.conduct.ports import Endpoint, WorkerExit
from kts.model.plan import Plan
from kts.wire.recording import Recording, Request, recording_in
from kts.worker.interpreter import module

GRACE_S = 1.0
NOWHERE = Endpoint(host="", port=0, token="")


def record_alone(
    request: Request, folder: Path, among: Plan, *, python: str = sys.executable
) -> tuple[Recording, list[str]]:
    """The tenant's recording, and what a reader of it must know; blocks until its worker has ended.

    It runs on the cores that a run of ``among`` would give it. Request and log are left in ``folder``. The worker is
    ended in any case, also when an exception (Ctrl-C) passes through here. SetupError or MeasurementError where it
    fails.
    """
    tenant = request.tenant
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{tenant.name}.request.json"
    file.write_bytes(msgspec.json.encode(request))
    plan = request.plan
    backend = LocalBackend(folder, python=python, worker=(*module("kts.worker"), "--profile", str(file)), among=among)
    try:
        backend.start(plan, NOWHERE)
        notes = backend.notes()
        while not (ended := backend.poll()):
            time.sleep(POLL_S)
    finally:
        backend.stop(GRACE_S)
    found, worse = _result(folder / f"{tenant.name}.log", ended[0])
    return found, notes + worse


def _result(log: Path, ended: WorkerExit) -> tuple[Recording, list[str]]:
    with log.open(encoding="utf-8", errors="replace") as lines:
        return recording_in(lines, ended.tenant, ended.reason, ended.code)
