"""Which way to share: fifty small tenants in each mode, and mixes of programs; then what a choice is worth elsewhere.

python examples/10_modes.py fifty OUT       tenants of one kind, up to 50 at once, in each mode
python examples/10_modes.py mixes OUT       mixes of the programs of examples/programs in each mode
python examples/10_modes.py table OUT       of fifty: the table; --figures FOLDER: the figure, too
python examples/10_modes.py same OUT        one mode under two names, --runs times: how often a difference is shown
python examples/10_modes.py regret A B      of mixes: what kts chooses by A's run, held against B's; A may also be what
                                            `kts choose --profiles --json` said of them before: a folder, or packed

fifty and mixes need a GPU, and leave one file in OUT. --device cpu rehearses them without one, with --most 8
--seconds 60 and --experiment demo. --seconds: all that it may take, the starts of processes included; then the run
ends as with Ctrl-C, and what was measured is kept. A mode that cannot be had here is left out, and said to be.
"""

from __future__ import annotations

import argparse
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

import kts
from ending import plain
from kts import plan as planning
from kts import sharing
from kts.app.measuring import measured
from kts.errors import SetupError, UsageError
from kts.model.mode import MPS
from kts.model.modes import ModesSummary
from kts.model.plan import Plan
from kts.report import cells
from kts.report.charts_crowd import GIB, draw
from kts.stats.apart import differs
from kts.stats.crowd import CrowdFigures, crowds
from modes_data import GpuMemory, groups, limited, memory_of, pack, unpacked, with_solos
from modes_regret import Scored, promises, rows, scored, table

COUNTS = (2, 4, 8, 16, 32, 50)
CLIENTS = (48, 32)
"""Where MPS does not let in all: so many are tried next."""
START_S, SETTLE_S = 60.0, 1.1
"""All processes start together; then each tenant of each mode settles by itself. On 16 cores beside an H200."""
SOLOS = 6
ROUNDS = 3
BLOCK_OVERHEAD_S = 0.35
SHORTEST_S = 0.25
MODES = {"cuda": "exclusive,time-slicing,mps,streams", "cpu": "exclusive,a=cpu-scheduler,b=cpu-scheduler,streams"}
OF_PROGRAMS = {"cuda": "exclusive,time-slicing,mps", "cpu": "exclusive,a=cpu-scheduler,b=cpu-scheduler"}
PROGRAMS = Path(__file__).parent / "programs" / "modes.yaml"
RUN, FELL, MEMORY, SAME = "run", "fell.json", "memory.json", "same.jsonl"
SAME_MODE = {"cuda": "time-slicing", "cpu": "cpu-scheduler"}
TWO_ALIKE = """\
name: same
rounds: 8
precision: null
tenants:
  fft: {workload: fft, size: 48, think_ms: 0.5, iterations: 2500, settle_seconds: 0.2}
  gemm: {workload: gemm, size: 48, think_ms: 0.5, iterations: 2500, settle_seconds: 0.2}
"""


def crowd_text(counts: Sequence[int], asked: argparse.Namespace, seconds: float) -> str:
    """The experiment. An agent of ours: a step of a small decoder, a pause, the next."""
    mixes = [[f"agent-{k}" for k in range(first, last + 1)] for first, last in groups(counts)]
    agent = {
        "workload": "decode",
        "layers": 1,
        "d_model": 256,
        "context": 256,
        "think_ms": asked.think_ms,
        "seconds": round(ROUNDS * seconds, 3),
        "settle_seconds": 0.3,
        "library": asked.library,
        "slo": {"deadline_ms": asked.deadline_ms},
        "replicas": max(counts),
    }
    experiment = {
        "name": f"crowd-{max(counts)}",
        "device": asked.device,
        "rounds": ROUNDS,
        "precision": None,
        "mixes": mixes or "full",
        "tenants": {"agent": agent},
    }
    return msgspec.json.encode(experiment).decode() + "\n"


def crowd_plan(text: str, modes: str, clients: int) -> Plan:
    """In all modes; MPS has at most so many clients."""
    plan = planning.in_modes(with_solos(kts.preview(text).plan, SOLOS), sharing.parse(modes))
    return limited(plan, MPS, clients)


def fifty(out: Path, asked: argparse.Namespace) -> None:
    """Measures, and again with fewer in MPS, or without the mode that fails: MPS where none is to blame."""
    ends = time.monotonic() + asked.seconds
    counts = [n for n in COUNTS if n < asked.most] + [asked.most]
    modes, fell = asked.modes or MODES[asked.device], []
    clients = [asked.most, *(n for n in CLIENTS if n < asked.most)]
    while clients:
        plan = crowd_plan(crowd_text(counts, asked, 1.0), modes, clients[0])
        blocks = len(plan.conditions) * ROUNDS
        starts_s = START_S + SETTLE_S * len(plan.tenants) if asked.starts is None else asked.starts
        left_s = ends - time.monotonic() - starts_s
        if fell and left_s <= 0:
            print("no time for another start: what was measured is kept", flush=True)
            break
        if (out / RUN).exists():
            (out / RUN).rename(out / f"fell-{len(fell)}")
        seconds = max(SHORTEST_S, left_s / blocks - BLOCK_OVERHEAD_S)
        text = crowd_text(counts, asked, seconds)
        print(f"{modes}: {blocks} blocks of {seconds:.2f} s, at most {clients[0]} clients of MPS", flush=True)
        why = _measured(out, text, crowd_plan(text, modes, clients[0]), blocks * (seconds + BLOCK_OVERHEAD_S))
        if not why:
            break
        print(f"fell: {why}", flush=True)
        fell.append(f"{modes} with at most {clients[0]} clients of MPS: {why}")
        (out / FELL).write_bytes(msgspec.json.encode(fell))
        asked_for = modes.split(",")
        guilty = next((one for one in asked_for if f"@{one.partition('=')[0]}:" in why), MPS)
        if guilty == MPS and f"@{MPS}:" in why and len(clients) > 1:
            clients.pop(0)
        elif guilty in asked_for:
            modes, clients = ",".join(one for one in asked_for if one != guilty), clients[:1]
        else:
            break
    (out / FELL).write_bytes(msgspec.json.encode(fell))


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Then as if somebody pressed Ctrl-C: kts keeps what it has measured, and leaves nothing behind."""
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _measured(out: Path, text: str, plan: Plan, seconds: float) -> str:
    """Why there is no run to use; empty where there is."""
    plan = msgspec.structs.replace(plan, max_seconds=1.5 * seconds)
    memory = GpuMemory()
    try:
        with memory:
            run = measured(plan, text, out / RUN, overwrite=True, progress=Console(stderr=True))
    except SetupError as error:
        return error.what
    finally:
        (out / MEMORY).write_bytes(msgspec.json.encode(memory.told()))
    whole = {block.condition for block in run.data.blocks if block.valid}
    failed = run.failure is not None and run.outcome.kind != "interrupted"
    if failed and whole < {one.name for one in plan.conditions}:
        return f"{_culprit(out / RUN)}: {run.outcome.reason}"
    print(f"outcome: {run.outcome.kind} {run.outcome.reason}", flush=True)
    return ""


def _culprit(run: Path) -> str:
    """The tenant that failed first; empty where none did."""
    lines = (run / "events.jsonl").read_bytes().splitlines()
    told = [event for line in lines if (event := msgspec.json.decode(line))["kind"] in ("failed", "exited", "lost")]
    return str(told[0].get("tenant", "")) if told else ""


def mixes(out: Path, asked: argparse.Namespace) -> None:
    """Measures every mix in every mode, in one run; without MPS where that cannot be had."""
    text = asked.experiment or PROGRAMS.read_text(encoding="utf-8")
    modes, fell = asked.modes or OF_PROGRAMS[asked.device], []
    ends = time.monotonic() + asked.seconds
    while True:
        limit_s = max(10.0, ends - time.monotonic() - (130.0 if asked.starts is None else asked.starts))
        try:
            run = kts.run(
                text,
                out / RUN,
                modes=modes,
                overwrite=True,
                device=asked.device,
                max_seconds=limit_s,
                progress=Console(stderr=True),
            )
            print(f"outcome: {run.outcome.kind} {run.outcome.reason}", flush=True)
            break
        except SetupError as error:
            fell.append(f"{modes}: {error.what}")
            print(f"fell: {error.what}", flush=True)
            if MPS not in modes:
                raise
            modes = ",".join(one for one in modes.split(",") if one != MPS)
    (out / FELL).write_bytes(msgspec.json.encode(fell))


def same(out: Path, asked: argparse.Namespace) -> None:
    """One mode under two names, run by run; each is a line of `SAME` at once, and those that are there stay."""
    kind = asked.modes or SAME_MODE[asked.device]
    file = out / SAME
    kept = msgspec.json.Decoder().decode_lines(file.read_bytes()) if file.exists() else []
    while len(kept) < asked.runs:
        run = kts.run(
            asked.experiment or TWO_ALIKE,
            out / RUN,
            modes=f"a={kind},b={kind}",
            overwrite=True,
            device=asked.device,
            telemetry=False,
            seed=len(kept) + 1,
        )
        if run.modes is None or run.outcome.kind != "complete":
            raise UsageError(f"run {len(kept) + 1}: {run.outcome.kind}: {run.outcome.reason}", "measure again")
        ratios = {
            tenant: one.over_best
            for mode in run.modes.modes
            for tenant, one in mode.tenants.items()
            if one.over_best is not None
        }
        works = [one.throughput for one in run.modes.modes]
        ratio = next(
            (one.throughput_over_best for one in run.modes.modes if one.throughput_over_best is not None), None
        )
        line = {"seed": len(kept) + 1, "kind": kind, "ratios": ratios, "work": works, "device": run.modes.device}
        line["differs"] = any(differs(one) for one in ratios.values())
        line |= {"work_ratio": ratio, "by": run.modes.choice.by, "more": ratio is not None and differs(ratio)}
        line["refused"] = any(one.lo is None for one in ratios.values())
        kept.append(line)
        with file.open("ab") as lines:
            lines.write(msgspec.json.encode(line) + b"\n")
    shown = [one for one in kept if one["differs"]]
    refused = sum(one["refused"] for one in kept)
    apart = sorted(abs(a / b - 1) for a, b in (one["work"] for one in kept))
    print(
        f"{kept[0]['kind']} under two names on {kept[0]['device']}: of {len(kept)} runs {len(kept) - len(shown)} show"
    )
    print(f"no difference of a p99; {refused} refused an interval. Their work per device differed by")
    print(f"{100 * apart[len(apart) // 2]:.1f} % in the median and at most {100 * apart[-1]:.1f} %.")
    told = [one for one in kept if "more" in one]
    print(f"No difference of work is shown in {sum(not one['more'] for one in told)} of {len(told)}", end="")
    print(f"; the {len(kept) - len(told)} others kept no interval of it." if len(told) < len(kept) else ".")


def crowd_table(run: kts.Run, folder: Path, figures: Path | None) -> Iterator[str]:
    """A row per mode and number of tenants; the figure beside."""
    deadline_ms = run.info.plan.tenants[0].slo.deadline_ms or 0.0
    found = crowds(run.data, deadline_ms)
    told = {"before_bytes": 0, "most_bytes": 0, "missing": "Of memory nothing was kept.", **_kept(folder / MEMORY, {})}
    memory = memory_of(run.info, told)
    yield f"{run.info.plan.name} on {run.info.workers[0].device.label or run.info.workers[0].device.name}"
    rates = "rate (1/s) | over the first mode's"
    yield f"\n| mode | tenants | iterations | {rates} | p99 (ms) | DF99 | within {deadline_ms:g} ms | memory (GiB) |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|---:|"
    for one in found:
        yield _row(one, memory.get(one.mode, {}).get(one.tenants))
    yield f"\nMemory of the device at most {told['most_bytes'] / GIB:.1f} GiB, {told['before_bytes'] / GIB:.1f} before."
    if told["missing"]:
        yield told["missing"]
    yield from (f"Fell: {why}" for why in _kept(folder / FELL, []))
    if run.outcome.kind != "complete":
        yield f"The run is {run.outcome.kind}: {run.outcome.reason}"
    if figures is not None:
        figures.mkdir(parents=True, exist_ok=True)
        footer = f"{run.info.plan.name}, run {run.info.id} on {run.info.workers[0].device.label} | kts {run.info.kts}"
        for figure in draw(found, memory, deadline_ms, footer):
            if figure.undrawn:
                yield f"not drawn: {figure.undrawn}"
            for name, content in figure.files:
                (figures / name).write_bytes(content)


def _kept(file: Path, without: Any) -> Any:
    """What a step has kept; killed, it kept nothing."""
    return msgspec.json.decode(file.read_bytes()) if file.exists() else without


def _row(one: CrowdFigures, memory: int | None) -> str:
    parts = [
        one.mode,
        str(one.tenants),
        str(one.iterations),
        f"{one.rate_hz:.0f}",
        "-" if one.rate_over_first is None else cells.ratio_with_interval(one.rate_over_first),
        cells.number(one.p99_ms.estimate) if one.p99_ms.estimate is not None else one.p99_ms.refused,
        cells.ratio_with_interval(one.df99) if one.df99.estimate is not None else "refused",
        cells.percent_with_interval(one.goodput),
        "-" if memory is None else f"{memory / GIB:.2f}",
    ]
    return f"| {' | '.join(parts)} |"


def regret(here: Path, there: Path, factors: Sequence[float]) -> Iterator[str]:
    """Tables of the mixes that both have: throughput alone decides; then with SLOs of so many times the p99 alone."""
    with ExitStack() as stack:
        folders = [stack.enter_context(unpacked(one)) for one in (here, there)]
        if any(folders[0].rglob("choice-*.json")):
            yield from _foretold(*folders)
            return
        names = [{str(p.parent.relative_to(folder)) for p in folder.rglob("run.json")} for folder in folders]
        pairs = [[kts.load(folder / name) for folder in folders] for name in sorted(names[0] & names[1])]
        if not pairs:
            raise UsageError(f"{here} and {there} have no run in common", "give two folders that `mixes` has written")
        for factor in (None, *factors):
            found, without = [], []
            for a, b in pairs:
                for mix in a.mixes:
                    ours, theirs = a.of_mix(*mix), b.of_mix(*mix)
                    assert ours.modes is not None
                    slo = promises(ours.modes, factor) if factor else {}
                    if factor and not slo:
                        without.append("+".join(mix))
                        continue
                    chosen, there_ = ours.modes_by(slo), theirs.modes_by(slo)
                    assert chosen is not None
                    assert there_ is not None
                    found.append(scored("+".join(mix), chosen, there_))
            yield "\nNo SLO: most work decides" if factor is None else f"\nSLO: {factor:g} times the p99 alone on A"
            if without:
                yield f"\nWithout a p99 alone, so without a promise: {', '.join(without)}."
            if not found:
                continue
            yield ""
            yield from rows(found)
            yield ""
            yield from table(found)


def _foretold(said: Path, there: Path) -> Iterator[str]:
    """Choices from profiles, by the SLOs that they were asked for."""
    runs = [kts.load(one.parent) for one in there.rglob("run.json")]
    found: dict[str, list[Scored]] = {}
    for file in sorted(said.rglob("choice-*.json")):
        chosen = msgspec.convert(msgspec.json.decode(file.read_bytes())["modes"], ModesSummary)
        mix = chosen.experiment.split("+")
        slo = {name: one.slo_ms for name, one in chosen.modes[0].tenants.items() if one.slo_ms is not None}
        theirs = next(run.of_mix(*one) for run in runs for one in run.mixes if set(one) == set(mix)).modes_by(slo)
        assert theirs is not None
        asked_for = file.stem.removeprefix(f"choice-{chosen.experiment}") or "no SLO"
        found.setdefault(asked_for, []).append(scored(chosen.experiment, chosen, theirs))
    for asked_for, ones in sorted(found.items()):
        yield f"\nForetold, {asked_for.lstrip('-')}\n"
        yield from rows(ones)
        yield ""
        yield from table(ones)


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("fifty", "mixes", "same", "table", "regret"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("other", type=Path, nargs="?", help="of regret: the other machine's")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--modes", default="")
    parser.add_argument("--seconds", type=float, help="all that it may take (default 480)")
    parser.add_argument(
        "--starts", type=float, help="of these for starts (default: fifty by the number of tenants, mixes 130)"
    )
    parser.add_argument("--most", type=int, default=50, help="tenants")
    parser.add_argument("--think-ms", type=float, default=25.0)
    parser.add_argument("--deadline-ms", type=float, default=20.0)
    parser.add_argument("--library", default="auto")
    parser.add_argument("--experiment", default="", help="of mixes: another experiment than that of the programs")
    parser.add_argument("--figures", type=Path)
    parser.add_argument("--slo", type=float, nargs="*", default=[2.0, 4.0], help="times the p99 alone")
    parser.add_argument("--runs", type=int, default=30, help="of same")
    parser.add_argument("--loose", action="store_true", help="leave OUT as it is, not packed")
    asked = parser.parse_args()
    asked.seconds = 480.0 if asked.seconds is None else asked.seconds
    with plain():
        if asked.step in ("fifty", "mixes"):
            asked.folder.mkdir(parents=True, exist_ok=True)
            try:
                with _at_most(asked.seconds):
                    (fifty if asked.step == "fifty" else mixes)(asked.folder, asked)
            finally:
                if not asked.loose:
                    print(f"wrote {pack(asked.folder, asked.step)}")
        elif asked.step == "same":
            asked.folder.mkdir(parents=True, exist_ok=True)
            same(asked.folder, asked)
        elif asked.step == "table":
            with unpacked(asked.folder) as folder:
                for line in crowd_table(kts.load(folder / RUN), folder, asked.figures):
                    print(line)
        else:
            if asked.other is None:
                parser.error("regret: of A and B")
            for line in regret(asked.folder, asked.other, asked.slo):
                print(line)


if __name__ == "__main__":
    main()
