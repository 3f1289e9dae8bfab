"""A recorded run, fed through the real protocol again: for tests and demonstrations. Not in real time."""

from __future__ import annotations

import threading
from contextlib import closing

import msgspec

from kts.conduct.ports import Endpoint, WorkerExit
from kts.errors import KtsError, SetupError
from kts.model.plan import Plan
from kts.model.reading import RunData
from kts.model.records import Records
from kts.model.run import BlockOutcome, DeviceInfo, WorkerInfo
from kts.wire import messages as msg
from kts.wire.framing import CHUNK_RECORDS
from kts.worker.link import BlockOutlet, Link

HEARTBEAT_S = 0.25


class ReplayedTenant(threading.Thread):
    """A worker that does no work: it sends what was recorded of a tenant. Its times are the recorded ones."""

    def __init__(self, run: RunData, lock: threading.Lock, tenant: str, endpoint: Endpoint) -> None:
        super().__init__(name=f"replay-{tenant}", daemon=True)
        self.tenant = tenant
        self.exit: WorkerExit | None = None
        self._link: Link | None = None
        self._run, self._lock, self._endpoint = run, lock, endpoint
        self._blocks = {block.index: block for block in run.blocks}

    def run(self) -> None:
        """The life of a worker; ends with ``exit`` set."""
        code, reason = 1, "internal error"
        try:
            with closing(Link.connect(self._endpoint.host, self._endpoint.port)) as self._link:
                self._live()
            code, reason = 0, "exit code 0"
        except KtsError as error:
            code, reason = error.exit_code, error.what
        finally:
            self.exit = WorkerExit(tenant=self.tenant, code=code, reason=reason)

    @property
    def link(self) -> Link:
        """To the conductor. Only within `run`."""
        assert self._link is not None
        return self._link

    def hang_up(self) -> None:
        """Ends the connection, from any thread."""
        if self._link is not None:
            self._link.hang_up()

    def _live(self) -> None:
        self.link.send(self.hello(self._endpoint.token))
        while True:
            match self.link.receive(HEARTBEAT_S):
                case None:
                    self.link.pulse()
                case msg.Welcome():
                    self.link.send(self.opened())
                case msg.Refuse(what=what):
                    raise SetupError(f"refused: {what}")
                case msg.Calibrate():
                    self.link.send(self.ready())
                case msg.Start() as start:
                    if not self.play(start):
                        return
                case msg.Finish():
                    return

    def hello(self, token: str) -> msg.Hello:
        """The first message."""
        info = self._info
        return msg.Hello(
            protocol=msg.PROTOCOL, token=token, tenant=self.tenant, worker=info.id, pid=0, hostname=info.hostname
        )

    def opened(self) -> msg.Opened:
        """The recorded device."""
        return msg.Opened(device=self._info.device, cores=self._info.cores)

    def ready(self) -> msg.Ready:
        """The recorded calibration."""
        size = self._run.info.plan.tenant(self.tenant).work.size
        return msg.Ready(size=size, solo_ms=self._info.solo_ms)

    def play(self, start: msg.Start) -> bool:
        """Sends what is recorded of a block, as the worker did. False if nothing is, and the run is over."""
        recorded = self._blocks.get(start.block)
        if recorded is None or not recorded.valid or self.tenant not in recorded.counts:
            what = f"tenant {self.tenant}: the recording holds no block {start.block}"
            self.link.send(msg.Failed(kind="setup", what=what, remedy="replay it with the plan of the recording"))
            return False
        with self._lock:
            records = self._run.records(self.tenant, start.block)
        chunks = self.send_records(start.block, records)
        if start.quota.linger:
            self.link.send(msg.QuotaReached(block=start.block))
            while not self.link.stop_wanted(start.block, HEARTBEAT_S):
                self.link.pulse()
        self.link.send(self.done(recorded, chunks, len(records)))
        return True

    def send_records(self, block: int, records: Records) -> int:
        """Sends ``records`` in chunks; how many."""
        outlet = BlockOutlet(self.link, block)
        for first in range(0, len(records), CHUNK_RECORDS):
            outlet.records(records[first : first + CHUNK_RECORDS])
        return outlet.chunks

    def done(self, recorded: BlockOutcome, chunks: int, count: int) -> msg.BlockDone:
        """The end of a block. The recorded clock pairs are sent once, by the block's first tenant."""
        clocks = recorded.clocks if self.tenant == next(iter(recorded.counts)) else ()
        opened_ns, closed_ns = recorded.window_ns or (0, 0)
        return msg.BlockDone(
            block=recorded.index,
            chunks=chunks,
            count=count,
            clocks=clocks,
            opened_ns=opened_ns,
            closed_ns=closed_ns,
            threads=recorded.waits.get(self.tenant, ()),
        )

    @property
    def _info(self) -> WorkerInfo:
        for info in self._run.info.workers:
            if info.tenant == self.tenant:
                return info
        device = DeviceInfo(kind="other", uuid="replay", name="unknown", label="unknown device (replayed)", library="")
        return WorkerInfo(tenant=self.tenant, pid=0, hostname="replay", device=device)


class ReplayBackend:
    """Tenants as threads of this process that replay ``run``. Conduct it with ``plan``, not with the recorded one."""

    name = "replay"
    sees_ends = True

    def __init__(self, run: RunData) -> None:
        self._run = run
        self._tenants: list[ReplayedTenant] = []
        self._reported: set[str] = set()

    @property
    def plan(self) -> Plan:
        """The recorded plan, with as many rounds as were recorded whole, and without limits of time.

        DataError is not raised here for an empty recording: it has 0 whole rounds, and at least one is planned.
        """
        plan = self._run.info.plan
        wanted = {condition.name for condition in plan.conditions}
        by_round: dict[int, set[str]] = {}
        for block in self._run.blocks:
            if block.valid:
                by_round.setdefault(block.round, set()).add(block.condition)
        whole = 0
        while by_round.get(whole) == wanted:
            whole += 1
        rounds = max(whole, 1)
        return msgspec.structs.replace(plan, rounds=min(plan.rounds, rounds), max_rounds=rounds, max_seconds=None)

    def start(self, plan: Plan, endpoint: Endpoint) -> None:
        """Starts one thread per tenant; returns at once. SetupError if the recording lacks a tenant."""
        recorded = {tenant.name for tenant in self._run.info.plan.tenants}
        missing = [tenant.name for tenant in plan.tenants if tenant.name not in recorded]
        if missing:
            raise SetupError(f"the recording has no tenant {', '.join(missing)}", "replay the plan of the recording")
        lock = threading.Lock()
        self._tenants = [self.make_tenant(self._run, lock, tenant.name, endpoint) for tenant in plan.tenants]
        for tenant in self._tenants:
            tenant.start()

    def make_tenant(self, run: RunData, lock: threading.Lock, tenant: str, endpoint: Endpoint) -> ReplayedTenant:
        """The thread of one tenant; ``lock`` guards reading from ``run``."""
        return ReplayedTenant(run, lock, tenant, endpoint)

    def notes(self) -> list[str]:
        """That nothing was measured here."""
        return [f"replayed from run {self._run.info.id}: nothing was measured"]

    def poll(self) -> list[WorkerExit]:
        """Threads that ended since the last call."""
        ended = []
        for tenant in self._tenants:
            if tenant.exit is not None and tenant.tenant not in self._reported:
                self._reported.add(tenant.tenant)
                ended.append(tenant.exit)
        return ended

    def stop(self, grace_s: float) -> None:
        """Waits ``grace_s`` for the threads, then ends their connections and so them. Idempotent."""
        for tenant in self._tenants:
            tenant.join(grace_s)
        for tenant in self._tenants:
            tenant.hang_up()
            tenant.join()
