"""A run in the classic design on a cluster: block after block, each a set of Jobs whose logs are followed.

Nothing of ours runs in the cluster but the workers. If this process dies, the block that runs goes on to its end;
`attach` reads its logs from the first line, and runs the blocks that are missing.
"""

from __future__ import annotations

import contextlib
import time
from datetime import UTC, datetime
from pathlib import Path

from kts.conduct.ports import Progress, Watcher
from kts.conduct.stop import BY_USER
from kts.errors import MeasurementError, SetupError, UsageError
from kts.k8s.cluster.api import Api, Unavailable
from kts.k8s.cluster.creation import clean, create_namespace, placed
from kts.k8s.follow import classic_telemetry
from kts.k8s.follow.classic_block import BlockRun
from kts.k8s.follow.classic_telemetry import Beside, Earlier
from kts.k8s.follow.interrupts import Interrupts
from kts.k8s.follow.podwatch import PodWatch
from kts.k8s.follow.tenancy import Tenancy
from kts.k8s.objects import classic_jobs, manifests
from kts.k8s.objects.settings import ClusterSettings
from kts.model.plan import Block, Plan
from kts.model.run import Outcome, RunInfo
from kts.plan import expected_seconds
from kts.store import create, layout, runfile
from kts.store.writer import RunWriter

POLL_S = 0.3
LOOK_S = 1.0
"""Between looks at the pods."""
NEIGHBOURS_S = 5.0
START_S = 3.0
"""For a block's pods to start, about: for the progress line."""
PATIENCE_S = 120.0
"""For an API server, or the log of a pod, that is away."""
RUN = "kubernetes_run"
"""Name in run.json's environment under which the run's ID is kept."""

_DIED = "what was measured in the blocks before is kept; measure again for the rest"
_LOST = "the node rotates its logs faster than they are read: raise think_ms or the size, or its containerLogMaxSize"
_DIFFERENT = "give the run a node with one GPU (--node), or --allow-different-gpus"


def start(
    api: Api, plan: Plan, settings: ClusterSettings, experiment_text: str, directory: Path, *, run: str, overwrite: bool
) -> ClassicSession:
    """Creates the run's owner; the Jobs come block by block. On failure nothing is left."""
    classic_jobs.check(plan, settings)
    settings = placed(api, len(plan.full_house.tenants), settings)
    writer = _writer(plan, settings, experiment_text, directory, run, overwrite=overwrite)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        if settings.create_namespace:
            create_namespace(api, manifests.namespace_object(settings))
        owner = api.create(classic_jobs.owner(plan, run, settings, experiment_text, created))
    except BaseException as error:
        why = str(error) or type(error).__name__
        writer.close(Outcome(kind="failed", reason=why, exit_code=SetupError.exit_code))
        with contextlib.suppress(SetupError):
            clean(api, run, settings.namespace)
        raise
    return ClassicSession(api, run, plan=plan, settings=settings, uid=owner["metadata"]["uid"], writer=writer)


def attach(
    api: Api, plan: Plan, settings: ClusterSettings, experiment_text: str, directory: Path, *, run: str, uid: str
) -> ClassicSession:
    """The session of a run that was begun. Logs and samples that an earlier kts kept in ``directory`` are used, too."""
    known, earlier = _known(directory, run)
    writer = _writer(plan, settings, experiment_text, directory, run, overwrite=True)
    for name, content in known.items():
        (directory / layout.LOGS / name).write_bytes(content)
    if settings.dcgm:
        earlier.keep(writer)
        writer.event("note", text=classic_telemetry.ATTACHED)
    return ClassicSession(api, run, plan=plan, settings=settings, uid=uid, writer=writer, known=known, earlier=earlier)


def _writer(
    plan: Plan, settings: ClusterSettings, text: str, directory: Path, run: str, *, overwrite: bool
) -> RunWriter:
    return create(
        directory,
        plan=plan,
        backend="k8s",
        mode=manifests.mode_of(plan, settings),
        experiment_text=text,
        environment={RUN: run},
        overwrite=overwrite,
    )


def _known(directory: Path, run: str) -> tuple[dict[str, bytes], Earlier]:
    """The whole lines of the logs in ``directory``, by file name, and its telemetry. UsageError if it holds another
    run."""
    if not (directory / layout.RUN).exists():
        return {}, Earlier()
    info = runfile.read(directory)
    if info.environment.get(RUN) != run:
        raise UsageError(f"{directory}: holds another run", "choose another directory with --out")
    found = {path.name: path.read_bytes() for path in sorted((directory / layout.LOGS).glob("*.log"))}
    logs = {name: content[: content.rfind(b"\n") + 1] for name, content in found.items()}
    return logs, Earlier.of(directory, info)


class ClassicSession:
    """See `kts.k8s.follow.runs.RunSession`."""

    def __init__(
        self,
        api: Api,
        run: str,
        *,
        plan: Plan,
        settings: ClusterSettings,
        uid: str,
        writer: RunWriter,
        known: dict[str, bytes] | None = None,
        earlier: Earlier | None = None,
    ) -> None:
        self.run, self.settings = run, settings
        self._api, self._uid, self._writer, self._known = api, uid, writer, known or {}
        self._earlier = earlier or Earlier()
        self._beside: Beside | None = None
        self._directory = writer.directory
        self._watch = PodWatch(api, run, settings, lambda text: writer.event("note", text=text))
        self._tenancy = Tenancy(plan)
        self._blocks = classic_jobs.blocks(plan)
        self._valid = 0
        self._started = self._answered = time.monotonic()

    # following

    def follow(self, watcher: Watcher) -> Outcome:
        """See RunSession."""
        self._beside = classic_telemetry.beside(self.settings, self._writer, self._watch.note, self._earlier)
        with Interrupts() as interrupts:
            for block in self._blocks:
                running = self._block_run(block)
                try:
                    outcome = self._follow(running, watcher, interrupts)
                except KeyboardInterrupt:
                    running.stop()
                    running.record(BY_USER.reason)
                    return BY_USER
                except Unavailable:
                    running.stop()
                    raise
                if outcome is not None:
                    return outcome
        return Outcome(kind="complete")

    def _block_run(self, block: Block) -> BlockRun:
        return BlockRun(
            self._api,
            self.run,
            block,
            self.settings,
            self._uid,
            watch=self._watch,
            tenancy=self._tenancy,
            writer=self._writer,
            logs=self._directory / layout.LOGS,
            known=self._known,
            beside=self._beside,
        )

    def _follow(self, running: BlockRun, watcher: Watcher, interrupts: Interrupts) -> Outcome | None:
        """Runs one block to its end: None once it is there as a valid one, else the outcome of the run."""
        next_look = next_neighbours = 0.0
        while True:
            now = time.monotonic()
            text = f"block {running.block.index + 1} of {len(self._blocks)}: {running.block.condition}"
            try:
                running.create()
                if now >= next_look:
                    next_look = now + LOOK_S
                    self._watch.look(now)
                    self._answered = now
                if now >= next_neighbours and self._watch.pods:
                    next_neighbours = now + NEIGHBOURS_S
                    self._watch.look_around()
                running.advance(now)
            except Unavailable:
                running.forgive()
                if now - self._answered > PATIENCE_S:
                    raise
                text = f"the API server is away ({now - self._answered:.0f} s)"
            if running.away_s(now) > PATIENCE_S:
                raise Unavailable(
                    f"the logs of block {running.block.index + 1} cannot be read", "see whether the node is well"
                )
            if self._beside is not None:
                self._beside.keep()
            self._tell(watcher, running, text, now)
            if running.over:
                self._valid += running.record("")
                return None
            if outcome := self._failure(running):
                running.stop()
                running.record(outcome.reason)
                return outcome
            interrupts.pause(POLL_S)

    def _failure(self, running: BlockRun) -> Outcome | None:
        """Why the run cannot go on; None if it can. Where nothing valid was measured yet a refusal is a failed run."""
        if verdict := self._watch.verdict:
            what, remedy, refused = verdict.reason, verdict.remedy, True
        elif running.fault:
            what, refused = running.fault, running.refused
            remedy = _DIFFERENT if refused else _LOST if running.lost else _DIED
        else:
            return None
        if refused and not self._valid:
            return Outcome(kind="failed", reason=what, remedy=remedy, exit_code=SetupError.exit_code)
        return Outcome(kind="incomplete", reason=what, remedy=remedy, exit_code=MeasurementError.exit_code)

    def _tell(self, watcher: Watcher, running: BlockRun, text: str, now: float) -> None:
        done_s = now - self._started
        there = running.progress()
        measuring = any(one.iterations for one in there)
        around_s = (START_S + classic_jobs.ECHO_S) * len(self._blocks)
        expected_s = expected_seconds(self._tenancy.plan, self._tenancy.solo_ms) + around_s
        watcher.progress(
            Progress(
                phase="measuring" if measuring else "starting",
                text=text if measuring else f"{text} ({self._watch.waiting_for()})",
                done_s=done_s,
                left_s=max(expected_s - done_s, 0.0) if self._tenancy.solo_ms else None,
                round=1,
                rounds=1,
                tenants=there,
            )
        )

    # ending

    def finish(self, outcome: Outcome) -> RunInfo:
        """See RunSession."""
        if self._beside is not None:
            self._beside.close()
        proven = self._watch.proven(runfile.read(self._directory))
        self._writer.close(outcome)
        info = runfile.read(self._directory)
        plan = self._tenancy.plan
        jobs = [classic_jobs.job_name(plan, block, name, self.run) for block in self._blocks for name in block.tenants]
        self._watch.write_cluster(self._directory, info, proven, jobs, time.monotonic() - self._started)
        return info

    def collect(self) -> RunInfo:
        """See RunSession. Blocks that are over count, and what there is of the one that is not."""
        self._watch.look(time.monotonic())
        for block in self._blocks:
            running = self._block_run(block)
            running.read_once()
            running.record(running.fault or ("" if running.over else "this block is still running"))
            if not running.over:
                where = f"block {block.index + 1} of {len(self._blocks)} is not over"
                return self.finish(
                    Outcome(kind="running", reason=running.fault or where, remedy=f"kts attach {self.run} goes on")
                )
        return self.finish(Outcome(kind="complete"))

    def done(self) -> None:
        """Nothing waits for it."""

    def close(self) -> None:
        """See RunSession. A run that was left before its end can be attached to."""
        classic_telemetry.closed(self._beside)
        reason = "kts left the run before its end"
        remedy = f"kts attach {self.run} goes on"
        self._writer.close(
            Outcome(kind="incomplete", reason=reason, remedy=remedy, exit_code=MeasurementError.exit_code)
        )
