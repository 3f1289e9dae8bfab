"""What the probe's figures are worth: is the slice the same each time, are neighbours counted, whom does it disturb.

- slice: fingerprints one after the other, each with processes of its own; their slices and switch costs, and the
  spread of the slices. The bar: 2 %.
- count: beside 0 to 4 saturating neighbours, many probes of five looks each (without the second between two looks, so
  that many fit), with the fingerprint and without, and short watches. The bar: 95 % right.
- burst: what a watch says of a neighbour whose bursts are known.
- effect: latency of a tenant, in blocks without and with `python -m kts.worker.probe --who` (its start included),
  in the order A B B A. One tenant that is always busy, one that pauses. The bar: 1 % of p99.

Where somebody else uses the device, all of it shows that.

    python -m bench probe
    python -m bench probe --device cpu --only count --probes 10
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from kts.model.plan import DeviceChoice, Kernel
from kts.physics.values import Interval
from kts.units import format_ms
from kts.worker.detect import DeviceKind, choose, choose_kind
from kts.worker.probe.gaps import SliceCosts, count
from kts.worker.probe.neighbours import Neighbourhood, cores_for, gather
from kts.worker.probe.serve import Order
from kts.worker.probe.traces import BLIP_NS, Looks
from kts.worker.probe.who import ENOUGH, LOOK_S
from kts.worker.sharing import before

PARTS = ("slice", "count", "burst", "effect")
LOOKS = 5
MOST = 4
BAR = 0.01
SLOW = 1.05
Floats = NDArray[np.float64]


def slices(kind: DeviceKind, mode: str, repeats: int, seconds: float, keep: Path | None) -> SliceCosts | None:
    """Fingerprints, one line each; the first one's sharing."""
    from kts.physics.probe import findings, sharing_of
    from kts.worker.probe.session import ProbeEffort, measure

    found, first = [], None
    for i in range(repeats):
        began = time.monotonic()
        taken = measure(kind, mode, effort=ProbeEffort(seconds=seconds), cores=cores_for(kind), anyway=True)
        took = time.monotonic() - began
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            (keep / f"readings-{i}.json").write_bytes(msgspec.json.encode(taken) + b"\n")
        result = findings(taken)
        mark = result.fingerprint
        costs = ", ".join(map(_us, mark.preempt_ms))
        print(
            f"  {i}: slice {mark.slice_ms.value:.4f} [{mark.slice_ms.lo:.4f}, {mark.slice_ms.hi:.4f}] ms; "
            f"switch beside 1 to {len(mark.preempt_ms)}: {costs}; yield {_us(mark.yield_ms[0])}; wake "
            f"{_us(mark.wake_ms[0]) if mark.wake_ms else '-'}; launch gap {mark.launch_gap_ms.value * 1e6:.0f} ns; "
            f"timer {mark.timer_resolution_ns:g} ns; alone away {result.away_alone:.2%}; took {took:.1f} s",
            flush=True,
        )
        for crowd in result.crowds:
            print(
                f"     beside {crowd.neighbours}: {crowd.turns} turns, on {crowd.on_ms:.4f} ms, "
                f"off {crowd.off_ms:.4f} ms, a switch from the gaps {crowd.switch_from_gaps_ms * 1e3:.0f} us; "
                f"counted {crowd.counted} ({crowd.sure:.0%})"
            )
        for note in result.notes:
            print(f"     note: {note}")
        if i == 0:
            print(f"     {mark.gpu.label}, driver {mark.gpu.driver or '-'}, {mark.mode}; {mark.how}")
        found.append(mark.slice_ms.value)
        first = first or sharing_of(mark)
    if found:
        middle = float(np.median(found))
        worst = max(abs(value / middle - 1) for value in found)
        print(f"  slice over {len(found)} probes: median {middle:.4f} ms, farthest off {worst:.2%} (bar 2 %)")
    return first


def _us(cost: Interval) -> str:
    return f"{cost.value * 1e3:.0f} [{cost.lo * 1e3:.0f}, {cost.hi * 1e3:.0f}] us"


def counts(kind: DeviceKind, mode: str, probes: int, known: SliceCosts | None) -> None:
    """A table: right counts by number of neighbours and way of probing."""
    rng = np.random.default_rng(0)
    ways: dict[str, Callable[[Looks], int]] = {"looks": lambda seen: count(seen).neighbours}
    if known is not None:
        ways["looks, fingerprint known"] = lambda seen: count(seen, known).neighbours
    right: dict[str, list[int]] = {name: [] for name in (*ways, "watch of 0.1 s")}
    limit_s = LOOK_S * ENOUGH[kind]
    with Neighbourhood(kind, MOST, cores_for(kind)) as here:
        for n in range(MOST + 1):
            busy = here.neighbours[:n]
            gather(busy, Order(do="saturate", threshold_ns=BLIP_NS[kind]))
            hits = dict.fromkeys(right, 0)
            for _ in range(probes):
                looks = []
                for _ in range(LOOKS):
                    time.sleep(rng.uniform(0.002, 0.02))
                    request = Order(do="watch", seconds=limit_s, threshold_ns=BLIP_NS[kind], enough=ENOUGH[kind])
                    looks.append(here.watcher.trace(request))
                seen = Looks(device=here.device, mode=mode, blip_ns=BLIP_NS[kind], kind="looks", looks=tuple(looks))
                for name, way in ways.items():
                    hits[name] += way(seen) == n
                trace = here.watcher.trace(Order(do="watch", seconds=0.1, threshold_ns=BLIP_NS[kind]))
                watched = Looks(
                    device=here.device,
                    mode=mode,
                    blip_ns=BLIP_NS[kind],
                    kind="watch",
                    looks=(trace,),
                )
                hits["watch of 0.1 s"] += count(watched, known).neighbours == n
            gather(busy, Order(do="stop"))
            for name, hit in hits.items():
                right[name].append(hit)
    print(f"  {'neighbours':<28}{''.join(f'{n:>7}' for n in range(MOST + 1))}   all (bar 95 %)")
    for name, hits_by_n in right.items():
        total = probes * (MOST + 1)
        share = sum(hits_by_n) / total
        print(f"  {name:<28}{''.join(f'{hit / probes:>7.0%}' for hit in hits_by_n)}   {share:.1%} of {total}")


def patterns(kind: DeviceKind, mode: str, known: SliceCosts | None) -> None:
    """What a watch of 1.5 s says of bursts of known length."""
    from kts.worker.probe.who import sentence

    with Neighbourhood(kind, 2, cores_for(kind)) as here:
        for saturating in (0, 1):
            for length_ms, pause_ms in ((0.5, 15.0), (1.5, 15.0), (5.0, 25.0)):
                gather(here.neighbours[1 : 1 + saturating], Order(do="saturate", threshold_ns=BLIP_NS[kind]))
                bursting = here.neighbours[0]
                bursting.ask(Order(do="bursts", length_ns=round(length_ms * 1e6), pause_s=pause_ms / 1e3, seed=1))
                trace = here.watcher.trace(Order(do="watch", seconds=1.5, threshold_ns=BLIP_NS[kind]))
                pairs = np.array(bursting.ask(Order(do="stop")).pairs, dtype=np.int64)
                gather(here.neighbours[1 : 1 + saturating], Order(do="stop"))
                seen = Looks(device=here.device, mode=mode, blip_ns=BLIP_NS[kind], kind="watch", looks=(trace,))
                found = count(seen, known)
                inside = pairs[(pairs[:, 0] > trace.start_ns) & (pairs[:, 1] < trace.end_ns)]
                every = float(np.diff(inside[:, 0]).mean()) / 1e6 if len(inside) > 1 else float("nan")
                print(f"  {saturating} saturating + bursts of {length_ms:g} ms, on average every {format_ms(every)}:")
                print(f"    {sentence(found, seen)}")


def effect(kind: DeviceKind, pairs: int, seconds: float) -> None:
    """A table: what a probe changes in each tenant's latency."""
    with contextlib.ExitStack() as stack:
        tenants = {
            name: stack.enter_context(_tenant(kind, target_ms, think_ms))
            for name, target_ms, think_ms in (("always busy, fft", 1.0, 0.0), ("paced, fft", 1.0, 6.0))
        }
        for name, ask in tenants.items():
            ask(0.5)
            plain: list[Floats] = []
            probed: list[Floats] = []
            for pair in range(pairs):
                for arm in (plain, probed) if pair % 2 == 0 else (probed, plain):
                    if arm is plain:
                        plain.append(ask(seconds))
                    else:
                        with _looking(kind, looks=max(int(seconds) - 2, 1)):
                            probed.append(ask(seconds))
            _print_effect(name, plain, probed)


def _print_effect(name: str, timed: Sequence[Floats], timed_probed: Sequence[Floats]) -> None:
    plain, probed = ([block[:, 1] for block in blocks] for blocks in (timed, timed_probed))
    total = sum(map(len, plain)), sum(map(len, probed))
    print(f"  {name}: {total[0]} iterations without, {total[1]} with; p50 {format_ms(_quantile(plain, 0.5))}")
    rng = np.random.default_rng(0)
    n = len(plain)
    for level in (0.5, 0.99, 0.999):
        change = _quantile(probed, level) / _quantile(plain, level) - 1
        again = []
        for _ in range(1000):
            rows = rng.integers(0, n, n)
            again.append(_quantile([probed[r] for r in rows], level) / _quantile([plain[r] for r in rows], level) - 1)
        low, high = np.quantile(again, [0.025, 0.975])
        verdict = ""
        if level == 0.99:
            verdict = "  ok" if high <= BAR else "  over" if low > BAR else "  undecided"
        print(
            f"    p{level * 100:g}: {format_ms(_quantile(plain, level))} -> {format_ms(_quantile(probed, level))}, "
            f"{change:+.2%} [{low:+.2%}, {high:+.2%}]{verdict}",
            flush=True,
        )
    slow = [block[block[:, 1] > SLOW * _quantile(plain, 0.99), 0] for block in timed_probed]
    tenths = Counter(int(10 * second) for block in slow for second in block)
    when = ", ".join(f"{tenth / 10:g} s: {n_slow}" for tenth, n_slow in sorted(tenths.items()))
    print(f"    slower than {SLOW:g} times the p99 without, by tenths of a second after the probe was begun: {when}")


def _quantile(blocks: Sequence[Floats], level: float) -> float:
    return float(np.quantile(np.concatenate(blocks), level))


@contextlib.contextmanager
def _looking(kind: DeviceKind, looks: int) -> Iterator[None]:
    """A probe beside what happens inside; what happens inside must not end before it."""
    command = [sys.executable, "-m", "kts.worker.probe", "--who", "--device", kind, "--looks", str(looks)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield
    finally:
        late = process.poll() is None
        _, said = process.communicate(timeout=60)
        if process.returncode:
            raise RuntimeError(f"the probe failed: {said.strip()}")
        if late:
            print("    (a probe went on after its block)")


@contextlib.contextmanager
def _tenant(kind: DeviceKind, target_ms: float, think_ms: float) -> Iterator[Callable[[float], Floats]]:
    """A tenant in a process of its own: a function that runs it for so many seconds and returns when each iteration
    began (s, from the first on) and how long it took (ms), shape ``(n, 2)``."""
    cores = cores_for(kind)
    env = {**os.environ, **({"KTS_CORES": ",".join(map(str, cores))} if cores else {})}
    command = [sys.executable, "-m", "bench.probe", "--tenant", f"{target_ms}:{think_ms}", "--device", kind]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout
    print(f"  tenant: {stdout.readline().strip()}", flush=True)

    def ask(seconds: float) -> Floats:
        stdin.write(f"{seconds}\n")
        stdin.flush()
        return np.array(json.loads(stdout.readline())).reshape(-1, 2)

    try:
        yield ask
    finally:
        stdin.close()
        process.wait(timeout=30)


def _be_tenant(device: DeviceChoice, what: str) -> None:
    """Runs for as many seconds as each line of stdin says, and prints when iterations began and their service times."""
    from kts.worker.calibrate import Bench, calibrate
    from kts.worker.devices import open_device
    from kts.worker.loop import no_garbage_collection
    from kts.worker.prepare import prepare

    prepare(os.environ)
    target_ms, think_ms = map(float, what.split(":"))
    opened = open_device(*choose(device, "auto"))
    bench = Bench(opened, "fft", lambda: None)
    size, solo_ms, _ = calibrate(bench, Kernel(workload="fft", target_ms=target_ms), think_ms)
    operation = bench.operation
    assert operation is not None
    print(f"fft {size}, {solo_ms:.2f} ms, pauses of about {think_ms:g} ms, {opened.info().label}", flush=True)
    rng = np.random.default_rng(0)
    for line in sys.stdin:
        latencies = []
        started = time.monotonic()
        end = started + float(line)
        with no_garbage_collection():
            while time.monotonic() < end:
                begin = time.monotonic_ns()
                operation()
                opened.end()
                opened.wait()
                latencies.append((round(begin / 1e9 - started, 6), (time.monotonic_ns() - begin) / 1e6))
                if think_ms:
                    time.sleep(rng.uniform(0.5, 1.5) * think_ms / 1e3)
        print(json.dumps(latencies), flush=True)


def main(argv: Sequence[str] = ()) -> None:
    """Prints one section per part."""
    parser = argparse.ArgumentParser(prog="python -m bench probe")
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto")
    parser.add_argument("--only", choices=PARTS, action="append", help="a part; may be given several times")
    parser.add_argument("--repeats", type=int, default=4, help="fingerprints")
    parser.add_argument("--seconds", type=float, default=0.5, help="watching beside each number of neighbours")
    parser.add_argument("--probes", type=int, default=20, help="per number of neighbours")
    parser.add_argument("--pairs", type=int, default=4, help="of blocks without and with a probe")
    parser.add_argument("--block-seconds", type=float, default=4.0)
    parser.add_argument("--readings", type=Path, help="keep the fingerprints' readings in this folder")
    parser.add_argument("--tenant", help=argparse.SUPPRESS)
    options: Any = parser.parse_args(argv)
    if options.tenant:
        _be_tenant(options.device, options.tenant)
        return
    kind, mode = choose_kind(options.device), before(options.device).likely
    parts = options.only or PARTS
    began = time.monotonic()
    known = None
    for part in PARTS:
        if part not in parts:
            continue
        print(f"{part}:", flush=True)
        if part == "slice":
            known = slices(kind, mode, options.repeats, options.seconds, options.readings)
        elif part == "count":
            counts(kind, mode, options.probes, known)
        elif part == "burst":
            patterns(kind, mode, known)
        else:
            effect(kind, options.pairs, options.block_seconds)
    print(f"took {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
