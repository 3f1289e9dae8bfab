"""`kts probe`: how this GPU is shared, and who is on it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kts.cli.options import Json
from kts.errors import DataError, UsageError

if TYPE_CHECKING:
    from kts.model.plan import DeviceChoice
    from kts.physics.probe import Findings
    from kts.physics.values import Interval
    from kts.worker.probe.traces import Readings

DEVICES: tuple[DeviceChoice, ...] = ("auto", "cuda", "cpu")


def probe(
    *,
    who: Annotated[bool, typer.Option("--who", help="Say who is on the device now, and nothing else.")] = False,
    device: Annotated[str, typer.Option(help="auto, cuda or cpu (one core, labelled as such).")] = "auto",
    seconds: Annotated[
        float, typer.Option(help="Time to watch beside each number of neighbours.", min=0.1, max=60.0)
    ] = 0.8,
    neighbours: Annotated[int, typer.Option(help="Most neighbours of its own.", min=1, max=8)] = 4,
    looks: Annotated[int, typer.Option(help="With --who: short looks, one a second.", min=1, max=3600)] = 5,
    watch: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="With --who: one watch without a break instead, which can tell periods but takes turns all the time.",
            min=0.01,
            max=600.0,
            show_default=False,
        ),
    ] = None,
    anyway: Annotated[bool, typer.Option("--anyway", help="Measure although somebody is on the device.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the fingerprint here, not to the user's data.", show_default=False),
    ] = None,
    fingerprint: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --who: this fingerprint, not the one kept.", show_default=False),
    ] = None,
    save_readings: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep what was seen, for --from.", show_default=False)
    ] = None,
    from_file: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="Measure nothing: use these readings.", show_default=False),
    ] = None,
    listing: Annotated[bool, typer.Option("--list", help="List the fingerprints kept here.")] = False,
    as_json: Json = False,
) -> None:
    """Measure how this GPU is shared, or say who is on it.

    Time slice, switch costs and timer, with intervals: a few seconds of a GPU that nobody else uses. --who takes as
    many short turns as it has looks. Neither needs any privilege, nor torch.
    """
    choice = _choice(device)
    if sum((who, from_file is not None, listing)) > 1:
        raise UsageError("--who, --from and --list exclude each other", "give one of them")
    if (watch is not None or fingerprint is not None) and not who:
        raise UsageError("--watch and --fingerprint belong to --who", "kts probe --who --watch 2")
    if listing:
        _list(as_json)
    elif who:
        _who(choice, looks, watch, fingerprint, as_json)
    else:
        from kts.files import replace

        if from_file:
            taken, content = _read(from_file)
        else:
            taken = _measure(choice, seconds, neighbours, anyway, as_json)
            content = _content(taken)
        if save_readings is not None:
            replace(save_readings, _content(taken))
        _fingerprint(taken, content, out, as_json)


def _choice(device: str) -> DeviceChoice:
    for known in DEVICES:
        if device == known:
            return known
    raise UsageError(f"--device: no device {device!r}", f"known: {', '.join(DEVICES)}")


def _measure(device: DeviceChoice, seconds: float, neighbours: int, anyway: bool, as_json: bool) -> Readings:
    from kts import __version__
    from kts.cli.output import say
    from kts.worker.detect import choose_kind
    from kts.worker.environment import sharing_mode
    from kts.worker.probe.place import cores_for
    from kts.worker.probe.session import Course, measure

    kind = choose_kind(device)
    quiet = as_json or not sys.stderr.isatty()
    return measure(
        kind,
        sharing_mode(device),
        course=Course(seconds=seconds, most=neighbours),
        cores=cores_for(kind),
        anyway=anyway,
        say=(lambda _: None) if quiet else (lambda step: say(f"watching {step} ...")),
        kts=__version__,
    )


def _fingerprint(taken: Readings, content: bytes, out: Path | None, as_json: bool) -> None:
    from msgspec.structs import replace

    from kts import files
    from kts.cli.output import print_json, say
    from kts.model.provenance import material
    from kts.physics.probe import findings
    from kts.store import origin
    from kts.store.fingerprints import directory, keep

    found = findings(taken)
    seen = material("readings", taken.device.uuid or taken.device.name, content, taken.created_ns)
    mark = replace(found.fingerprint, provenance=origin.here().of([seen]))
    found = replace(found, fingerprint=mark)
    if out is None:
        path = keep(mark, directory(os.environ))
    else:
        path = out
        files.replace(out, files.encode(mark))
    if as_json:
        print_json({"file": str(path), **_fields(found)})
    else:
        for line in lines(found):
            sys.stdout.write(line + "\n")
    say(f"kept as {path}")


def _fields(found: Findings) -> dict[str, object]:
    return {name: getattr(found, name) for name in found.__struct_fields__}


def lines(found: Findings) -> list[str]:
    """What a fingerprint says, for people."""
    mark = found.fingerprint
    rows = [("time slice", _figure(mark.slice_ms), f"from {mark.slices} turns")]
    rows += [
        (f"switch beside {n}", _figure(cost), "a slice is over" if n == 1 else "")
        for n, cost in enumerate(mark.preempt_ms, 1)
    ]
    rows += [("yielding", _figure(mark.yield_ms[0]), "a queue ran empty")]
    rows += [("waking", _figure(cost), "idle, and another was there last") for cost in mark.wake_ms]
    rows += [("between kernels", _figure(mark.launch_gap_ms), "both queued")]
    if mark.timer_resolution_ns is not None:
        rows.append(("timer step", f"{mark.timer_resolution_ns:g} ns", ""))
    text = [f"{mark.gpu.label or mark.gpu.name}, {mark.mode}{f', driver {mark.gpu.driver}' if mark.gpu.driver else ''}"]
    text += [f"  {name:<18}{figure:<34}{note}".rstrip() for name, figure, note in rows]
    text += [f"  note: {note}" for note in found.notes]
    return [*text, f"  {mark.how}; 95 % intervals"]


def _figure(figure: Interval) -> str:
    from kts.units import format_ms

    return f"{format_ms(figure.value)} [{format_ms(figure.lo)}, {format_ms(figure.hi)}]"


def _who(device: DeviceChoice, looks: int, watch: float | None, file: Path | None, as_json: bool) -> None:
    from kts.cli.output import print_json
    from kts.physics.probe import sharing_of
    from kts.store.fingerprints import directory, find, read
    from kts.worker.detect import choose_kind
    from kts.worker.environment import sharing_mode
    from kts.worker.probe.place import cores_for
    from kts.worker.probe.who import answer, look

    kind = choose_kind(device)
    mode = sharing_mode(device)
    mark = None if file is None else read(file)
    seen = look(kind, mode, looks=looks, watch_s=watch, cores=cores_for(kind))
    if mark is None:
        mark = find(seen.device.uuid, seen.device.driver, mode, directory(os.environ))
    found = answer(seen, sharing_of(mark) if mark else None)
    if as_json:
        print_json(found)
        return
    sys.stdout.write(found.sentence + "\n")
    if mark is None:
        sys.stdout.write("  without a fingerprint of this device, its slice is taken from what was seen: kts probe\n")


def _list(as_json: bool) -> None:
    from kts.cli.output import print_json
    from kts.store.fingerprints import directory, kept

    folder = directory(os.environ)
    found = list(kept(folder))
    if as_json:
        print_json(
            {str(path): mark if not isinstance(mark, DataError) else {"error": mark.what} for path, mark in found}
        )
        return
    for path, mark in found:
        if isinstance(mark, DataError):
            sys.stdout.write(f"{path.name}: {mark.what}\n")
        else:
            slices = f"slice {_figure(mark.slice_ms)}"
            sys.stdout.write(f"{path.name}: {mark.gpu.label}, {mark.mode}, {slices}\n")
    if not found:
        sys.stdout.write(f"none in {folder}; kts probe makes one\n")


def _read(path: Path) -> tuple[Readings, bytes]:
    """The readings, and the file's content. DataError."""
    from kts import files
    from kts.physics.probe import decode_readings

    raw = files.read(path, "give a file that kts probe --save-readings wrote")
    return decode_readings(raw, str(path)), raw


def _content(taken: Readings) -> bytes:
    """Of the file that --save-readings writes."""
    import msgspec

    return msgspec.json.encode(taken) + b"\n"
