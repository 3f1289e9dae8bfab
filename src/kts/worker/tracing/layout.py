"""What lies in shared memory between a traced program and the worker; ``native/layout.h`` says the same in C.

In the trace folder: one ``control`` file, made by the worker before the program starts, and one ``*.ring`` per traced
process, made by the library in it. All times are CLOCK_MONOTONIC nanoseconds. Little-endian.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

import numpy as np

VERSION = 1
"""Of both files. A library and a worker of different versions do not speak: the library stays out."""

CONTROL = np.dtype(
    [
        ("magic", "S8"),  # b"KTSCTRL\0"
        ("version", "<u4"),
        ("gate", "<u4"),  # futex word, shared: 0 open; else a thread that is about to hand work to the GPU waits
        ("level", "<u4"),  # Level; read when a process begins
        ("reserved", "<u4"),
        ("capacity", "<u8"),  # events that a ring holds, a power of two; read when a process begins
    ]
)
CONTROL_BYTES = 4096
CONTROL_MAGIC = b"KTSCTRL"

HEADER = np.dtype(
    {
        "names": [
            *("magic", "version", "event_bytes", "capacity", "pid", "state", "reason", "cupti", "level", "names_used"),
            *("began_ns", "program", "why", "head", "lost", "tail", "held", "holds", "held_ns", "calls"),
        ],
        "formats": [
            *("S8", "<u4", "<u4", "<u8", "<u4", "<u4", "<u4", "<u4", "<u4", "<u4"),
            *("<i8", "S256", "S256", "<u8", "<u8", "<u8", "<u4", "<u4", "<i8", "<u8"),
        ],
        "offsets": [
            *(0, 8, 12, 16, 24, 28, 32, 36, 40, 44),
            *(48, 64, 320, 1024, 1088, 1152, 1216, 1220, 1224, 1280),
        ],
        "itemsize": 4096,
    }
)
"""First page of a ring.

``state``: State. ``reason``: Reason, where the state is REFUSED, with ``why`` in words. ``cupti``: its API version.
``names_used``: bytes of the names' area in use. ``program``: argv[0] and what fits of the rest. ``head``: events that
were begun since the start (threads of the program add); ``lost``: what found no room; ``tail``: what the worker has
taken (it alone writes that). ``held``: threads that wait at the gate now; ``holds``, ``held_ns``: how often and how
long they have waited at it in all. ``calls``: calls seen, kept or lost.
"""
RING_MAGIC = b"KTSRING"
NAMES_OFFSET = 4096
NAMES_BYTES = 65536
"""Names of NVTX ranges: UTF-8, zero-terminated, one after the other; an event's ``detail`` is where one begins."""
NO_NAME = 2**64 - 1
EVENTS_OFFSET = NAMES_OFFSET + NAMES_BYTES

EVENT = np.dtype(
    [
        ("seq", "<u8"),  # 1 + number of the event since the start, written last: other than that, it is not whole
        ("begin_ns", "<i8"),  # the call began; of activity: the GPU began
        ("end_ns", "<i8"),  # it returned; the GPU ended
        ("kind", "<u2"),
        ("flags", "<u2"),
        ("thread", "<u4"),  # tid as the program's own namespace has it; 0 for activity
        ("stream", "<u8"),  # CUstream as a number (0: default stream; 1, 2: legacy, per thread); activity: stream id
        ("context", "<u4"),  # CUPTI's context id; 0: not said
        ("correlation", "<u4"),  # of the outermost call (runtime or driver), as activity records carry it
        ("inner", "<u4"),  # of the driver call nested in it, where there was one
        ("device", "<u4"),  # ordinal within the process, for activity
        ("detail", "<u8"),  # by kind
    ]
)
"""64 bytes, one cache line; in shared memory at ``EVENTS_OFFSET + 64 * ((seq - 1) % capacity)``."""


class Kind(IntEnum):
    """What an event is. ``detail`` in brackets."""

    LAUNCH = 1  # kernel launch call
    GRAPH = 2  # graph launch call
    COPY = 3  # copy call [bytes]
    SET = 4  # memset call [bytes]
    WAIT = 5  # stream, event, context or device synchronize [event handle, 0: a stream or all]
    RECORD = 6  # event record call [event handle]
    QUERY = 7  # stream or event query that answered "done" [event handle, 0: a stream]; "not yet" is not kept
    STREAM_WAIT = 8  # a stream was told to wait for an event [event handle]
    RANGE = 9  # NVTX range, from its begin to its end [name]
    HOST = 10  # host function handed to a stream
    KERNEL = 16  # activity: a kernel ran [graph node's launch correlation, 0: none]
    COPIED = 17  # activity: a copy ran [bytes]
    SETTLED = 18  # activity: a memset ran [bytes]


class Flag(IntFlag):
    """Of an event."""

    WAITED = 1  # the call returns only when the GPU has done it (synchronous copies)
    FAILED = 2  # the call returned an error
    ALL = 4  # of WAIT: everything of the context or device, not one stream or event
    TO_DEVICE = 8  # copies, where it is told
    TO_HOST = 16
    PAGEABLE = 32  # activity: host memory was pageable
    LEGACY = 64  # stream 0 is the legacy default stream (waits for others); else per thread


class Level(IntEnum):
    """How much is seen."""

    CALLS = 1  # calls only: for measuring
    KERNELS = 2  # activity records too: for profiling


class State(IntEnum):
    """Of a ring's process."""

    BEGUN = 0
    RECORDING = 1
    REFUSED = 2  # it runs on untouched; stays so at exit
    ENDED = 3  # said at exit; a process that is killed never says it


class Reason(IntEnum):
    """Why a process is not traced."""

    NONE = 0
    NO_CUPTI = 1  # no libcupti could be loaded
    OTHER_PROFILER = 2  # CUPTI has a subscriber already
    CUPTI_VERSION = 3  # CUPTI of another major version than was asked, or older than is understood
    CUPTI_ERROR = 4  # any other refusal, in CUPTI's words
    NO_MEMORY = 5  # no room for the ring
