"""Logs as people keep them: rotated, compressed, encoded, wrapped, one file or standard input."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.helpers_store import app_lines

from kts.errors import DataError
from kts.store import StoredRun, open_run

T0 = 1_700_000_000_000_000_000
SECOND = 10**9
LINES = app_lines("fft", [3.0 + n / 10 for n in range(12)], T0)
TEXT = "".join(line + "\n" for line in LINES)


def stdin(content: bytes) -> io.TextIOWrapper:
    """Standard input with this content."""
    return io.TextIOWrapper(io.BufferedReader(io.BytesIO(content)))  # type: ignore[arg-type]


def check(run: StoredRun) -> None:
    """All twelve iterations, and nothing to say."""
    assert run.damage == ()
    assert run.info.doubts == ()
    assert [(block.condition, block.valid) for block in run.blocks] == [("solo-fft", True)]
    assert run.records("fft", 0)["device_ms"].tolist() == [3.0 + n / 10 for n in range(12)]


@pytest.mark.parametrize(
    "names",
    [
        ("0.log.20231114-221400", "0.log.20231114-221500", "0.log"),
        ("0.log.20231114-221400.gz", "0.log.20231114-221500", "0.log"),
        ("fft.log.2.gz", "fft.log.1", "fft.log"),
        ("fft.log.10", "fft.log.9", "fft.log"),
        ("fft.log-20231113.gz", "fft.log-20231114", "fft.log"),
        ("fft.txt.2.xz", "fft.txt.1.bz2", "fft.txt"),
        ("fft.2", "fft.1", "fft"),
        ("fft.out.old", "fft.out"),
        ("fft.log.gz",),
        ("fft.LOG",),
        ("fft.stdout",),
    ],
)
def test_rotated_and_compressed_files_are_one_log(tmp_path: Path, names: tuple[str, ...]) -> None:
    """The oldest iterations would be missing without a word, or each file be an execution of its own."""
    packers: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
    size = len(LINES) // len(names)
    for n, name in enumerate(names):
        part = LINES[n * size : None if name == names[-1] else (n + 1) * size]
        content = "".join(line + "\n" for line in part).encode()
        (tmp_path / name).write_bytes(packers.get(Path(name).suffix, bytes)(content))
    check(open_run(tmp_path))


def test_a_fault_in_a_rotated_part_is_named_with_its_file(tmp_path: Path) -> None:
    """Nobody would find line 3 of which file."""
    (tmp_path / "a.log.1").write_text("\n".join(LINES[:2]) + "\nhello\n")
    (tmp_path / "a.log").write_text("\n".join(LINES[2:]) + "\nbye\n")
    assert open_run(tmp_path).damage == ("a.log: 2 foreign lines ignored, first at line 3 of a.log.1",)


def test_copies_and_a_cut_archive_are_named_and_what_is_there_is_read(tmp_path: Path) -> None:
    """A damaged file would stop the report, or its end be missing in silence."""
    whole = gzip.compress(TEXT.encode() * 50)
    (tmp_path / "fft.log.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "gemm.log").write_text("\n".join(app_lines("gemm", [20.0] * 5, T0 + 90 * SECOND)) + "\n")
    (tmp_path / "x.log.zst").write_bytes(b"\x28\xb5\x2f\xfd rest")
    (tmp_path / "logs.tar.gz").write_bytes(b"")
    (tmp_path / "notes.md").write_text(TEXT)
    run = open_run(tmp_path)
    assert {block.condition for block in run.blocks} >= {"solo-gemm"}
    text = "\n".join(run.damage)
    assert "fft.log.gz: cannot be read further" in text
    assert "x.log.zst: cannot be read further: it is compressed; try zstd -d" in text
    assert "logs.tar.gz: an archive is not read; unpack it" in text
    assert "notes.md: holds KTS_APP lines and is not read; give it the suffix .log" in text


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r\r\n"])
def test_encodings_and_line_ends(tmp_path: Path, encoding: str, end: str) -> None:
    """The first line, or the whole log, of a Windows shell would be called damaged."""
    (tmp_path / "fft.log").write_bytes(TEXT.replace("\n", end).encode(encoding))
    check(open_run(tmp_path))


def test_the_marks_of_utf16_in_both_orders(tmp_path: Path) -> None:
    """Logs of PowerShell would be unreadable."""
    for mark, encoding in ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        (tmp_path / "fft.log").write_bytes(mark + TEXT.encode(encoding))
        check(open_run(tmp_path))


def test_one_file_packed_or_not_and_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`kubectl logs ... | kts report -` would need a folder."""
    (tmp_path / "x.log").write_text(TEXT)
    (tmp_path / "x.log.gz").write_bytes(gzip.compress(TEXT.encode()))
    (tmp_path / "exported.json").write_text("".join(json.dumps({"MESSAGE": line}) + "\n" for line in LINES))
    for name in ("x.log", "x.log.gz", "exported.json"):
        check(open_run(tmp_path / name))
    monkeypatch.setattr(sys, "stdin", stdin(gzip.compress(TEXT.encode())))
    run = open_run(Path("-"))
    check(run)
    assert run.info.id == "stdin"
    monkeypatch.setattr(sys, "stdin", stdin(b"hello\n"))
    with pytest.raises(DataError, match="no KTS_APP v1 lines to report in standard input"):
        open_run(Path("-"))


def test_exported_json_in_a_folder_is_read_where_it_holds_lines(tmp_path: Path) -> None:
    """What journald or docker exported would be passed over; other JSON would be taken for a log."""
    records = [{"log": line + "\n", "stream": "stdout"} for line in LINES]
    (tmp_path / "fft-json.log").write_text("".join(json.dumps(record) + "\n" for record in records))
    (tmp_path / "package.json").write_text('{"name": "x"}\n')
    check(open_run(tmp_path))
    (tmp_path / "fft-json.log").rename(tmp_path / "fft.jsonl")
    check(open_run(tmp_path))


def test_pods_in_one_stream_are_told_apart(tmp_path: Path) -> None:
    """Two pods of one app, alone and shared, would become one log with numbers used twice."""
    again = app_lines("fft", [5.0] * 12, T0 + 60 * SECOND)
    other = app_lines("gemm", [20.0] * 8, T0 + 60 * SECOND)
    rows = [("fft-solo-x7k2p", line) for line in LINES]
    rows += [pair for a, b in zip(again[:8], other, strict=True) for pair in (("fft-x9f4z", a), ("gemm-x2b5d", b))]
    (tmp_path / "all.log").write_text("".join(f"[pod/{pod}/worker] {line}\n" for pod, line in rows))
    run = open_run(tmp_path / "all.log")
    assert run.damage == ()
    assert [(block.condition, block.counts) for block in run.blocks] == [
        ("solo-fft", {"fft": 12}),
        ("shared-fft+gemm", {"fft": 8, "gemm": 8}),
    ]


def test_a_refused_line_is_shown_once_with_its_field(tmp_path: Path) -> None:
    """Eight torn lines, and nobody knows why."""
    bad = [line.rsplit(",", 2)[0] + ",fast\x01," if n % 2 else line for n, line in enumerate(LINES)]
    (tmp_path / "fft.log").write_text("\n".join(bad) + "\n")
    run = open_run(tmp_path)
    assert run.damage[0] == "fft.log: 6 torn or damaged lines dropped, first at line 2"
    assert run.damage[1].startswith("fft.log, line 2: device_ms 'fast\\x01': milliseconds of the device")
    assert "'KTS_APP,v1,FFT,1," in run.damage[1]
    assert "\x01" not in run.damage[1]
    assert run.blocks[0].lost == {"fft": 6}


def test_the_last_line_of_a_killed_program_is_no_lost_iteration(tmp_path: Path) -> None:
    """p99 of every log that was cut would be refused."""
    (tmp_path / "fft.log").write_text(TEXT + LINES[0][:40])
    assert open_run(tmp_path).blocks[0].lost == {}
