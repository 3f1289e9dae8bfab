"""One tenant alone in a process of this machine, for its profile."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import msgspec

from kts.backends.local import POLL_S, LocalBackend
from kts.conduct.ports import Endpoint, WorkerExit
from kts.errors import MeasurementError, SetupError
from kts.model.plan import Condition, Plan
from kts.wire.messages import Failed
from kts.wire.recording import Recording, Request, parse_result

GRACE_S = 1.0
NOWHERE = Endpoint(host="", port=0, token="")


def record_alone(request: Request, folder: Path, *, python: str = sys.executable) -> tuple[Recording, list[str]]:
    """The tenant's recording, and what a reader of it must know; blocks until its worker has ended.

    It runs on the cores that a run would give it. Request and log are left in ``folder``. The worker is ended in any
    case, also when an exception (Ctrl-C) passes through here. SetupError or MeasurementError where it fails.
    """
    tenant = request.tenant
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{tenant.name}.request.json"
    file.write_bytes(msgspec.json.encode(request))
    alone = Condition(name=f"solo-{tenant.name}", tenants=(tenant.name,))
    plan = Plan(
        name="profile",
        design="classic",
        tenants=(tenant,),
        conditions=(alone,),
        rounds=1,
        max_rounds=1,
        device=request.device,
    )
    backend = LocalBackend(folder, python=python, worker=("-m", "kts.worker", "--profile", str(file)))
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
    """What it handed over: a line that can be unpacked is whole. What befell the worker later is a note."""
    with log.open(encoding="utf-8", errors="replace") as lines:
        found = next((result for line in lines if (result := parse_result(line)) is not None), None)
    if isinstance(found, Failed):
        kind = SetupError if found.kind == "setup" else MeasurementError
        raise kind(found.what, found.remedy)
    if found is None:
        what = f"tenant {ended.tenant} ended without a profile: {ended.reason}"
        raise MeasurementError(what, "run it again; KTS_DEBUG=1 shows more")
    if ended.code:
        return found, [f"the worker of {ended.tenant} ended badly after it handed its profile over (code {ended.code})"]
    return found, []
