"""Whatever comes in whatever order: the machine does not crash, and what it must never do it does not."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.helpers_conduct import DEVICE, Puppets, S, make_plan, make_records, sent

from kts.conduct import events as ev
from kts.conduct.ports import WorkerExit
from kts.conduct.roster import Limits
from kts.model.run import DeviceInfo, Outcome
from kts.wire import messages as msg
from kts.wire.framing import make_chunk

NAMES = ("a", "b")
OTHER = DeviceInfo(kind="cuda", uuid="GPU-2", name="B", label="B", library="torch")

names = st.sampled_from([*NAMES, "nobody"])
blocks = st.integers(0, 4)
messages = st.one_of(
    st.builds(msg.Opened, device=st.sampled_from([DEVICE, DEVICE, DEVICE, OTHER]), cores=st.just((1,))),
    st.builds(msg.Ready, size=st.sampled_from([None, 8]), solo_ms=st.sampled_from([None, 1.0])),
    st.builds(msg.Heartbeat, monotonic_ns=st.just(0), iterations=st.integers(0, 9)),
    st.builds(msg.QuotaReached, block=blocks),
    st.builds(msg.BlockDone, block=blocks, chunks=st.integers(0, 1), count=st.sampled_from([0, 2])),
    st.builds(lambda block, seq: make_chunk(block, seq, make_records(2)), blocks, st.integers(0, 1)),
    st.builds(msg.Failed, kind=st.sampled_from(["setup", "internal"]), what=st.just("x")),
)
events = st.one_of(
    st.builds(ev.Received, tenant=names, message=messages),
    st.builds(ev.Lost, tenant=names),
    st.builds(WorkerExit, tenant=names, code=st.just(1), reason=st.just("exit code 1")),
    st.just(ev.Tick()),
    st.just(ev.SettleDone()),
    st.builds(ev.Decided, reached=st.booleans()),
    st.builds(ev.Signalled, signal=st.just("SIGINT")),
    st.just(ev.Stopped(outcome=Outcome(kind="failed", reason="no free slot", exit_code=4))),
    st.builds(ev.SinkFailed, what=st.just("disk full")),
    st.builds(ev.Garbled, tenant=names, what=st.just("noise")),
)
# The next thing that a healthy worker would do, so that random runs get far enough to matter.
healthy = st.sampled_from(NAMES)


class Follower:
    """Plays healthy workers on demand and checks each list of actions as it comes."""

    def __init__(self) -> None:
        plan = make_plan(*NAMES, rounds=2, max_rounds=3, precision=0.1, max_seconds=50.0)
        limits = Limits(hang_s=5, join_s=10, calibrate_s=10)
        self.puppets = Puppets(plan, asks=True, limits=limits, answers=[False, True])
        self.running: set[str] = set()
        self.block: int | None = None
        self.ready: set[str] = set()

    def tell(self, event: ev.Event) -> None:
        before = self.puppets.machine.outcome
        if isinstance(event, ev.Received) and isinstance(event.message, msg.Ready):
            self.ready.add(event.tenant)
        actions = self.puppets.tell(event)
        if before is not None:
            assert actions == [], "something was done after the end"
        for action in actions:
            self.check(action)

    def check(self, action: ev.Action) -> None:
        if isinstance(action, ev.EndBlock):
            assert action.outcome.index == self.block
            self.block = None
        if isinstance(action, ev.Send) and isinstance(action.message, msg.Start):
            assert self.ready >= set(NAMES), "a block started before all were ready"
            assert self.block in (None, action.message.block), "two blocks at once"
            self.block = action.message.block
            assert action.message.start_ns > self.puppets.now_ns

    def healthy_step(self, name: str) -> None:
        machine = self.puppets.machine
        said = [a for a in self.puppets.actions if isinstance(a, ev.Send) and a.tenant == name]
        last = said[-1].message if said else None
        match last:
            case None:
                self.tell(ev.Greeted(peer=NAMES.index(name), hello=self.puppets.hello(name)))
            case msg.Welcome():
                self.tell(ev.Received(tenant=name, message=msg.Opened(device=DEVICE, cores=(1,))))
            case msg.Calibrate():
                self.tell(ev.Received(tenant=name, message=msg.Ready(size=8, solo_ms=1.0)))
            case msg.Start(block=block):
                if block == self.block:
                    self.tell(ev.Received(tenant=name, message=msg.QuotaReached(block=block)))
            case msg.Stop(block=block):
                if block == self.block:
                    self.tell(ev.Received(tenant=name, message=msg.BlockDone(block=block, chunks=0, count=0)))
        assert machine.progress(self.puppets.now_ns).done_s >= 0


steps = st.lists(st.one_of(healthy, healthy, healthy, healthy, healthy, healthy, events, st.floats(0, 3)), max_size=120)


@settings(max_examples=150, deadline=None)
@given(steps)
def test_any_order_of_events_ends_in_exactly_one_conclusion(script: list[str | float | ev.Event]) -> None:
    """Otherwise some unlucky timing leaves a run without an end, with two ends, or with overlapping blocks."""
    follower = Follower()
    for step in script:
        if isinstance(step, str):
            follower.healthy_step(step)
        elif isinstance(step, float):
            follower.puppets.now_ns += round(step * S)
        else:
            follower.tell(step)
    follower.tell(ev.Signalled(signal="SIGTERM"))
    actions = follower.puppets.actions
    assert sum(isinstance(a, ev.Conclude) for a in actions) == 1
    assert isinstance(actions[-1], ev.Conclude)
    started = {s.message.block for s in follower.puppets.starts}
    assert started == {b.index for b in follower.puppets.ended}, "a block was never ended"
    for tenant in sent(actions, msg.Finish):
        assert tenant in NAMES


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.integers(1, 3), st.permutations(["a", "b", "c"]))
def test_a_healthy_run_counts_every_record_once(count: int, rounds: int, order: list[str]) -> None:
    """Otherwise records would be lost or doubled between the wire and the sink."""
    puppets = Puppets(make_plan("a", "b", "c", rounds=rounds))
    for peer, name in enumerate(order):
        puppets.tell(ev.Greeted(peer=peer, hello=puppets.hello(name)))
        puppets.say(name, msg.Opened(device=DEVICE, cores=(1,)))
    for name in puppets.names:
        puppets.say(name, msg.Ready(size=16, solo_ms=1.0))
    while puppets.machine.outcome is None:
        puppets.play(count=count)
    kept = [a for a in puppets.actions if isinstance(a, ev.Keep)]
    assert len(kept) == rounds * (3 + 3)
    assert sum(len(k.records) for k in kept) == sum(sum(b.counts.values()) for b in puppets.ended)
    assert puppets.outcome.kind == "complete"
    assert msgspec.structs.asdict(puppets.outcome)["exit_code"] == 0
