"""Several tenants as threads of one process: each joins the run by itself, on cores and a stream of its own.

They share what a process has once. Python lets one thread at a time run its code; whoever wants to next gets it after
`SWITCH_S`, or as soon as the other waits, or computes outside of Python. A fault of one is the end of all.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence

import msgspec

from kts.errors import KtsError, UsageError
from kts.model.mode import STREAMS, TIME_SLICING, Evidence
from kts.model.plan import DeviceChoice, Tenant
from kts.model.run import DeviceInfo
from kts.worker.detect import StreamWish
from kts.worker.devices.cuda import OwnStream
from kts.worker.prepare import MEMBERS, pin
from kts.worker.session import join, say
from kts.worker.sharing import seen_from
from kts.worker.tenants.kernel import KernelTenant

SWITCH_S = 1e-4
"""Python's own is 5 ms: then a tenant that launches all the time holds up the others for that long."""


class CrewMember(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant of the process, the cores of its thread, and the stream that it asks for."""

    tenant: str
    cores: tuple[int, ...]
    stream: StreamWish = "equal"


class Carrier:
    """This process: its tenants, as they open their devices, each in its thread."""

    def __init__(self, members: Sequence[CrewMember]) -> None:
        self._members = {member.tenant: member for member in members}
        self._lock = threading.Lock()
        self._there: dict[str, tuple[int, OwnStream | None]] = {}

    def runner(self, tenant: Tenant, choice: DeviceChoice) -> KernelTenant:
        """See `kts.worker.tenants.runner_for`."""
        return _Carried(self, tenant, choice, self._members[tenant.name].stream)

    def came(self, tenant: str, stream: OwnStream | None) -> None:
        """The calling thread is that tenant's, and has opened its device."""
        with self._lock:
            self._there[tenant] = threading.get_native_id(), stream

    def seen(self, tenant: str, device: DeviceInfo) -> tuple[Evidence, ...]:
        """See `kts.worker.sharing.seen_from`. Contexts of other processes take turns with this one's, and not the
        tenants of this one."""
        others = tuple(one for one in seen_from(tenant, device) if one.mode != TIME_SLICING)
        if not (what := self._shown(tenant, is_cpu=device.kind == "cpu")):
            return others
        return (*others, Evidence(mode=STREAMS, seen=what, by=f"tenant {tenant}", at_ns=time.time_ns()))

    def _shown(self, tenant: str, *, is_cpu: bool) -> str:
        """Empty where not all are there, or two of them are in one thread, on one stream, or in two contexts."""
        with self._lock:
            there = dict(self._there)
        threads, streams = {one[0] for one in there.values()}, [one[1] for one in there.values()]
        if there.keys() != self._members.keys() or len(threads) < len(there):
            return ""
        thread, own = there[tenant]
        text = f"process {os.getpid()} carries all {len(there)} tenants, each in a thread of its own"
        if is_cpu:
            return f"{text} (this one's is {thread}); a CPU core has no streams"
        known = [one for one in streams if one is not None]
        handles, contexts = {one.handle for one in known}, {one.context for one in known}
        if own is None or len(handles) < len(there) or len(contexts) > 1:
            return ""
        on = f"{thread}, on stream {own.handle:#x} of priority {own.priority}"
        return f"{text} and on a stream of its own, all of one context (this one's is {on})"


class _Carried(KernelTenant):
    """A tenant that tells its carrier once it has opened its device."""

    def __init__(self, carrier: Carrier, tenant: Tenant, choice: DeviceChoice, wish: StreamWish) -> None:
        super().__init__(tenant, choice, wish=wish)
        self._carrier = carrier

    def open(self) -> DeviceInfo:
        """See KernelTenant."""
        info = super().open()
        self._carrier.came(self._tenant.name, self.device.stream)
        return info


class _MemberThread(threading.Thread):
    """A tenant's. ``code``: of `join`, 1 where something unforeseen ended it."""

    def __init__(self, carrier: Carrier, member: CrewMember, env: Mapping[str, str]) -> None:
        super().__init__(name=member.tenant, daemon=True)
        self.code = 1
        self._carrier, self._member, self._env = carrier, member, {**env, "KTS_TENANT": member.tenant}

    def run(self) -> None:
        try:
            pin(frozenset(self._member.cores))
            self.code = join(self._env, self._carrier.runner, seen=self._carrier.seen, is_thread=True)
        except KtsError as error:
            say(f"tenant {self._member.tenant}: {error.what}")
            self.code = error.exit_code


def join_all(env: Mapping[str, str]) -> int:
    """Joins the run as `kts.worker.session.join` does, for each tenant that `MEMBERS` names; the highest of their exit
    codes. Threads are left running where a signal's exception passes through here: end the process.

    UsageError if the variable names no tenants.
    """
    members = _members(env.get(MEMBERS, ""))
    sys.setswitchinterval(SWITCH_S)
    carrier = Carrier(members)
    threads = [_MemberThread(carrier, member, env) for member in members]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return max(thread.code for thread in threads)


def _members(text: str) -> tuple[CrewMember, ...]:
    try:
        found = msgspec.json.decode(text, type=tuple[CrewMember, ...])
    except msgspec.DecodeError as error:
        raise UsageError(f"{MEMBERS}: {error}", "it is set by kts run") from error
    if not found or len({one.tenant for one in found}) < len(found):
        raise UsageError(f"{MEMBERS} names no tenants, or one twice", "it is set by kts run")
    return found
