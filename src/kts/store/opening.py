"""In which order a run's tenants opened the device."""

from __future__ import annotations

from pathlib import Path

import msgspec

from kts.store import layout


class _Event(msgspec.Struct):
    kind: str = ""
    tenant: str = ""


_decoder = msgspec.json.Decoder(_Event)


def opening_order(directory: Path) -> tuple[str, ...]:
    """Tenants, first to last, as events.jsonl has it; empty where it has nothing or is not there.

    A time-sliced GPU serves its contexts in the order in which they were made. Those that opened within the same
    few milliseconds may have made theirs the other way round.
    """
    try:
        lines = (directory / layout.EVENTS).read_bytes().splitlines()
    except OSError:
        return ()
    found: dict[str, None] = {}
    for line in lines:
        try:
            event = _decoder.decode(line)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            continue  # a torn or damaged line: the rest still counts
        if event.kind == "opened" and event.tenant:
            found[event.tenant] = None
    return tuple(found)
