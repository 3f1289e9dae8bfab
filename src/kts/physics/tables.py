"""The arrays that the compiled loop reads and writes: tenants, their launches, the course of a simulation."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

LAUNCH = np.dtype([("offset_ms", "<f8"), ("work_ms", "<f8")], align=True)
"""As in the profile: without the gap behind it."""

LISTED = np.dtype(
    [
        ("first", "<i8"),  # launch
        ("last", "<i8"),
        ("trip", "<i8"),  # the first one, where there are trips
        ("retire_ms", "<f8"),
    ],
    align=True,
)
"""A listed iteration."""

TRIP = np.dtype(
    [
        ("last", "<i8"),  # launch
        ("wait_ms", "<f8"),  # NaN: the host goes on at once
        ("notice_ms", "<f8"),
        ("heads", "<i8"),  # place in `heads`: the first launch of each of its lanes
        ("lanes", "<i8"),
    ],
    align=True,
)
"""What is launched from one wait to the next."""

STEP = np.dtype(
    [
        ("further", "<i4"),  # so many places on is the lane's next launch of the same trip; 0: none
        ("apart", "<i2"),  # 1: a copy engine does it
        ("lane", "<i2"),
    ],
    align=True,
)
"""What a launch is beyond `LAUNCH`."""

LANE = np.dtype(
    [
        ("head", "<i8"),  # the kernel at its front; -1: none is left in this trip
        ("ready_ms", "<f8"),  # when that is queued, with nothing before it
        ("left_ms", "<f8"),  # of it
        ("end_ms", "<f8"),  # when it will end; infinity: it does not run
        ("queued_ms", "<f8"),  # when its host queued it; minus infinity: it has begun
        ("lane", "<i8"),  # which one of its process
    ],
    align=True,
)
"""One lane of a tenant in its present trip."""

TENANT = np.dtype(
    [
        ("first", "<i8"),  # of its iterations: place in the arrays by iteration (pick, pace, out)
        ("base", "<i8"),  # of its listed iterations: place in `listed`, which `pick` counts from
        ("planned", "<i8"),  # how many
        ("open", "<i8"),  # 1: `pace` holds due times; 0: think times
        ("depth", "<i8"),  # launches that fit into its queue; 0: any number
        ("ends", "<i8"),  # place in the scratch array of kernel ends, where there is a depth
        ("priority", "<i8"),
        ("trips", "<i8"),  # 1: its iterations have waits or copies, and are served trip by trip; 2: lanes, too; 3: its
        # threads have iterations, each of its own
        ("threads", "<i8"),  # then: place of the first of these in the array of threads
        ("members", "<i8"),  # and how many
        ("lanes", "<i8"),  # place in the scratch array of lanes, where it has several
        ("settles", "<i8"),  # 1: who is next when its queue empties is settled when its turn begins
        ("slice_ms", "<f8"),
        ("start_ms", "<f8"),  # first submission of a closed loop
        ("host", "<f8"),  # its host's times are so many times those listed
        ("gap_ms", "<f8"),  # behind a kernel that is not its lane's last of the trip
        # below: state
        ("done", "<i8"),  # iterations completed
        ("head", "<i8"),  # launch at the front of its queue, or the next to be queued
        ("begins", "<i8"),  # first launch of the iteration
        ("last", "<i8"),  # last launch of the iteration
        ("ready_ms", "<f8"),  # when the head is queued
        ("left_ms", "<f8"),  # of the head kernel
        ("shift_ms", "<f8"),  # by how much waits and a full queue have held the host back
        ("due_ms", "<f8"),
        ("submit_ms", "<f8"),
        ("begin_ms", "<f8"),  # of the iteration's first launch; infinity: not yet
        ("busy_ms", "<f8"),
        # since its turn began: when the next kernel is queued of another tenant
        ("equal_ms", "<f8"),  # of no lower priority
        ("higher_ms", "<f8"),  # of a higher one
        ("soonest_ms", "<f8"),  # of any
        # of a tenant with trips
        ("trip", "<i8"),  # the present one
        ("trip_last", "<i8"),  # last launch of the trip
        # of a tenant with lanes
        ("opened", "<i8"),  # lanes that the trip uses
        ("unfinished", "<i8"),  # of these: how many hold a kernel
        ("latest_ms", "<f8"),  # when the last of those that are done was done
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
        ("horizon_ms", "<f8"),  # falls to the end of what a tenant has done all with, if that ends it
        ("stop_at_first", "<i8"),  # 1: ends with the first tenant that has done all; 0: with the last
        ("at_once", "<i8"),  # 1: a higher priority takes the GPU when it is queued; 0: when the slice is over
        ("in_line", "<i8"),  # 1: kernels in the order in which they could run, none interrupted; 0: turns
        # below: what became of the time, and counts
        ("end_ms", "<f8"),  # when the simulation stopped
        ("switch_ms", "<f8"),
        ("idle_ms", "<f8"),
        ("ended_ms", "<f8"),  # the latest end of all that a tenant had planned
        ("switches", "<i8", (3,)),
        ("kernels", "<i8"),
    ],
    align=True,
)
"""One simulation: its rules, and its totals."""


class Tables(NamedTuple):
    """What the loop reads and writes besides the tenants.

    ``launches``: `LAUNCH`. ``listed``: `LISTED`, per listed iteration. ``pick``,
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


class TripTables(NamedTuple):
    """The tables, and what else is needed where a tenant has trips.

    ``steps``: `STEP`, per launch; of tenants without trips, not set. ``trips``: `TRIP`. ``heads``: of launches.
    ``lanes``: `LANE`, scratch. ``threads``: `TENANT`, of processes with several, each with its own iterations.
    """

    tables: Tables
    steps: Any
    trips: Any
    heads: Any
    lanes: Any
    threads: Any
