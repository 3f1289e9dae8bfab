"""Plans, recordings, sinks and faulty tenants for tests of the conductor and of the backends."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress

import msgspec
import numpy as np

from kts.arrivals import Closed
from kts.backends.replay import ReplayBackend, ReplayedTenant
from kts.conduct import events as ev
from kts.conduct.machine import Machine
from kts.conduct.ports import Endpoint, Progress
from kts.conduct.roster import Limits
from kts.errors import MeasurementError
from kts.model.foretold import Foretold
from kts.model.mode import SharingMode
from kts.model.neighbours import Look, Neighbours
from kts.model.plan import Condition, Kernel, Plan, Tenant
from kts.model.reading import RunData
from kts.model.records import RECORD, Records
from kts.model.run import BlockOutcome, DeviceInfo, Outcome, RunInfo, WorkerInfo
from kts.model.telemetry import Sample, SampleSeries, SourceState
from kts.plan import blocks_of_round
from kts.wire import messages as msg
from kts.wire.framing import make_chunk
from kts.worker.link import LinkLostError

TOKEN = "the-token"
MS = 1_000_000
S = 1_000_000_000
DEVICE = DeviceInfo(kind="cpu", uuid="host/core1", name="test", label="CPU core 1, not a GPU", library="numpy")


def make_plan(
    *names: str,
    rounds: int = 2,
    iterations: int = 20,
    size: int | None = 16,
    think_ms: float = 0.0,
    **changes: object,
) -> Plan:
    """A small interleaved plan: every tenant alone, then all together. ``changes``: fields of Plan."""
    names = names or ("fft", "gemm")
    work = Kernel(workload="fft", size=size, target_ms=None if size else 1.0, warmup=1)
    tenants = tuple(
        Tenant(name=name, work=work, arrivals=Closed(think_ms=think_ms), iterations=iterations) for name in names
    )
    conditions = [Condition(name=f"solo-{name}", tenants=(name,)) for name in names]
    if len(names) > 1:
        conditions.append(Condition(name="shared-" + "+".join(names), tenants=names))
    plan = Plan(
        name="test",
        design="interleaved",
        tenants=tenants,
        conditions=tuple(conditions),
        rounds=rounds,
        max_rounds=rounds,
        device="cpu",
        seed=7,
    )
    return msgspec.structs.replace(plan, **changes)


def make_records(count: int, start_ns: int = 0, step_ns: int = MS) -> Records:
    """``count`` iterations of half a step each, one per step."""
    records = np.zeros(count, dtype=RECORD)
    records["i"] = np.arange(count)
    records["submit_ns"] = records["due_ns"] = start_ns + np.arange(count) * step_ns
    records["retire_ns"] = records["submit_ns"] + step_ns // 2
    records["device_ms"] = 0.25
    return records


class MemoryRun:
    """A recorded run that is in memory: every block of the plan's rounds, ``count`` records per tenant."""

    def __init__(self, plan: Plan, count: int = 30, *, rounds: int | None = None) -> None:
        blocks = [block for r in range(rounds or plan.rounds) for block in blocks_of_round(plan, r)]
        self.blocks: Sequence[BlockOutcome] = [
            BlockOutcome(
                index=block.index,
                round=block.round,
                condition=block.condition,
                start_ns=block.index * S,
                end_ns=block.index * S + count * MS,
                valid=True,
                counts=dict.fromkeys(block.tenants, count),
            )
            for block in blocks
        ]
        self.damage: Sequence[str] = ()
        workers = tuple(
            WorkerInfo(tenant=tenant.name, pid=1, hostname="host", device=DEVICE, cores=(1,), solo_ms=0.5)
            for tenant in plan.tenants
        )
        self.info = RunInfo(
            schema=1, id="recorded", kts="0", backend="local", mode=SharingMode(recorded="cpu-scheduler"),
            created_ns=0, plan=plan, workers=workers, blocks=tuple(self.blocks), outcome=Outcome(kind="complete"),
        )  # fmt: skip
        self._count = count

    def records(self, tenant: str, block: int) -> Records:
        active = any(b.index == block and tenant in b.counts for b in self.blocks)
        return make_records(self._count if active else 0, start_ns=block * S)

    def portions(self, tenant: str, block: int) -> Iterator[Records]:
        yield self.records(tenant, block)

    @property
    def cluster(self) -> None:
        """See RunData."""

    def telemetry(self) -> Sequence[SampleSeries]:
        return ()


class MemorySink:
    """A sink that remembers. ``fail_at``: the name of the method that reports a full disk."""

    def __init__(self, fail_at: str = "") -> None:
        self.events: list[tuple[str, dict[str, object]]] = []
        self.workers: dict[str, WorkerInfo] = {}
        self.plan: Plan | None = None
        self.chunks: dict[tuple[str, int], list[Records]] = {}
        self.blocks: list[BlockOutcome] = []
        self.outcomes: list[Outcome] = []
        self.sources: dict[str, SourceState] = {}
        self.kept_samples: list[Sample] = []
        self.neighbours = Neighbours()
        self.told: list[Foretold] = []
        self._fail_at = fail_at

    def _check(self, method: str) -> None:
        if method == self._fail_at:
            raise MeasurementError("disk full", "free some space")

    def event(self, kind: str, **fields: str | int | float | bool | None) -> None:
        self._check("event")
        self.events.append((kind, dict(fields)))

    def worker(self, info: WorkerInfo) -> None:
        self._check("worker")
        self.workers[info.tenant] = info

    def frozen(self, plan: Plan) -> None:
        self._check("frozen")
        self.plan = plan

    def records(self, tenant: str, block: int, seq: int, records: Records) -> None:
        self._check("records")
        chunks = self.chunks.setdefault((tenant, block), [])
        assert seq == len(chunks)
        chunks.append(records)

    def block(self, outcome: BlockOutcome) -> None:
        self._check("block")
        self.blocks.append(outcome)

    def source(self, state: SourceState) -> None:
        self._check("source")
        self.sources[state.source] = state

    def samples(self, samples: Sequence[Sample]) -> None:
        self.kept_samples += samples

    def foretold(self, told: Foretold) -> None:
        self.told.append(told)

    def look(self, look: Look) -> None:
        self.neighbours = self.neighbours.after(look)

    def close(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self._check("close")

    def count(self, tenant: str, block: int) -> int:
        return sum(len(chunk) for chunk in self.chunks.get((tenant, block), []))

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.events]


class SilentWatcher:
    """A watcher that remembers. ``then``: called with each progress, e.g. to break something at the right moment."""

    def __init__(self, then: Callable[[Progress], None] | None = None) -> None:
        self.seen: list[Progress] = []
        self._then = then

    def progress(self, progress: Progress) -> None:
        self.seen.append(progress)
        if self._then is not None:
            self._then(progress)


class AfterRounds:
    """A stop rule that is satisfied once it was asked ``n`` times; remembers what it was given."""

    def __init__(self, n: int) -> None:
        self.asked = 0
        self.added: list[tuple[str, int, int]] = []
        self.forgotten: list[str] = []
        self._n = n
        self._running: Counter[str] = Counter()

    def take(self, tenant: str, records: Records) -> None:
        self._running[tenant] += len(records)

    def end(self, outcome: BlockOutcome) -> None:
        if outcome.valid:
            self.added += [(tenant, outcome.index, count) for tenant, count in self._running.items()]
        self._running.clear()

    def forget(self, tenant: str) -> None:
        self.forgotten.append(tenant)

    def reached(self) -> bool:
        self.asked += 1
        return self.asked >= self._n

    def widths(self) -> dict[str, float | None]:
        return {"fft": None, "gemm": 0.04}


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """What one scripted tenant does wrong, and in which block."""

    tenant: str
    die_in: int | None = None
    hang_in: int | None = None
    fail_in: int | None = None
    gap_in: int | None = None
    corrupt_in: int | None = None
    short_in: int | None = None
    garbage_in: int | None = None
    uuid: str = ""
    token: str = ""
    protocol: int = msg.PROTOCOL


class ScriptedTenant(ReplayedTenant):
    """A replayed tenant that misbehaves as its fault says."""

    fault = Fault(tenant="")

    def hello(self, token: str) -> msg.Hello:
        hello = super().hello(self.fault.token or token)
        return msgspec.structs.replace(hello, protocol=self.fault.protocol)

    def opened(self) -> msg.Opened:
        opened = super().opened()
        device = msgspec.structs.replace(opened.device, uuid=self.fault.uuid or opened.device.uuid)
        return msgspec.structs.replace(opened, device=device)

    def play(self, start: msg.Start) -> bool:
        if start.block == self.fault.die_in:
            return False
        if start.block == self.fault.hang_in:
            with suppress(LinkLostError):
                while True:  # whatever it is told
                    self.link.receive(30)
            return False
        if start.block == self.fault.fail_in:
            self.link.send(
                msg.Failed(
                    kind="out-of-memory", what=f"tenant {self.tenant}: out of memory", remedy="use a smaller size"
                )
            )
            return False
        if start.block == self.fault.garbage_in:
            self.link._socket.sendall(b"\xff" * 64)
        return super().play(start)

    def send_records(self, block: int, records: Records) -> int:
        chunk = make_chunk(block, 1 if block == self.fault.gap_in else 0, records)
        if block == self.fault.corrupt_in:
            chunk = msgspec.structs.replace(chunk, crc32=chunk.crc32 ^ 1)
        if block != self.fault.short_in:
            self.link.send(chunk)
        return 1


class ScriptedBackend(ReplayBackend):
    """A replay in which some tenants have faults."""

    def __init__(self, run: RunData, *faults: Fault) -> None:
        super().__init__(run)
        self._faults = {fault.tenant: fault for fault in faults}

    def make_tenant(self, run: RunData, lock: threading.Lock, tenant: str, endpoint: Endpoint) -> ReplayedTenant:
        if tenant not in self._faults:
            return super().make_tenant(run, lock, tenant, endpoint)
        scripted = ScriptedTenant(run, lock, tenant, endpoint)
        scripted.fault = self._faults[tenant]
        return scripted


class Puppets:
    """A machine with its workers on strings: tells it events, answers what only a driver answers, keeps the actions."""

    def __init__(
        self,
        plan: Plan,
        *,
        asks: bool = False,
        limits: Limits | None = None,
        answers: Iterable[bool] = (),
        anew: bool = False,
    ) -> None:
        self.now_ns = 1000 * S
        self.plan = plan
        self.machine = Machine(plan, token=TOKEN, asks=asks, now_ns=self.now_ns, limits=limits, anew=anew)
        self.actions: list[ev.Action] = []
        self._answers = iter(answers)

    def tell(self, event: ev.Event) -> list[ev.Action]:
        """What follows from ``event``, including what follows from the answers to it."""
        actions = self.machine.handle(event, self.now_ns)
        self.actions += actions
        for action in list(actions):
            if isinstance(action, ev.Settle):
                actions += self.tell(ev.SettleDone())
            elif isinstance(action, ev.AskRule):
                actions += self.tell(ev.Decided(reached=next(self._answers, False)))
        return actions

    def say(self, tenant: str, message: msg.FromWorker) -> list[ev.Action]:
        return self.tell(ev.Received(tenant=tenant, message=message))

    def hello(self, name: str, **changes: object) -> msg.Hello:
        hello = msg.Hello(protocol=msg.PROTOCOL, token=TOKEN, tenant=name, worker=name, pid=1, hostname="host")
        return msgspec.structs.replace(hello, **changes)

    def join(self, *names: str) -> None:
        for peer, name in enumerate(names or self.names):
            self.tell(ev.Greeted(peer=peer, hello=self.hello(name)))
            self.say(name, msg.Opened(device=DEVICE, cores=(1,)))

    def prepare(self, solo_ms: float = 1.0) -> None:
        """Joins and calibrates; the first block has been started."""
        self.join()
        for name in self.names:
            self.say(name, msg.Ready(size=16, solo_ms=solo_ms))

    def pass_time(self, seconds: float, *, alive: Sequence[str] | None = None, step_s: float = 0.5) -> list[ev.Action]:
        """Ticks for ``seconds``, with heartbeats of the tenants in ``alive`` (default: all)."""
        actions: list[ev.Action] = []
        for _ in range(round(seconds / step_s)):
            self.now_ns += round(step_s * S)
            for name in self.names if alive is None else alive:
                actions += self.say(name, msg.Heartbeat(monotonic_ns=self.now_ns, iterations=1))
            actions += self.tell(ev.Tick())
        return actions

    def play(self, count: int = 3, seconds: float = 1.0) -> BlockOutcome:
        """Plays the block that runs, to its end; its outcome."""
        start = self.starts[-1]
        block = start.message.block
        active = [send.tenant for send in self.starts if send.message.block == block]
        self.pass_time(seconds)
        for name in active:
            self.say(name, make_chunk(block, 0, make_records(count, self.now_ns)))
            self.say(name, msg.QuotaReached(block=block))
        for name in active:
            self.say(name, msg.BlockDone(block=block, chunks=1, count=count))
        return self.ended[-1]

    @property
    def names(self) -> list[str]:
        return [tenant.name for tenant in self.plan.tenants]

    @property
    def starts(self) -> list[ev.Send]:
        return [a for a in self.actions if isinstance(a, ev.Send) and isinstance(a.message, msg.Start)]

    @property
    def ended(self) -> list[BlockOutcome]:
        return [a.outcome for a in self.actions if isinstance(a, ev.EndBlock)]

    @property
    def outcome(self) -> Outcome:
        assert self.machine.outcome is not None
        return self.machine.outcome


def sent(actions: Iterable[ev.Action], kind: type[msg.Message]) -> list[str]:
    """The tenants to which a message of ``kind`` is sent."""
    return [a.tenant for a in actions if isinstance(a, ev.Send) and isinstance(a.message, kind)]
