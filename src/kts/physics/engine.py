"""The compiled loop of the simulator: one GPU, round robin among tenants with queued kernels. Model: docs/physics.md.

Only this module imports numba, and all that is compiled is here: what numba keeps on disk it compiles anew when this
file changes, and for no other. Everything it reads and writes is an array that the caller made (`kts.physics.tables`);
nothing is allocated inside. While a tenant is served nothing about the others changes except what is known already
(when the next kernel of each is queued), so a whole turn is simulated at once and its slice renewals cost nothing. That
holds with waits and copies, too: what a host and a copy engine do until the next kernel is queued depends on nobody
else.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from kts.physics.tables import BEGIN, DUE, END, PREEMPT, RETIRE, SUBMIT, WAKE, YIELD, Tables, Trips


def _compiled(function: Callable[..., Any], **options: Any) -> Any:
    """Compiled when it is first called, and kept on disk where numba finds a place for it."""
    try:
        return numba.njit(cache=True, nogil=True, error_model="numpy", **options)(function)
    except RuntimeError:  # no such place, as in a read-only image without a home
        return numba.njit(nogil=True, error_model="numpy", **options)(function)


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
    tenant.last = listing.last
    tenant.begun = 0
    tenant.shift_ms = 0.0
    tenant.ready_ms = tenant.submit_ms + tables.launches[tenant.head].offset_ms
    tenant.left_ms = tables.launches[tenant.head].work_ms


@_inline
def _room(tenant: Any, t: float, ready: float, tables: Tables) -> float:
    """A kernel ended at ``t``: when the host can queue the next one, wanted at ``ready``, if the queue is bounded."""
    begin = tables.listed[tenant.base + tables.pick[tenant.first + tenant.done]].first
    number = tenant.head - begin  # of the launch within its iteration
    tables.ends[tenant.ends + number - 1] = t
    if number >= tenant.depth:
        room = tables.ends[tenant.ends + number - tenant.depth]
        if room > ready:
            tenant.shift_ms += room - ready
            ready = room
    return ready


@_inline
def _retire(tenant: Any, t: float, noticed: float, tables: Tables) -> None:
    """The iteration's last kernel ended at ``t``, and its retirement counts from ``noticed``: its record, and the next
    iteration if there is one."""
    k = tenant.first + tenant.done
    retire = noticed + tables.listed[tenant.base + tables.pick[k]].retire_ms
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


@_inline
def _others(tenants: Any, owner: int, t: float) -> tuple[int, int, float]:
    """Of the tenants but the owner: who is next (highest priority, then the circle's order; -1: nobody), how many
    are runnable at ``t``, and when the first of the rest will be."""
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
            if best < 0 or tenants[j].priority > tenants[best].priority:
                best = j
        else:
            soonest = min(soonest, ready)
    return best, runnable, soonest


@_inline
def _cut(tenants: Any, owner: int, t: float, at_once: int) -> float:
    """When the turn of ``owner``, beginning at ``t``, ends if its queue does not empty: its slice is renewed until
    somebody waits."""
    equal = higher = np.inf
    mine = tenants[owner].priority
    for j in range(len(tenants)):
        other = tenants[j]
        if j != owner and other.priority >= mine:
            equal = min(equal, other.ready_ms)
            if other.priority > mine:
                higher = min(higher, other.ready_ms)
    length = tenants[owner].slice_ms
    cut: float = t + length
    if equal > cut:
        cut = np.inf if equal == np.inf else cut + math.ceil((equal - cut) / length) * length
    if at_once == 1 and higher < cut:
        cut = max(higher, t)
    return cut


@_inline
def _turn(tenant: Any, t: float, cut: float, tables: Tables, course: Any) -> tuple[float, int, bool]:
    """Kernels of one tenant, one after the other, until its queue is empty or ``cut``: the time, why, and whether
    its work is all done and that ends the simulation."""
    began = t
    launches = tables.launches  # taken out once: each time costs two atomic operations
    kind = YIELD
    over = False
    while tenant.ready_ms <= t and not over:
        if t >= cut:
            kind = PREEMPT
            break
        if not tenant.begun:
            tenant.begun = 1
            tenant.begin_ms = t
        end = t + tenant.left_ms
        if end > cut:
            tenant.left_ms = end - cut
            t = cut
            kind = PREEMPT
            break
        t = end
        course.kernels += 1
        if tenant.head < tenant.last:
            tenant.head += 1
            launch = launches[tenant.head]
            tenant.left_ms = launch.work_ms
            ready = tenant.submit_ms + launch.offset_ms + tenant.shift_ms
            tenant.ready_ms = ready if tenant.depth == 0 else _room(tenant, t, ready, tables)
        else:
            _retire(tenant, t, t, tables)
            over = course.stop_at_first == 1 and tenant.done == tenant.planned
    tenant.busy_ms += max(t - began, 0.0)
    return t, kind, over


@_compiled
def _front(tenant: Any, lane: Any, place: int, t: float, trips: Trips) -> None:
    """The launch at ``place`` is at the front of its lane from ``t`` on, or none is (-1). Copies are done at once, up
    to the next kernel."""
    tables = trips.tables
    begin = tables.listed[tenant.base + tables.pick[tenant.first + tenant.done]].first
    while place >= 0:
        launch = tables.launches[place]
        number = place - begin
        ready = tenant.submit_ms + launch.offset_ms + tenant.shift_ms
        if 0 < tenant.depth <= number:
            room = tables.ends[tenant.ends + number - tenant.depth]
            if room > ready:
                tenant.shift_ms += room - ready
                ready = room
        ready = max(ready, t)
        lane.head = place
        lane.ready_ms = ready
        lane.left_ms = launch.work_ms
        lane.end_ms = np.inf
        if trips.steps[place].apart == 0:
            tenant.unfinished += 1
            return
        tenant.begin_ms = min(tenant.begin_ms, ready)
        t = ready + launch.work_ms
        if tenant.depth > 0:
            tables.ends[tenant.ends + number] = t
        place = trips.steps[place].next
    lane.head = -1
    lane.ready_ms = np.inf
    lane.end_ms = np.inf
    tenant.latest_ms = max(tenant.latest_ms, t)


@_compiled
def _trips(tenant: Any, trips: Trips, course: Any) -> None:
    """The host makes the next trip, from its head on, and those behind it as long as they need no turn."""
    steps, lanes = trips.steps, trips.lanes
    while tenant.done < tenant.planned:
        tenant.opened = 0
        tenant.unfinished = 0
        tenant.latest_ms = -np.inf
        place = tenant.head
        while True:
            if steps[place].opens == 1:
                tenant.opened += 1
                _front(tenant, lanes[tenant.lanes + tenant.opened - 1], place, -np.inf, trips)
            if place == tenant.last or not math.isnan(steps[place].wait_ms):
                break
            place += 1
        tenant.trip_last = place
        if tenant.unfinished > 0:
            break
        _back(tenant, trips, course)
    _head_ready(tenant, trips)


@_inline
def _head_ready(tenant: Any, trips: Trips) -> None:
    ready = np.inf
    if tenant.unfinished > 0:
        for k in range(tenant.lanes, tenant.lanes + tenant.opened):
            ready = min(ready, trips.lanes[k].ready_ms)
    tenant.ready_ms = ready


@_compiled
def _back(tenant: Any, trips: Trips, course: Any) -> None:
    """All of a trip is done: the host goes on behind its wait, with the iteration or with the next one."""
    step = trips.steps[tenant.trip_last]
    goes_on = tenant.latest_ms
    if not math.isnan(step.wait_ms):
        begins = tenant.submit_ms + step.wait_ms + tenant.shift_ms
        goes_on = max(begins, goes_on) + step.notice_ms
        tenant.shift_ms += goes_on - begins
    if tenant.trip_last < tenant.last:
        tenant.head = tenant.trip_last + 1
        return
    end = tenant.latest_ms
    _retire(tenant, end, goes_on, trips.tables)
    tenant.begin_ms = np.inf
    if tenant.done == tenant.planned:
        course.copied_ms = max(course.copied_ms, end)
        if course.stop_at_first == 1:
            course.horizon_ms = min(course.horizon_ms, end)


@_compiled
def _turn_of_lanes(tenant: Any, t: float, cut: float, trips: Trips, course: Any) -> tuple[float, int]:
    """As `_turn`, of a tenant with trips: the kernels at the front of its lanes run side by side."""
    began = t
    lanes = trips.lanes
    kind = YIELD
    while tenant.ready_ms <= t:
        if t >= cut:
            kind = PREEMPT
            break
        until = np.inf
        for k in range(tenant.lanes, tenant.lanes + tenant.opened):
            lane = lanes[k]
            if lane.ready_ms <= t and lane.end_ms == np.inf:
                lane.end_ms = t + lane.left_ms
                tenant.begin_ms = min(tenant.begin_ms, t)
            until = min(until, lane.end_ms if lane.ready_ms <= t else lane.ready_ms)
        if until > cut:
            t = cut
            kind = PREEMPT
            break
        t = until
        for k in range(tenant.lanes, tenant.lanes + tenant.opened):
            lane = lanes[k]
            if lane.end_ms == t:
                course.kernels += 1
                tenant.unfinished -= 1
                if tenant.depth > 0:
                    tables = trips.tables
                    begin = tables.listed[tenant.base + tables.pick[tenant.first + tenant.done]].first
                    tables.ends[tenant.ends + lane.head - begin] = t
                _front(tenant, lane, trips.steps[lane.head].next, t, trips)
        if tenant.unfinished > 0:
            _head_ready(tenant, trips)
        else:
            _back(tenant, trips, course)
            _trips(tenant, trips, course)
    for k in range(tenant.lanes, tenant.lanes + tenant.opened):
        lane = lanes[k]
        if lane.end_ms < np.inf:
            lane.left_ms = lane.end_ms - t
            lane.end_ms = np.inf
    tenant.busy_ms += t - began
    return t, kind


@_compiled
def _begin_trips(tenants: Any, trips: Trips, course: Any) -> None:
    for i in range(len(tenants)):
        if tenants[i].trips == 1:
            tenants[i].begin_ms = np.inf
            _trips(tenants[i], trips, course)


@_compiled
def _turn_of_either(tenant: Any, t: float, cut: float, trips: Trips, course: Any) -> tuple[float, int, bool]:
    if tenant.trips == 1:
        t, kind = _turn_of_lanes(tenant, t, cut, trips, course)
        return t, kind, False
    t, kind, over = _turn(tenant, t, cut, trips.tables, course)
    return t, kind, over


@_compiled
def _uncount(tenants: Any, end_ms: float, tables: Tables) -> None:
    """Copies were done ahead of time: iterations that ended with one after the simulation do not count."""
    for i in range(len(tenants)):
        while tenants[i].done > 0 and tables.out[tenants[i].first + tenants[i].done - 1, END] > end_ms:
            tenants[i].done -= 1


@_inline
def _begin(tenants: Any, tables: Tables) -> None:
    for i in range(len(tenants)):
        tenants[i].ready_ms = np.inf
        if tenants[i].planned > 0:
            _submit(tenants[i], 0.0 if tenants[i].open else tenants[i].start_ms, tables)


@_compiled
def run(tenants: Any, tables: Tables, trips: Trips | None, course: Any) -> None:
    """Runs until the horizon, or until a tenant or every tenant has done what was planned.

    ``tenants``, ``tables.out`` and ``course`` are changed in place. ``trips``: None where no tenant has any; what
    serves those is then not even compiled.
    """
    _begin(tenants, tables)
    if trips is not None:
        _begin_trips(tenants, trips, course)
    costs = tables.costs
    horizon = course.horizon_ms
    t = 0.0
    owner = -1
    kind = WAKE
    heir = -1
    over = False
    while t < horizon and not over:
        best, runnable, soonest = _others(tenants, owner, t)
        if kind == YIELD and heir >= 0:
            best = heir
        mine = np.inf if owner < 0 else tenants[owner].ready_ms
        stays = kind == WAKE and mine <= t  # its context is still loaded
        if best < 0 and mine > t:  # idle until somebody queues a kernel
            until = min(soonest, mine)
            if until == np.inf:
                until = min(max(course.copied_ms, t), horizon)
                course.idle_ms += until - t
                t = until
                break
            course.idle_ms += min(until, horizon) - t
            t = until
            kind = WAKE
            continue
        if not stays:
            if owner >= 0:
                cost = costs[kind, min(runnable, costs.shape[1]) - 1]
                course.switch_ms += min(t + cost, horizon) - t
                course.switches[kind] += 1
                t += cost
            owner = best
        heir = -1
        if tenants[owner].settles == 1:
            heir, _, _ = _others(tenants, owner, t)
        cut = min(_cut(tenants, owner, t, course.at_once), horizon)
        if trips is None:
            t, kind, over = _turn(tenants[owner], t, cut, tables, course)
        else:
            t, kind, over = _turn_of_either(tenants[owner], t, cut, trips, course)
            horizon = course.horizon_ms
    course.end_ms = min(t, horizon)
    if trips is not None:
        _uncount(tenants, course.end_ms, tables)
