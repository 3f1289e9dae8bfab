"""However a log is chopped, lost and read again: the records are right, or the loss is named."""

from __future__ import annotations

import itertools

from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.helpers_log import framed_log, stamped

from kts.k8s.follow.logreader import LogReader

N, PERIOD_MS, LAG_MS = 60, 10.0, 95.0
"""Iterations, their distance, and how much later each is printed again (95 ms: between the tenth and the eleventh)."""
LINES = stamped(framed_log(N, echo_s=LAG_MS / 1000, period_ms=PERIOD_MS))
TEXT = b"".join(LINES)


def whole(reader: LogReader) -> bool:
    """True if every record is there, in order; asserts that nothing else is claimed."""
    numbers = reader.take()["i"].tolist()
    assert numbers == list(range(len(numbers)))
    if reader.problem():
        return False
    assert len(numbers) == N
    return True


def pieces(cuts: list[int], text: bytes) -> list[bytes]:
    """The text cut at these places."""
    edges = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[a:b] for a, b in itertools.pairwise(edges)]


@settings(deadline=None)
@given(st.lists(st.integers(0, len(TEXT)), max_size=40))
def test_any_chopping_gives_the_same(cuts: list[int]) -> None:
    """Else records would depend on how the network cuts them."""
    reader = LogReader("fft")
    for piece in pieces(cuts, TEXT):
        reader.feed(piece)
    assert whole(reader)


def is_iteration(line: bytes, kind: str, i: int) -> bool:
    """Whether the line is that of iteration ``i``, or its echo."""
    return f" KTS_{kind},v1,FFT,{i},".encode() in line


@settings(deadline=None)
@given(st.integers(0, len(LINES) - 1), st.integers(0, 40))
@example(first=5, count=8)
@example(first=0, count=8)
def test_a_window_is_healed_exactly_if_no_line_is_lost_with_its_echo(first: int, count: int) -> None:
    """Else a rotation would cost records, or a loss would pass."""
    lost, left = LINES[first : first + count], LINES[:first] + LINES[first + count :]
    reader = LogReader("fft")
    for line in left:
        reader.feed(line)
    twice = any(
        any(is_iteration(line, "APP", i) for line in lost) and any(is_iteration(line, "ECHO", i) for line in lost)
        for i in range(N)
    )
    framed = all(any(frame in line for line in left) for frame in (b" KTS_META,", b" KTS_END,"))
    assert whole(reader) is (framed and not twice)


@settings(deadline=None)
@given(st.integers(0, N - 11))
def test_a_window_shorter_than_the_lag_is_healed_and_a_longer_one_named(start: int) -> None:
    """Else the lag would not be what heals."""
    first = next(n for n, line in enumerate(LINES) if is_iteration(line, "APP", start))
    echo = next(n for n, line in enumerate(LINES) if is_iteration(line, "ECHO", start))
    for last, heals in ((echo, True), (echo + 1, False)):
        reader = LogReader("fft")
        for line in LINES[:first] + LINES[last:]:
            reader.feed(line)
        assert whole(reader) is heals


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(LINES)), st.integers(0, 30)), max_size=6), st.integers(0, 5))
def test_a_connection_lost_anywhere_and_made_anew_changes_nothing(breaks: list[tuple[int, int]], torn: int) -> None:
    """Else an API server that was away would cost or double records."""
    reader = LogReader("fft")
    at = 0
    for until, back in sorted(breaks):
        reader.connected()
        for line in LINES[at:until]:
            reader.feed(line)
        if until < len(LINES):
            reader.feed(LINES[until][:torn])
        at = max(0, min(until, len(LINES)) - back)
    reader.connected()
    for line in LINES[at:]:
        reader.feed(line)
    assert whole(reader)
    assert sorted(reader.take_lines().splitlines()) == sorted(
        {line.split(b" ", 1)[1].rstrip(b"\n"): None for line in LINES}
    )


@settings(deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=20))
@example(
    [b"KTS_META,v1,{}\n", b"KTS_END,v1,FFT,1,00000000\n", b"9999-99-99T99:99:99Z KTS_APP,v1,FFT,0,1,2,0.000000,\n"]
)
@example([b"KTS_ECHO,v1,FFT,4294967295,1,2,0.000000\n", b"0000-01-01T00:00:00Z x\n", b"9999-12-31T23:59:59-23:59 x\n"])
def test_bytes_of_any_kind_never_raise(data: list[bytes]) -> None:
    """Else a tenant could end the run with what it prints."""
    reader = LogReader("fft")
    for piece in data:
        reader.feed(piece)
        reader.connected()
        reader.feed(piece)
    assert reader.problem()
    reader.take()
    reader.take_lines()
    reader.last_words()


frames = st.sampled_from(["KTS_APP,v1,", "KTS_ECHO,v1,", "KTS_END,v1,", "KTS_META,v1,"])
fields = st.lists(st.sampled_from(["FFT", "0", "1", "7", "4294967295", "99999999999", "0.500000", "nan", "{", ""]))


@settings(deadline=None)
@given(st.lists(st.tuples(frames, fields), max_size=30))
def test_lines_that_look_like_ours_never_raise(lines: list[tuple[str, list[str]]]) -> None:
    """Else a damaged line could end the run with a traceback."""
    reader = LogReader("fft")
    for frame, rest in lines:
        reader.feed((frame + ",".join(rest) + "\n").encode())
    assert reader.problem()
    numbers = reader.take()["i"].tolist()
    assert numbers == list(range(len(numbers)))
