"""Pages of the kernel's ring buffers to events. Pure: what a page is, the kernel says in its own ``header_page`` and
``format`` files.

An event begins with a word: 5 bits of type, 27 bits of time since the event before it (ns, with the clock ``mono``).
Types 1 to 28 are data of so many words; 0 is data whose length is in the next word; the others are time and padding
(Linux: Documentation/trace/ring-buffer-design, include/linux/ring_buffer.h). All pages are walked side by side, a step
of each at a time, which costs the same for one page as for a thousand.
"""

from __future__ import annotations

import re
import sys
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]

_FIELD = re.compile(r"field:[^;]*?(\w+)(?:\[[^;\]]*\])?;\s*offset:(\d+);\s*size:(\d+);")
_ID = re.compile(r"^ID:\s*(\d+)", re.MULTILINE)
_BITS = re.compile(r"^\s*(type_len|time_delta)\s*:\s*(\d+) bits", re.MULTILINE)
_TYPES = re.compile(r"^\s*(padding|time_extend|time_stamp)\s*: type == (\d+)", re.MULTILINE)
_LARGEST = re.compile(r"data max type_len\s*== (\d+)")
_MISSED = 1 << 31
_COMMITTED = (1 << 27) - 1


class Where(NamedTuple):
    """A field of an event or page: bytes from its begin, and how many."""

    offset: int
    size: int


class EventFormat(NamedTuple):
    """What a ``format`` file says."""

    number: int
    fields: dict[str, Where]


class PageFormat(NamedTuple):
    """What ``header_page`` and ``header_event`` say."""

    timestamp: Where
    commit: Where
    data: Where
    padding: int
    time_extend: int
    time_stamp: int
    largest: int

    @property
    def page_bytes(self) -> int:
        """Of a whole page."""
        return self.data.offset + self.data.size


class Events(NamedTuple):
    """``ns``: when; ``at``: where the data of each begins, in bytes from the begin of all pages. By page, then by time.
    ``missed``: pages before which events were overwritten. ``torn``: pages whose content did not add up; what was read
    of them before that place is there."""

    ns: Ints
    at: Ints
    missed: int
    torn: int


def event_format(text: str) -> EventFormat:
    """ValueError where it is none."""
    if not (number := _ID.search(text)):
        raise ValueError("an event without a number")
    return EventFormat(int(number[1]), _fields(text))


def page_format(header_page: str, header_event: str) -> PageFormat:
    """ValueError where the kernel describes something else than what is read here."""
    fields, types = _fields(header_page), {name: int(value) for name, value in _TYPES.findall(header_event)}
    bits, largest = dict(_BITS.findall(header_event)), _LARGEST.search(header_event)
    try:
        found = PageFormat(
            fields["timestamp"],
            fields["commit"],
            fields["data"],
            types["padding"],
            types["time_extend"],
            types["time_stamp"],
            int(largest[1]) if largest else -1,
        )
    except KeyError as error:
        raise ValueError(f"no {error} in what the kernel says of its pages") from error
    known = bits == {"type_len": "5", "time_delta": "27"} and found.largest > 0 and sys.byteorder == "little"
    if not known or found.timestamp.size != 8 or found.data.offset % 4 or found.data.size % 4:
        raise ValueError("the kernel's pages are of a kind that is not known here")
    return found


def _fields(text: str) -> dict[str, Where]:
    return {name: Where(int(offset), int(size)) for name, offset, size in _FIELD.findall(text)}


def events(pages: Bytes, form: PageFormat) -> Events:
    """All events of ``pages``, shape (pages, `PageFormat.page_bytes`), contiguous."""
    count = len(pages)
    flat = pages.reshape(-1)
    base = np.arange(count, dtype=np.int64) * form.page_bytes
    ns = value(flat, base, form.timestamp)
    commit = value(flat, base, form.commit)
    words = flat.view("<u4")
    limit = form.data.size
    end = (base + form.data.offset + np.minimum(commit & _COMMITTED, limit)) // 4
    at = (base + form.data.offset) // 4
    page = np.arange(count)
    torn = int(((commit & _COMMITTED) > limit).sum())
    found: list[tuple[Ints, Ints, Ints]] = []
    last = len(words) - 1
    while True:
        going = at < end
        if not going.all():
            at, end, ns, page = at[going], end[going], ns[going], page[going]
        if not len(at):
            break
        head = words[at].astype(np.int64)
        kind, delta = head & 31, head >> 5
        plain = (kind > 0) & (kind <= form.largest)
        if plain.all() and (at + kind < end).all():  # nearly always; what follows does the same for all kinds
            ns = ns + delta
            found.append((ns, at + 1, page))
            at = at + kind + 1
            continue
        second = words[np.minimum(at + 1, last)].astype(np.int64)
        is_data, is_padding = plain | (kind == 0), kind == form.padding
        extended, stamped = kind == form.time_extend, kind == form.time_stamp
        length = np.where(plain, 1 + kind, np.where((kind == 0) | is_padding, 1 + (second + 3) // 4, 2))
        ended = is_padding & (delta == 0)  # the rest of the page is empty
        whole = ~ended & (at + length <= end) & (is_data | is_padding | extended | stamped)
        torn += int((~whole & ~ended).sum())
        step = np.where(extended, (second << 27) + delta, np.where(is_padding & (delta == 1), 0, delta))
        ns = np.where(stamped, (ns >> 59 << 59) | ((second << 27) + delta), ns + step)
        if (taken := whole & is_data).any():
            found.append((ns[taken], (at + np.where(kind == 0, 2, 1))[taken], page[taken]))
        at = np.where(whole, at + length, end)
    missed = int((commit & _MISSED != 0).sum())
    if not found:
        return Events(np.empty(0, np.int64), np.empty(0, np.int64), missed, torn)
    all_ns, all_at, of = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.argsort(of.astype(np.uint16), kind="stable")  # of 16 bits it sorts without comparing
    return Events(all_ns[order], 4 * all_at[order], missed, torn)


def value(flat: Bytes, at: Ints, where: Where) -> Ints:
    """The field of each event whose data begins ``at`` (a multiple of 4): whole numbers of 1, 2, 4 or 8 bytes, without
    sign below 8. What would lie beyond the end of ``flat`` reads as what lies before it. ValueError for a field that is
    of another size or crosses words."""
    words, within = flat.view("<u4"), where.offset % 4
    if where.size not in {1, 2, 4, 8} or (within + where.size > 4 and (within or where.size != 8)):
        raise ValueError(f"a number of {where.size} bytes at {where.offset}")
    first = np.minimum((at + where.offset) // 4, len(words) - max(1, where.size // 4))
    low: Ints = words[first].astype(np.int64)
    if where.size == 8:
        low |= words[first + 1].astype(np.int64) << 32
        return low
    low >>= 8 * within
    low &= (1 << 8 * where.size) - 1
    return low
