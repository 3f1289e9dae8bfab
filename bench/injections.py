"""How often the cause that a report names is the right one: blind trials by real processes.

A trial is a run of a few seconds: a tenant alone and in company, in turns. While it has company something is done to it
(`bench.injectors.catalog`), or nothing. The run's name is drawn by lot, and what was done stands in a file apart (KEY):
`judge` gets the run's directory and nothing else. Its answer is right where the cause that the report puts first is
what was done; of clean runs, and beside a neighbour that is paused, where it names none.

Every fourth trial is one of which nothing may be claimed. What cannot be done on this machine is told, and left out.

    python -m bench injections --trials 100 --seed 1 --out injections.json
    python -m bench injections --device cuda --trials 14 --out injections.json
    python -m bench injections --only "CPU quota" --trials 3 --keep runs
    python -m bench injections --again runs                    # judges these runs anew
    python -m bench injections --tell examples/injections/cpu.json
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, get_args

import msgspec

from bench.injectors import cgroups
from bench.injectors.catalog import INJECTIONS, Injection
from bench.injectors.judge import Verdict, judge
from bench.injectors.stage import Device, Stage, Victim
from bench.injectors.tools import Did
from kts.errors import KtsError

KEY, ABOUT = "key.jsonl", "about.json"
CLEAN_EVERY = 4
_DEADLINE_S = 90


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """What was done in the run of that name. ``load``: the machine's load average when it began. ``failed``: the end
    of what kts said where it did not measure."""

    run: str
    injection: str
    victim: Victim
    device: Device
    settings: dict[str, float]
    did: tuple[Did, ...]
    load: float
    took_s: float
    failed: str = ""


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """A key, and what was said without it. ``right``: None where the trial failed."""

    key: Key
    verdict: Verdict | None
    right: bool | None


def lots(
    injections: Sequence[str], device: Device, trials: int, rng: random.Random, only: Victim | None = None
) -> list[tuple[str, Victim]]:
    """What is done to whom: all as often, every fourth with nothing to claim; in random order. ``only``: to that."""
    every = [
        (name, victim)
        for name in injections
        for victim in INJECTIONS[name].victims[device]
        if only is None or victim == only
    ]
    if not every:
        return []
    acts = [one for one in every if INJECTIONS[one[0]].right]
    idle = [one for one in every if not INJECTIONS[one[0]].right]
    clean = trials // CLEAN_EVERY if acts and idle else 0 if acts else trials
    drawn = [_nth(acts, i) for i in range(trials - clean)] + [_nth(idle, i) for i in range(clean)]
    rng.shuffle(drawn)
    return drawn


def _nth(of: Sequence[tuple[str, Victim]], i: int) -> tuple[str, Victim]:
    """Each name as often as the others, whatever number of victims it has."""
    names = list(dict.fromkeys(name for name, _ in of))
    name = names[i % len(names)]
    victims = [victim for one, victim in of if one == name]
    return name, victims[i // len(names) % len(victims)]


def run(name: str, victim: Victim, device: Device, rng: random.Random, runs: Path) -> Key:
    """One trial, whose run is then in ``runs`` under a name that says nothing."""
    load, begun, run_id = os.getloadavg()[0], time.monotonic(), uuid.uuid4().hex[:12]
    with tempfile.TemporaryDirectory(prefix="kts-") as scratch:
        stage = Stage(Path(scratch), device, victim, rng)
        with INJECTIONS[name].play(stage):
            file = stage.folder / "trial.yaml"
            file.write_text(stage.experiment(), encoding="utf-8")
            argv = [sys.executable, "-m", "kts", "run", str(file), "--out", str(runs / run_id), "--no-figures"]
            with stage.played():
                failed = _failure(argv, stage.env)
    return Key(
        run=run_id,
        injection=name,
        victim=victim,
        device=device,
        settings=stage.settings,
        did=tuple(stage.did),
        load=round(load, 2),
        took_s=round(time.monotonic() - begun, 1),
        failed=failed,
    )


def _failure(argv: Sequence[str], env: dict[str, str]) -> str:
    try:
        done = subprocess.run(
            argv, env=os.environ | env, capture_output=True, text=True, timeout=_DEADLINE_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"not over after {_DEADLINE_S} s"
    return done.stderr.strip()[-500:] if done.returncode else ""


def scored(key: Key, runs: Path) -> Trial:
    """The judge's answer held against the key."""
    if key.failed:
        return Trial(key=key, verdict=None, right=None)
    verdict = judge(runs / key.run)
    return Trial(key=key, verdict=verdict, right=INJECTIONS[key.injection].answered(key.device, verdict.first))


def applicable(device: Device, only: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Names of those that can be done here; why the others cannot."""
    reasons = {name: _why_not(one, device) for name, one in INJECTIONS.items() if not only or name in only}
    return [name for name, why in reasons.items() if not why], {name: why for name, why in reasons.items() if why}


def _why_not(injection: Injection, device: Device) -> str:
    return injection.why_not(device) if injection.victims[device] else f"makes no sense on {device}"


def account(trials: Sequence[Trial]) -> list[str]:
    """Lines of a table: how often each was answered rightly, and what was said instead."""
    lines = ["| injected | trials | right | added to the mean, ms | said instead |", "|---|---:|---:|---:|---|"]
    for name in INJECTIONS:
        these = [(trial.verdict, trial.right) for trial in trials if trial.key.injection == name and trial.verdict]
        if not these:
            continue
        wrong = ", ".join(sorted(verdict.first or "none" for verdict, right in these if not right))
        added = sorted(verdict.added_ms for verdict, _ in these if verdict.added_ms is not None)
        span = f"{added[0]:.1f} to {added[-1]:.1f}" if added else ""
        lines.append(f"| {name} | {len(these)} | {sum(bool(right) for _, right in these)} | {span} | {wrong} |")
    for title, injected in (("the true cause first", True), ("no cause where there is none", False)):
        answers = [
            trial.right
            for trial in trials
            if trial.right is not None and bool(INJECTIONS[trial.key.injection].right) == injected
        ]
        if answers:
            share = f"{sum(answers) / len(answers):.1%}".replace("%", " %")
            lines.append(f"| **{title}** | {len(answers)} | {sum(answers)} | | {share} |")
    return lines


def told(path: Path) -> list[Trial]:
    """The trials in a file of ours."""
    return msgspec.convert(json.loads(path.read_text(encoding="utf-8"))["trials"], list[Trial])


def main(argv: Sequence[str] = ()) -> int:
    """Runs the trials, then judges all of them."""
    parser = argparse.ArgumentParser(prog="python -m bench injections", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=get_args(Device), default="cpu")
    parser.add_argument("--only", action="append", choices=tuple(INJECTIONS), default=[])
    parser.add_argument("--victim", choices=get_args(Victim), help="upon these alone")
    parser.add_argument("--weight", type=int, metavar="N", help="N times others' share of the CPU, on a busy machine")
    parser.add_argument("--seconds", type=float, help="begin no trial later than this")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where the runs stay")
    parser.add_argument("--again", type=Path, metavar="FOLDER", help="judge the runs there, and make none")
    parser.add_argument("--tell", type=Path, metavar="FILE.json", help="the account of these trials, and no more")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    options = parser.parse_args(argv)
    if options.tell:
        print("\n".join(account(told(options.tell))))
        return 0
    made = nullcontext(str(options.again or options.keep or "")) if options.again or options.keep else None
    with made or tempfile.TemporaryDirectory(prefix="kts-") as folder:
        runs = Path(folder)
        if not options.again:
            runs.mkdir(parents=True, exist_ok=True)
            favour = cgroups.favoured(f"kts-{runs.name}", options.weight) if options.weight else nullcontext()
            with favour:
                _measure(options, runs)
        keys = [msgspec.json.decode(line, type=Key) for line in (runs / KEY).read_bytes().splitlines()]
        trials = [scored(key, runs) for key in keys]
        about = json.loads((runs / ABOUT).read_text(encoding="utf-8"))
    print("\n".join(account(trials)))
    if options.out:
        whole = about | {"trials": [msgspec.to_builtins(trial) for trial in trials]}
        options.out.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    return 0


def _measure(options: Any, runs: Path) -> None:
    names, not_here = applicable(options.device, options.only)
    for name, why in not_here.items():
        print(f"not here: {name}: {why}")
    about = {"device": options.device, "seed": options.seed, "weight": options.weight, "not_here": not_here}
    (runs / ABOUT).write_text(json.dumps(about | {"machine": _machine()}), encoding="utf-8")
    (runs / KEY).touch()
    rng, begun = random.Random(options.seed), time.monotonic()
    drawn = lots(names, options.device, options.trials, rng, options.victim)
    for number, (name, victim) in enumerate(drawn, 1):
        if options.seconds is not None and time.monotonic() - begun > options.seconds:
            print(f"out of time before trial {number}")
            break
        try:
            key = run(name, victim, options.device, rng, runs)
        except KtsError as error:
            print(f"{number}: {name} of {victim} failed: {error}", file=sys.stderr)
            continue
        with (runs / KEY).open("ab") as file:
            file.write(msgspec.json.encode(key) + b"\n")
        print(f"{number}/{len(drawn)}: {key.run} {key.took_s} s {key.failed}", flush=True)


def _machine() -> dict[str, Any]:
    return {"cores": len(os.sched_getaffinity(0)), "kernel": os.uname().release}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
