"""How a GPU is shared, and who is on it."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec.structs import replace

from kts import __version__, files
from kts.app.printing import Say, elements, silent
from kts.errors import DataError, SetupError, UsageError
from kts.model.plan import DeviceChoice
from kts.model.provenance import material
from kts.physics.probe import Findings, decode_readings, findings, sharing_of
from kts.physics.values import Fingerprint
from kts.report.fingerprints import figure, findings_elements, presence_elements
from kts.store import fingerprints, origin
from kts.worker.detect import choose_kind
from kts.worker.probe.neighbours import cores_for
from kts.worker.probe.session import ProbeEffort, measure
from kts.worker.probe.traces import Readings
from kts.worker.probe.who import Sighting, answer, look
from kts.worker.sharing import before

DEVICES: tuple[DeviceChoice, ...] = ("auto", "cuda", "cpu")


@dataclass(frozen=True)
class Probed:
    """What a probe told: the fingerprint, in ``file``, and what it rests on. ``problem``: why it is not where it was to
    be kept; empty where it is."""

    file: Path
    findings: Findings
    problem: str = ""

    @property
    def fingerprint(self) -> Fingerprint:
        """How the GPU is shared, for `kts.predict`."""
        return self.findings.fingerprint


elements.register(Probed, lambda result: findings_elements(result.findings))


def probe(
    device: str = "auto",
    *,
    seconds: float = 0.8,
    neighbours: int = 4,
    anyway: bool = False,
    readings: str | Path | None = None,
    save_readings: str | Path | None = None,
    out: str | Path | None = None,
    say: Say = silent,
) -> Probed:
    """Measures how this GPU is shared: time slice, switch costs and timer, with intervals.

    Takes a few seconds of a GPU that nobody else uses, no privilege and no torch. ``device``: auto, cuda or cpu.
    ``seconds``: beside each number of neighbours. ``neighbours``: most of its own. ``anyway``: although somebody is
    on the device. ``readings``: measure nothing, use those that ``save_readings`` wrote. ``out``: the fingerprint's
    file; by default it is kept for this GPU among the user's data. SetupError for what this machine lacks,
    RefusalError where the readings do not support a fingerprint, DataError, UsageError.
    """
    choice = _choice(device)
    if readings is not None:
        content = files.read(Path(readings), "give a file that kts probe --save-readings wrote")
        taken = decode_readings(content, str(readings))
    else:
        taken = _measured(choice, seconds, neighbours, anyway, say)
        content = _content(taken)
    problem = ""
    if save_readings is not None:
        _, problem = _kept(_content(taken), Path(save_readings))
    made = findings(taken)
    source = material("readings", taken.device.uuid or taken.device.name, content, taken.created_ns)
    fingerprint = replace(made.fingerprint, provenance=origin.here().of([source]))
    file, other = _kept(
        files.encode(fingerprint), Path(out) if out is not None else fingerprints.place(fingerprint, folder())
    )
    return Probed(file, replace(made, fingerprint=fingerprint), "; ".join(filter(None, (problem, other))))


def _kept(content: bytes, wanted: Path) -> tuple[Path, str]:
    """Where it was written: as wanted, or where that cannot be, in the current folder, or in a new one for temporary
    files; with the reason. A probe has had the device for itself: what it told is not lost. SetupError."""
    why = ""
    for folder in (wanted.parent, Path(), None):
        try:
            path = (folder or Path(tempfile.mkdtemp(prefix="kts-"))) / wanted.name
            if folder == wanted.parent:
                folder.mkdir(parents=True, exist_ok=True)
            files.replace(path, content)
        except OSError as error:
            why = why or f"{wanted} cannot be written: {error.strerror or error}"
            continue
        return path, f"{why}; kept as {path}" if why else ""
    raise SetupError(why, "give a place that you may write to with --out")


@dataclass(frozen=True)
class Occupants:
    """Who is on a device now. ``fingerprint``: the one its turns were read by; None where there was none of it."""

    answer: Sighting
    fingerprint: Fingerprint | None

    @property
    def sentence(self) -> str:
        """In one sentence."""
        return self.answer.sentence


elements.register(Occupants, lambda of: presence_elements(of.sentence, measured=of.fingerprint is not None))


def who(
    device: str = "auto", *, looks: int = 5, watch_s: float | None = None, fingerprint: str | Path | None = None
) -> Occupants:
    """Who is on the device now, by as many short looks, one a second, or by one watch of ``watch_s``.

    ``fingerprint``: a file, instead of the one that is kept of this device. SetupError for what this machine lacks,
    DataError for the file.
    """
    choice = _choice(device)
    kind, mode = choose_kind(choice), before(choice).likely
    given = None if fingerprint is None else fingerprints.read(Path(fingerprint))
    seen = look(kind, mode, looks=looks, watch_s=watch_s, cores=cores_for(kind))
    known = given or fingerprints.find(seen.device.uuid, seen.device.driver, mode, folder())
    return Occupants(answer(seen, sharing_of(known) if known else None), known)


@dataclass(frozen=True)
class KeptFingerprint:
    """A file that a probe kept here. ``problem``: why it cannot be read, where ``fingerprint`` is None."""

    file: Path
    fingerprint: Fingerprint | None
    problem: str = ""

    @property
    def sentence(self) -> str:
        """What it says, or what is wrong with it, in one line."""
        if (of := self.fingerprint) is None:
            return self.problem
        return f"{of.gpu.label}, {of.mode}, slice {figure(of.slice_ms)}"


def kept_fingerprints() -> list[KeptFingerprint]:
    """The files that probes kept here, by name."""
    return [
        KeptFingerprint(path, None, one.what) if isinstance(one, DataError) else KeptFingerprint(path, one)
        for path, one in fingerprints.kept(folder())
    ]


def folder() -> Path:
    """Where fingerprints are kept."""
    return fingerprints.directory(os.environ)


def _choice(device: str) -> DeviceChoice:
    for one in DEVICES:
        if device == one:
            return one
    raise UsageError(f"--device: no device {device!r}", f"known: {', '.join(DEVICES)}")


def _measured(device: DeviceChoice, seconds: float, neighbours: int, anyway: bool, say: Say) -> Readings:
    kind = choose_kind(device)
    return measure(
        kind,
        before(device).likely,
        effort=ProbeEffort(seconds=seconds, most=neighbours),
        cores=cores_for(kind),
        anyway=anyway,
        say=lambda step: say(f"watching {step} ..."),
        kts=__version__,
    )


def _content(taken: Readings) -> bytes:
    return msgspec.json.encode(taken) + b"\n"
