"""Good lines in any combination of wrappers are the same iterations; nothing that means to be one goes unseen."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.test_wire_applines import JSON, WRAPPERS, wrapped

from kts.wire.appline import AppLine, format_line
from kts.wire.applines import AppLines

LINES = st.builds(
    AppLine,
    app=st.from_regex(r"[A-Za-z0-9_.-]{1,64}", fullmatch=True),
    i=st.integers(0, 2**32 - 1),
    start_ns=st.integers(0, 2**62),
    end_ns=st.integers(2**62, 2**63 - 1),
    device_ms=st.integers(0, 10**9).map(lambda us: us / 1e3),
    phase=st.sampled_from(["", "solo", "warm-up", "round 3"]),
)
CARRIERS = ("kubectl --timestamps", "kubectl --prefix", "CRI", "syslog", "journald short", "docker", "journald")
ENDS = st.sampled_from(["\n", "\r\n", "\r\r\n", " \n"])


@given(
    st.lists(LINES, min_size=1, max_size=5),
    st.sampled_from([*WRAPPERS, *JSON]),
    st.lists(st.sampled_from(CARRIERS), max_size=3),
    ENDS,
)
def test_wrapping_changes_no_iteration(lines: list[AppLine], inner: str, outer: list[str], end: str) -> None:
    """What a tool puts around a line would change what was measured."""
    reader = AppLines()
    found = []
    for line in lines:
        text = wrapped(format_line(line), inner)
        for name in outer:
            text = wrapped(text, name)
        found += [said.what for said in reader.read(text + end) or []]
    assert found == lines


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=20),
    st.text(st.sampled_from("0123456789.,;eE+-nanNA \tusm\r"), max_size=60),
    st.sampled_from(["", "\n"]),
)
def test_what_begins_as_an_iteration_is_always_told(before: str, after: str, end: str) -> None:
    """A line would be neither read nor counted. (A keeper's partial line is told at the stream's end.)"""
    reader = AppLines()
    first = reader.read(f"{before}KTS_APP,{after}{end}")
    assert first or reader.rest()
