"""A state that changes, on terminals and elsewhere."""

from __future__ import annotations

import io

from rich.console import Console
from tests.helpers_watch import estimate, state, three, watched

from kts.report.screen import PLAIN_INTERVAL_S, Screen

ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"


class Seconds:
    """A clock that only the test moves."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def console(*, terminal: bool, height: int = 24) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=80, height=height, legacy_windows=False)


def text(of: Console) -> str:
    assert isinstance(of.file, io.StringIO)
    return of.file.getvalue()


def test_a_terminal_is_given_back_as_it_was() -> None:
    """Else what stood there before would be gone, also where watching ends in an error."""
    out = console(terminal=True)
    try:
        with Screen(out, endless=True) as screen:
            screen(three())
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    told = text(out)
    assert told.index(ENTER) < told.index("shop/api/main") < told.index(LEAVE)
    assert screen.last == three()


def test_a_picture_is_no_higher_than_the_terminal() -> None:
    """Else its first lines, which say who pays most, would scroll out of sight."""
    out = console(terminal=True, height=24)
    units = [watched(f"p{k}", df99=estimate(1.5), waits_for={"x": 5.0}) for k in range(64)]
    with Screen(out, endless=True) as screen:
        before = len(text(out))
        screen(state(*units))
        drawn = text(out)[before:]
    assert "pays most" in drawn
    assert len(drawn.splitlines()) <= 25


def test_a_log_gets_a_table_now_and_then() -> None:
    """Else a pod's log would be flooded, or stay empty."""
    out, clock = console(terminal=False), Seconds()
    with Screen(out, endless=True, now_s=clock) as screen:
        for clock.now_s in (0.0, 1.0, PLAIN_INTERVAL_S - 0.1, PLAIN_INTERVAL_S, PLAIN_INTERVAL_S + 1):
            screen(three())
    assert text(out).count("pays most") == 2
    assert "\x1b" not in text(out)


def test_a_log_of_a_watch_that_ends_has_its_end_alone() -> None:
    """Else a program that reads the table would get several."""
    out = console(terminal=False)
    with Screen(out, endless=False) as screen:
        screen(three())
    assert text(out) == ""
