"""The compiled loop of the simulator: one GPU, round robin among tenants with queued kernels. Model: docs/physics.md.

Only this module imports numba. Everything it reads and writes is an array that the caller made; nothing is
allocated inside. While a tenant is served nothing about the others changes except what is known already (when the
next kernel of each is queued), so a whole turn is simulated at once and its slice renewals cost nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np

TENANT = np.dtype(
    [
        ("first", "<i8"),  # of its iterations: place in the arrays by iteration (pick, pace, out)
        ("base", "<i8"),  # of its listed iterations: place in `listed`, which `pick` counts from
        ("planned", "<i8"),  # how many
        ("open", "<i8"),  # 1: `pace` holds due times; 0: think times
        ("depth", "<i8"),  # launches that fit into its queue; 0: any number
        ("ends", "<i8"),  # place in the scratch array of kernel ends, where there is a depth
        ("priority", "<i8"),
        ("settles", "<i8"),  # 1: who is next when its queue empties is settled when its turn begins
        ("slice_ms", "<f8"),
        ("start_ms", "<f8"),  # first submission of a closed loop
        # below: state
        ("done", "<i8"),  # iterations completed
        ("head", "<i8"),  # launch at the front of its queue, or the next to be queued
        ("last", "<i8"),  # last launch of the iteration
        ("begun", "<i8"),  # whether the iteration's first kernel has started
        ("ready_ms", "<f8"),  # when the head is queued
        ("left_ms", "<f8"),  # of the head kernel
        ("shift_ms", "<f8"),  # by how much a full queue has held the host back
        ("due_ms", "<f8"),
        ("submit_ms", "<f8"),
        ("begin_ms", "<f8"),
        ("busy_ms", "<f8"),
    ],
    align=True,
)
"""One tenant: what it is and how it stands."""

DUE, SUBMIT, BEGIN, END, RETIRE = range(5)
"""Columns of the output."""

PREEMPT, YIELD, WAKE = range(3)
"""Kinds of switches; rows of the cost table."""

COURSE = np.dtype(
    [
        ("horizon_ms", "<f8"),
        ("stop_at_first", "<i8"),  # 1: ends with the first tenant that has done all; 0: with the last
        ("at_once", "<i8"),  # 1: a higher priority takes the GPU when it is queued; 0: when the slice is over
        # below: what became of the time, and counts
        ("end_ms", "<f8"),  # when the simulation stopped
        ("switch_ms", "<f8"),
        ("idle_ms", "<f8"),
        ("switches", "<i8", (3,)),
        ("kernels", "<i8"),
    ],
    align=True,
)
"""One simulation: its rules, and its totals."""


class Tables(NamedTuple):
    """What the loop reads and writes besides the tenants.

    ``launches``: offset_ms, work_ms. ``listed``: first and last launch, retire_ms, per listed iteration. ``pick``,
    ``pace``, ``out`` (5 columns): one row per planned iteration of every tenant. ``costs``: (3, n) switch costs by
    kind and number of other runnable tenants, from 1; the last column holds beyond. ``ends``: scratch.
    """

    launches: Any
    listed: Any
    pick: Any
    pace: Any
    costs: Any
    ends: Any
    out: Any


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
def _retire(tenant: Any, t: float, tables: Tables) -> None:
    """The iteration's last kernel ended at ``t``: its record, and the next iteration if there is one."""
    k = tenant.first + tenant.done
    retire = t + tables.listed[tenant.base + tables.pick[k]].retire_ms
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
            _retire(tenant, t, tables)
            over = course.stop_at_first == 1 and tenant.done == tenant.planned
    tenant.busy_ms += max(t - began, 0.0)
    return t, kind, over


@_compiled
def run(tenants: Any, tables: Tables, course: Any) -> None:
    """Runs until the horizon, or until a tenant or every tenant has done what was planned.

    ``tenants``, ``tables.out`` and ``course`` are changed in place.
    """
    horizon = course.horizon_ms
    costs = tables.costs
    for i in range(len(tenants)):
        tenants[i].ready_ms = np.inf
        if tenants[i].planned > 0:
            _submit(tenants[i], 0.0 if tenants[i].open else tenants[i].start_ms, tables)
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
        t, kind, over = _turn(tenants[owner], t, cut, tables, course)
    course.end_ms = min(t, horizon)
