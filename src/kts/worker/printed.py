"""What a tenant of a conducted run prints beside what it sends: KTS_APP v1 lines, for people who read logs.

What counts is what the conductor received. Lines are printed between iterations, all of a chunk at once.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TextIO

from kts.errors import SpecError
from kts.model.plan import DeviceChoice, Tenant
from kts.model.records import Records
from kts.model.run import DeviceInfo
from kts.wire import published
from kts.wire.messages import Ready
from kts.worker.applog import AppLog, LinesOutlet
from kts.worker.loop import Outlet
from kts.worker.standalone import meta_of, read_phase_and_app


class Printed:
    """The log of one block: header, lines, trailer."""

    def __init__(self, tenant: Tenant, env: Mapping[str, str], out: TextIO) -> None:
        """SpecError where ``env`` asks for lines that cannot be."""
        phase, self._app = read_phase_and_app(tenant.work.workload, env)
        self._workload = tenant.work.workload
        self._log = AppLog(self._app, out, framed=True, echo_s=0.0)
        self._lines = LinesOutlet(self._log, self._app, phase)

    def begin(self, device: DeviceInfo, ready: Ready) -> None:
        """The header, once the tenant is calibrated."""
        self._log.begin(meta_of(self._workload, self._app, ready.size or 0, ready.solo_ms, device))

    def beside(self, outlet: Outlet) -> Outlet:
        """An outlet that sends all that ``outlet`` sends, and prints the iterations."""
        return _Both(outlet, self._lines)

    def end(self) -> None:
        """The trailer."""
        self._log.end()


class _Both:
    """Sends as ``outlet`` does, and then prints: what is printed costs time, and does not count."""

    def __init__(self, outlet: Outlet, lines: LinesOutlet) -> None:
        self._outlet, self._lines = outlet, lines
        self.heartbeat, self.quota_reached, self.stopped = outlet.heartbeat, outlet.quota_reached, outlet.stopped

    def records(self, records: Records) -> None:
        """See `kts.worker.loop.Outlet`."""
        self._outlet.records(records)
        self._lines.records(records)


def printed_for(
    tenant: Tenant, device: DeviceChoice, env: Mapping[str, str], arguments: Sequence[str]
) -> Printed | None:
    """What the tenant is to print; None if nothing (KTS_APP_NAME is unset).

    SpecError where ``arguments`` or ``env`` ask for other work than the run's plan: it would be ignored in silence.
    """
    wanted = published.variables(tenant)
    said = [(name, env[name], value) for name, value in wanted.items() if env.get(name) not in (None, "", value)]
    planned = published.arguments(tenant, device)
    agreed = [one if one != "auto" else came_to for one, came_to in zip(arguments, planned, strict=False)]
    if arguments and (len(arguments) != len(planned) or agreed != planned):
        said.append(("the command line", " ".join(arguments), " ".join(planned)))
    for name, given, wish in said:
        raise SpecError(
            f"tenant {tenant.name}: {name} says {given!r}, and the run's plan {wish!r}",
            "change the experiment, and render the run anew; to run alone: unset KTS_CONDUCTOR",
        )
    return Printed(tenant, env, sys.stdout) if env.get("KTS_APP_NAME") else None
