"""What comes of damaged input: valid files, frames and lines, each changed in many ways and read again.

    python -m bench damage                                    # 2,000 of each reader
    python -m bench damage --inputs 100000 --only journal     # more of one

A reader of what kts itself keeps (``sealed``) must refuse a changed file, name the damage, or give the same figures.
What people and other programs write has no checksum: changed text may be other valid text, and is counted as that.
Inputs are the same for the same seed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from tests.helpers_fuzz import mutations
from tests.helpers_log import framed_log
from tests.helpers_physics import fingerprint, profile
from tests.helpers_report import summary
from tests.helpers_store import CPU, make_outcome, make_records, make_writer
from tests.helpers_telemetry import UUID, exporter_text

from kts import files
from kts.errors import KtsError
from kts.k8s.cluster import kubeconfig
from kts.k8s.cluster.execplugin import credential
from kts.k8s.cluster.identity import Plugin
from kts.k8s.pod.status import stop_reason
from kts.model.cluster import ClusterFacts
from kts.model.run import DeviceInfo, Outcome, WorkerInfo
from kts.model.sharing_facts import GpuSettings, MpsProcess, SharedMachine, SharingFacts, Trial
from kts.model.telemetry import Sample, SourceState
from kts.physics.files import decode_fingerprint, decode_prediction, decode_profile
from kts.plan import build
from kts.spec import load_text
from kts.store import layout, open_run
from kts.store.reader import opening_order
from kts.store.sharingfile import decode_sharing
from kts.telemetry.dcgm import device_values
from kts.watch.calls import CALL, Piece, WatchedProcess
from kts.watch.recording import PieceWriter, RecordedSource
from kts.wire.appline import AppLine, format_line
from kts.wire.applines import AppLines
from kts.wire.framing import Deframer, chunk_records, frame, make_chunk
from kts.wire.messages import Chunk, decode_from_worker, encode
from kts.wire.recording import Launches, Recording, Stretch, format_result, packed, parse_result

SLOW_S = 1.0
"""Of CPU time, for one input."""
ENDS = ("refused", "named", "unchanged", "other", "wrong", "crash", "slow")
_EVERY_S = 10.0


@dataclass(frozen=True)
class Told:
    """What a reader makes of its input: ``value``, which can be compared, and the damage that it names."""

    value: Any
    damage: Sequence[str] = ()


@dataclass(frozen=True)
class Reader:
    """``seed``: a valid input, made in an empty folder that ``read`` is given, too. ``text``: of words, so also changed
    by what they say."""

    what: str
    seed: Callable[[Path], bytes]
    read: Callable[[bytes, Path], Told]
    sealed: bool = False
    text: bool = False


def _recorded(folder: Path, *, close: bool) -> None:
    """A run of two blocks with telemetry."""
    writer = make_writer(folder / "run")
    for tenant in ("fft", "gemm"):
        writer.worker(WorkerInfo(tenant=tenant, pid=1, hostname="h", device=CPU))
    for block, tenants in ((0, ("fft",)), (1, ("fft", "gemm"))):
        for seq, tenant in itertools.product(range(2), tenants):
            writer.records(tenant, block, seq, make_records(5, 5 * seq, (1 + block) * 10**9, seed=len(tenant)))
        writer.samples(
            [
                Sample(
                    t_ns=10**9 * (1 + block) + 10**8 * k,
                    span_ns=10**8,
                    source="nvml",
                    metric="gpu_busy_ratio",
                    scope="device",
                    subject="GPU-1",
                    value=k / 10,
                )
                for k in range(6)
            ]
        )
        writer.source(SourceState(source="nvml", metrics=("gpu_busy_ratio",), polls=6))
        condition = "solo-fft" if block == 0 else "shared-fft+gemm"
        writer.block(make_outcome(block, dict.fromkeys(tenants, 10), condition=condition))
    if close:
        writer.close(Outcome(kind="complete"))
    (folder / "run" / layout.LOCK).unlink(missing_ok=True)


def _as_reported(path: Path) -> Told:
    """All that a report's figures are made of: plan, blocks that count, their records, samples."""
    run = open_run(path)
    blocks = [
        (block, [run.records(tenant, block.index).tobytes() for tenant in sorted(block.counts)])
        for block in run.blocks
        if block.valid
    ]
    samples = [
        (one.source, one.metric, one.subject, one.t_ns.tobytes(), one.span_ns.tobytes(), one.value.tobytes())
        for one in run.telemetry()
    ]
    return Told((run.info.plan, run.info.workers, run.info.mode, blocks, samples), run.damage)


def _of_run(name: str, what: str, *, close: bool = True, text: bool = False) -> Reader:
    """The reader of one file of a run directory."""

    def seed(folder: Path) -> bytes:
        _recorded(folder, close=close)
        return (folder / "run" / name).read_bytes()

    def read(raw: bytes, folder: Path) -> Told:
        (folder / "run" / name).write_bytes(raw)
        return _as_reported(folder / "run")

    return Reader(what, seed, read, sealed=True, text=text)


def _log(raw: bytes, folder: Path) -> Told:
    (folder / "logs").mkdir(exist_ok=True)
    (folder / "logs" / "fft-solo.log").write_bytes(raw)
    return _as_reported(folder / "logs")


def _frames(raw: bytes, _: Path) -> Told:
    """What a chunk carries; its frame is of a connection that checks itself."""
    rows = set()
    for body in Deframer().feed(raw):
        found = decode_from_worker(body)
        if isinstance(found, Chunk):
            rows.add(chunk_records(found).tobytes())
    return Told(rows or {make_records(3).tobytes()})


def _decoded(of: Callable[[bytes, str], Any]) -> Callable[[bytes, Path], Told]:
    return lambda raw, _: Told(msgspec.json.encode(of(raw, "x.json")))


def _lines(raw: bytes, _: Path) -> Told:
    reader = AppLines()
    return Told(
        [said for line in raw.decode(errors="replace").splitlines(keepends=True) for said in reader.read(line) or ()]
    )


def _lines_seed(_: Path) -> bytes:
    wrappers = ("", "[pod/a/b] ", "2023-11-14T22:13:20.000000000Z stdout F ", "Nov 14 22:13:20 host kts[7]: ")
    line = format_line(
        AppLine(app="FFT", i=7, start_ns=17 * 10**17, end_ns=17 * 10**17 + 10**6, device_ms=0.5, phase="solo")
    )
    texts = [wrapper + line for wrapper in wrappers] + [json.dumps({"log": line + "\n", "stream": "stdout"})]
    return "\n".join(texts).encode() + b"\n"


def _events(_: Path) -> bytes:
    lines = [{"monotonic_ns": n, "kind": kind, "tenant": "a"} for n, kind in enumerate(("joined", "opened"))]
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines) * 5


def _read_events(raw: bytes, folder: Path) -> Told:
    (folder / layout.EVENTS).write_bytes(raw)
    return Told(opening_order(folder))


def _recording(_: Path) -> bytes:
    stretch = Stretch(records=make_records(20).tobytes(), issue_ns=packed(np.full(20, 1000)))
    each = packed(np.full(40, 1000))
    launches = Launches(counts=packed(np.full(20, 2)), offset_ns=packed(np.tile([0, 500], 20)), duration_ns=each)
    device = DeviceInfo(kind="cuda", uuid="GPU-1", name="H", label="H", library="torch")
    made = Recording(tenant="a", device=device, size=64, plain=stretch, traced=stretch, launches=launches)
    return format_result(made).encode()


def _read_recording(raw: bytes, _: Path) -> Told:
    return Told(msgspec.msgpack.encode(parse_result(raw.decode(errors="replace"))))


def _sharing(_: Path) -> bytes:
    gpu = GpuSettings(uuid=UUID, name="Test GPU", settings={"compute mode": "default", "power limit": "700 W"})
    daemon = MpsProcess(pid=12, began="7", uid=0, name="nvidia-cuda-mps-control")
    machine = SharedMachine(at_ns=1, gpus=(gpu,), mps=(daemon,), computing=2)
    trial = Trial(harm="fault", others="fall", victim="v", bystander="b", newcomer=True, shown="mps")
    return files.encode(SharingFacts(schema=1, before=machine, after=machine, trials={"mps": (trial,)}))


def _prediction(_: Path) -> bytes:
    return (Path(__file__).parents[1] / "examples/programs/results/llama/prediction.json").read_bytes()


def _kubeconfig(_: Path) -> bytes:
    cluster = {"server": "https://h:6443/p", "tls-server-name": "x"}
    names = {"current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}]}
    users = {"users": [{"name": "c", "user": {"token": "t"}}]}
    return json.dumps({**names, **users, "clusters": [{"name": "c", "cluster": cluster}]}).encode()


def _read_kubeconfig(raw: bytes, folder: Path) -> Told:
    (folder / "config").write_bytes(raw)
    return Told(repr(kubeconfig.access(None, {"KUBECONFIG": str(folder / "config")})))


def _cluster(raw: bytes, _: Path) -> Told:
    return Told(msgspec.json.encode(files.decode(raw, ClusterFacts, "cluster.json", "not a cluster's", "")))


def _experiment(raw: bytes, _: Path) -> Told:
    return Told(msgspec.json.encode(build(load_text(raw.decode(errors="replace"), source="x.yaml").experiment)))


def _pieces(folder: Path) -> bytes:
    """What `kts watch` recorded: 6 pieces of two processes, the second of which ends."""
    path = folder / "made.ktsw"
    both = tuple(WatchedProcess(number=n, pid=100 + n, began_ticks=n, command="python") for n in range(2))
    with PieceWriter(path, node="n", kts="0") as writer:
        for k in range(6):
            calls = np.zeros(50, CALL)
            calls["ns"] = 10**9 * k + 1000 * np.arange(50)
            calls["process"], calls["thread"], calls["function"] = np.arange(50) % (2 if k < 5 else 1), 7, k
            writer.write(Piece(10**9 * (k + 1), calls, both if k == 0 else (), gone=(1,) if k == 4 else ()))
    return path.read_bytes()


def _read_pieces(raw: bytes, folder: Path) -> Told:
    (folder / "read.ktsw").write_bytes(raw)
    with RecordedSource(folder / "read.ktsw") as source:
        pieces = [(piece.calls.tobytes(), *piece[:1], *piece[2:]) for piece in source.pieces()]
    return Told(pieces, list(source.damage))


EXPERIMENT = b"tenants:\n  a: {workload: fft, size: 64}\n  b: {workload: gemm, size: 64, think_ms: 3}\nrounds: 3\n"
OUTCOME = b'{"kind": "failed", "reason": "x", "exit_code": 5}'
CREDENTIAL = b'{"kind": "ExecCredential", "apiVersion": "v", "status": {"token": "t"}}'

READERS = {
    "run.json": _of_run(layout.RUN, "what was measured, and how it ended", text=True),
    "records.journal": _of_run(layout.JOURNAL, "records of a killed run", close=False),
    "records.parquet": _of_run(layout.PARQUET, "records of a finished run"),
    "telemetry.journal": _of_run(layout.TELEMETRY_JOURNAL, "samples of a killed run", close=False),
    "telemetry.parquet": _of_run(layout.TELEMETRY, "samples of a finished run"),
    "log": Reader("a framed log", lambda _: "".join(framed_log(12, 0.0)).encode(), _log, sealed=True),
    "log with echoes": Reader(
        "one that a follower reads", lambda _: "".join(framed_log(8)).encode(), _log, sealed=True
    ),
    "chunks": Reader(
        "records on their way", lambda _: frame(encode(make_chunk(0, 0, make_records(3)))), _frames, sealed=True
    ),
    "lines": Reader("lines of a program, as wrapped", _lines_seed, _lines),
    "events": Reader("events.jsonl", _events, _read_events),
    "recording": Reader("what a profiling worker sends", _recording, _read_recording),
    "watched": Reader("what kts watch recorded", _pieces, _read_pieces, sealed=True),
    "summary": Reader(
        "summary.json",
        lambda _: files.encode(summary()),
        _decoded(lambda raw, name: files.decode(raw, type(summary()), name, "not a summary", "")),
        text=True,
    ),
    "sharing": Reader("sharing.json", _sharing, _decoded(decode_sharing), text=True),
    "profile": Reader(
        "a tenant's profile", lambda _: files.encode(profile("a", 3.0, n=40)), _decoded(decode_profile), text=True
    ),
    "fingerprint": Reader("a GPU's", lambda _: files.encode(fingerprint()), _decoded(decode_fingerprint), text=True),
    "prediction": Reader("a prediction", _prediction, _decoded(decode_prediction), text=True),
    "outcome": Reader("a pod's end", lambda _: OUTCOME, lambda raw, _: Told(repr(stop_reason(raw))), text=True),
    "exec plugin": Reader(
        "a plugin's answer",
        lambda _: CREDENTIAL,
        lambda raw, _: Told(repr(credential(Plugin("x", "v"), raw))),
        text=True,
    ),
    "kubeconfig": Reader("a kubeconfig", _kubeconfig, _read_kubeconfig, text=True),
    "exporter": Reader(
        "an exporter's answer",
        lambda _: exporter_text().encode(),
        lambda raw, _: Told(device_values(raw.decode(errors="replace"), UUID)),
    ),
    "experiment": Reader("an experiment", lambda _: EXPERIMENT, _experiment, text=True),
}


def tried(reader: Reader, raw: bytes, folder: Path, whole: Told) -> tuple[str, BaseException | None]:
    """How reading ``raw`` ended, one of `ENDS`, and what crashed it. ``whole``: what the seed says."""
    begin_s = time.thread_time()
    crash: BaseException | None = None
    try:
        told = reader.read(raw, folder)
    except KtsError:
        end = "refused"
    except Exception as error:
        end, crash = "crash", error
    else:
        same = told.value == whole.value
        end = "named" if told.damage else "unchanged" if same else "wrong" if reader.sealed else "other"
    return ("slow" if time.thread_time() - begin_s > SLOW_S and end != "crash" else end), crash


def campaign(name: str, number: int, seed: int, keep: Path | None = None) -> tuple[Counter[str], float]:
    """How often reading ``number`` changed inputs ended how, and the longest (s). Inputs of bad ends go to ``keep``."""
    reader = READERS[name]
    ends: Counter[str] = Counter()
    longest_s = 0.0
    with tempfile.TemporaryDirectory(prefix="kts-damage-") as temporary:
        folder = Path(temporary)
        raw = reader.seed(folder)
        whole = reader.read(raw, folder)
        if whole.damage:
            raise SystemExit(f"error: {name}: damaged before it was changed: {whole.damage}")
        for count, changed in enumerate(mutations(raw, zlib.crc32(name.encode()) + seed, number, text=reader.text)):
            begin_s = time.thread_time()
            end, crash = tried(reader, changed, folder, whole)
            longest_s = max(longest_s, time.thread_time() - begin_s)
            ends[end] += 1
            if end in {"wrong", "crash", "slow"} and keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{name.replace(' ', '-')}-{end}-{count}").write_bytes(changed)
                print(f"{name}: input {count}: {end}: {crash!r}", file=sys.stderr)
    return ends, longest_s


def table(rows: Iterable[tuple[str, Counter[str], float]]) -> Iterable[str]:
    """Lines of a Markdown table."""
    heads = ("reader", "of", "inputs", "refused", "damage named", "unchanged", "other valid text", "wrong", "crash")
    yield f"| {' | '.join(heads)} | over {SLOW_S:g} s | longest |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    for name, ends, longest_s in rows:
        reader = READERS[name]
        counts = [f"{ends[end]:,}" if end != "other" or not reader.sealed else "" for end in ENDS]
        yield f"| {name} | {reader.what} | {ends.total():,} | {' | '.join(counts)} | {1e3 * longest_s:.0f} ms |"


def main(argv: Sequence[str] = ()) -> int:
    """Prints the table; 1 where any input was read wrong, crashed its reader, or took long."""
    parser = argparse.ArgumentParser(prog="python -m bench damage")
    parser.add_argument("--inputs", type=int, default=2000, help="of each reader")
    parser.add_argument("--only", action="append", choices=READERS, help="this reader; may be repeated")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="a folder for inputs that ended badly")
    asked = parser.parse_args(argv)
    total: Counter[str] = Counter()

    def rows() -> Iterable[tuple[str, Counter[str], float]]:
        for name in asked.only or READERS:
            ends, longest_s = campaign(name, asked.inputs, asked.seed, asked.keep)
            total.update(ends)
            yield name, ends, longest_s

    for line in table(rows()):
        print(line, flush=True)
    return int(any(total[end] for end in ("wrong", "crash", "slow")))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
