"""Nothing left behind: what a run or a fleet has in the cluster is removed, or it is said what may be left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kts.errors import KtsError
from kts.k8s.cluster.api import Api
from kts.k8s.cluster.creation import GONE_S, clean
from kts.k8s.follow.interrupts import Interrupts
from kts.k8s.objects.names import DEFAULT_NAMESPACE

SAYING_S = 0.3
"""Of what an interrupted run may still take: for saying what is left."""


def remove(
    api: Api, run: str, namespace: str, interrupts: Interrupts, told: Callable[[str], None] | None = None
) -> bool:
    """Removes the run from the cluster; False if something may be left, and ``told`` is told so.

    Interrupted, it does not wait for what ends by itself; KeyboardInterrupt if somebody insists.
    """
    told = told or (lambda _: None)
    while True:
        hurried = interrupts.came
        within_s = min(GONE_S, interrupts.left_s() - SAYING_S)
        pause = time.sleep if hurried else interrupts.pause
        try:
            with saying(told) as said:
                clean(api, run, namespace, told=told, pause=pause, within_s=within_s, hurried=hurried)
            return not said
        except KeyboardInterrupt:
            if interrupts.insisted:
                raise


@contextmanager
def saying(told: Callable[[str], None]) -> Iterator[list[str]]:
    """For what removes things: ``told`` is told, instead of an error, that something may be left, and why; these lines
    are what it yields."""
    said: list[str] = []
    try:
        yield said
    except KtsError as error:
        said += [f"not everything could be removed: {error.what}", f"  try: {error.remedy}"]
        for line in said:
            told(line)


def left_over(run: str, namespace: str) -> str:
    """What may be in the cluster, and what to do about it; a line."""
    where = "" if namespace == DEFAULT_NAMESPACE else f" --namespace {namespace}"
    return f"run {run} may still be in the cluster: kts attach {run}{where} goes on, kts clean {run}{where} removes it"
