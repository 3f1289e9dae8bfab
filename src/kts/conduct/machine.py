"""The conductor's decisions: events in, actions out. No clock, no socket, no randomness in here.

A run goes: join (every tenant opens its device, all on the same one) - calibrate (one tenant at a time)
- freeze the plan - blocks, round by round - conclude. `Machine.handle` takes one event and the time at
which it came, and returns what is to be done, in order. The last action of a run is `Conclude`.

When a run ends
    * without precision: after exactly ``plan.rounds`` rounds: complete;
    * with precision: from ``plan.rounds`` on the stop rule is asked after each round; when it is satisfied:
      complete; at ``max_rounds`` or ``max_seconds`` before that: undetermined;
    * ``max_seconds`` counts from the first block's start. No round begins whose projected end lies beyond it,
      once two rounds are there. Where even these take longer, the running block is stopped at 1.5 times
      ``max_seconds``; it stays valid, only shorter, and the run is undetermined;
    * a tenant that dies, hangs, fails or loses a chunk ends the run as incomplete (failed, if no block had
      begun); the current block is invalid, earlier blocks are kept;
    * the user's interruption, a stop asked for from outside and a sink that fails do the same.

Where workers come anew for each block (the classic design on a cluster: a Job per tenant and block) join and calibrate
come before every block, for its tenants alone, and all of them finish after it. The size that a tenant's first worker
found holds for the later ones, and so does the device. Before a block's first worker is there nobody is late: whoever
starts them may be away.

A pause of the conductor itself (suspended, stuck on a slow disk) is not held against the tenants.
"""

from __future__ import annotations

from typing import Literal

from kts.arrivals import first_submission_ns
from kts.conduct import events as ev
from kts.conduct.block import RunningBlock
from kts.conduct.course import Course, Pace, Step, longest_block_s
from kts.conduct.ports import Progress, TenantProgress, WorkerExit
from kts.conduct.roster import Limits, Roster
from kts.conduct.stop import BY_USER
from kts.errors import DataError, MeasurementError, SetupError
from kts.model.masking import without_values
from kts.model.plan import Block, Plan
from kts.model.run import Outcome, OutcomeKind
from kts.plan import block_seed
from kts.shown import first_few
from kts.units import NS_PER_S, ms_to_ns, ns_to_s, s_to_ns
from kts.wire import messages as msg

MAX_REFUSALS_LOGGED = 20
"""A stranger that knocks all day must not fill the disk."""
LONGEST_LEAD_MS = 2000.0
"""A tenant of longer iterations begins at most so long before the window opens."""
MISSING_NAMED = 8
"""Tenants named on the line that says who is waited for."""
RUN_IN = 3
"""So many iterations a program that was held makes at least before its window opens."""
WHOLE = 3
"""So many iterations of a program must fit into a block: one begins before it, and company may make them longer."""
UNKNOWN_CYCLE_MS = 100.0
"""Stands for the cycle of a program that says nothing of its iterations."""


class Machine:
    """One run. ``asks``: there is a stop rule to ask. ``anew``: workers come anew for each block. ``telemetry``: they
    tell what their hosts do. ``outcome`` is None until the run is over."""

    def __init__(
        self,
        plan: Plan,
        *,
        token: str,
        asks: bool,
        now_ns: int,
        limits: Limits | None = None,
        anew: bool = False,
        telemetry: bool = True,
    ) -> None:
        self.plan = plan
        self.outcome: Outcome | None = None
        self._limits = limits or Limits()
        self._asks = asks
        self._telemetry = telemetry
        self._roster = Roster(plan, token, self._limits)
        self._course: Course | None = None
        self._running: RunningBlock | None = None
        self._phase: Literal["starting", "calibrating", "measuring", "finishing"] = "starting"
        self._awaits: Literal["", "settled", "decided"] = ""
        self._calibrating: str | None = None
        self._begun_ns = self._now = self._step_ns = now_ns
        self._refusals = 0
        self._noted: set[str] = set()
        self._out: list[ev.Action] = []
        if anew:
            self._course = Course(plan, {}, asks=asks)
            self._roster.block = self._course.pop()

    def handle(self, event: ev.Event, now_ns: int) -> list[ev.Action]:
        """What is to be done about ``event``, which came at ``now_ns``. Empty once the run is concluded."""
        if self.outcome is not None:
            return []
        self._out = []
        self._pass_time(now_ns)
        match event:
            case ev.Tick():
                self._tick()
            case ev.Received():
                self._received(event.tenant, event.message)
            case ev.Greeted():
                self._greeted(event.peer, event.hello)
            case ev.Lost() | WorkerExit() | ev.Garbled():
                self._parted(event)
            case ev.SettleDone() | ev.Decided():
                self._answered(event)
            case ev.Signalled():
                self._log("signal", signal=event.signal)
                self._stopped(BY_USER)
            case ev.Stopped(outcome=outcome):
                self._log("stopped", outcome=outcome.kind, reason=outcome.reason)
                self._stopped(outcome)
            case ev.SinkFailed():
                self._abort("incomplete", event.what, event.remedy, MeasurementError.exit_code)
        return self._out

    def _pass_time(self, now_ns: int) -> None:
        pause_ns = now_ns - self._now
        self._now = max(now_ns, self._now)
        if pause_ns > NS_PER_S:
            self._roster.forgive(pause_ns)
            if self._running is not None:
                self._running.deadline_ns += pause_ns
            self._log("conductor-paused", seconds=round(ns_to_s(pause_ns), 3))

    def _received(self, tenant: str, message: msg.FromWorker) -> None:
        seat = self._roster.seats.get(tenant)
        if seat is None or not seat.connected:
            return
        seat.seen_ns = self._now
        match message:
            case msg.Chunk():
                self._chunk(tenant, message)
            case msg.Heartbeat():
                if self._running is not None:
                    self._running.heard(tenant, message.iterations)
            case msg.QuotaReached():
                self._quota_reached(tenant, message.block)
            case msg.BlockDone():
                self._block_done(tenant, message)
            case msg.Opened():
                self._opened(tenant, message)
            case msg.Ready():
                self._ready(tenant, message)
            case msg.Failed():
                self._failed(tenant, message)
            case msg.Hello():
                self._violated(tenant, "introduced itself twice")

    # joining and calibrating

    def _greeted(self, peer: int, hello: msg.Hello) -> None:
        objection = self._roster.objection(hello)
        if objection:
            self._out.append(ev.Reject(peer=peer, what=objection))
            self._refusals += 1
            if self._refusals <= MAX_REFUSALS_LOGGED:
                self._log("refused", what=objection)
            return
        seat = self._roster.seats[hello.tenant]
        seat.hello, seat.seen_ns = hello, self._now
        self._out.append(ev.Accept(peer=peer, tenant=hello.tenant))
        self._send(hello.tenant, msg.Welcome(tenant=self.plan.tenant(hello.tenant), device=self.plan.device))
        self._log("joined", tenant=hello.tenant, pid=hello.pid, hostname=hello.hostname)

    def _opened(self, tenant: str, opened: msg.Opened) -> None:
        seat = self._roster.seats[tenant]
        if seat.opened is not None:
            self._violated(tenant, "opened its device twice")
            return
        seat.opened = opened
        self._out.append(ev.Introduce(info=self._roster.info(tenant)))
        self._log("opened", tenant=tenant, device=opened.device.uuid, label=opened.device.label)
        if self._roster.missing:
            return
        where = self._roster.different_devices()
        if where and not self.plan.allow_different_gpus:
            remedy = (
                "give all tenants one device (CUDA_VISIBLE_DEVICES; on Kubernetes a node with one GPU, or the device "
                "plugin's sharedDevicesAllocationPolicy: packed), or allow it with --allow-different-gpus"
            )
            code = MeasurementError.exit_code if self._measured else SetupError.exit_code
            self._abort("failed", f"the tenants are not on one device: {where}", remedy, code)
            return
        if where:
            self._log("note", text=f"NOT ONE DEVICE: {where}; the figures say nothing about sharing one GPU")
        self._phase = "calibrating"
        self._calibrate_next()

    def _calibrate_next(self) -> None:
        self._step_ns = self._now
        self._calibrating = self._roster.uncalibrated
        if self._calibrating is not None:
            self._send(self._calibrating, msg.Calibrate(size=self._roster.twins_size(self._calibrating)))
            return
        self._phase = "measuring"
        self.plan = self._roster.frozen_plan()
        if self._course is None:
            self._course = Course(self.plan, self._roster.solo_ms, asks=self._asks)
        else:
            self._course.pace = Pace(self.plan, self._roster.solo_ms)
        roster = self._roster
        self._out.append(ev.Freeze(plan=self.plan, solo_ms=roster.solo_ms, cycles_ms=roster.cycles_ms))
        self._settle()

    def _ready(self, tenant: str, ready: msg.Ready) -> None:
        if self._calibrating != tenant:
            self._violated(tenant, "said ready without being asked to calibrate")
            return
        seat = self._roster.seats[tenant]
        seat.ready = ready
        self._out.append(ev.Introduce(info=self._roster.info(tenant)))
        self._log("calibrated", tenant=tenant, size=ready.size, solo_ms=ready.solo_ms)
        self._note(tenant, ready.notes)
        if tenant == self.plan.subject and (why := self._unmeasurable(tenant, ready)):
            self._abort("failed", *why, SetupError.exit_code)
            return
        self._calibrate_next()

    def _unmeasurable(self, tenant: str, ready: msg.Ready) -> tuple[str, str] | None:
        """Why there will be no figures of it, and what to do; None where there may be."""
        if ready.silence:
            return f"{tenant} has no iterations: {ready.silence}", msg.SPEAK
        asked = self.plan.tenant(tenant)
        if asked.work.in_thread or asked.seconds is None or ready.solo_ms is None:
            return None
        block_s, took_s = asked.seconds / self.plan.rounds, ready.solo_ms / 1e3
        if WHOLE * took_s <= block_s:
            return None
        what = f"an iteration of {tenant} takes {took_s:.3g} s alone: a block of {block_s:.3g} s may hold no whole one"
        return what, "ask for a number of iterations (--iterations 100), or for fewer and so longer blocks (--rounds 3)"

    # measuring

    def _answered(self, event: ev.SettleDone | ev.Decided) -> None:
        awaited = "settled" if isinstance(event, ev.SettleDone) else "decided"
        if self._course is None or self._awaits != awaited:
            return
        self._awaits = ""
        if isinstance(event, ev.Decided):
            self._log("rule-asked", rounds=self._course.rounds_done, reached=event.reached)
            self._take(self._course.after_rule(self._now, reached=event.reached))
        elif self._roster.block is not None and self._phase == "measuring":
            self._start(self._course, self._roster.block)
        else:
            self._take(self._course.after_block(self._now))

    def _take(self, step: Step) -> None:
        assert self._course is not None
        match step:
            case "block" if self._roster.block is None:
                self._start(self._course, self._course.pop())
            case "block":
                self._roster.block = self._course.pop()
                self._step_ns = self._now
            case "ask":
                self._awaits = "decided"
                self._out.append(ev.AskRule())
            case "complete":
                self._conclude(Outcome(kind="complete"))
            case "limit":
                self._conclude(self._course.at_limit(self._now))

    def _start(self, course: Course, block: Block) -> None:
        first_ns = {name: self._first_ns(block, name) for name in block.tenants}
        go_ns = {name: first_ns[name] - self._run_in_ns(name) for name in block.tenants}
        start_ns = self._now + ms_to_ns(self._limits.lead_ms) - min(0, *go_ns.values())
        course.begin(start_ns)
        guard_s = self._limits.block_factor * longest_block_s(self.plan, self._roster.solo_ms)
        deadline_ns = start_ns + s_to_ns(guard_s) + max(self._roster.hang_ns(name) for name in block.tenants)
        self._running = RunningBlock(block, start_ns=start_ns, deadline_ns=deadline_ns)
        self._step_ns = self._now
        for name, quota in block.quotas.items():
            seed = block_seed(self.plan, block, name)
            start = msg.Start(
                block=block.index,
                start_ns=start_ns,
                first_ns=start_ns + first_ns[name],
                go_ns=start_ns + go_ns[name],
                quota=quota,
                seed=seed,
                telemetry=self._telemetry,
            )
            self._send(name, start)
        self._log("block-started", block=block.index, round=block.round, condition=block.condition, start_ns=start_ns)

    def _first_ns(self, block: Block, name: str) -> int:
        """When a tenant that paces itself begins, relative to the opening of the window."""
        arrivals, service_ns = self.plan.tenant(name).arrivals, ms_to_ns(self._cycle_ms(name))
        return first_submission_ns(arrivals, service_ns, block_seed(self.plan, block, name))

    def _run_in_ns(self, name: str) -> int:
        """How long before its first submission that may count a tenant runs."""
        least_ms = self.plan.tenant(name).work.run_in_ms
        return ms_to_ns(min(max(least_ms, RUN_IN * self._cycle_ms(name)), LONGEST_LEAD_MS)) if least_ms else 0

    def _cycle_ms(self, name: str) -> float:
        """From one iteration to the next, as calibration measured it; of longer ones `LONGEST_LEAD_MS`."""
        ready = self._roster.seats[name].ready
        known_ms = None if ready is None else ready.cycle_ms or ready.solo_ms
        return min(UNKNOWN_CYCLE_MS if known_ms is None else known_ms, LONGEST_LEAD_MS)

    def _chunk(self, tenant: str, chunk: msg.Chunk) -> None:
        running = self._running
        if running is None or not running.expects(tenant, chunk.block):
            self._violated(tenant, f"sent records of block {chunk.block}, in which it is not active now")
            return
        try:
            records = running.take(tenant, chunk)
        except DataError as error:
            self._violated(tenant, f"lost records: {error.what}")
            return
        self._out.append(ev.Keep(tenant=tenant, block=chunk.block, seq=chunk.seq, records=records))

    def _quota_reached(self, tenant: str, block: int) -> None:
        running = self._running
        if running is not None and running.expects(tenant, block):
            running.quota_reached(tenant)
            self._log("quota-reached", tenant=tenant, block=block)
            self._stop_if_satisfied(running)

    def _block_done(self, tenant: str, done: msg.BlockDone) -> None:
        running = self._running
        if running is None or not running.expects(tenant, done.block):
            self._violated(tenant, f"ended block {done.block}, in which it is not active now")
            return
        try:
            running.finished(tenant, done)
        except DataError as error:
            self._violated(tenant, f"lost records: {error.what}")
            return
        for kind, iterations in (("skipped", done.skipped), ("unread", done.unread)):
            if iterations:
                self._log(kind, tenant=tenant, block=done.block, iterations=iterations)
        if done.events_lost:
            self._log("events-lost", tenant=tenant, block=done.block, events=done.events_lost)
        self._note(tenant, done.notes)
        if running.unfinished:
            self._stop_if_satisfied(running)
            return
        self._end_block(running, valid=True)
        if self._roster.block is not None:
            self._relieve(running.block)
        self._settle()

    def _note(self, tenant: str, notes: tuple[str, ...]) -> None:
        """Notes of the run, each once: a tenant may have a worker per block, and each says the same."""
        for text in dict.fromkeys(f"{tenant}: {self._hidden(tenant, note)}" for note in notes):
            if text not in self._noted:
                self._noted.add(text)
                self._log("note", text=text)

    def _relieve(self, block: Block) -> None:
        """Lets the block's workers go."""
        for name in block.tenants:
            self._send(name, msg.Finish())
            self._out.append(ev.Release(tenant=name))
        self._roster.relieve()
        self._phase = "starting"

    def _stop_if_satisfied(self, running: RunningBlock) -> None:
        if running.satisfied and running.stopped_ns is None:
            self._stop(running)

    def _stop(self, running: RunningBlock) -> None:
        running.stopped_ns = self._now
        for name in running.unfinished:
            self._send(name, msg.Stop(block=running.block.index))

    def _end_block(self, running: RunningBlock, *, valid: bool, reason: str = "") -> None:
        self._running = None
        outcome = running.outcome(self._now, valid=valid, reason=reason)
        if valid and self._course is not None:
            self._course.pace.saw(outcome.condition, ns_to_s(self._now - self._step_ns))
        self._out.append(ev.EndBlock(outcome=outcome))
        count = sum(outcome.counts.values())
        self._log("block-ended", block=outcome.index, valid=valid, records=count, reason=reason)

    # what goes wrong

    @property
    def _measured(self) -> bool:
        return self._course is not None and self._course.began_ns is not None

    def _hidden(self, tenant: str, text: str) -> str:
        """What is said of a tenant, without what its program was given in secret."""
        return without_values(text, self.plan.tenant(tenant).work)

    def _failed(self, tenant: str, message: msg.Failed) -> None:
        what, remedy = self._hidden(tenant, message.what), self._hidden(tenant, message.remedy)
        self._log("failed", tenant=tenant, failure=message.kind, what=what)
        setup = message.kind == "setup" or not self._measured
        code = SetupError.exit_code if setup else MeasurementError.exit_code
        self._abort("incomplete", what, remedy, code)

    def _violated(self, tenant: str, what: str) -> None:
        remedy = "run it again; if it happens again it is a fault of kts: please report it with the run directory"
        self._abort("incomplete", f"tenant {tenant} {what}", remedy, MeasurementError.exit_code)

    def _parted(self, event: ev.Lost | WorkerExit | ev.Garbled) -> None:
        seat = self._roster.seats.get(event.tenant)
        if seat is None or (isinstance(event, WorkerExit) and not self._roster.concerns(event)):
            return
        match event:
            case ev.Garbled():
                self._violated(event.tenant, f"sent something else than messages: {event.what}")
            case ev.Lost():
                seat.lost_ns = self._now if seat.lost_ns is None else seat.lost_ns
                self._log("lost", tenant=event.tenant)
                self._check_deaths()
            case WorkerExit():
                reason, remedy = self._hidden(event.tenant, event.reason), self._hidden(event.tenant, event.remedy)
                seat.exit_ns, seat.exit_reason, seat.exit_remedy = self._now, reason, remedy
                self._log("exited", tenant=event.tenant, code=event.code, reason=reason)
                self._check_deaths()

    def _check_deaths(self) -> None:
        for name, seat in self._roster.seats.items():
            death = seat.death(self._now, self._limits.settle_s)
            if death:
                remedy = seat.exit_remedy or f"see the log of {name} in the run directory"
                self._died(f"tenant {name} {death}", remedy)
                return

    def _died(self, what: str, remedy: str) -> None:
        code = MeasurementError.exit_code if self._measured else SetupError.exit_code
        self._abort("incomplete", what, remedy, code)

    def _tick(self) -> None:
        self._check_deaths()
        if self.outcome is not None:
            return
        if self._phase == "starting":
            if self._roster.block is not None and self._roster.empty:
                self._step_ns = self._now
            if self._now - self._step_ns > s_to_ns(self._limits.join_s):
                what = f"not there after {self._limits.join_s:.0f} s: {', '.join(self._roster.missing)}"
                self._abort("failed", what, "see their logs in the run directory", SetupError.exit_code)
            return
        silent = self._roster.silent(self._now, self._calibrating, self._step_ns)
        if silent:
            self._died(silent, "see its log in the run directory; the device may hang")
        elif self._running is not None:
            self._watch_block(self._running)

    def _watch_block(self, running: RunningBlock) -> None:
        if self._now > running.deadline_ns:
            allowed_s = ns_to_s(running.deadline_ns - running.start_ns)
            what = f"block {running.block.index} ({running.block.condition}) did not end within {allowed_s:.0f} s"
            late = f"not done: {', '.join(running.unfinished)}"
            self._died(f"{what}; {late}", "ask for fewer iterations, or see the logs in the run directory")
        elif self._course is not None and self._course.must_cut(self._now) and running.stopped_ns is None:
            self._log("block-cut", block=running.block.index)
            self._stop(running)

    def _stopped(self, outcome: Outcome) -> None:
        self._abort(outcome.kind, outcome.reason, outcome.remedy, outcome.exit_code)

    def _abort(self, kind: OutcomeKind, reason: str, remedy: str, exit_code: int) -> None:
        if self._running is not None:
            running = self._running
            self._stop(running)
            self._end_block(running, valid=False, reason="interrupted" if kind == "interrupted" else reason)
        if kind in ("incomplete", "failed"):
            kind = "incomplete" if self._measured else "failed"
        self._conclude(Outcome(kind=kind, reason=reason, remedy=remedy, exit_code=exit_code))

    def _conclude(self, outcome: Outcome) -> None:
        self.outcome, self._phase = outcome, "finishing"
        for name in self._roster.seats:
            self._send(name, msg.Finish())
        self._log("concluded", outcome=outcome.kind, reason=outcome.reason)
        self._out.append(ev.Conclude(outcome=outcome))

    def _send(self, tenant: str, message: msg.FromConductor) -> None:
        if self._roster.seats[tenant].connected:
            self._out.append(ev.Send(tenant=tenant, message=message))

    def _log(self, kind: str, **fields: str | int | float | bool | None) -> None:
        self._out.append(ev.Log(kind=kind, fields=fields))

    def _settle(self) -> None:
        self._awaits = "settled"
        self._out.append(ev.Settle())

    # for people

    def progress(self, now_ns: int) -> Progress:
        """Where the run stands at ``now_ns``."""
        running, course = self._running, self._course
        iterations = running.iterations if running else {}
        left_s = 0.0 if self._phase == "finishing" else None
        if course is not None and left_s is None:
            running_s = ns_to_s(now_ns - self._step_ns)
            left_s = course.left_s(now_ns, running.block if running else None, running_s)
        return Progress(
            phase=self._phase,
            text=self._text(),
            done_s=ns_to_s(now_ns - self._begun_ns),
            left_s=left_s,
            round=course.round if course else 0,
            rounds=self.plan.rounds,
            tenants=tuple(
                TenantProgress(tenant=name, active=name in iterations, iterations=iterations.get(name, 0))
                for name in self._roster.seats
            ),
            awaits=self._roster.block.index if self._roster.block and self._phase == "starting" else None,
        )

    def _text(self) -> str:
        block, doing = self._roster.block, self._doing()
        if block is None:
            return doing
        where = f"block {block.index + 1} of {self.plan.rounds * len(self.plan.conditions)}: {block.condition}"
        return f"{where} ({doing})" if doing and not self._running else where

    def _doing(self) -> str:
        if self._phase == "starting":
            return f"waiting for {first_few(self._roster.missing, MISSING_NAMED)}"
        if self._phase == "calibrating":
            return f"calibrating {self._calibrating}"
        return self._running.block.condition if self._running else ""
