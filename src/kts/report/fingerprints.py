"""What a fingerprint says, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from kts.units import format_ms

if TYPE_CHECKING:
    from kts.physics.probe import Findings
    from kts.physics.values import Interval


def print_findings(findings: Findings, console: Console) -> None:
    """Its figures with their intervals, a line each, and what was noted meanwhile."""
    for line in _lines(findings):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def figure(interval: Interval) -> str:
    """``2.09 ms [2.08 ms, 2.10 ms]``."""
    return f"{format_ms(interval.value)} [{format_ms(interval.lo)}, {format_ms(interval.hi)}]"


def _lines(findings: Findings) -> list[str]:
    of = findings.fingerprint
    rows = [("time slice", figure(of.slice_ms), f"from {of.slices} turns")]
    rows += [
        (f"switch beside {n}", figure(cost), "a slice is over" if n == 1 else "")
        for n, cost in enumerate(of.preempt_ms, 1)
    ]
    rows += [("yielding", figure(of.yield_ms[0]), "a queue ran empty")]
    rows += [("waking", figure(cost), "idle, and another was there last") for cost in of.wake_ms]
    rows += [("between kernels", figure(of.launch_gap_ms), "both queued")]
    if of.timer_resolution_ns is not None:
        rows.append(("timer step", f"{of.timer_resolution_ns:g} ns", ""))
    text = [f"{of.gpu.label or of.gpu.name}, {of.mode}{f', driver {of.gpu.driver}' if of.gpu.driver else ''}"]
    text += [f"  {name:<18}{value:<34}{note}".rstrip() for name, value, note in rows]
    text += [f"  note: {note}" for note in findings.notes]
    return [*text, f"  {of.how}; 95 % intervals"]
