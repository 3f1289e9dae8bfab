"""Isolation tried: in each mode one tenant comes to harm beside another, and what becomes of the other is told.

The tenants are small programs of ours (`kts.worker.trial`) in the environment that the mode's tenants have. They are
started when the run's own are gone, so nothing that was measured can suffer.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack

from kts.errors import KtsError, SetupError
from kts.model.mode import STREAMS
from kts.model.plan import InMode, Plan
from kts.model.sharing_facts import Harm, SharedMachine, Trial
from kts.sharing.port import Held
from kts.worker import trial as tenant
from kts.worker.interpreter import module

HARMS: tuple[Harm, ...] = ("kill", "memory", "fault")
STARTS_S, GOES_S = 60.0, 20.0
"""A context of its own may take many seconds to be made, a turn never does."""
WAIT_S = 0.1
STOPPED = "a signal to stop"
"""What kts knows of SIGINT, SIGTERM and SIGHUP where they are raised."""


def check_alone(before: SharedMachine | None) -> None:
    """SetupError where somebody else computes on the GPUs: a trial may take what it computes."""
    if before is not None and before.computing:
        raise SetupError(
            f"--try-isolation: {before.computing} processes compute on the GPUs here, and a trial may break them",
            "end them, or leave --try-isolation out",
        )


def tried(
    plan: Plan, held: Held, say: Callable[[str], None], *, stopped: str = ""
) -> tuple[dict[str, tuple[Trial, ...]], str]:
    """By the mode's name, each harm; of modes in which tenants share. ``say`` is told of each before it is tried.

    ``stopped``: the signal that came when all was measured; then none is tried, and each tells why. The second value:
    the same, or what stopped it meanwhile; empty if nothing did.
    """
    if stopped:
        say(f"isolation is not tried: {stopped}")
    found = {}
    for one in plan.modes:
        if one.mixes:
            trials = []
            for harm in HARMS:
                why = f"{stopped} came before it"
                try:
                    if not stopped:
                        say(f"isolation in {one.mode.name}: {harm}")
                        trials.append(_tried(plan, one, held, harm))
                        continue
                except KeyboardInterrupt:
                    stopped = STOPPED
                    why = f"{stopped} came while it was tried"
                trials.append(Trial(harm=harm, others="not-tried", why=why))
            found[one.mode.name] = tuple(trials)
    return found, stopped


def _tried(plan: Plan, one: InMode, held: Held, harm: Harm) -> Trial:
    if one.mode.kind == STREAMS:
        return Trial(harm=harm, others="not-tried", why="its tenants are threads of one process, and end with it")
    if plan.device == "cpu" and harm == "memory":
        return Trial(
            harm=harm, others="not-tried", why="of a CPU's memory each process has a limit of its own, or none"
        )
    names = [*one.tenants.values()]
    envs = [held.env.get(name, {}) for name in (names[0], names[-1])]
    try:
        return trial(harm, "cpu" if plan.device == "cpu" else "cuda", *envs)
    except KtsError as error:  # the run is measured, and is not lost for it
        return Trial(harm=harm, others="not-tried", why=error.what)


def trial(harm: Harm, device: str, victims: Mapping[str, str], bystanders: Mapping[str, str]) -> Trial:
    """One harm, done to a tenant in the environment ``victims`` beside one in ``bystanders``."""
    with ExitStack() as stack:

        def begun(role: str, env: Mapping[str, str]) -> _Tenant:
            started = _Tenant(role, device, env)
            stack.callback(started.end)
            return started

        beside = begun("go-on", bystanders)
        if not beside.turns(tenant.BEFORE, STARTS_S):
            return Trial(harm=harm, others="not-tried", why=f"nobody could compute: {beside.became()}")
        victim = begun(harm, victims)
        if not victim.harmed(STARTS_S):
            return Trial(harm=harm, others="not-tried", why=f"no harm was done in {STARTS_S:g} s: {victim.became()}")
        goes_on = beside.turns(tenant.BEFORE, GOES_S)
        became = victim.became()
        victim.end()
        newcomer = begun("go-on", victims)
        return Trial(
            harm=harm,
            others="go-on" if goes_on else "fall",
            victim=became,
            bystander="went on" if goes_on else beside.became(),
            newcomer=newcomer.turns(tenant.BEFORE, STARTS_S),
            shown=beside.shown,
        )


class _Tenant:
    def __init__(self, role: str, device: str, env: Mapping[str, str]) -> None:
        from kts.worker.tenants.process import ChildProcess

        argv = [sys.executable, *module("kts.worker.trial"), role, device]
        self._process = ChildProcess(argv, {**os.environ, **env})
        self._turns = 0
        self._told = ""
        self._is_harmed = False
        self.shown = ""

    def turns(self, more: int, within_s: float) -> bool:
        """Whether it does so many more from now on in time."""
        self._hear(0)  # what it did while nobody listened is not new
        wanted = self._turns + more
        return self._until(lambda: self._turns >= wanted, within_s)

    def harmed(self, within_s: float) -> bool:
        """Whether it came to its harm in time."""
        return self._until(lambda: self._is_harmed or self._process.exit_code() is not None, within_s)

    def became(self) -> str:
        """What it told last, else how it ended."""
        self._hear(0)
        code = self._process.exit_code()
        if self._told:
            return self._told
        if code is None:
            return "does nothing more, and does not end"
        if code < 0:
            return f"killed by {signal.Signals(-code).name}"
        return f"exit code {code}: {self._process.last_line}"

    def end(self) -> None:
        """Idempotent."""
        self._process.kill()

    def _until(self, reached: Callable[[], bool], within_s: float) -> bool:
        deadline = time.monotonic() + within_s
        while not reached() and self._process.exit_code() is None and time.monotonic() < deadline:
            self._hear(WAIT_S)
        self._hear(0)
        return reached()

    def _hear(self, wait_s: float) -> None:
        for line in self._process.lines(wait_s) if wait_s else self._process.drain():
            word, _, rest = line.text.strip().partition(" ")
            if word == tenant.TURN:
                self._turns += 1
            elif word == tenant.SHOWN:
                self.shown = rest
            elif word in (tenant.TOOK, tenant.FELL):
                self._told, self._is_harmed = f"{word} {rest}" if word == tenant.TOOK else rest, True
