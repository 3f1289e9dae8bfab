"""Every reader under mutations of valid files: a value or an error of ours, soon, and never other data in silence.

``KTS_FUZZ=20000`` makes that many mutations per reader instead of a few.
"""

from __future__ import annotations

import base64
import json
import os
import struct
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tests.helpers_fuzz import mutations
from tests.helpers_physics import fingerprint, profile
from tests.helpers_report import matrix_summary, summary
from tests.helpers_store import UID, make_records, write_run
from tests.helpers_telemetry import exporter_text, series

from kts import files
from kts.cli.main import main
from kts.errors import KtsError
from kts.k8s.cluster import kubeconfig
from kts.k8s.cluster.api import Api
from kts.k8s.cluster.execplugin import credential
from kts.k8s.cluster.identity import Plugin
from kts.k8s.pod.status import stop_reason
from kts.model.plan import Kernel, Tenant
from kts.model.run import DeviceInfo
from kts.model.telemetry import Sample, SampleSeries
from kts.physics.draws import sharing, streams
from kts.physics.files import decode_fingerprint, decode_prediction, decode_profile
from kts.physics.predict import Effort, Predictor
from kts.physics.probe import decode_readings, findings
from kts.physics.profiling import profile_of_recording
from kts.plan import build
from kts.spec import ready_made_text
from kts.store import layout
from kts.store.journal import Journal, encode_frame
from kts.store.parquet import ParquetRecords, convert
from kts.store.reader import opening_order
from kts.store.samples import encode_samples, read_samples
from kts.store.samples_parquet import read_parquet, write_parquet
from kts.telemetry.dcgm import device_values
from kts.wire.appline import parse_line
from kts.wire.framing import Deframer, chunk_records, frame, make_chunk
from kts.wire.logframe import app_of, parse_end, parse_meta
from kts.wire.messages import Chunk, decode_from_worker, encode
from kts.wire.recording import PREFIX, Launches, Recording, Stretch, format_result, packed, parse_result
from kts.worker.probe.who import sharing_of

NUMBER = int(os.environ.get("KTS_FUZZ", "0"))
LONGEST_S = 3.0
"""Of one mutated file; a slow machine is allowed for."""
KEPT = Path(__file__).parents[2] / "examples"
RECORDED = "validation/evaluation/h200-1/profiles/graph-p.profile.json"


@dataclass(frozen=True)
class Reader:
    """``seed``: a valid file; ``read``: fed a mutation of it and an empty folder. ``few``: mutations in a short run;
    ``text``: it is JSON."""

    seed: Callable[[Path], bytes]
    read: Callable[[bytes, Path], object]
    few: int = 150
    text: bool = True


def _command(*arguments: str | Path) -> None:
    """In this process; raises what no command may raise."""
    code = main([str(argument) for argument in arguments])
    assert code in {0, 2, 3, 4, 6, 7}, code


def _prediction(_: Path) -> bytes:
    known = {name: profile(name, 3.0) for name in ("fft", "gemm")}
    effort = Effort(iterations=500, budget=2000, replicates=2, replicate_budget=500)
    return files.encode(Predictor(known, fingerprint(), effort).predict([("fft", "gemm")]))


def _recording() -> Recording:
    rows = make_records(20)
    stretch = Stretch(records=rows.tobytes(), issue_ns=packed(np.full(20, 1000)))
    device = DeviceInfo(kind="cuda", uuid="GPU-1", name="H", label="H", library="torch")
    each = packed(np.full(40, 1000))
    launches = Launches(counts=packed(np.full(20, 2)), offset_ns=packed(np.tile([0, 500], 20)), duration_ns=each)
    return Recording(tenant="a", device=device, size=64, plain=stretch, traced=stretch, launches=launches, note="x")


def _run_seed(folder: Path) -> bytes:
    write_run(folder / "run")
    return (folder / "run" / layout.RUN).read_bytes()


def _read_run(raw: bytes, folder: Path) -> None:
    if not (folder / layout.PARQUET).exists():
        write_run(folder / "made")
        (folder / "made" / layout.PARQUET).rename(folder / layout.PARQUET)
    (folder / layout.RUN).write_bytes(raw)
    _command("report", folder, "--no-figures")


def _read_summaries(raw: bytes, folder: Path) -> None:
    (folder / "a.json").write_bytes(raw)
    (folder / "b.json").write_bytes(files.encode(matrix_summary()))
    _command("compare", folder / "a.json", folder / "b.json")
    _command("compare", "--pool", folder / "a.json", folder / "b.json")


def _read_prediction(raw: bytes, folder: Path) -> None:
    if not (folder / "run").exists():
        write_run(folder / "run")
    (folder / "p.json").write_bytes(raw)
    decode_prediction(raw, "p.json")
    _command("validate", folder / "p.json", folder / "run", "--no-figures")


def _read_events(raw: bytes, folder: Path) -> None:
    (folder / layout.EVENTS).write_bytes(raw)
    opening_order(folder)


def _events(_: Path) -> bytes:
    lines = [{"monotonic_ns": n, "kind": kind, "tenant": "a"} for n, kind in enumerate(("joined", "opened"))]
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines) * 5


def _read_fingerprint(raw: bytes, _: Path) -> None:
    found = decode_fingerprint(raw, "f.json")
    sharing(found, np.array([3.0, -3.0, 3.0, -3.0, 3.0]))
    found.with_slice(1.0).scaled(2.0)


def _read_profile(raw: bytes, _: Path) -> None:
    found = decode_profile(raw, "p.json")
    streams(found, [50] * len(found.threads), 1, "x")
    found.scaled(2.0)


def _read_column(raw: bytes, folder: Path) -> None:
    """As the durations of a profile that is else sound."""
    column = {"n": len(raw) // 8, "data": base64.b64encode(zlib.compress(raw)).decode()}
    sound = msgspec.to_builtins(profile("a", 3.0, n=20))
    for name in ("duration", "retire", "solo_service"):
        _read_profile(msgspec.json.encode({**sound, name: column}), folder)


def _read_readings(raw: bytes, _: Path) -> None:
    findings(decode_readings(raw, "r.json"))


def _read_result(raw: bytes, _: Path) -> None:
    found = parse_result(raw.decode(errors="replace"))
    if isinstance(found, Recording):
        profile_of_recording(found, Tenant(name="a", work=Kernel(workload="fft", size=64)))


def _read_inner_result(raw: bytes, folder: Path) -> None:
    line = PREFIX + base64.b64encode(zlib.compress(raw)).decode()
    _read_result(line.encode(), folder)


def _journal(folder: Path) -> bytes:
    del folder
    frames = [encode_frame(t, b, 0, make_records(5, seed=b), UID) for t in ("fft", "gemm") for b in (0, 1)]
    return b"".join(frames)


def _read_journal(raw: bytes, folder: Path) -> None:
    (folder / layout.JOURNAL).write_bytes(raw)
    found = Journal(folder / layout.JOURNAL, UID)
    for tenant, block in found.counts:
        assert (tenant, block) in {(t, b) for t in ("fft", "gemm") for b in (0, 1)}
        if (tenant, block) in found.broken:
            continue  # a chunk is there twice
        rows = found.read(tenant, block)
        assert not len(rows) or (rows == make_records(5, seed=block)).all()


def _read_checked_journal(raw: bytes, folder: Path) -> None:
    """Checksums made right again: what a bug, not the disk, might write."""
    fixed = bytearray(raw)
    at = fixed.find(b"KTSK")
    while at >= 0 and at + 36 <= len(fixed):
        tenant_bytes, _, _, _, count = struct.unpack_from("<HHiII", fixed, at + 8)
        end = at + 36 + tenant_bytes + 36 * count
        if end <= len(fixed):
            struct.pack_into("<I", fixed, at + 4, zlib.crc32(bytes(fixed[at + 8 : end])))
        at = fixed.find(b"KTSK", at + 4)
    if not (folder / layout.RUN).exists():
        write_run(folder / "made")
        (folder / "made" / layout.RUN).rename(folder / layout.RUN)
    (folder / layout.JOURNAL).write_bytes(fixed)
    _command("report", folder, "--no-figures")


def _parquet(folder: Path) -> bytes:
    (folder / layout.JOURNAL).write_bytes(_journal(folder))
    convert(Journal(folder / layout.JOURNAL, UID), folder, UID)
    return (folder / layout.PARQUET).read_bytes()


def _read_records_parquet(raw: bytes, folder: Path) -> None:
    path = folder / layout.PARQUET
    path.write_bytes(raw)
    found = ParquetRecords(path, UID)
    assert found.counts == {(t, b): 5 for t in ("fft", "gemm") for b in (0, 1)}
    for tenant, block in found.counts:
        assert (found.read(tenant, block) == make_records(5, seed=block)).all()


def _series() -> list[SampleSeries]:
    points = [(1000 * k, 1000, 0.1 * k) for k in range(9)]
    return [series(points, metric=name) for name in ("power_w", "sm_active_ratio")]


def _rows(of: list[SampleSeries]) -> list[tuple[object, ...]]:
    return [
        (one.source, one.metric, one.scope, one.subject, *row)
        for one in of
        for row in zip(one.t_ns.tolist(), one.span_ns.tolist(), one.value.tolist(), strict=True)
    ]


def _samples_parquet(folder: Path) -> bytes:
    write_parquet(_series(), folder, UID)
    return (folder / layout.TELEMETRY).read_bytes()


def _read_samples_parquet(raw: bytes, folder: Path) -> None:
    (folder / layout.TELEMETRY).write_bytes(raw)
    assert _rows(read_parquet(folder / layout.TELEMETRY, UID)) == _rows(_series())


def _samples_journal(_: Path) -> bytes:
    names = ("source", "metric", "scope", "subject", "t_ns", "span_ns", "value")
    samples = (Sample(**dict(zip(names, row, strict=True))) for row in _rows(_series()))  # type: ignore[arg-type]
    return encode_samples(samples, UID)


def _read_samples_journal(raw: bytes, folder: Path) -> None:
    (folder / layout.TELEMETRY_JOURNAL).write_bytes(raw)
    found, _ = read_samples(folder / layout.TELEMETRY_JOURNAL, UID)
    assert set(_rows(found)) <= set(_rows(_series()))


def _read_checked_samples(raw: bytes, folder: Path) -> None:
    """Checksums made right again."""
    lines = [line.partition(b" ")[2] for line in raw.split(b"\n")]
    (folder / layout.TELEMETRY_JOURNAL).write_bytes(b"".join(b"%08x %s\n" % (zlib.crc32(one), one) for one in lines))
    write_parquet(read_samples(folder / layout.TELEMETRY_JOURNAL, "")[0], folder, UID)


def _read_frames(raw: bytes, _: Path) -> None:
    for body in Deframer().feed(raw):
        found = decode_from_worker(body)
        if isinstance(found, Chunk):
            chunk_records(found)


def _read_app_lines(raw: bytes, folder: Path) -> None:
    text = raw.decode(errors="replace")
    for line in text.splitlines():
        for parse in (parse_meta, parse_end):
            parse(line)
        parse_line(app_of(line))
    (folder / "a-solo.log").write_bytes(raw)
    _command("report", folder, "--no-figures")


def _read_experiment(raw: bytes, folder: Path) -> None:
    (folder / "x.yaml").write_bytes(raw)
    from kts.spec import load

    build(load(str(folder / "x.yaml")).experiment)


def _golden_log(_: Path) -> bytes:
    return (Path(__file__).parents[1] / "golden" / "framed_log_v1.log").read_bytes()


def _kept(name: str) -> Callable[[Path], bytes]:
    return lambda _: (KEPT / name).read_bytes()


def _kubeconfig(_: Path) -> bytes:
    version = "client.authentication.k8s.io/v1"
    plugin = {"apiVersion": version, "command": "./x", "args": ["a"], "env": [{"name": "A", "value": "b"}]}
    plugin |= {"installHint": "x", "provideClusterInfo": True, "interactiveMode": "Never"}
    acting = {"as": "a", "as-uid": "u", "as-groups": ["g"], "as-user-extra": {"k": ["v"]}}
    extensions = [{"name": "client.authentication.k8s.io/exec", "extension": {"a": 1}}]
    cluster = {"server": "https://h:6443/p", "proxy-url": "http://u:p@p:1", "tls-server-name": "x"}
    return json.dumps(
        {
            "current-context": "c",
            "clusters": [{"name": "c", "cluster": {**cluster, "extensions": extensions}}],
            "users": [{"name": "c", "user": {**acting, "exec": plugin}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c", "namespace": "n"}}],
        }
    ).encode()


def _read_kubeconfig(raw: bytes, folder: Path) -> None:
    path = folder / "config"
    path.write_bytes(raw)
    Api.of(kubeconfig.access(None, {"KUBECONFIG": str(path)})).close()


def _answer(_: Path) -> bytes:
    status = {"token": "t", "expirationTimestamp": "2030-01-01T00:00:00Z"}
    return json.dumps({"kind": "ExecCredential", "apiVersion": "v", "status": status}).encode()


READERS = {
    "run.json": Reader(_run_seed, _read_run, few=60),
    "summary": Reader(lambda _: files.encode(summary()), _read_summaries, few=60),
    "events": Reader(_events, _read_events),
    "fingerprint": Reader(lambda _: files.encode(fingerprint()), _read_fingerprint),
    "fingerprint in the light image": Reader(
        lambda _: files.encode(fingerprint()), lambda raw, _: sharing_of(raw, "f.json")
    ),
    "profile": Reader(lambda _: files.encode(profile("a", 3.0)), _read_profile),
    "recorded profile": Reader(_kept(RECORDED), _read_profile, few=30),
    "column": Reader(lambda _: np.full(20, 10**6).tobytes(), _read_column, text=False),
    "prediction": Reader(_prediction, _read_prediction, few=60),
    "readings": Reader(_kept("fingerprints/h200-1.readings.json"), _read_readings, few=4),
    "outcome": Reader(lambda _: b'{"kind": "failed", "reason": "x", "exit_code": 5}', lambda raw, _: stop_reason(raw)),
    "recording": Reader(lambda _: format_result(_recording()).encode(), _read_result, text=False),
    "recording, inside": Reader(lambda _: msgspec.msgpack.encode(_recording()), _read_inner_result, text=False),
    "journal": Reader(_journal, _read_journal, text=False),
    "journal, checked anew": Reader(_journal, _read_checked_journal, few=60, text=False),
    "records.parquet": Reader(_parquet, _read_records_parquet, few=60, text=False),
    "telemetry.parquet": Reader(_samples_parquet, _read_samples_parquet, text=False),
    "telemetry.journal": Reader(_samples_journal, _read_samples_journal, text=False),
    "telemetry.journal, checked anew": Reader(_samples_journal, _read_checked_samples),
    "frames": Reader(lambda _: frame(encode(make_chunk(0, 0, make_records(3)))) * 2, _read_frames, text=False),
    "log": Reader(_golden_log, _read_app_lines, few=60),
    "experiment": Reader(lambda _: ready_made_text("demo").encode(), _read_experiment),
    "kubeconfig": Reader(_kubeconfig, _read_kubeconfig, few=60),
    "exec plugin": Reader(_answer, lambda raw, _: credential(Plugin("x", "v"), raw)),
    "exporter": Reader(
        lambda _: exporter_text().encode(), lambda raw, _: device_values(raw.decode(errors="replace"), "GPU-1")
    ),
}


@pytest.mark.parametrize("name", READERS)
def test_a_mutated_file_is_read_or_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else a damaged file would be a traceback, a wait, or other figures in silence."""
    monkeypatch.setenv("KTS_DEBUG", "1")  # an unexpected error then keeps its traceback
    reader = READERS[name]
    (tmp_path / "seed").mkdir()
    (tmp_path / "read").mkdir()
    seed = reader.seed(tmp_path / "seed")
    reader.read(seed, tmp_path / "read")
    number = min(NUMBER, NUMBER * reader.few // 60) if NUMBER else reader.few
    for count, raw in enumerate(mutations(seed, zlib.crc32(name.encode()), number, text=reader.text)):
        begin = time.thread_time()
        try:
            reader.read(raw, tmp_path / "read")
        except KtsError:
            pass
        except BaseException:
            kept = tmp_path / "mutation.bin"
            kept.write_bytes(raw)
            pytest.fail(f"mutation {count}, kept as {kept}")
        assert time.thread_time() - begin < LONGEST_S, f"mutation {count} of {name} is slow"
        if count % 50 == 0:
            capsys.readouterr()
