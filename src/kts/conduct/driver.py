"""Does for the machine what it asks: sockets, signals, the clock, the backend and the sink."""

from __future__ import annotations

import asyncio
import secrets
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from kts.conduct import events as ev
from kts.conduct.keeper import Keeper
from kts.conduct.machine import Machine
from kts.conduct.ports import Backend, Endpoint, Foreteller, Sink, StopRule, Telemetry, Watcher
from kts.conduct.roster import Limits
from kts.conduct.server import MessageServer
from kts.conduct.stop import BY_USER, StopRequest
from kts.errors import KtsError
from kts.model.neighbours import Look
from kts.model.plan import Plan
from kts.model.run import Outcome
from kts.wire.messages import Heartbeat

TICK_S = 0.1
PROGRESS_S = 0.25
LEAVE_S = 5.0
"""For workers to go by themselves after Finish."""
HURRY_S = 1.0
"""The same when the run ended badly: who is stuck will not go, and the others end within an iteration."""
GRACE_S = 1.0
"""Between asking a worker's process to end and ending it."""

_BROKEN = Outcome(kind="failed", reason="ended by an internal error", exit_code=1)


def conduct(
    plan: Plan,
    backend: Backend,
    sink: Sink,
    watcher: Watcher,
    rule: StopRule | None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    limits: Limits | None = None,
    token: str = "",
    stop: StopRequest | None = None,
    telemetry: Telemetry | None = None,
    anew: bool = False,
    looks: deque[Look] | None = None,
    foreteller: Foreteller | None = None,
    late: list[str] | None = None,
) -> Outcome:
    """Runs ``plan`` to its end, whichever it is, and returns it; blocks until then.

    ``token`` is what workers must show; empty: one is made here, and ``backend`` hands it on. Everything
    measured goes to ``sink`` at once. Workers are ended and the sink is closed in any case, also when an
    exception passes through here. What ``telemetry`` samples goes there, too, between ticks. SIGINT, SIGTERM
    and SIGHUP end the run in order, a second one at once; their former handlers are put back. But SIGHUP, once it
    has come, is ignored from then on: a terminal that goes may tell it twice, and what was measured is yet to be
    reported. Who gives ``stop`` handles signals himself, and ends the run by that. ``anew``: see
    `kts.conduct.machine.Machine`. ``looks``: to which other threads append what they see of neighbours; the sink gets
    it between ticks. What ``foreteller`` tells reaches sink and watcher. ``late`` gets the names of signals that found
    no run left to end: who has more to do afterwards leaves it. Errors of kts become an Outcome, they are not raised.
    """
    keeper = Keeper(sink, rule, foreteller)
    token = token or secrets.token_urlsafe(32)
    machine = Machine(
        plan,
        token=token,
        asks=rule is not None,
        now_ns=time.monotonic_ns(),
        limits=limits,
        anew=anew,
        telemetry=telemetry is not None,
    )
    driver = _Driver(machine, backend, keeper, watcher, telemetry=telemetry, stop=stop, looks=looks, late=late)
    outcome = _BROKEN
    try:
        outcome = asyncio.run(driver.run(host, port, token))
    except KtsError as error:
        outcome = Outcome(kind="failed", reason=error.what, remedy=error.remedy, exit_code=error.exit_code)
    except KeyboardInterrupt:
        outcome = BY_USER
    finally:
        try:
            backend.stop(0.0 if driver.forced else GRACE_S)
            if telemetry is not None:
                telemetry.close()
                keeper.telemetry(*telemetry.drain())
            while looks:
                keeper.look(looks.popleft())
        finally:
            outcome = keeper.close(outcome)
            if stop is not None:
                stop.close()
    return outcome


class _Driver:
    """One run's event loop. ``forced``: the user asked twice."""

    def __init__(
        self,
        machine: Machine,
        backend: Backend,
        keeper: Keeper,
        watcher: Watcher,
        *,
        telemetry: Telemetry | None,
        stop: StopRequest | None,
        looks: deque[Look] | None,
        late: list[str] | None,
    ) -> None:
        self.forced = False
        self._hung_up = False
        self._machine, self._backend, self._keeper, self._watcher = machine, backend, keeper, watcher
        self._telemetry, self._stop = telemetry, stop
        self._looks: deque[Look] = deque() if looks is None else looks
        self._late: list[str] = [] if late is None else late
        self._events: deque[ev.Event] = deque()
        self._handling = False
        self._next_progress = 0.0
        self._gone: set[str] = set()
        self._noted: set[str] = set()
        self._over = asyncio.Event()
        self._crash: Exception | None = None
        self._server: MessageServer | None = None

    async def run(self, host: str, port: int, token: str) -> Outcome:
        """Serves until the machine concludes and the workers have left, or are given up."""
        self._server = MessageServer(host, port, self._feed)
        await self._server.open()
        try:
            with self._signals():
                self._backend.start(self._machine.plan, Endpoint(host=host, port=self._server.port, token=token))
                self._note()
                while not self._over.is_set():
                    self._look_around()
                    await self._wait(TICK_S)
                await self._see_off()
        finally:
            await self._server.close()
        if self._crash is not None:
            raise self._crash
        assert self._machine.outcome is not None
        return self._machine.outcome

    def _note(self) -> None:
        """Notes what is new. Asked at the start and after each block: the next begins only after this."""
        for note in self._backend.notes():
            if note not in self._noted:
                self._noted.add(note)
                self._do(ev.Log(kind="note", fields={"text": note}))

    async def _see_off(self) -> None:
        """Waits for the workers to leave, but not for long."""
        if self._machine.outcome is None or self._server is None:
            return
        patience_s = LEAVE_S if self._machine.outcome.exit_code == 0 else HURRY_S
        deadline = time.monotonic() + patience_s
        names = [tenant.name for tenant in self._machine.plan.tenants]
        while not self.forced and time.monotonic() < deadline:
            self._look_around()
            if self._server.empty and (not self._backend.sees_ends or self._gone.issuperset(names)):
                return
            await asyncio.sleep(TICK_S / 4)

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._over.wait()
        except TimeoutError:
            pass

    def _heed(self, stop: StopRequest) -> None:
        """What was asked in whichever thread reaches the machine here, in the loop's own."""
        if self._machine.outcome is not None:
            stop.close()
        elif (reason := stop.take()) is not None:
            self._feed(ev.Stopped(outcome=reason))
        self.forced = self.forced or stop.insisted

    def _look_around(self) -> None:
        if self._stop is not None:
            self._heed(self._stop)
        for gone in self._backend.poll():
            self._gone.add(gone.tenant)
            self._feed(gone)
        self._feed(ev.Tick())
        self._keep_telemetry()
        self._keep_looks()
        now = time.monotonic()
        if now >= self._next_progress:
            self._next_progress = now + PROGRESS_S
            self._show()

    def _show(self) -> None:
        progress = self._machine.progress(time.monotonic_ns())
        self._watcher.progress(msgspec.structs.replace(progress, foretold=self._keeper.foretold))

    def _keep_telemetry(self) -> None:
        if self._telemetry is not None:
            self._sink_may_have_failed(self._keeper.telemetry(*self._telemetry.drain()))

    def _keep_looks(self) -> None:
        while self._looks:
            self._sink_may_have_failed(self._keeper.look(self._looks.popleft()))

    def _sink_may_have_failed(self, error: KtsError | None) -> None:
        if error is not None:
            self._feed(ev.SinkFailed(what=error.what, remedy=error.remedy))

    def _feed(self, event: ev.Event) -> None:
        """Handles ``event`` and all that follow from it. Actions may bring new events; these wait their turn.

        An unforeseen exception ends the run in `run`, not in the connection that happened to bring the event.
        """
        self._events.append(event)
        if self._handling:
            return
        self._handling = True
        try:
            while self._events:
                following = self._events.popleft()
                self._tell_telemetry(following)
                for action in self._machine.handle(following, time.monotonic_ns()):
                    self._do(action)
                self._close_door(following)
        except Exception as error:
            self._crash = self._crash or error
            self._over.set()
        finally:
            self._handling = False

    def _close_door(self, event: ev.Event) -> None:
        """Who comes when the run is over gets an answer too."""
        if isinstance(event, ev.Greeted) and self._machine.outcome is not None:
            self._do(ev.Reject(peer=event.peer, what="the run is over"))

    def _do(self, action: ev.Action) -> None:
        assert self._server is not None
        match action:
            case ev.Send():
                self._server.send(action.tenant, action.message)
            case ev.Accept():
                self._server.accept(action.peer, action.tenant)
            case ev.Reject():
                self._server.reject(action.peer, action.what)
            case ev.Release():
                self._server.release(action.tenant)
            case ev.Settle():
                self._events.append(ev.SettleDone())
            case ev.AskRule():
                self._ask_rule()
            case ev.Conclude():
                self._over.set()
            case _:
                self._sink_may_have_failed(self._keeper.keep(action))
                self._tell_telemetry(action)
                if isinstance(action, ev.EndBlock):
                    self._note()

    def _tell_telemetry(self, told: ev.Event | ev.Action) -> None:
        if self._telemetry is None:
            return
        match told:
            case ev.Received(message=Heartbeat() as beat):
                self._telemetry.heartbeat(told.tenant, beat)
            case ev.Introduce():
                self._telemetry.worker(told.info)
            case ev.EndBlock():
                self._telemetry.block_over()

    def _ask_rule(self) -> None:
        reached, widths = self._keeper.ask()
        if widths:
            fields = {f"{tenant}.half_width": width for tenant, width in widths.items()}
            self._do(ev.Log(kind="precision", fields=dict(fields)))
        self._events.append(ev.Decided(reached=reached))

    def _interrupt(self, number: signal.Signals) -> None:
        is_over = self._machine.outcome is not None
        if number is not signal.SIGHUP:  # a terminal that goes tells it twice, and insists on nothing
            self.forced = is_over
        elif self._hung_up:
            return
        else:
            self._hung_up = True
        if is_over:
            self._late.append(number.name)
        self._feed(ev.Signalled(signal=number.name))

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGINT, SIGTERM and SIGHUP become events; only the main thread may ask for that."""
        if self._stop is not None or threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        asked = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        former = {number: signal.getsignal(number) for number in asked}
        wanted = [number for number in asked if former[number] is not signal.SIG_IGN]  # nohup stays nohup
        for number in wanted:
            loop.add_signal_handler(number, self._interrupt, number)
        try:
            yield
        finally:
            for number in wanted:
                loop.remove_signal_handler(number)
                again = number is signal.SIGHUP and self._hung_up
                signal.signal(number, signal.SIG_IGN if again else former[number])
