"""Pages of the kernel's rings, as an independent writer of ours makes them."""

from __future__ import annotations

import random
import struct

import numpy as np
import pytest
from tests import helpers_tracefs as kernel

from kts.watch.source.pages import Bytes, Where, event_format, events, page_format, value

FORM = page_format(kernel.HEADER_PAGE, kernel.HEADER_EVENT)


def as_pages(raw: bytes) -> Bytes:
    return np.frombuffer(raw, np.uint8).reshape(-1, FORM.page_bytes).copy()


def random_rows(seed: int) -> list[tuple[int, bytes]]:
    """Gaps from 0 to minutes, data from 8 bytes to many."""
    rng = random.Random(seed)
    ns, rows = rng.randrange(10**15), []
    for _ in range(rng.randrange(1, 900)):
        ns += rng.choice((0, 1, 900, 10**5, 2**27 - 1, 2**27, 2**27 + 5, 10**11))
        size = rng.choice((8, 16, 24, 24, 24, 60, 112, 116, 400))
        rows.append((ns, rng.randbytes(size)))
    return rows


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_all_events_come_out_as_they_went_in(seed: int, absolute: bool) -> None:
    """Else calls would be missing, or have other times."""
    rows = random_rows(seed)
    pages = as_pages(kernel.pages(rows, absolute=absolute))
    got = events(pages, FORM)
    assert got.ns.tolist() == [ns for ns, _ in rows]
    flat = pages.reshape(-1)
    assert [flat[at : at + len(data)].tobytes() for at, (_, data) in zip(got.at, rows, strict=True)] == [
        d for _, d in rows
    ]
    assert (got.missed, got.torn) == (0, 0)


def test_discarded_events_pass_by_and_their_time_counts() -> None:
    """Else a filter's leavings would be calls, or shift the time of those behind them."""
    one, other = kernel.entry(7, 1), kernel.entry(8, 1)
    body = struct.pack("<I", 4 | 0 << 5) + one
    body += struct.pack("<II", 29 | 500 << 5, 12) + bytes(8)  # its length counts all but the first word
    body += struct.pack("<II", 29 | 1 << 5, 4)  # of no time: the kernel writes 1 for 0
    body += struct.pack("<I", 4 | 20 << 5) + other
    page = struct.pack("<QQ", 1000, len(body)) + body
    got = events(as_pages(page + bytes(4096 - len(page))), FORM)
    assert got.ns.tolist() == [1000, 1520]
    assert got.torn == 0


def test_overwritten_events_show_on_the_page() -> None:
    """Else a full ring would pass for a quiet program."""
    got = events(as_pages(kernel.pages([(5, kernel.entry(7, 1))] * 400, missed=True)), FORM)
    assert (got.missed, len(got.ns)) == (1, 400)


@pytest.mark.parametrize("seed", range(40))
def test_pages_that_do_not_add_up_end_nothing(seed: int) -> None:
    """Else a kernel with a fault would end the watch, or hold it for ever."""
    rng = np.random.default_rng(seed)
    pages = as_pages(kernel.pages(random_rows(seed)))
    for _ in range(20):
        pages[rng.integers(len(pages)), rng.integers(FORM.page_bytes)] = rng.integers(256)
    got = events(pages, FORM)
    assert len(got.ns) == len(got.at)
    assert (got.at < pages.size).all()
    value(pages.reshape(-1), got.at, Where(8, 8))


def test_another_layout_is_read_where_the_kernel_says_that_it_is() -> None:
    """Else 32-bit kernels, other page sizes and later kernels would be read by numbers of this one's."""
    narrow = kernel.HEADER_PAGE.replace("offset:8;\tsize:8", "offset:8;\tsize:4").replace("offset:16", "offset:12")
    form = page_format(narrow, kernel.HEADER_EVENT)
    body = struct.pack("<I", 4 | 0 << 5) + kernel.entry(7, 1)
    page_bytes = struct.pack("<QI", 77, len(body)) + body
    pages = np.frombuffer(page_bytes + bytes(form.page_bytes - len(page_bytes)), np.uint8).reshape(1, -1).copy()
    assert events(pages, form).ns.tolist() == [77]


@pytest.mark.parametrize(
    ("page", "event"),
    [
        ("", kernel.HEADER_EVENT),
        (kernel.HEADER_PAGE, ""),
        (kernel.HEADER_PAGE, kernel.HEADER_EVENT.replace("27 bits", "26 bits")),
        (kernel.HEADER_PAGE.replace("timestamp", "time"), kernel.HEADER_EVENT),
    ],
)
def test_a_layout_that_is_not_known_is_refused(page: str, event: str) -> None:
    """Else its pages would be read as noise."""
    with pytest.raises(ValueError, match="pages"):
        page_format(page, event)


def test_fields_are_where_the_format_says() -> None:
    """Else they would be read where another kernel has them."""
    form = event_format("name: x\nID: 9\nformat:\n\tfield:char comm[16];\toffset:12;\tsize:16;\tsigned:0;\n")
    assert form == (9, {"comm": Where(12, 16)})
    with pytest.raises(ValueError, match="number"):
        event_format("name: x")
