"""Who is there: one seat per tenant, who may take it, what its worker told, and whether it lives. Pure."""

from __future__ import annotations

import hmac

import msgspec

from kts.arrivals import pause_ms
from kts.conduct.ports import WorkerExit
from kts.model.plan import Block, Plan
from kts.model.run import WorkerInfo
from kts.units import ms_to_ns, ns_to_s, s_to_ns
from kts.wire import messages as msg

HANG_SOLO_DURATIONS = 50
HANG_PAUSES = 4


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How long the conductor waits for what.

    ``hang_s``: shortest silence that counts as a hang. ``settle_s``: for the other half of a death
    (connection lost, process ended), so that the reason given is the best there is. ``lead_ms``: from
    sending Start to the start. ``block_factor``: a block that lasts that many times what was expected is given up.
    """

    join_s: float = 120.0
    calibrate_s: float = 120.0
    hang_s: float = 10.0
    settle_s: float = 1.0
    lead_ms: float = 50.0
    block_factor: float = 10.0


class Seat:
    """What is known of one tenant's worker."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.hello: msg.Hello | None = None
        self.opened: msg.Opened | None = None
        self.ready: msg.Ready | None = None
        self.seen_ns = 0
        self.lost_ns: int | None = None
        self.exit_ns: int | None = None
        self.exit_reason = self.exit_remedy = ""

    @property
    def connected(self) -> bool:
        """True while messages can be sent to it."""
        return self.hello is not None and self.lost_ns is None

    @property
    def solo_ms(self) -> float | None:
        """What calibration measured; None before, and where the tenant cannot tell."""
        return self.ready.solo_ms if self.ready else None

    def info(self) -> WorkerInfo:
        """For the run directory. Only after Opened."""
        assert self.hello is not None
        assert self.opened is not None
        return WorkerInfo(
            id=self.hello.worker,
            tenant=self.name,
            pid=self.hello.pid,
            hostname=self.hello.hostname,
            device=self.opened.device,
            cores=self.opened.cores,
            gpus=self.opened.gpus,
            cpu_limit=self.opened.cpu_limit,
            boot_id=self.opened.boot_id,
            solo_ms=self.solo_ms,
            sharing=self.ready.sharing if self.ready else (),
            settled=self.ready.settled if self.ready else None,
        )

    def death(self, now_ns: int, settle_s: float) -> str:
        """Why the worker is dead; empty while it lives or the reason may still arrive.

        A process that ended may have sent Failed, which is still to be read; a connection that closed
        may belong to a process whose end tells more.
        """
        known = [ns for ns in (self.exit_ns, self.lost_ns) if ns is not None]
        if not known or (len(known) == 1 and now_ns - known[0] <= s_to_ns(settle_s)):
            return ""
        if self.exit_ns is not None:
            return f"ended before the run did: {self.exit_reason}"
        return "closed its connection before the run was over"


class Roster:
    """The seats of a plan, in its order. ``block``: whose workers alone may sit, where each block has its own."""

    def __init__(self, plan: Plan, token: str, limits: Limits) -> None:
        self.limits = limits
        self.seats = {tenant.name: Seat(tenant.name) for tenant in plan.tenants}
        self.block: Block | None = None
        self._plan = plan
        self._token = token.encode()
        self._former: dict[str, WorkerInfo] = {}
        self._seen: dict[str, msg.Opened] = {}

    @property
    def _expected(self) -> dict[str, Seat]:
        """The seats that are to be taken."""
        return {name: seat for name, seat in self.seats.items() if self.block is None or name in self.block.quotas}

    def relieve(self) -> None:
        """The block's workers leave. What they told of size, duration and device holds for those who follow."""
        for name, seat in self._expected.items():
            if seat.opened is not None:
                self._former[name] = self.info(name)
                self._seen[self._where(name)] = seat.opened
            self.seats[name] = Seat(name)

    def _where(self, name: str) -> str:
        return name if self.block is None else f"{name} in {self.block.condition}"

    def info(self, name: str) -> WorkerInfo:
        """Of the tenant's worker; of its first one, and all GPUs and sharing modes, where it had several. Only after
        Opened."""
        info, first = self.seats[name].info(), self._former.get(name)
        if first is None:
            return info
        modes = {one.mode for one in first.sharing}
        sharing = (*first.sharing, *(one for one in info.sharing if one.mode not in modes))
        return msgspec.structs.replace(first, gpus=tuple(sorted({*first.gpus, *info.gpus})), sharing=sharing)

    def objection(self, hello: msg.Hello) -> str:
        """Why ``hello`` is not accepted; empty if it is. The token comes first: strangers learn nothing else."""
        if not hmac.compare_digest(hello.token.encode(), self._token):
            return "the token is not this run's"
        if hello.protocol != msg.PROTOCOL:
            return f"the worker speaks protocol {hello.protocol}, this conductor {msg.PROTOCOL}: use one kts version"
        seat = self.seats.get(hello.tenant)
        if seat is None:
            return f"this run has no tenant {hello.tenant[:64]!r}"
        if self.block is not None and (hello.block != self.block.index or seat.name not in self._expected):
            return f"the run is at block {self.block.index}, this worker is of block {hello.block}"
        return f"tenant {hello.tenant} has joined already" if seat.hello else ""

    def concerns(self, ended: WorkerExit) -> bool:
        """False for the end of a worker that never sat here, or sits no more."""
        seat = self.seats[ended.tenant]
        stranger = seat.connected and seat.hello is not None and ended.hostname not in ("", seat.hello.hostname)
        return not stranger and (self.block is None or ended.block in (None, self.block.index))

    @property
    def empty(self) -> bool:
        """True while nobody has come."""
        return all(seat.hello is None for seat in self._expected.values())

    @property
    def missing(self) -> tuple[str, ...]:
        """Tenants whose device is not open yet."""
        return tuple(name for name, seat in self._expected.items() if seat.opened is None)

    @property
    def uncalibrated(self) -> str | None:
        """The next tenant to calibrate, in the plan's order; None when all are ready."""
        return next((name for name, seat in self._expected.items() if seat.ready is None), None)

    def twins_size(self, name: str) -> int | None:
        """The size that a tenant is given, because its twin settled on it (`Plan.twin`); None: it is to be found."""
        twin = self._plan.twin(name)
        ready = self.seats[twin].ready if twin else None
        return None if ready is None else ready.size

    @property
    def solo_ms(self) -> dict[str, float | None]:
        """Solo duration of an iteration by tenant, as calibrated."""
        former = {name: info.solo_ms for name, info in self._former.items()}
        return {name: former.get(name, seat.solo_ms) for name, seat in self.seats.items()}

    @property
    def cycles_ms(self) -> dict[str, float | None]:
        """From one submission to the next, of tenants that pace themselves."""
        return {name: seat.ready.cycle_ms if seat.ready else None for name, seat in self.seats.items()}

    def different_devices(self) -> str:
        """Who sits where, if not all tenants are on one device; empty if they are, or are to have a part of it each."""
        opened = self._seen | {self._where(name): seat.opened for name, seat in self.seats.items() if seat.opened}
        devices = {name: told.device for name, told in opened.items()}
        if len({device.uuid for device in devices.values()}) <= 1:
            return self._different_gpus(opened)
        if self._plan.cut and all(device.uuid.startswith("MIG-") for device in devices.values()):
            return ""
        return ", ".join(f"{name} on {device.label} ({device.uuid})" for name, device in devices.items())

    @staticmethod
    def _different_gpus(opened: dict[str, msg.Opened]) -> str:
        """The same for the one GPU each container was given, which it need not compute on."""
        given = {name: told.gpus for name, told in opened.items() if len(told.gpus) == 1}
        if len({gpus[0] for gpus in given.values()}) <= 1:
            return ""
        return ", ".join(f"{name} was given {gpus[0]}" for name, gpus in given.items())

    def frozen_plan(self) -> Plan:
        """The plan with the sizes that calibration settled, and with the device and libraries that the workers took."""
        tenants = []
        for tenant in self._plan.tenants:
            ready = self.seats[tenant.name].ready
            work = tenant.work.sized(None if ready is None else ready.size)
            tenants.append(msgspec.structs.replace(tenant, work=work))
        devices = {name: seat.opened.device for name, seat in self.seats.items() if seat.opened}
        kinds, libraries = ({name: getattr(d, key) for name, d in devices.items()} for key in ("kind", "library"))
        plan = msgspec.structs.replace(self._plan, tenants=tuple(tenants))
        self._plan = plan.resolved(kinds, libraries)
        return self._plan

    def hang_ns(self, name: str) -> int:
        """The longest silence of a tenant that is no hang."""
        solo_ms = self.solo_ms[name] or 0.0
        alone_ms = pause_ms(self._plan.tenant(name).arrivals)
        longest_ms = max(HANG_SOLO_DURATIONS * solo_ms, HANG_PAUSES * alone_ms)
        return max(s_to_ns(self.limits.hang_s), ms_to_ns(longest_ms))

    def forgive(self, pause_ns: int) -> None:
        """The conductor itself was away that long: nobody could be heard."""
        for seat in self.seats.values():
            seat.seen_ns += pause_ns

    def silent(self, now_ns: int, calibrating: str | None, since_ns: int) -> str:
        """Which tenant gave no sign of life for too long, and how long; empty if none.

        ``calibrating`` (asked at ``since_ns``) is allowed ``calibrate_s``: finding a size may compile kernels.
        """
        for name, seat in self._expected.items():
            heard_ns, limit_ns = seat.seen_ns, self.hang_ns(name)
            if name == calibrating:
                heard_ns, limit_ns = max(heard_ns, since_ns), max(limit_ns, s_to_ns(self.limits.calibrate_s))
            if now_ns - heard_ns > limit_ns:
                doing = " while calibrating" if name == calibrating else ""
                return f"tenant {name} gave no sign of life for {ns_to_s(now_ns - heard_ns):.0f} s{doing}"
        return ""
