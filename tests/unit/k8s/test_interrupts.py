"""Ctrl-C while a run on a cluster is followed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from kts.k8s.follow.interrupts import Interrupts


@pytest.fixture(autouse=True)
def _heard() -> Iterator[None]:
    """As in a terminal: where the tests run in the background SIGINT may be ignored."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


def test_the_first_one_waits_for_a_pause_and_the_second_does_not() -> None:
    """Else Ctrl-C could hit the midst of a write, or a library that swallows it; or nobody could insist."""
    former = signal.getsignal(signal.SIGINT)
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGINT)  # nothing is raised here
        with pytest.raises(KeyboardInterrupt):
            interrupts.pause(60)
        interrupts.pause(0)  # told once
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is former


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
