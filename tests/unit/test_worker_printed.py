"""What a tenant of a conducted run prints beside what it sends."""

from __future__ import annotations

import io

import msgspec
import numpy as np
import pytest
from tests.helpers_conduct import DEVICE, MS, make_records

from kts.arrivals import Closed, Poisson
from kts.errors import SpecError
from kts.model.plan import Kernel, Tenant
from kts.model.records import Records, record_dtype
from kts.wire import published
from kts.wire.appline import parse_line
from kts.wire.logframe import parse_end, parse_meta
from kts.wire.messages import Ready
from kts.worker.loop import Outlet
from kts.worker.printed import Printed, printed_for
from kts.worker.standalone import read_settings

TENANT = Tenant(
    name="small",
    work=Kernel(workload="fft", size=64, library="numpy", warmup=3),
    arrivals=Closed(think_ms=12.5, jitter=0.25),
    iterations=40,
)
ENV = {"KTS_APP_NAME": "SMALL", "KTS_PHASE": "solo", "KTS_LOG": "framed"}


class Sent:
    """An outlet that remembers; ``then`` is called with each chunk."""

    def __init__(self) -> None:
        self.chunks: list[Records] = []
        self.beats: list[int] = []

    def records(self, records: Records) -> None:
        self.chunks.append(records.copy())

    def heartbeat(self, now_ns: int, iterations: int) -> None:
        del now_ns
        self.beats.append(iterations)

    def quota_reached(self, at_ns: int) -> None:
        del at_ns

    def stopped(self) -> bool:
        return True


def test_lines_say_what_was_sent_by_the_time_of_day() -> None:
    """Else the logs would tell another story than the run, or lack what frames them."""
    out, sent = io.StringIO(), Sent()
    printed = Printed(TENANT, ENV, out)
    printed.begin(DEVICE, Ready(size=64, solo_ms=1.5))
    outlet: Outlet = printed.beside(sent)
    records = make_records(5, start_ns=10**12)
    records["device_ms"][3] = np.nan
    outlet.records(records[:2])
    outlet.records(records[2:])
    outlet.heartbeat(7, 5)
    assert outlet.stopped()
    printed.end()
    assert np.concatenate(sent.chunks).tobytes() == records.tobytes()
    assert sent.beats == [5]
    header, *lines, trailer = out.getvalue().splitlines()
    meta, end = parse_meta(header), parse_end(trailer)
    assert meta is not None
    assert end is not None
    assert (meta.app, meta.workload, meta.size, meta.solo_ms, meta.device) == ("SMALL", "fft", 64, 1.5, DEVICE)
    assert (end.app, end.count) == ("SMALL", 5)
    told = [parse_line(line) for line in lines]
    assert [(line.i, line.end_ns - line.start_ns, line.phase) for line in told if line] == [
        (i, MS // 2, "solo") for i in range(5)
    ]
    ahead_ns = meta.clock.realtime_ns - meta.clock.monotonic_ns
    for i, line in enumerate(told):
        assert line is not None
        assert line.start_ns == pytest.approx(10**12 + i * MS + ahead_ns, abs=MS)


def test_nothing_is_printed_where_nobody_asked() -> None:
    """Else every run in pods would fill its node's logs."""
    assert printed_for(TENANT, "cpu", {}, ()) is None
    assert printed_for(TENANT, "cpu", ENV, ()) is not None


def test_a_worker_alone_does_what_the_tenant_does() -> None:
    """Else a Job without its conductor would be another experiment."""
    assert published.arguments(TENANT, "cpu") == ["fft", "--device", "cpu", "--library", "numpy"]
    asked = read_settings("fft", published.variables(TENANT) | ENV)
    assert (asked.iterations, asked.size, asked.sleep_ms, asked.jitter, asked.warmup) == (40, 64, 12.5, 0.25, 3)
    timed = msgspec.structs.replace(
        TENANT,
        work=Kernel(workload="gemm", target_ms=2.5),
        arrivals=Closed(think_ms=0.0),
        iterations=None,
        seconds=3.0,
    )
    asked = read_settings("gemm", published.variables(timed))
    assert (asked.seconds, asked.target_ms, asked.sleep_ms, asked.iterations, asked.size) == (3.0, 2.5, 0.0, None, None)


def test_what_a_worker_alone_cannot_do_is_not_told_to_one() -> None:
    """Else an open loop would run as a closed one."""
    opened = msgspec.structs.replace(TENANT, arrivals=Poisson(rate_hz=5))
    assert (published.arguments(opened, "cpu"), published.variables(opened)) == ([], {})


@pytest.mark.parametrize(
    ("env", "arguments", "named"),
    [
        ({"ITERATIONS": "41"}, (), "ITERATIONS says '41'"),
        ({"MATRIX_SIZE": "65"}, (), "MATRIX_SIZE says '65'"),
        ({"SLEEP_MS": "100"}, (), "SLEEP_MS says '100'"),
        ({}, ("gemm", "--device", "cpu", "--library", "numpy"), "the command line says 'gemm"),
        ({"KTS_APP_NAME": "a,b"}, (), "KTS_APP_NAME"),
    ],
)
def test_a_job_that_asks_for_something_else_is_refused(
    env: dict[str, str], arguments: tuple[str, ...], named: str
) -> None:
    """Else a pod spec that was changed by hand would change nothing, in silence."""
    with pytest.raises(SpecError) as caught:
        printed_for(TENANT, "cpu", env, arguments)
    assert named in caught.value.what


def test_a_size_that_was_found_is_no_contradiction() -> None:
    """Else the later blocks of a calibrated tenant would be refused."""
    found = msgspec.structs.replace(TENANT, work=Kernel(workload="fft", size=48, target_ms=2.0))
    env = {"TARGET_MS": "2", "ITERATIONS": "40", "SLEEP_MS": "", **ENV}
    assert printed_for(found, "cpu", env, published.arguments(found, "cpu")) is not None


def test_what_auto_came_to_is_no_contradiction() -> None:
    """Else the Jobs of a run, made before its first worker chose a library, would refuse the plan from then on."""
    asked = ("fft", "--device", "auto", "--library", "auto")
    assert printed_for(TENANT, "cpu", ENV, asked) is not None
    with pytest.raises(SpecError, match="command line"):
        printed_for(TENANT, "cpu", ENV, asked[:-2])


def test_records_with_optional_columns_are_printed_too() -> None:
    """Else a tenant that counts its launches could not be run as a Job of the classic design."""
    out = io.StringIO()
    records = make_records(3, start_ns=10**12)
    wider = np.zeros(len(records), record_dtype(("launches", "mark.first_token")))
    for name in records.dtype.names or ():
        wider[name] = records[name]
    printed = Printed(TENANT, ENV, out)
    printed.beside(Sent()).records(wider)
    lines = [parse_line(text) for text in out.getvalue().splitlines()]
    assert [line.i for line in lines if line is not None] == records["i"].tolist()
