"""The pod of one node of a fleet: `kts run --on k8s --node NODE`, and a door at which its run directory is fetched.

Run as ``python3 -m kts.app.member`` by the Job of `kts.k8s.objects.fleet`. Environment: JOB_COMPLETION_INDEX (which
node), and for tests other places: KTS_PLAN, KTS_TOKEN_FILE, KTS_DATA, KTS_STATUS_PORT.

SIGTERM (the fleet is stopped, this pod's own node is drained) ends the run in order; what was measured is then offered
for `LAST_S`.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from types import FrameType
from typing import TypeVar

from msgspec.structs import replace

from kts import files
from kts.app.cluster import concluded
from kts.errors import Interrupted, KtsError, SetupError
from kts.k8s.cluster.api import Api
from kts.k8s.follow import begin
from kts.k8s.follow.interrupts import Interrupts
from kts.k8s.objects.fleet import SPEC, FleetSpec
from kts.k8s.objects.names import STATUS_PORT
from kts.k8s.objects.pods import DATA_MOUNT, PLAN_MOUNT, TOKEN_MOUNT
from kts.k8s.pod.door import serve
from kts.k8s.pod.offer import Offer
from kts.model.plan import Plan
from kts.model.run import Outcome
from kts.shown import one_line, take_any_text
from kts.store import layout, runfile

_T = TypeVar("_T")
LAST_S = 20.0
"""For results to be fetched from a pod that was told to end."""
_LOOK_S = 0.2
_REMEDY = "the image and the kts that made the fleet must be one version"


class Ending:
    """SIGTERM while no run goes on; ``since``: when it came, or ended the run, by CLOCK_MONOTONIC."""

    def __init__(self) -> None:
        self.since: float | None = None
        signal.signal(signal.SIGTERM, self.told)

    def told(self, number: int, frame: FrameType | None) -> None:
        """The time counts from now on, unless it does already."""
        del number, frame
        self.since = self.since or time.monotonic()


def main(env: Mapping[str, str], ending: Ending) -> int:
    """Measures on one node, offers what came of it until it is fetched, and returns the outcome's exit code."""
    plan_file = Path(env.get("KTS_PLAN", f"{PLAN_MOUNT}/plan.json"))
    spec, plan = _decoded(plan_file.with_name(SPEC), FleetSpec), _decoded(plan_file, Plan)
    text = plan_file.with_name("experiment.yaml").read_text(encoding="utf-8")
    token = Path(env.get("KTS_TOKEN_FILE", f"{TOKEN_MOUNT}/token")).read_text(encoding="utf-8").strip()
    index = int(env["JOB_COMPLETION_INDEX"])
    directory = Path(env.get("KTS_DATA", DATA_MOUNT)) / spec.nodes[index]
    desk = Offer(spec.run_id(index), directory, token)
    server = serve(desk, "0.0.0.0", int(env.get("KTS_STATUS_PORT", STATUS_PORT)))
    try:
        outcome = _measured(spec, plan, text, index, desk)
        if outcome.kind == "interrupted":
            ending.told(signal.SIGTERM, None)
        _say(f"{spec.nodes[index]}: {outcome.kind}{f': {outcome.reason}' if outcome.reason else ''}")
        desk.outcome = outcome
        _linger(desk, spec.settings.keep_s, ending)
    finally:
        server.shutdown()
    return outcome.exit_code


def _measured(spec: FleetSpec, plan: Plan, text: str, index: int, desk: Offer) -> Outcome:
    """The way of any run on a cluster, on the node of this index."""
    settings = replace(spec.settings, node=spec.nodes[index], create_namespace=False)
    try:
        api = Api.connect()
        run = spec.run_id(index)
        with Interrupts() as interrupts:
            session = begin.start(
                api, plan, settings, text, desk.directory, run=run, overwrite=True, interrupts=interrupts, told=_say
            )
            return concluded(api, session, interrupts, nullcontext(desk), keep=False, say=_say)
    except KeyboardInterrupt:
        return Outcome(kind="interrupted", reason="its pod was told to end", exit_code=Interrupted.exit_code)
    except KtsError as error:
        return _failed(desk.directory, error.what, error.remedy, error.exit_code)
    except Exception as error:  # whatever it is, the node's word must not be lost with it
        traceback.print_exc()
        return _failed(desk.directory, f"unexpected {type(error).__name__}: {error}", "report it as a bug", 1)


def _failed(directory: Path, what: str, remedy: str, code: int) -> Outcome:
    """``incomplete`` where a run was begun and not ended."""
    begun = (directory / layout.RUN).exists() and runfile.read(directory).outcome.kind == "running"
    return Outcome(kind="incomplete" if begun else "failed", reason=what, remedy=remedy, exit_code=code)


def _linger(desk: Offer, keep_s: float, ending: Ending) -> None:
    """Until everything was fetched, or time is over."""
    deadline = time.monotonic() + keep_s
    while time.monotonic() < (deadline if ending.since is None else min(deadline, ending.since + LAST_S)):
        if desk.done.wait(_LOOK_S):
            return


def _decoded(path: Path, kind: type[_T]) -> _T:
    return files.decode(files.read(path, _REMEDY), kind, str(path), f"not a {path.name}", _REMEDY)


def _say(line: str) -> None:
    print(f"kts.member: {one_line(line)}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    take_any_text(sys.stdout, sys.stderr, encoding="utf-8")
    told = Ending()
    try:
        sys.exit(main(os.environ, told))
    except (KtsError, OSError, KeyError, ValueError) as failure:
        what = failure.what if isinstance(failure, KtsError) else f"{type(failure).__name__}: {failure}"
        _say(f"error: {what}")
        sys.exit(failure.exit_code if isinstance(failure, KtsError) else SetupError.exit_code)
