"""The conductor's pod: `kts.conduct.driver.conduct` with an HTTP door. Paths: `kts.k8s.pod.status`.

Environment: KTS_RUN (the run's ID), KTS_MODE (how the device is to be shared, as JSON), KTS_JOIN_S (for all tenants to
be there), KTS_KEEP_S (how long to wait, once the run is over, for its results to be fetched), KTS_TELEMETRY (on or
off), KTS_DCGM (URL of an exporter to scrape) or KTS_DCGM_MISSING (why there is none), KTS_NODE, KTS_NAMESPACE,
KTS_RESOURCE and KTS_CLAIM (where it runs, and what it shares with whom), and for tests other places: KTS_PLAN,
KTS_TOKEN_FILE, KTS_DATA, KTS_PORT, KTS_STATUS_PORT.

SIGTERM (the pod is deleted, evicted or preempted), SIGINT and SIGHUP end the run in order at any moment, also before
it began; one that comes when the run is over ends the waiting for its results to be fetched.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from kts import files
from kts.conduct.stop import StopRequest
from kts.errors import DataError, KtsError, MeasurementError, SetupError
from kts.k8s.objects.manifests import is_classic
from kts.k8s.objects.names import ENVIRONMENT_RUN, STATUS_PORT, WORKER_PORT
from kts.k8s.pod.status import TOLD_TO_END
from kts.model.mode import SharingMode
from kts.model.plan import Plan
from kts.model.run import Outcome
from kts.shown import one_line, take_any_text

if TYPE_CHECKING:
    from kts.k8s.pod.door import Desk

SETTLE_S = 6.0
"""For the API server to tell why a pod ended, which takes longer than to see its connection close."""

_ENDED = "run it again; the events of the pod's namespace tell whether it was evicted, preempted or deleted"
_LOOK_S = 0.2
_RUN_ID = re.compile(r"[a-z0-9][-a-z0-9]{0,40}")


def heed_signals(stop: StopRequest) -> None:
    """From now on signals ask for the end. Without a handler the first process of a container ignores them."""

    def told(number: int, frame: FrameType | None) -> None:
        del frame
        reason = f"{TOLD_TO_END} ({signal.Signals(number).name}) before its run was over"
        code = MeasurementError.exit_code
        stop.ask(Outcome(kind="incomplete", reason=reason, remedy=_ENDED, exit_code=code), insistent=True)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup stays nohup
            signal.signal(number, told)


def main(env: Mapping[str, str], stop: StopRequest) -> int:
    """Conducts the run, keeps its results to be fetched, and returns the outcome's exit code."""
    # Not above: what takes long to import comes after the signal handlers.
    from kts.backends.pods import PodsBackend
    from kts.conduct.driver import conduct
    from kts.conduct.roster import Limits
    from kts.k8s.pod import neighbours
    from kts.k8s.pod.door import MOST_LOOKS, Desk, serve
    from kts.model.neighbours import Look, Neighbours
    from kts.stats import Foretelling, PrecisionRule
    from kts.store import create
    from kts.telemetry.choice import make_sampler
    from kts.worker.environment import environment

    run = env.get("KTS_RUN", "")
    if not _RUN_ID.fullmatch(run):
        raise SetupError(
            f"KTS_RUN={run!r} is not a run's ID", "this pod is made by `kts run --on k8s` or `kts k8s render`"
        )
    plan_file = Path(env.get("KTS_PLAN", "/etc/kts/run/plan.json"))
    plan = _read_plan(plan_file)
    token = _read_token(Path(env.get("KTS_TOKEN_FILE", "/etc/kts/token/token")))
    directory = Path(env.get("KTS_DATA", "/var/lib/kts")) / run
    text = plan_file.with_name("experiment.yaml")
    exporter = env.get("KTS_DCGM", ""), env.get("KTS_DCGM_MISSING", "")
    looks: deque[Look] = deque(maxlen=MOST_LOOKS)
    sampled = env.get("KTS_TELEMETRY", "on") == "on"
    telemetry = make_sampler(plan, looks.append, *exporter) if sampled else None
    writer = create(
        directory,
        plan=plan,
        backend=PodsBackend.name,
        mode=_mode(env.get("KTS_MODE", "{}")),
        experiment_text=text.read_text(encoding="utf-8") if text.exists() else "",
        environment={**environment(), ENVIRONMENT_RUN: run},
        overwrite=True,
        keep_journal=True,
        neighbours=Neighbours(),
    )
    backend = PodsBackend()
    desk = Desk(run, directory, token, backend, stop, looks=looks)
    lookout = None
    if (pods := neighbours.lister(env)) is not None:
        lookout = neighbours.Lookout(pods, looks.append, neighbours.scope(env))
        desk.sees = lambda: lookout.sees
    server = serve(desk, "0.0.0.0", _number(env, "KTS_STATUS_PORT", STATUS_PORT))
    rule = PrecisionRule(plan, plan.precision) if plan.precision is not None else None
    limits = Limits(join_s=_number(env, "KTS_JOIN_S", 300), settle_s=SETTLE_S)
    port = _number(env, "KTS_PORT", WORKER_PORT)
    _say(f"run {run}: waiting for {len(plan.tenants)} tenants")
    try:
        outcome = conduct(
            plan,
            backend,
            writer,
            desk,
            rule,
            host="0.0.0.0",
            port=port,
            limits=limits,
            token=token,
            stop=stop,
            telemetry=telemetry,
            anew=is_classic(plan),
            looks=looks,
            foreteller=Foretelling(),
        )
        desk.outcome = outcome
        _say(f"run {run}: {outcome.kind}{': ' + outcome.reason if outcome.reason else ''}")
        _linger(desk, _number(env, "KTS_KEEP_S", 3600))
    finally:
        if lookout is not None:
            lookout.close()
        server.shutdown()
    return outcome.exit_code


def _read_plan(path: Path) -> Plan:
    remedy = "the image and the kts that made the plan must be one version"
    try:
        return files.decode(
            files.read(path, "the run's ConfigMap is mounted there"), Plan, str(path), "not a plan", remedy
        )
    except DataError as error:
        raise SetupError(error.what, error.remedy) from error


def _mode(text: str) -> SharingMode:
    remedy = "the image and the kts that made the plan must be one version"
    try:
        return files.decode(text.encode(errors="replace"), SharingMode, "KTS_MODE", "no sharing mode", remedy)
    except DataError as error:
        raise SetupError(error.what, remedy) from error


def _read_token(path: Path) -> str:
    """SetupError also for an empty one, which would let everybody in."""
    try:
        token = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SetupError(f"{path}: {error.strerror}", "the run's Secret is mounted there") from error
    if not token:
        raise SetupError(f"{path}: is empty", "the run's Secret must hold a token")
    return token


def _number(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name, str(default))
    if not (text.isascii() and text.isdecimal()):
        raise SetupError(f"{name}={text!r} is not a whole number", f"for example {name}={default}")
    return int(text)


def _linger(desk: Desk, seconds: float) -> None:
    """Until the results were fetched, time is over, or the pod is deleted."""
    deadline = time.monotonic() + seconds
    while not desk.stop.insisted and (left_s := deadline - time.monotonic()) > 0:
        if desk.done.wait(min(left_s, _LOOK_S)):
            return


def _say(line: str) -> None:
    print(f"kts.conductor: {one_line(line)}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    take_any_text(sys.stdout, sys.stderr, encoding="utf-8")
    asked = StopRequest()
    heed_signals(asked)
    try:
        sys.exit(main(os.environ, asked))
    except KtsError as failure:
        _say(f"error: {failure.what}; try: {failure.remedy}")
        sys.exit(failure.exit_code)
