"""Input without end, or made to fill memory, screens and disks, ends in words, soon."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.helpers_log import framed_log
from tests.helpers_store import UID, app_lines, write_run

from kts import opening
from kts.backends.pods import PodsBackend
from kts.cli.main import main
from kts.conduct import events as ev
from kts.conduct import server as conduct_server
from kts.conduct.server import MessageServer
from kts.conduct.stop import StopRequest
from kts.errors import DataError, SpecError
from kts.k8s.objects.names import TOKEN_HEADER
from kts.k8s.pod import door
from kts.spec.loader import MOST_MISTAKES, load_text
from kts.store import layout, logfiles, open_run, parquet
from kts.store.parquet import ParquetRecords
from kts.store.samples_parquet import read_parquet
from kts.wire.framing import frame
from kts.wire.messages import PROTOCOL, Hello, encode
from kts.worker.tenants import passed_on
from kts.worker.tenants.passed_on import PassedOn


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for who does not come."""
    monkeypatch.setattr(opening, "WRITER_S", 0.05)


@pytest.mark.parametrize(
    "name", [layout.RUN, layout.PARQUET, layout.JOURNAL, layout.TELEMETRY, layout.EVENTS, layout.CLUSTER]
)
def test_a_pipe_in_place_of_a_file_of_a_run_does_not_hang(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A report would wait for ever for a writer that nobody starts."""
    write_run(tmp_path / "run", close=name != layout.JOURNAL)
    (tmp_path / "run" / layout.LOCK).unlink(missing_ok=True)
    (tmp_path / "run" / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / "run" / name)
    code = main(["report", str(tmp_path / "run"), "--no-figures"])
    told = capsys.readouterr()
    words = " ".join((told.out + told.err).split())  # a long path breaks lines anywhere
    assert code == 6 or "not a regular file" in words or name == layout.EVENTS


@pytest.mark.parametrize(
    "command", ["report PIPE", "run PIPE", "compare PIPE PIPE", "validate PIPE RUN", "check RUN --baseline PIPE"]
)
def test_a_pipe_without_a_writer_does_not_hang(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`<(command)` of a command that failed would hang the shell."""
    write_run(tmp_path / "run")
    os.mkfifo(tmp_path / "pipe")
    places = {"PIPE": str(tmp_path / "pipe"), "RUN": str(tmp_path / "run")}
    assert main([places.get(word, word) for word in command.split()]) in {2, 3, 6}
    assert capsys.readouterr().err


def test_what_comes_through_a_pipe_is_read(tmp_path: Path) -> None:
    """`kts report <(kubectl logs fft)` would be refused."""
    os.mkfifo(tmp_path / "fft-solo")
    text = "\n".join(app_lines("fft", [3.0] * 30, 1_700_000_000 * 10**9)) + "\n"
    threading.Thread(target=(tmp_path / "fft-solo").write_text, args=(text,), daemon=True).start()
    opening.WRITER_S = 30.0  # put back by the fixture
    assert open_run(tmp_path / "fft-solo").blocks[0].counts == {"fft": 30}


def test_a_line_without_end_costs_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """300 MB without a line end would be held several times over."""
    monkeypatch.setattr(logfiles, "LONGEST_LINE", 1 << 12)
    lines = app_lines("fft", [3.0] * 30, 1_700_000_000 * 10**9)
    long = "x" * 50_000 + "KTS_APP,"
    text = "\n".join([*lines[:10], long, *lines[10:], long])
    (tmp_path / "fft-solo.log").write_text(text, encoding="utf-8")
    run = open_run(tmp_path)
    assert run.blocks[0].counts == {"fft": 30}
    assert any("2 lines of over" in line for line in run.damage)


def _dense(path: Path, rows: int) -> None:
    """records.parquet as kts would write it of iterations that never differ: a few kB."""
    part = np.zeros(1 << 20, np.int64)
    zero = {"due_ns": part, "submit_ns": part, "retire_ns": part, "device_ms": part.astype(float)}
    table = pa.table({"i": part.astype(np.uint32), **zero})
    index = json.dumps([["fft", 0, 1 << 20, 0]] * (rows >> 20))
    with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
        for _ in range(rows >> 20):
            writer.write_table(table)
        meta = {"kts.schema": "5", "kts.index": index, "kts.run": UID}
        writer.add_key_value_metadata({**meta, "kts.index_crc32": str(zlib.crc32((index + UID).encode()))})


def test_a_small_file_of_many_records_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A megabyte would be unpacked into gigabytes."""
    monkeypatch.setattr(parquet, "ALLOWED_RECORDS", 1000)
    _dense(tmp_path / layout.PARQUET, 1 << 20)
    with pytest.raises(DataError, match=r"records in .* bytes: no measurement is so even"):
        ParquetRecords(tmp_path / layout.PARQUET, UID)


def test_a_small_file_of_many_samples_is_refused(tmp_path: Path) -> None:
    """The same for telemetry."""
    table = pa.table({"t_ns": np.zeros(2 << 20, np.int64)}, metadata={"kts.schema": "5"})
    table = pa.Table.from_arrays(table.columns, schema=table.schema.with_metadata({"kts.schema": "5"}))
    pq.write_table(table, tmp_path / layout.TELEMETRY, compression="zstd")
    with pytest.raises(DataError, match="samples in"):
        read_parquet(tmp_path / layout.TELEMETRY)


def test_thousands_of_mistakes_are_told_as_some_and_a_number() -> None:
    """A bad file would scroll away what is above it, for minutes."""
    text = "tenants:\n" + "".join(f"  bad_{n}: 7\n" for n in range(2000))
    with pytest.raises(SpecError) as caught:
        load_text(text, source="x.yaml")
    lines = caught.value.what.splitlines()
    assert len(lines) == MOST_MISTAKES + 1
    assert lines[-1].startswith("x.yaml: and ")


def test_silent_connections_do_not_keep_a_worker_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may open a socket on this machine would end every run in its first second."""
    monkeypatch.setattr(conduct_server, "MAX_STRANGERS", 8)

    async def greeted() -> bool:
        told = asyncio.Event()
        server = MessageServer("127.0.0.1", 0, lambda event: told.set() if isinstance(event, ev.Greeted) else None)
        await server.open()
        silent = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(20)]
        _, worker = await asyncio.open_connection("127.0.0.1", server.port)
        worker.write(
            frame(encode(Hello(protocol=PROTOCOL, tenant="fft", worker="fft", token="t", pid=1, hostname="h")))
        )
        async with asyncio.timeout(10):
            await told.wait()
        for _, writer in [*silent, (None, worker)]:
            writer.close()
        await server.close()
        return told.is_set()

    assert asyncio.run(greeted())


@contextmanager
def _door(tmp_path: Path) -> Iterator[int]:
    server = door.serve(door.Desk("r", tmp_path, "secret", PodsBackend(), StopRequest()), "127.0.0.1", 0)
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def test_silent_connections_do_not_fill_the_pods_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread for each would fill the pod's memory, and the client would hear of the run no more."""
    monkeypatch.setattr(door, "MOST_STRANGERS", 5)
    with _door(tmp_path) as port, ExitStack() as all_open:

        def silent(count: int) -> list[socket.socket]:
            return [all_open.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(count)]

        before = threading.active_count()
        first = silent(40)[0]
        known = http.client.HTTPConnection("127.0.0.1", port)
        all_open.callback(known.close)
        for _ in range(2):  # the same connection goes on
            known.request("GET", "/v1/status", headers={TOKEN_HEADER: "secret"})
            answer = known.getresponse()
            assert (answer.status, json.loads(answer.read())["run"]) == (200, "r")
            silent(8)
        assert first.recv(1) == b""  # told to go
        assert threading.active_count() - before < 40


def test_what_a_program_prints_is_kept_within_bounds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """48 MB in 8 s of output would fill the disk on which the records are."""
    monkeypatch.setattr(passed_on, "MOST_BYTES", 1000)
    monkeypatch.setattr(passed_on, "TAIL_BYTES", 200)
    printed = PassedOn()
    for n in range(10_000):
        printed.write(f"line {n}\n", on_stderr=n % 2 == 0)
    printed.write("Error: this is why\n", on_stderr=True)
    printed.end()
    told = capsys.readouterr()
    assert len(told.out) + len(told.err) < 2000
    assert told.out.startswith("line 1\n")
    assert told.err.endswith("Error: this is why\n")
    assert "characters left out" in told.err


def test_a_full_disk_under_a_log_costs_the_log_alone(tmp_path: Path) -> None:
    """The worker would die of its neighbour's chatter, in words that say nothing of a disk."""
    code = (
        "from kts.worker.tenants.passed_on import PassedOn; import sys\n"
        "p = PassedOn()\n"
        "for _ in range(300): p.write('x' * 1000, on_stderr=False); p.flush()\n"
        "p.end(); print('more'); sys.exit(7)"
    )
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=full, check=False, cwd=tmp_path)
    assert done.returncode == 7


def test_a_framed_log_is_not_held_longer_than_it_is(tmp_path: Path) -> None:
    """A bound on lines would cut a header that is long."""
    (tmp_path / "fft-solo.log").write_text("".join(framed_log(20)), encoding="utf-8")
    assert open_run(tmp_path).damage == ()
