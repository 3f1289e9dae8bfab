"""A directory of KTS_APP v1 logs as a run: which lines were solo and which shared, and the plan that they imply."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from kts import __version__
from kts.errors import DataError
from kts.model.mode import SharingMode
from kts.model.plan import SIZED, Condition, Kernel, Plan, Program, Tenant, Work
from kts.model.records import RECORD, Records
from kts.model.run import SCHEMA_VERSION, BlockOutcome, DeviceInfo, Outcome, RunInfo, WorkerInfo
from kts.shown import as_text
from kts.store.logfiles import STDIN, logs_at
from kts.store.loglines import Contents, Execution, read_log, without
from kts.store.logtimes import CONTENDED, check, company, overlap_ns, tiny_overlap
from kts.wire.logframe import Meta

CLOCK_NOTE = "times are CLOCK_REALTIME as printed in the logs; response and service are end - start of each line"
UNRECORDED = DeviceInfo(
    kind="other",
    uuid="",
    name="not recorded",
    label="device not recorded in the logs",
    library="not recorded",
    stopwatch="as printed in the logs",
)


@dataclass(frozen=True)
class LogRecords:
    """Records in memory, by tenant and block."""

    by_key: dict[tuple[str, int], Records]

    @property
    def counts(self) -> dict[tuple[str, int], int]:
        """Records per tenant and block."""
        return {key: len(records) for key, records in self.by_key.items()}

    def read(self, tenant: str, block: int) -> Records:
        """The records; empty if there are none."""
        return self.by_key.get((tenant, block), np.empty(0, RECORD))

    def portions(self, tenant: str, block: int) -> Iterator[Records]:
        """In one: they are in memory anyway."""
        yield self.read(tenant, block)


@dataclass(frozen=True)
class Group:
    """What becomes a block: stretches of different apps that ran at the same time, or one that ran alone.

    ``invalid``: why it cannot be analysed; empty if it can.
    """

    shared: bool
    stretches: tuple[Execution, ...]
    invalid: str = ""

    @property
    def start_ns(self) -> int:
        """Start of the first iteration."""
        return min(stretch.start_ns for stretch in self.stretches)


def open_logs(path: Path, trim: int = 0) -> tuple[RunInfo, LogRecords, list[str]]:
    """(what stands for run.json, the records, damage lines). DataError if no line is left.

    ``path``: a directory, one file, or ``-`` for standard input. A line is solo or shared by its phase, else by the
    name of its pod, file or folder, else by whether another app's log overlaps in time. ``trim`` drops the first
    iterations of each execution.
    """
    logs, passed = logs_at(path)
    whole = Contents(damage=passed)
    for log in logs:
        read = read_log(log)
        whole.stretches += read.stretches
        whole.damage += read.damage
        whole.doubts += read.doubts
    check(whole)
    whole.stretches, faults = _trimmed(whole.stretches, trim)
    whole.damage += faults
    if not whole.stretches:
        what = "is a file without KTS_APP v1 lines to report"
        if path == STDIN:
            what = "no KTS_APP v1 lines to report in standard input"
        elif path.is_dir():
            what = f"neither a kts run nor KTS_APP v1 lines to report in {len(logs)} text files below it"
        raise DataError(
            f"{path}: {what}" + (f" ({'; '.join(whole.damage[:2])})" if whole.damage else ""),
            "give a directory made by `kts run`, or logs with lines KTS_APP,v1,APP,I,START_NS,END_NS,MS",
        )
    groups = group(whole)
    info, records = _as_run(path, groups, tuple(whole.doubts), trim)
    return info, LogRecords(records), whole.damage


def group(whole: Contents) -> list[Group]:
    """The groups in order of time. Every stretch that is not dropped is in one; what is odd joins ``whole``."""
    groups: list[Group] = []
    sharing: list[list[Execution]] = []
    reach = 0
    stretches = whole.stretches
    for stretch in sorted(stretches, key=lambda s: (s.start_ns, s.app)):
        if stretch.untimed:
            groups.append(Group(stretch.label == "shared", (stretch,), stretch.untimed))
        elif not _is_shared(stretch, stretches):
            groups.append(_alone(stretch, whole))
        elif sharing and stretch.start_ns < reach:
            sharing[-1].append(stretch)
            reach = max(reach, stretch.end_ns)
        else:
            sharing.append([stretch])
            reach = stretch.end_ns
    for together in sharing:
        joined, faults = _join_same_app(together)
        single = len(joined) == 1
        groups.append(
            Group(True, joined, "its log says shared, but no other log overlaps it in time" if single else "")
        )
        whole.damage += faults
        pairs = [(a, b) for a, b in combinations(joined, 2) if not a.label or not b.label]
        whole.doubts += [odd for one, other in pairs if (odd := tiny_overlap(one, other))]
    return sorted(groups, key=lambda g: (g.start_ns, g.stretches[0].app))


def _alone(stretch: Execution, whole: Contents) -> Group:
    """A solo block, without what ran beside another log, or invalid where that is more than a moment."""
    beside, others = company(stretch, whole.stretches)
    count = int(beside.sum())
    if not count:
        return Group(False, (stretch,))
    names = ", ".join(dict.fromkeys(other.place for other in others))
    what = f"{count} of {len(beside)} iterations ran beside {names}"
    if count > CONTENDED * len(beside):
        return Group(False, (stretch,), f"{stretch.place} was not alone: {what}")
    whole.damage.append(f"{stretch.place}: {stretch.app} alone, {what}: these are left out")
    return Group(False, (without(stretch, beside),))


def _is_shared(stretch: Execution, stretches: Sequence[Execution]) -> bool:
    if stretch.label:
        return stretch.label == "shared"
    return any(other.app != stretch.app and not other.untimed and overlap_ns(stretch, other) > 0 for other in stretches)


def _join_same_app(stretches: Sequence[Execution]) -> tuple[tuple[Execution, ...], list[str]]:
    """One stretch per app: executions after each other are joined and renumbered, one beside another is dropped."""
    damage: list[str] = []
    by_app: dict[str, Execution] = {}
    for stretch in stretches:
        before = by_app.get(stretch.app)
        if before is None:
            by_app[stretch.app] = stretch
        elif stretch.start_ns < before.end_ns:
            damage.append(f"{stretch.place}: dropped, {before.place} is of the same app at the same time")
        else:
            records = np.concatenate([before.records, stretch.records])
            records["i"] = np.arange(len(records))
            by_app[stretch.app] = replace(before, records=records, lost=before.lost + stretch.lost)
            damage.append(f"{stretch.place}: {stretch.app} joined to {before.place} in one shared block, renumbered")
    return tuple(by_app.values()), damage


def _trimmed(stretches: Sequence[Execution], trim: int) -> tuple[list[Execution], list[str]]:
    kept = [replace(s, records=s.records[trim:]) for s in stretches if len(s.records) > trim]
    lost = [f"{s.place}: {s.app} has no more than the {trim} trimmed iterations" for s in stretches if trim]
    return kept, [text for text, s in zip(lost, stretches, strict=False) if len(s.records) <= trim]


def _as_run(
    path: Path, groups: Sequence[Group], doubts: tuple[str, ...], trim: int
) -> tuple[RunInfo, dict[tuple[str, int], Records]]:
    tenants = list(dict.fromkeys(s.app for g in groups for s in g.stretches))
    conditions: dict[str, Condition] = {}
    rounds: dict[str, int] = {}
    blocks: list[BlockOutcome] = []
    records: dict[tuple[str, int], Records] = {}
    largest = max((g for g in groups if g.shared), key=lambda g: len(g.stretches), default=None)
    for index, part in enumerate(groups):
        alone_in_shared = part.shared and len(part.stretches) == 1
        apps = {s.app for s in (largest.stretches if largest and alone_in_shared else part.stretches)}
        if alone_in_shared and len(apps) == 1:
            apps = set(tenants)
        condition = _condition([name for name in tenants if name in apps], shared=part.shared)
        conditions[condition.name] = condition
        rounds[condition.name] = rounds.get(condition.name, -1) + 1
        blocks.append(_block(index, rounds[condition.name], condition.name, part))
        records.update({(s.app, index): s.records for s in part.stretches})
    repeats = 1 + max(rounds.values())
    metas: dict[str, Meta] = {}
    for s in (s for g in groups for s in g.stretches):
        if s.meta is not None:
            metas.setdefault(s.app, s.meta)
    plan = Plan(
        name=_name(path),
        design="classic",
        tenants=tuple(_tenant(name, records, metas.get(name)) for name in tenants),
        conditions=tuple(conditions.values()),
        rounds=repeats,
        max_rounds=repeats,
    )
    notes = (CLOCK_NOTE, *((f"the first {trim} iterations of each log are left out",) if trim else ()))
    info = RunInfo(
        schema=SCHEMA_VERSION,
        id=plan.name,
        kts=__version__,
        backend="logs",
        mode=SharingMode(),
        created_ns=blocks[0].start_ns,
        plan=plan,
        workers=tuple(_worker(t.name, metas.get(t.name)) for t in plan.tenants),
        blocks=tuple(blocks),
        outcome=Outcome(kind="complete"),
        notes=notes,
        doubts=doubts,
    )
    return info, records


def _name(path: Path) -> str:
    return "stdin" if path == STDIN else as_text(path.absolute().name)


def _condition(apps: list[str], *, shared: bool) -> Condition:
    return Condition(name=("shared-" if shared else "solo-") + "+".join(apps), tenants=tuple(apps))


def _block(index: int, number: int, condition: str, part: Group) -> BlockOutcome:
    return BlockOutcome(
        index=index,
        round=number,
        condition=condition,
        start_ns=part.start_ns,
        end_ns=max(stretch.end_ns for stretch in part.stretches),
        valid=not part.invalid,
        counts={stretch.app: len(stretch.records) for stretch in part.stretches},
        reason=part.invalid,
        lost={stretch.app: stretch.lost for stretch in part.stretches if stretch.lost},
    )


def _tenant(name: str, records: dict[tuple[str, int], Any], meta: Meta | None) -> Tenant:
    most = max(len(rows) for (tenant, _), rows in records.items() if tenant == name)
    ran = next((kernel for kernel in SIZED if kernel == (meta.workload if meta else name)), None)
    work: Work = Program(command=()) if ran is None else Kernel(workload=ran, size=meta.size if meta else None)
    return Tenant(name=name, work=work, iterations=most)


def _worker(name: str, meta: Meta | None) -> WorkerInfo:
    if meta is None:
        return WorkerInfo(tenant=name, pid=0, hostname="", device=UNRECORDED)
    return WorkerInfo(
        tenant=name,
        pid=meta.pid,
        hostname=meta.hostname,
        device=meta.device,
        cores=meta.cores,
        gpus=meta.gpus,
        solo_ms=meta.solo_ms,
    )
