"""A followed log becomes records without a gap, or an honest word on what is missing."""

from __future__ import annotations

import pytest
from tests.helpers_log import META, T0, framed_log, stamped

from kts.k8s.follow.logreader import LONGEST_LINE_BYTES, LogReader


def reader_of(lines: list[bytes]) -> LogReader:
    """A reader that was fed these lines."""
    reader = LogReader("fft")
    reader.connected()
    for line in lines:
        reader.feed(line)
    return reader


def test_a_whole_log_is_whole() -> None:
    """Else every run would end as incomplete."""
    lines = framed_log(30)
    reader = reader_of(stamped(lines))
    assert (reader.problem(), reader.whole, reader.hopeless, reader.healed) == ("", True, False, 0)
    records = reader.take()
    assert records["i"].tolist() == list(range(30))
    assert records["submit_ns"][3] == T0 + 30_000_000
    assert records["device_ms"][29] == pytest.approx(0.529)
    assert reader.meta == META
    assert len(reader.take()) == 0


def test_what_is_kept_is_what_was_printed() -> None:
    """Else the log in the run directory would not be the evidence that it is taken for."""
    lines = framed_log(30)
    kept = reader_of(stamped(lines)).take_lines().decode().splitlines(keepends=True)
    assert kept == [line for n, line in enumerate(lines) if line not in lines[:n]]  # the trailer comes twice


def test_a_line_that_was_lost_once_is_taken_from_its_echo_and_nothing_is_handed_out_before() -> None:
    """Else a rotation of the log would cost the block, or records would come out of order."""
    lines = stamped(framed_log(30))
    reader = LogReader("fft")
    for line in lines:
        if b"KTS_APP,v1,FFT,7," not in line:
            reader.feed(line)
            if b"KTS_APP,v1,FFT,8," in line:
                assert reader.take()["i"].tolist() == list(range(7))
    assert (reader.problem(), reader.healed) == ("", 1)
    assert reader.take()["i"].tolist() == list(range(7, 30))


def test_a_log_of_which_the_beginning_is_gone_is_whole_again_after_the_lag() -> None:
    """Else a tenant that fills its log before anybody reads it would lose header and block."""
    reader = reader_of(stamped(framed_log(30))[4:])
    assert (reader.problem(), reader.healed, reader.meta) == ("", 3, META)


def test_a_line_that_was_lost_twice_is_named_as_soon_as_that_is_certain() -> None:
    """Else a hole in the data would pass, or be found out hours later."""
    reader = LogReader("fft")
    lines = [line for line in stamped(framed_log(30)) if b",v1,FFT,7," not in line]
    seen_at = next(line for line in lines if reader.feed(line) or reader.hopeless)
    assert b"KTS_ECHO,v1,FFT,8," in seen_at
    assert "iteration 7" in reader.problem()


def test_reading_all_of_it_again_fills_what_was_lost() -> None:
    """Else one bad connection would cost what the node still has."""
    lines = stamped(framed_log(30))
    reader = reader_of([line for line in lines if b",v1,FFT,7," not in line])
    assert reader.hopeless
    before = reader.take_lines()
    reader.connected()
    reader.feed(b"".join(lines))
    assert reader.problem() == ""
    again = reader.take_lines()
    assert again.count(b"\n") == 1
    assert again.startswith(b"KTS_APP,v1,FFT,7,")
    assert b",FFT,7," not in before


@pytest.mark.parametrize(
    ("lost", "problem"),
    [
        (("KTS_META",), "no header"),
        (("KTS_END",), "no trailer"),
        (("KTS_APP,v1,FFT,29,", "KTS_ECHO,v1,FFT,29,"), "iteration 29 is missing"),
        (("KTS_APP,v1,FFT,0,", "KTS_ECHO,v1,FFT,0,"), "iteration 0 is missing"),
    ],
)
def test_what_is_missing_is_named(lost: tuple[str, ...], problem: str) -> None:
    """Else a log without its end would be taken for whole."""
    lines = [line for line in framed_log(30) if not line.startswith(lost)]
    assert problem in reader_of(stamped(lines)).problem()


def test_a_changed_line_is_found_out_by_the_checksum() -> None:
    """Else figures could be changed on the way."""
    lines = [line.replace("0.507000", "0.407000") for line in framed_log(30)]
    assert "checksum" in reader_of(stamped(lines)).problem()


def test_more_than_was_announced_is_no_whole_log() -> None:
    """Else lines of another program could be taken for the worker's."""
    lines = framed_log(31)
    short = [*framed_log(30), *(line for line in lines if line.startswith(("KTS_APP,v1,FFT,30", "KTS_ECHO,v1,FFT,30")))]
    assert "31 iterations, and its trailer says 30" in reader_of(stamped(short)).problem()


def test_a_worker_that_was_started_twice_is_found_out() -> None:
    """Else two halves would be taken for one measurement."""
    import msgspec

    first, second = framed_log(5), framed_log(5, meta=msgspec.structs.replace(META, pid=8))
    assert "started twice" in reader_of(stamped([*first, *second])).problem()


def test_lines_of_others_are_kept_and_the_last_error_is_remembered() -> None:
    """Else nobody would know why a worker died."""
    lines = [*framed_log(5)[:3], "Traceback\n", "error: fft is out of memory\n", "  try: less\n"]
    reader = reader_of(stamped(lines))
    assert reader.last_words() == "error: fft is out of memory"
    assert b"Traceback\n" in reader.take_lines()


def test_a_line_without_end_stays_bounded() -> None:
    """Else a tenant that prints no line end would fill this machine's memory."""
    reader = LogReader("fft")
    for _ in range(100):
        reader.feed(b"x" * LONGEST_LINE_BYTES)
    reader.feed(b"\n" + b"".join(stamped(framed_log(3))))
    assert len(reader.take_lines()) < 2 * LONGEST_LINE_BYTES
    assert reader.problem() == ""
