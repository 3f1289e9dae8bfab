"""How much of what company adds is explained by named parts, in every recorded run, mode by mode and mix by mix.

The parts add up to the whole by construction, so the question is what is left as unexplained. Asked of each statistic
whose change excludes 0: of one that does not, there is nothing to explain. How much is left has an interval, too: where
that is wider than a tenth to either side, the run cannot tell whether it keeps to a tenth. Those of which over a tenth
is unexplained are listed, with what is named, what was recorded, and what their own data say of why.

    python -m bench addsup                         # all recorded runs of examples/
    python -m bench addsup runs/mine --limit 0.05  # these
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from kts.model.causes import STATISTICS, Decomposition, Statistic
from kts.model.reading import RunData
from kts.model.records import WAITED
from kts.report.cause_words import changed, interval, of_tenant
from kts.stats import analyse
from kts.stats.causes.company import Floats
from kts.stats.causes.kept import KeptIterations, KeptRows
from kts.stats.causes.speed import Speed, at_usual, follows
from kts.stats.gathering import Gathered
from kts.stats.modes import views
from kts.stats.quantiles import QUANTILES
from kts.store import open_run

EXAMPLES = Path(__file__).parents[1] / "examples"
LIMIT = 0.1
SMALL = 0.01
"""Of the time alone: a change of a place by under half of that is named by nobody."""
KINDS = (
    f"what is left is under {100 * SMALL:g} % of the time alone",
    "its rounds differ by as much, and so does its host's time in them",
    "its rounds differ by as much",
    "it is in its host's own time, measured, whose rounds differ by less",
    "nobody recorded what it waited for the device",
    "they show no reason",
)
MOST_TOLD = 6
"""Folders and tenants, of each reason."""
FAST, SLOW = 0.1, 1.3
"""A quantile of the looks at cores in a run; from so many times that on a look is a slow one: between the two speeds of
a core whose other hardware thread is idle, or busy."""
HOST = 0.5
"""Of the rounds' differences: so much of it must be the host's to be called so."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant's statistic in a mix, ms. ``unexplained`` with its interval; ``why``: what its data say of it;
    ``parts``: what is named, in words. ``folder``: that the run is in, with others of its kind; ``mode``: how tenants
    share the GPU; ``records``: what tells of its host and of its waits."""

    run: str
    folder: str = ""
    mode: str = ""
    records: str = ""
    parts: str = ""
    tenant: str
    mix: str
    statistic: Statistic
    alone: float
    added: float
    unexplained: float
    lo: float
    hi: float
    why: str = ""

    @property
    def share(self) -> float:
        """Of what was added, unexplained."""
        return abs(self.unexplained / self.added)

    def within(self, limit: float) -> bool:
        """Whether it is at most that share."""
        return self.share <= limit

    def told(self, limit: float) -> bool:
        """Whether what is left has an interval that reaches no farther than the limit to either side."""
        return (self.hi - self.lo) / 2 <= limit * abs(self.added)

    def surely_beyond(self, limit: float) -> bool:
        """Whether its whole interval is."""
        most = limit * abs(self.added)
        return self.lo > most or self.hi < -most


def rows_of(name: str, run: RunData, limit: float = LIMIT, folder: str = "") -> Iterator[Row]:
    """Of a run, a row for each statistic that is shown to change."""
    told = [
        (tenant, causes.condition, of)
        for tenant, figures in analyse(run).summary.tenants.items()
        for causes in of_tenant(figures)
        for of in causes.of
        if changed(of)
    ]
    kept: KeptIterations | None = None
    for tenant, condition, of in told:
        left = next(part for part in of.parts if part.cause == "unexplained")
        why = records = ""
        if abs(left.ms) > limit * abs(of.added_ms):
            kept = kept or Gathered.of(run, run.telemetry()).kept
            alone = kept.of(tenant, run.info.plan.solo(tenant).name)
            together = kept.of(tenant, condition)
            assert alone is not None
            assert together is not None
            why, records = reason(of, left.ms, alone, together), recorded_of(alone, together)
        yield Row(
            run=name,
            folder=folder,
            mode=run.info.sharing.likely,
            records=records,
            parts=", ".join(f"{part.cause} {part.ms:.3g}" for part in of.parts if part is not left),
            tenant=tenant,
            mix=condition.removeprefix("shared-"),
            statistic=of.statistic,
            alone=of.alone_ms,
            added=of.added_ms,
            unexplained=left.ms,
            lo=left.ms if left.lo is None else left.lo,
            hi=left.ms if left.hi is None else left.hi,
            why=why,
        )


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """Of a program in a mix with so many neighbours: its host's own time an iteration (ms), by what is recorded of its
    waits; ``spread``: of rounds alone, standard deviation over mean. Of runs that looked at its core: ``slope``, how
    the host follows it (`kts.stats.causes.speed`); ``loop``, how long a loop takes there over that alone; ``net``, the
    host's time over that alone without what the core's speed adds."""

    run: str
    tenant: str
    neighbours: int
    alone: float
    together: float
    spread: float
    slope: float | None = None
    loop: float | None = None
    net: float | None = None


def hosts_of(name: str, run: RunData) -> Iterator[Host]:
    """Of a run, one for each program and mix, shown to change or not."""
    plan = run.info.plan
    first = run.blocks[0] if run.blocks else None
    if first is None or not any(WAITED in (run.records(one, first.index).dtype.names or ()) for one in first.counts):
        return
    kept = Gathered.of(run, run.telemetry()).kept
    for tenant in plan.asked:
        alone = kept.of(tenant, plan.solo(tenant).name)
        mixes = [one.name for one in plan.conditions if not one.is_solo and tenant in one.tenants]
        sides = [side for name in mixes if (side := kept.of(tenant, name)) is not None]
        speed = None if alone is None else follows(alone, sides, is_cpu=False)
        for condition in plan.conditions:
            together = kept.of(tenant, condition.name) if tenant in condition.tenants else None
            if condition.is_solo or alone is None or together is None or np.isnan(_host_ms(alone) + _host_ms(together)):
                continue
            rounds = [_host_ms(alone, number) for number in np.unique(alone.round)]
            yield Host(
                run=name,
                tenant=tenant,
                neighbours=len(condition.tenants) - 1,
                alone=_host_ms(alone),
                together=_host_ms(together),
                spread=float(np.std(rounds, ddof=1) / np.mean(rounds)) if len(rounds) > 1 else np.nan,
                slope=None if speed is None else speed.slope,
                loop=None if speed is None else _loop_us(together) / _loop_us(alone),
                net=None if speed is None else _net_ms(together, alone, speed) / _net_ms(alone, alone, speed),
            )


def _loop_us(rows: KeptRows) -> float:
    """Mean of the looks at its core."""
    return float(np.nanmean(rows.rate("core_loop")))


def _net_ms(rows: KeptRows, alone: KeptRows, speed: Speed) -> float:
    """Mean of its host's time without what a core slower than alone adds."""
    return _host_ms(at_usual(rows, speed.of(rows, alone, is_cpu=False).ms, is_cpu=False))


def hosts(found: Sequence[Host]) -> Iterator[str]:
    """A Markdown table: by the number of neighbours, how much longer programs' hosts take in company; and, of those
    whose cores were looked at, a loop there, and the host without that."""
    host = "programs in mixes | their host's own time, mean | median | longer in"
    yield f"| neighbours | {host} | cores looked at | host | a loop | host without that |"
    yield "|---:" * 9 + "|"
    for number in sorted({one.neighbours for one in found}):
        these = [one for one in found if one.neighbours == number]
        longer = [one.together / one.alone - 1 for one in these]
        over = sum(one > 0 for one in longer)
        cells = [f"{len(longer)}", f"{np.mean(longer):+.0%}", f"{np.median(longer):+.0%}", f"{over}"]
        looked = [(one.together / one.alone, one.loop, one.net) for one in these if one.loop and one.net]
        means = [f"{one:+.0%}" for one in np.mean(looked, axis=0) - 1] if looked else ["-"] * 3
        cells += [f"{len(looked)}", *means]
        yield f"| {number} | {' | '.join(cells)} |".replace("%", " %")
    spread = [one.spread for one in {(one.run, one.tenant): one for one in found}.values()]
    low, middle, high = (_percent(one) for one in np.nanquantile(spread, (0.1, 0.5, 0.9)))
    if slopes := [one.slope for one in {(one.run, one.tenant): one for one in found}.values() if one.slope]:
        told = f"{min(slopes):.2f} to {max(slopes):.2f}, median {np.median(slopes):.2f}"
        yield f"\nHosts follow their cores in {len(slopes)} runs of a program and mode, with slopes of {told}."
    yield f"\nRounds alone differ by {middle} (their host's time, standard deviation, median; {low} to {high})."


def looks_of(run: RunData) -> Iterator[tuple[int, Floats]]:
    """Looks at the tenants' cores in each block, over the run's fast ones; and how many neighbours there were."""
    looks = [one for one in run.telemetry() if one.metric == "core_loop_us"]
    if not looks:
        return
    fast = np.quantile(np.concatenate([one.value for one in looks]), FAST)
    for block in run.blocks:
        for one in looks:
            inside = (block.start_ns <= one.t_ns) & (one.t_ns <= block.end_ns)
            yield len(block.counts) - 1, one.value[inside] / fast


def speeds(found: Sequence[tuple[int, Floats]]) -> Iterator[str]:
    """A Markdown table: how often a core is slow, and how fast it is when it is not, and when it is."""
    yield "| neighbours | looks | slow | the others, median | the slow ones, median |"
    yield "|---:" * 5 + "|"
    for number in sorted({neighbours for neighbours, _ in found}):
        values = np.concatenate([values for neighbours, values in found if neighbours == number])
        slow = values > SLOW
        medians = (f"{np.median(values[which]):.2f}" if which.any() else "-" for which in (~slow, slow))
        yield f"| {number} | {len(values)} | {_percent(float(slow.mean()))} | {' | '.join(medians)} |"


def reason(of: Decomposition, left_ms: float, alone: KeptRows, together: KeptRows) -> str:
    """What its own data say of time that no cause has; empty where they say nothing.

    Either it is next to nothing, or the same side differs by as much from one round to the next: then it changed by
    something else than company. Or it is known where it is, and not why; or nobody recorded that.
    """
    size = abs(left_ms)
    if size < SMALL * of.alone_ms:
        return f"under {100 * SMALL:g} % of its time alone"
    for where, rows in (("alone", alone), ("in company", together)):
        least, most = _by_round(rows, rows.response, of.statistic)
        if most - least < size:
            continue
        words = f"{where} its rounds are {least:.3g} to {most:.3g} ms"
        for column in (rows.service - rows.waited, rows.rest):
            least_host, most_host = _by_round(rows, column, "mean")
            if most_host - least_host > HOST * (most - least):  # never where it is not told
                return f"{words}, its host's time in them {least_host:.3g} to {most_host:.3g} ms"
        return words
    before, after = (_host_ms(rows) for rows in (alone, together))
    if of.statistic == "mean" and abs(after - before - left_ms) < HOST * size:  # never where it is not told
        return f"in no wait for the device its host took {after:.3g} ms, alone {before:.3g}"
    unknown = np.isnan(before) and np.isnan(alone.device).any()
    return "no record of its waits for the device" if unknown else ""


def _host_ms(rows: KeptRows, number: int | None = None) -> float:
    """Mean of what is no wait for the device, of all rounds or one; NaN where no waits are told."""
    here = rows.round == number if number is not None else np.full(len(rows.round), True)
    return float(np.average((rows.service - rows.waited)[here], weights=rows.weight[here]))


def recorded_of(alone: KeptRows, together: KeptRows) -> str:
    """What is told on both sides: the device's stopwatch, launches and waits, the core's wait, samples of the host."""
    told = {
        "stopwatch": [rows.device for rows in (alone, together)],
        "waits": [rows.waited for rows in (alone, together)],
        "core's wait": [rows.core_wait for rows in (alone, together)],
        "host sampled": [rows.rate("waiting") for rows in (alone, together)],
        "disk's pressure": [rows.rate("io_pressure") for rows in (alone, together)],
    }
    return ", ".join(name for name, sides in told.items() if not any(np.isnan(side).all() for side in sides))


def _by_round(rows: KeptRows, column: Floats, statistic: Statistic) -> tuple[float, float]:
    """The least and the most that a round has of it, ms."""
    found = []
    for number in np.unique(rows.round):
        here = rows.round == number
        values, weight = column[here], rows.weight[here]
        if statistic == "mean":
            found.append(float(np.average(values, weights=weight)))
        else:
            found.append(float(np.quantile(values, QUANTILES[statistic])))
    return min(found), max(found)


def counts(rows: Sequence[Row], limit: float) -> Iterator[str]:
    """A Markdown table: of each statistic how many are within the limit."""
    yield f"| statistic | {_columns(limit)} | largest share |"
    yield "|---|---:|---:|---:|---:|---:|"
    for statistic in STATISTICS:
        these = [row for row in rows if row.statistic == statistic]
        if these:
            most = max(row.share for row in these)
            yield f"| {statistic} | {_counted(these, limit)} | {_percent(most)} |"


def by_folder(rows: Sequence[Row], runs: Mapping[str, int], limit: float) -> Iterator[str]:
    """The same of the means alone, by the folder of the runs; ``runs``: how many each has."""
    yield f"| runs | {_columns(limit)} |"
    yield "|---|---:|---:|---:|---:|"
    for folder, number in runs.items():
        these = [row for row in rows if row.statistic == "mean" and row.folder == folder]
        yield f"| {folder} ({number}) | {_counted(these, limit)} |"


def _columns(limit: float) -> str:
    most = _percent(limit)
    return f"shown to change | under {most} unexplained | that is told to {most}: of them under it | surely beyond"


def _counted(rows: Sequence[Row], limit: float) -> str:
    within, told = sum(row.within(limit) for row in rows), [row for row in rows if row.told(limit)]
    share = f" ({_percent(within / len(rows))})" if rows else ""
    under = f"{len(told)}: {sum(row.within(limit) for row in told)}"
    return f"{len(rows)} | {within}{share} | {under} | {sum(row.surely_beyond(limit) for row in rows)}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def reasons(rows: Sequence[Row], limit: float) -> Iterator[str]:
    """A Markdown table of those beyond the limit: how many have which reason, and in which runs and tenants most."""
    beyond = [row for row in rows if not row.within(limit)]
    yield f"| what their data show | of {len(beyond)} | in | of |"
    yield "|---|---:|---|---|"
    for kind in KINDS:
        these = [row for row in beyond if _kind(row.why) == kind]
        places = (_most(Counter(row.folder for row in these)), _most(Counter(row.tenant for row in these)))
        yield f"| {kind} | {len(these)} | {' | '.join(places)} |"


def _kind(why: str) -> str:
    little, host, rounds, own, unknown, none = KINDS
    starts = {"under": little, "in no": own, "no": unknown}
    otherwise = none if not why else host if "host" in why else rounds
    return next((kind for start, kind in starts.items() if why.startswith(start)), otherwise)


def _most(of: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in Counter(of).most_common(MOST_TOLD))


def outside(rows: Iterable[Row], limit: float) -> Iterator[str]:
    """A Markdown table of those beyond the limit, the largest share first."""
    yield "| run | tenant | mix | mode | of | alone, ms | added, ms | named, ms | left, ms | share | recorded | why |"
    yield "|---|---|---|---|---|---:|---:|---|---:|---:|---|---|"
    for row in sorted(rows, key=lambda row: -row.share):
        if not row.within(limit):
            left = f"{row.unexplained:.3g} ({interval(row.lo, row.hi, 3)})"
            what = f"{row.run} | {row.tenant} | {row.mix} | {row.mode} | {row.statistic}"
            figures = f"{row.alone:.3g} | {row.added:.3g} | {row.parts or 'none'} | {left} | {row.share:.0%}"
            yield f"| {what} | {figures} | {row.records} | {row.why} |"


def recorded(places: Iterable[Path]) -> list[Path]:
    """Run directories in and below them."""
    return sorted({found.parent for place in places for found in place.rglob("run.json")})


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints both tables; 1 if anything is beyond the limit."""
    parser = argparse.ArgumentParser(prog="python -m bench addsup", description=__doc__.partition("\n\n")[0])
    parser.add_argument("places", nargs="*", type=Path, default=[EXAMPLES], help="runs, or folders of them")
    parser.add_argument("--limit", type=float, default=LIMIT, help="share that may be unexplained")
    parser.add_argument("--out", type=Path, help="all rows as JSON")
    options = parser.parse_args(arguments)
    runs = recorded(options.places)
    folders = {run: _folder(run, options.places) for run in runs}
    rows, programs, looks = list[Row](), list[Host](), list[tuple[int, Floats]]()
    for run in runs:
        data = open_run(run)
        seen: Mapping[str, RunData] = views(data) or {"": data}
        for mode, view in seen.items():
            name = f"{_name(run)}, {mode}" if mode else _name(run)
            rows += rows_of(name, view, options.limit, folders[run])
            programs += hosts_of(name, view)
        looks += looks_of(data)
    print(f"{len(runs)} runs\n\n" + "\n".join(counts(rows, options.limit)))
    print("\n" + "\n".join(by_folder(rows, Counter(folders.values()), options.limit)))
    if programs:
        print("\n" + "\n".join(hosts(programs)))
    if looks:
        print("\n" + "\n".join(speeds(looks)))
    if any(not row.within(options.limit) for row in rows):
        print("\n" + "\n".join((*reasons(rows, options.limit), "", *outside(rows, options.limit))))
    if options.out is not None:
        options.out.write_bytes(msgspec.json.format(msgspec.json.encode(rows), indent=1) + b"\n")
    return int(any(not row.within(options.limit) for row in rows))


def _folder(run: Path, places: Iterable[Path]) -> str:
    """Below which of ``places`` runs of its kind are; ``validation/evaluation``."""
    of = (run.parent if run.name == "run" else run).parent
    place = next(one for one in places if run.is_relative_to(one))
    return of.relative_to(place).as_posix() if of.is_relative_to(place) else "."


def _name(run: Path) -> str:
    """``h200-open-3``; of a folder called ``run`` what it is the run of."""
    run = run.resolve()
    return f"{run.parents[1].name}/{run.parent.name}" if run.name == "run" else run.name


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
