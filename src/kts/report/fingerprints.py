"""What a fingerprint says, and who is on a device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kts.report import document as doc
from kts.units import format_ms

if TYPE_CHECKING:
    from kts.physics.probe import Findings
    from kts.physics.values import Fingerprint, Interval


def findings_elements(findings: Findings) -> Iterator[doc.Element]:
    """Its figures with their intervals, a line each, and what was noted meanwhile."""
    of = findings.fingerprint
    driver = f", driver {of.gpu.driver}" if of.gpu.driver else ""
    yield doc.paragraph(f"{of.gpu.label or of.gpu.name}, {of.mode}{driver}")
    columns = (doc.Column("", "word"), doc.Column("", "word"), doc.Column("", "name", fold=0))
    yield doc.Table(columns, (tuple(_rows(of)),), gap=2)
    for note in findings.notes:
        yield doc.paragraph(f"note: {note}")
    yield doc.paragraph(f"{of.how}; 95 % intervals")


def presence_elements(sentence: str, *, measured: bool) -> Iterator[doc.Element]:
    """Who is on a device. ``measured``: its fingerprint was there to read the turns by."""
    yield doc.paragraph(sentence)
    if not measured:
        yield doc.paragraph("without a fingerprint of this device, its slice is taken from what was seen: kts probe")


def figure(interval: Interval) -> str:
    """``2.09 ms [2.08 ms, 2.10 ms]``."""
    return f"{format_ms(interval.value)} [{format_ms(interval.lo)}, {format_ms(interval.hi)}]"


def _rows(of: Fingerprint) -> Iterator[doc.Row]:
    yield "time slice", figure(of.slice_ms), f"from {of.slices} turns"
    for n, cost in enumerate(of.preempt_ms, 1):
        yield f"switch beside {n}", figure(cost), "a slice is over" if n == 1 else ""
    yield "yielding", figure(of.yield_ms[0]), "a queue ran empty"
    for cost in of.wake_ms:
        yield "waking", figure(cost), "idle, and another was there last"
    yield "between kernels", figure(of.launch_gap_ms), "both queued"
    if of.timer_resolution_ns is not None:
        yield "timer step", f"{of.timer_resolution_ns:g} ns", ""
