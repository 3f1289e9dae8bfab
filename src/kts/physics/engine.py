"""The compiled loop of the simulator: one GPU, round robin among tenants with queued kernels. Model: docs/physics.md.

Only this module imports numba, and all that is compiled is here: what numba keeps on disk it compiles anew when this
file changes, and for no other. Everything it reads and writes is an array that the caller made (`kts.physics.tables`);
nothing is allocated inside. While a tenant is served nothing about the others changes except what is known already
(when the next kernel of each is queued), so a whole turn is simulated at once and its slice renewals cost nothing. That
holds with waits and copies, too: what a host and a copy engine do until the next kernel is queued depends on nobody
else. A tenant that is alone until then is not even asked for again: its next turn is simulated on the spot.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from kts.physics.tables import BEGIN, DUE, END, PREEMPT, RETIRE, SUBMIT, WAKE, YIELD, Tables, TripTables


def _compiled(function: Callable[..., Any], **options: Any) -> Any:
    """Compiled when it is first called, and kept on disk where numba finds a place for it.

    Nothing is allocated, so arrays need no counting of references (``_nrt``), which would take most of the time.
    """
    options |= {"nogil": True, "error_model": "numpy", "_nrt": False}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no such place, as in a read-only image without a home
        return numba.njit(**options)(function)


def _inline(function: Callable[..., Any]) -> Any:
    return _compiled(function, inline="always")


@_inline
def _submit(tenant: Any, at_ms: float, tables: Tables) -> None:
    """The next iteration: ``at_ms`` is when the host is free for it."""
    k = tenant.first + tenant.done
    if tenant.open:
        tenant.due_ms = tables.pace[k]
        tenant.submit_ms = max(at_ms, tables.pace[k])
    else:
        tenant.due_ms = at_ms
        tenant.submit_ms = at_ms
    listing = tables.listed[tenant.base + tables.pick[k]]
    tenant.head = listing.first
    tenant.begins = listing.first
    tenant.last = listing.last
    tenant.trip = listing.trip
    tenant.begin_ms = np.inf
    tenant.shift_ms = 0.0
    launch = tables.launches[listing.first]
    tenant.ready_ms = tenant.submit_ms + launch.offset_ms * tenant.host
    tenant.left_ms = launch.work_ms + tenant.gap_ms if listing.first < listing.last else launch.work_ms


@_inline
def _wanted(tenant: Any, place: int, tables: Tables) -> float:
    """When the host queues the launch at ``place``, if a bounded queue has room by then; else it is late from then
    on."""
    ready: float = tenant.submit_ms + tables.launches[place].offset_ms * tenant.host + tenant.shift_ms
    if 0 < tenant.depth <= place - tenant.begins:
        room = tables.ends[tenant.ends + place - tenant.begins - tenant.depth]
        if room > ready:
            tenant.shift_ms += room - ready
            ready = room
    return ready


@_inline
def _ended(tenant: Any, place: int, t: float, tables: Tables) -> None:
    """The launch at ``place`` did, and left room in a bounded queue."""
    if tenant.depth > 0:
        tables.ends[tenant.ends + place - tenant.begins] = t


@_inline
def _retire(tenant: Any, t: float, noticed: float, tables: Tables, course: Any) -> None:
    """The iteration's last launch ended at ``t``, and its retirement counts from ``noticed``: its record, and the next
    iteration if there is one."""
    k = tenant.first + tenant.done
    retire = noticed + tables.listed[tenant.base + tables.pick[k]].retire_ms * tenant.host
    out = tables.out
    out[k, DUE] = tenant.due_ms
    out[k, SUBMIT] = tenant.submit_ms
    out[k, BEGIN] = tenant.begin_ms
    out[k, END] = t
    out[k, RETIRE] = retire
    tenant.done += 1
    if tenant.done < tenant.planned:
        _submit(tenant, retire if tenant.open else retire + tables.pace[k], tables)
    else:
        tenant.ready_ms = np.inf
        course.ended_ms = max(course.ended_ms, t)
        if course.stop_at_first == 1:
            course.horizon_ms = min(course.horizon_ms, t)


@_inline
def _others(tenants: Any, owner: int, t: float, in_line: int) -> tuple[int, int, float]:
    """Of the tenants but the owner: who is next (highest priority, then who came first if they stand in line, then the
    circle's order; -1: nobody), how many are runnable at ``t``, and when the first of the rest will be."""
    n = len(tenants)
    best = -1
    runnable = 0
    soonest = np.inf
    j = owner
    for _ in range(n):
        j = 0 if j + 1 >= n else j + 1
        if j == owner:
            continue
        ready = tenants[j].ready_ms
        if ready <= t:
            runnable += 1
            if best < 0 or _is_next_of(tenants[j], tenants[best], in_line):
                best = j
        else:
            soonest = min(soonest, ready)
    return best, runnable, soonest


@_inline
def _is_next_of(tenant: Any, best: Any, in_line: int) -> bool:
    """Whether it is before who is the next one so far."""
    before: bool = in_line == 1 and tenant.priority == best.priority and tenant.ready_ms < best.ready_ms
    return bool(tenant.priority > best.priority or before)


@_inline
def _look_round(tenants: Any, owner: int) -> None:
    """The owner's turn begins: when the others will have a kernel does not change in it."""
    mine = tenants[owner]
    mine.equal_ms = mine.higher_ms = mine.soonest_ms = np.inf
    for j in range(len(tenants)):
        other = tenants[j]
        if j != owner:
            mine.soonest_ms = min(mine.soonest_ms, other.ready_ms)
            if other.priority >= mine.priority:
                mine.equal_ms = min(mine.equal_ms, other.ready_ms)
            if other.priority > mine.priority:
                mine.higher_ms = min(mine.higher_ms, other.ready_ms)


@_inline
def _cut(tenant: Any, t: float, course: Any) -> float:
    """When a turn that begins at ``t`` ends if the queue does not empty: its slice is renewed until somebody waits."""
    length: float = tenant.slice_ms
    horizon: float = course.horizon_ms
    if course.in_line == 1:
        return horizon
    cut = t + length
    if tenant.equal_ms > cut:
        cut = np.inf if tenant.equal_ms == np.inf else cut + math.ceil((tenant.equal_ms - cut) / length) * length
    if course.at_once == 1 and tenant.higher_ms < cut:
        cut = max(tenant.higher_ms, t)
    return min(cut, horizon)


@_inline
def _turn(tenant: Any, t: float, tables: Tables, trips: TripTables | None, course: Any) -> tuple[float, int]:
    """Kernels of one tenant, one after the other, until its queue is empty and somebody else may be next, or until its
    slice is over: the time, and why. Before ``soonest_ms`` nobody else has work: who is alone goes on when its next
    kernel is queued, with a new slice, and the GPU is idle until then."""
    head, last, ready, left = tenant.head, tenant.last, tenant.ready_ms, tenant.left_ms
    if trips is not None and tenant.trips == 1:
        last = tenant.trip_last
    began = t
    cut = _cut(tenant, t, course)
    first = since = ready  # its place in the line
    while True:
        if ready > t:
            if not (ready < tenant.soonest_ms and ready < course.horizon_ms):
                kind = YIELD
                break
            tenant.busy_ms += max(t - began, 0.0)
            course.idle_ms += ready - t
            began = t = ready
            cut = _cut(tenant, t, course)
        if t >= cut:
            kind = PREEMPT
            break
        if course.in_line == 1 and since > first and tenant.equal_ms <= since:
            ready, kind = since, YIELD
            break
        if tenant.begin_ms == np.inf:
            tenant.begin_ms = t
        end = t + left
        if end > cut:
            left = end - cut
            t = cut
            kind = PREEMPT
            break
        t = since = end
        course.kernels += 1
        _ended(tenant, head, t, tables)
        if head < last and (trips is None or tenant.trips == 0 or trips.steps[head + 1].apart == 0):
            head += 1
            ready = _wanted(tenant, head, tables)
            left = tables.launches[head].work_ms
            if head < last:
                left += tenant.gap_ms
            continue
        if trips is None or tenant.trips == 0:
            _retire(tenant, t, t, tables, course)
            last = tenant.last
        else:
            _hand_over(tenant, head + 1, t, trips, course)
            last = tenant.trip_last
        head, ready, left = tenant.head, tenant.ready_ms, tenant.left_ms
    tenant.head, tenant.ready_ms, tenant.left_ms = head, ready, left
    tenant.busy_ms += max(t - began, 0.0)
    return t, kind


@_compiled
def _hand_over(tenant: Any, place: int, free: float, trips: TripTables, course: Any) -> None:
    """The host of a tenant with one lane, free from ``free`` on, hands over what comes up to the next kernel: copies
    are done at once, and what it waits for is over with them."""
    tables = trips.tables
    while tenant.done < tenant.planned:
        last = trips.trips[tenant.trip].last
        while place <= last:
            ready = max(_wanted(tenant, place, tables), free)
            work = tables.launches[place].work_ms
            if trips.steps[place].apart == 0:
                tenant.head = place
                tenant.trip_last = last
                tenant.ready_ms = ready
                tenant.left_ms = work + tenant.gap_ms if place < last else work
                return
            tenant.begin_ms = min(tenant.begin_ms, ready)
            free = ready + work
            _ended(tenant, place, free, tables)
            place += 1
        _back(tenant, free, trips, course)
        place = tenant.head
        free = -np.inf
    tenant.ready_ms = np.inf


@_compiled
def _back(tenant: Any, ended: float, trips: TripTables, course: Any) -> None:
    """All of a trip has ended: the host goes on behind its wait, with the iteration or with the next one."""
    trip = trips.trips[tenant.trip]
    goes_on = ended
    if not math.isnan(trip.wait_ms):
        begins = tenant.submit_ms + trip.wait_ms * tenant.host + tenant.shift_ms
        goes_on = max(begins, ended) + trip.notice_ms * tenant.host
        tenant.shift_ms += goes_on - begins
    if trip.last < tenant.last:
        tenant.head = trip.last + 1
        tenant.trip += 1
    else:
        _retire(tenant, ended, goes_on, trips.tables, course)


@_compiled
def _front(tenant: Any, lane: Any, place: int, t: float, trips: TripTables) -> None:
    """The launch at ``place`` is at the front of its lane from ``t`` on. Copies are done at once, up to the next
    kernel, if there is one."""
    tables = trips.tables
    while True:
        queued = _wanted(tenant, place, tables)
        ready = max(queued, t)
        work = tables.launches[place].work_ms
        step = trips.steps[place]
        if step.apart == 0:
            lane.lane = step.lane
            lane.queued_ms = queued
            lane.head = place
            lane.ready_ms = ready
            lane.left_ms = work + tenant.gap_ms if step.further > 0 else work
            lane.end_ms = np.inf
            tenant.unfinished += 1
            return
        tenant.begin_ms = min(tenant.begin_ms, ready)
        t = ready + work
        if step.further == 0:
            _empty(tenant, lane, t)
            return
        place += step.further


@_inline
def _empty(tenant: Any, lane: Any, t: float) -> None:
    """A lane has done all of the trip."""
    lane.ready_ms = np.inf
    lane.end_ms = np.inf
    tenant.latest_ms = max(tenant.latest_ms, t)


@_compiled
def _open_lanes(tenant: Any, trips: TripTables, course: Any) -> None:
    """The host makes the next trip, and those behind it as long as they need no turn."""
    tenant.unfinished = 0
    while tenant.done < tenant.planned and tenant.unfinished == 0:
        trip = trips.trips[tenant.trip]
        tenant.opened = trip.lanes
        tenant.latest_ms = -np.inf
        for k in range(trip.lanes):
            _front(tenant, trips.lanes[tenant.lanes + k], trips.heads[trip.heads + k], -np.inf, trips)
        if tenant.unfinished == 0:
            _back(tenant, tenant.latest_ms, trips, course)
    _head_ready(tenant, trips)


@_inline
def _head_ready(tenant: Any, trips: TripTables) -> None:
    ready = np.inf
    if tenant.unfinished > 0:
        for k in range(tenant.lanes, tenant.lanes + tenant.opened):
            ready = min(ready, trips.lanes[k].ready_ms)
    tenant.ready_ms = ready


@_inline
def _start(tenant: Any, threads: Any, t: float, lanes: Any, place: Any) -> tuple[float, float]:
    """Its kernels that could run do, if nobody else's is before them in the line, and none of the ``threads`` of its
    process in their lane; when the next of its own is queued, and when one ends. Infinity: none is, none runs."""
    until = np.inf
    ends = np.inf
    for k in range(tenant.lanes, tenant.lanes + tenant.opened):
        lane = lanes[k]
        if lane.ready_ms > t:
            until = min(until, lane.ready_ms)
            continue
        if lane.end_ms == np.inf and _is_before(lane, place) and _is_next(threads, lane, k, t, lanes):
            lane.end_ms = t + lane.left_ms
            lane.queued_ms = -np.inf
            tenant.begin_ms = min(tenant.begin_ms, t)
        ends = min(ends, lane.end_ms)
    return until, ends


@_inline
def _place(tenant: Any, first: float, course: Any) -> tuple[float, float]:
    """Where in the line it is as its turn begins: since when its ``first`` kernel stands there, and since when the next
    of the others."""
    if course.in_line == 1:
        return first, tenant.equal_ms
    return np.inf, np.inf


@_inline
def _is_before(lane: Any, place: Any) -> bool:
    """Whether its kernel is before all of others in the line."""
    return bool(lane.ready_ms <= place[0] or lane.ready_ms < place[1])


@_compiled
def _turn_of_lanes(tenant: Any, t: float, trips: TripTables, course: Any) -> tuple[float, int]:
    """As `_turn`, of a tenant with several lanes: the kernels at the front of each run side by side."""
    began = t
    cut = _cut(tenant, t, course)
    lanes = trips.lanes
    place = _place(tenant, tenant.ready_ms, course)
    kind = YIELD
    while tenant.ready_ms <= t:
        if t >= cut:
            kind = PREEMPT
            break
        until, ends = _start(tenant, trips.threads[:0], t, lanes, place)
        if ends == np.inf:
            break
        until = min(until, ends)
        if until > cut:
            t = cut
            kind = PREEMPT
            break
        t = until
        _end_kernels(tenant, t, trips, course)
    _interrupt(tenant, t, lanes)
    tenant.busy_ms += t - began
    return t, kind


@_inline
def _end_kernels(tenant: Any, t: float, trips: TripTables, course: Any) -> None:
    """Kernels that end at ``t`` have; behind the last one of a trip the host goes on."""
    for k in range(tenant.lanes, tenant.lanes + tenant.opened):
        lane = trips.lanes[k]
        if lane.end_ms == t:
            course.kernels += 1
            tenant.unfinished -= 1
            further = trips.steps[lane.head].further
            if further > 0:
                _front(tenant, lane, lane.head + further, t, trips)
            else:
                _empty(tenant, lane, t)
    if tenant.unfinished > 0:
        _head_ready(tenant, trips)
    else:
        _back(tenant, tenant.latest_ms, trips, course)
        _open_lanes(tenant, trips, course)


@_inline
def _interrupt(tenant: Any, t: float, lanes: Any) -> None:
    """The turn is over: what runs goes on in the next one."""
    for k in range(tenant.lanes, tenant.lanes + tenant.opened):
        lane = lanes[k]
        if lane.end_ms < np.inf:
            lane.left_ms = lane.end_ms - t
            lane.end_ms = np.inf


@_compiled
def _turn_of_threads(process: Any, t: float, trips: TripTables, course: Any) -> tuple[float, int]:
    """As `_turn_of_lanes`, of a process whose threads have iterations of their own. Each waits for its own work alone;
    in a lane of several threads the kernel that was queued first is next."""
    began = t
    cut = _cut(process, t, course)
    threads = trips.threads[process.threads : process.threads + process.members]
    place = _place(process, _first(threads, t, trips.lanes), course)
    kind = YIELD
    while process.ready_ms <= t:
        cut = min(cut, course.horizon_ms)
        if t >= cut:
            kind = PREEMPT
            break
        until = ends = np.inf
        for k in range(len(threads)):
            if threads[k].unfinished > 0:
                queued, end = _start(threads[k], threads, t, trips.lanes, place)
                until, ends = min(until, queued), min(ends, end)
        if ends == np.inf:
            break
        until = min(until, ends)
        if until > cut:
            t = cut
            kind = PREEMPT
            break
        t = until
        for k in range(len(threads)):
            if threads[k].unfinished > 0 and threads[k].ready_ms <= t:
                _end_kernels(threads[k], t, trips, course)
        process.ready_ms = _soonest(threads)
    for k in range(len(threads)):
        if threads[k].unfinished > 0:
            _interrupt(threads[k], t, trips.lanes)
    process.busy_ms += t - began
    return t, kind


@_inline
def _soonest(threads: Any) -> float:
    """When the first of the threads has a kernel that could run."""
    soonest = np.inf
    for k in range(len(threads)):
        soonest = min(soonest, threads[k].ready_ms)
    return soonest


@_inline
def _first(threads: Any, t: float, lanes: Any) -> float:
    """Since when a kernel could run that no other thread's is before in its lane."""
    first = np.inf
    for k in range(len(threads)):
        if threads[k].unfinished == 0:
            continue
        for j in range(threads[k].lanes, threads[k].lanes + threads[k].opened):
            if lanes[j].ready_ms <= t and _is_next(threads, lanes[j], j, t, lanes):
                first = min(first, lanes[j].ready_ms)
    return first


@_inline
def _is_next(threads: Any, mine: Any, place: int, t: float, lanes: Any) -> bool:
    """Whether no other thread's kernel is before this one in its lane."""
    for k in range(len(threads)):
        if threads[k].unfinished == 0:
            continue
        for j in range(threads[k].lanes, threads[k].lanes + threads[k].opened):
            other = lanes[j]
            if j == place or other.lane != mine.lane or other.ready_ms > t:
                continue
            if other.queued_ms < mine.queued_ms or (other.queued_ms == mine.queued_ms and j < place):
                return False
    return True


@_inline
def _begin(tenants: Any, tables: Tables) -> None:
    for i in range(len(tenants)):
        tenants[i].ready_ms = np.inf
        if tenants[i].planned > 0:
            _submit(tenants[i], 0.0 if tenants[i].open else tenants[i].start_ms, tables)


@_compiled
def _begin_trips(tenants: Any, trips: TripTables, course: Any) -> None:
    for i in range(len(tenants)):
        if tenants[i].trips == 1:
            _hand_over(tenants[i], tenants[i].head, -np.inf, trips, course)
        elif tenants[i].trips == 2:
            _open_lanes(tenants[i], trips, course)
        elif tenants[i].trips == 3:
            threads = trips.threads[tenants[i].threads : tenants[i].threads + tenants[i].members]
            _begin(threads, trips.tables)
            for k in range(len(threads)):
                _open_lanes(threads[k], trips, course)
            tenants[i].ready_ms = _soonest(threads)


@_compiled
def _uncount(tenants: Any, end_ms: float, tables: Tables) -> None:
    """Copies were done ahead of time: iterations that ended with one after the simulation do not count."""
    for i in range(len(tenants)):
        while tenants[i].done > 0 and tables.out[tenants[i].first + tenants[i].done - 1, END] > end_ms:
            tenants[i].done -= 1


@_compiled
def run(tenants: Any, tables: Tables, trips: TripTables | None, course: Any) -> None:
    """Runs until the horizon, or until a tenant or every tenant has done what was planned.

    ``tenants``, ``tables.out`` and ``course`` are changed in place. ``trips``: None where no tenant has any; what
    serves those is then not even compiled.
    """
    _begin(tenants, tables)
    if trips is not None:
        _begin_trips(tenants, trips, course)
    costs = tables.costs
    t = 0.0
    owner = -1
    kind = WAKE
    heir = -1
    while t < course.horizon_ms:
        best, runnable, soonest = _others(tenants, owner, t, course.in_line)
        if kind == YIELD and heir >= 0:
            best = heir
        mine = np.inf if owner < 0 else tenants[owner].ready_ms
        stays = kind == WAKE and mine <= t  # its context is still loaded
        if best < 0 and mine > t:  # idle until somebody queues a kernel
            until = min(soonest, mine)
            if until == np.inf:
                until = min(max(course.ended_ms, t), course.horizon_ms)
                course.idle_ms += until - t
                t = until
                break
            course.idle_ms += min(until, course.horizon_ms) - t
            t = until
            kind = WAKE
            continue
        if not stays:
            if owner >= 0 and course.in_line == 0:
                cost = costs[kind, min(runnable, costs.shape[1]) - 1]
                course.switch_ms += min(t + cost, course.horizon_ms) - t
                course.switches[kind] += 1
                t += cost
            owner = best
        heir = -1
        if tenants[owner].settles == 1:
            heir, _, _ = _others(tenants, owner, t, course.in_line)
        _look_round(tenants, owner)
        if trips is not None and tenants[owner].trips == 2:
            t, kind = _turn_of_lanes(tenants[owner], t, trips, course)
        elif trips is not None and tenants[owner].trips == 3:
            t, kind = _turn_of_threads(tenants[owner], t, trips, course)
        else:
            t, kind = _turn(tenants[owner], t, tables, trips, course)
    course.end_ms = min(t, course.horizon_ms)
    if trips is not None:
        _uncount(tenants, course.end_ms, tables)
        _uncount(trips.threads, course.end_ms, tables)
