"""Ctrl-C while a run on a cluster is followed."""

from __future__ import annotations

import math
import signal
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from kts.k8s.follow import interrupts as interrupts_module
from kts.k8s.follow.interrupts import ENDING_S, Interrupts

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def _heard() -> Iterator[None]:
    """As in a terminal: where the tests run in the background SIGINT may be ignored."""
    former = {number: signal.signal(number, signal.default_int_handler) for number in SIGNALS}
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_one_waits_for_a_pause_and_the_second_does_not(number: signal.Signals) -> None:
    """Else Ctrl-C could hit the midst of a write, or a library that swallows it; or nobody could insist."""
    former = signal.getsignal(number)
    with Interrupts() as interrupts:
        assert interrupts.left_s() == math.inf
        signal.raise_signal(number)  # nothing is raised here
        with pytest.raises(KeyboardInterrupt):
            interrupts.pause(60)
        interrupts.pause(0)  # told once
        assert (interrupts.came, interrupts.insisted) == (True, False)
        assert 0 < interrupts.left_s() < ENDING_S
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert interrupts.insisted
    assert signal.getsignal(number) is former


def blocked() -> float:
    """Waits for what never comes, as for a server that hangs; seconds until KeyboardInterrupt ended it."""
    ours, theirs = socket.socketpair()
    began = time.monotonic()
    with ours, theirs, pytest.raises(KeyboardInterrupt):
        ours.recv(1)
    return time.monotonic() - began


def test_a_thread_that_is_blocked_is_woken_and_again_when_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a server that hangs would keep the command for longer than anybody waits."""
    monkeypatch.setattr(interrupts_module, "SAFE_S", 0.1)
    monkeypatch.setattr(interrupts_module, "ENDING_S", 0.8)  # less what is kept for saying so: 0.3
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGTERM)
        assert blocked() >= 0.05
        assert not interrupts.insisted
        assert blocked() >= 0.1
        assert interrupts.insisted
        assert interrupts.left_s() == 0


def test_one_that_comes_during_a_pause_ends_it() -> None:
    """Else Ctrl-C would seem to do nothing for a while."""
    with Interrupts() as interrupts:
        threading.Timer(0.05, signal.raise_signal, [signal.SIGINT]).start()
        with pytest.raises(KeyboardInterrupt):
            interrupts.pause(60)


def test_one_that_is_ignored_stays_so() -> None:
    """Else a run started with nohup, or in the background of a script, would end by somebody else's Ctrl-C."""
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            signal.raise_signal(signal.SIGINT)
            interrupts.pause(0)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, former)


def test_another_thread_only_sleeps() -> None:
    """Else following from a thread would fail: signals belong to the main one."""
    failures: list[BaseException] = []

    def follow() -> None:
        try:
            with Interrupts() as interrupts:
                interrupts.pause(0)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=follow)
    thread.start()
    thread.join(10)
    assert failures == []
