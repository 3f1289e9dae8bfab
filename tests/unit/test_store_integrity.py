"""What was changed since it was written, or is of another run, is named as damage and never taken in silence."""

from __future__ import annotations

import json
import shutil
import zlib
from pathlib import Path

import pytest
from tests.helpers_log import framed_log
from tests.helpers_store import make_outcome, make_records, make_writer, write_run
from tests.helpers_telemetry import MS, sample

from kts.errors import DataError
from kts.model.run import Outcome
from kts.store import layout, open_run, runfile


def _killed(directory: Path) -> Path:
    write_run(directory, close=False)
    (directory / layout.LOCK).unlink()
    return directory / layout.JOURNAL


def _sampled(directory: Path, *, close: bool = True) -> None:
    """A run of a block and ten samples."""
    writer = make_writer(directory)
    writer.records("fft", 0, 0, make_records(20))
    writer.samples([sample(k * 100 * MS, k / 10) for k in range(10)])
    writer.block(make_outcome(0, {"fft": 20}))
    if close:
        writer.close(Outcome(kind="complete"))
    else:
        (directory / layout.LOCK).unlink()


def _told(directory: Path) -> tuple[int, str]:
    """(samples, damage) as a report sees them."""
    run = open_run(directory)
    return sum(len(one.t_ns) for one in run.telemetry()), "\n".join(run.damage)


def test_any_changed_byte_of_run_json_is_told(tmp_path: Path) -> None:
    """A flipped bit in a block's window would move a p99, and nobody would know."""
    write_run(tmp_path / "run")
    path = tmp_path / "run" / layout.RUN
    whole = path.read_bytes()
    content = json.loads(whole)
    for position in range(0, len(whole), 11):
        changed = bytearray(whole)
        changed[position] ^= 1 << position % 8
        path.write_bytes(changed)
        try:
            run = open_run(tmp_path / "run")
        except DataError:
            continue
        try:
            same = json.loads(changed) == content
        except ValueError:
            same = False
        assert same or "run.json: changed since it was written" in "\n".join(run.damage), position


@pytest.mark.parametrize("lost", [("crc32",), ("crc32", "uid")])
def test_a_run_json_that_lost_its_checksum_is_told(tmp_path: Path, lost: tuple[str, ...]) -> None:
    """Whoever edits a run would only have to delete a line."""
    write_run(tmp_path / "run")
    path = tmp_path / "run" / layout.RUN
    content = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in content.items() if key not in lost}))
    assert "changed since it was written" in "\n".join(open_run(tmp_path / "run").damage)


def test_a_run_json_that_is_only_laid_out_anew_is_the_same(tmp_path: Path) -> None:
    """A file that went through a formatter would be called damaged."""
    write_run(tmp_path / "run")
    path = tmp_path / "run" / layout.RUN
    path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True))
    assert open_run(tmp_path / "run").damage == ()


def test_the_records_of_another_run_are_refused(tmp_path: Path) -> None:
    """Its figures would be reported under this run's name, with this run's device and plan."""
    for name in ("one", "other"):
        write_run(tmp_path / name)
    shutil.copy(tmp_path / "other" / layout.PARQUET, tmp_path / "one")
    with pytest.raises(DataError, match="holds the records of another run"):
        open_run(tmp_path / "one")


def test_the_records_of_an_older_run_are_refused(tmp_path: Path) -> None:
    """A file from before records said of which run they are would be taken for any run's."""
    write_run(tmp_path / "run")
    shutil.copy(Path(__file__).parents[1] / "golden/store_run_v4" / layout.PARQUET, tmp_path / "run")
    with pytest.raises(DataError, match="another run"):
        open_run(tmp_path / "run")


@pytest.mark.parametrize("place", ["before", "behind", "instead"])
def test_frames_of_another_run_are_skipped_and_named(tmp_path: Path, place: str) -> None:
    """Blocks that nobody measured here would be among this run's."""
    ours = _killed(tmp_path / "one")
    theirs = _killed(tmp_path / "other").read_bytes()
    mine = ours.read_bytes()
    ours.write_bytes({"before": theirs + mine, "behind": mine + theirs, "instead": theirs}[place])
    run = open_run(tmp_path / "one")
    assert "records.journal: 9 frames of another run skipped" in run.damage
    assert [block.valid for block in run.blocks] == [place != "instead"] * 2


def test_samples_that_are_gone_are_named(tmp_path: Path) -> None:
    """Telemetry would be missing from a report as if nobody had sampled."""
    _sampled(tmp_path / "run")
    assert _told(tmp_path / "run") == (10, "")
    (tmp_path / "run" / layout.TELEMETRY).unlink()
    assert _told(tmp_path / "run") == (0, "telemetry.parquet: missing, and with it 10 samples of telemetry")


def test_samples_of_another_run_are_not_taken(tmp_path: Path) -> None:
    """Another device's clock would stand beside this run's latencies."""
    for name in ("one", "other"):
        _sampled(tmp_path / name)
    shutil.copy(tmp_path / "other" / layout.TELEMETRY, tmp_path / "one")
    count, damage = _told(tmp_path / "one")
    assert count == 0
    assert "samples of another run" in damage
    for name in ("three", "four"):
        _sampled(tmp_path / name, close=False)
    shutil.copy(tmp_path / "four" / layout.TELEMETRY_JOURNAL, tmp_path / "three")
    count, damage = _told(tmp_path / "three")
    assert count == 0
    assert "10 damaged lines skipped" in damage


def test_every_flip_in_a_telemetry_footer_is_named(tmp_path: Path) -> None:
    """Samples would vanish from the means without a word."""
    _sampled(tmp_path / "run")
    path = tmp_path / "run" / layout.TELEMETRY
    whole = path.read_bytes()
    for position in range(len(whole) // 2, len(whole), 29):
        changed = bytearray(whole)
        changed[position] ^= 1 << position % 8
        path.write_bytes(changed)
        count, damage = _told(tmp_path / "run")
        assert count == 10 or damage, position


def test_a_sample_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    """A line that was copied would weigh twice in a mean."""
    _sampled(tmp_path / "run", close=False)
    path = tmp_path / "run" / layout.TELEMETRY_JOURNAL
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines, lines[3]]))
    assert _told(tmp_path / "run") == (10, "telemetry.journal: 1 repeated samples dropped")


def test_a_run_knows_itself_by_a_new_number(tmp_path: Path) -> None:
    """Two runs of one name could not be told apart."""
    uids = set()
    for _ in range(3):
        make_writer(tmp_path / "run", overwrite=True).close(Outcome(kind="failed"))
        uids.add(runfile.read(tmp_path / "run").uid)
    assert len(uids) == 3


def _report(directory: Path, *lines: str, name: str = "fft-solo.log") -> list[str]:
    """What is told of a log of these lines."""
    directory.mkdir(exist_ok=True)
    (directory / name).write_text("".join(lines), encoding="utf-8", newline="")
    return list(open_run(directory).damage)


CHANGED = "were changed since they were printed"


@pytest.mark.parametrize("echo_s", [0.0, 0.05])
@pytest.mark.parametrize("wrapped", ["", "[pod/fft-abc/kts] ", "2023-11-14T22:13:20.000000000Z stdout F "])
def test_lines_that_were_changed_behind_the_worker_are_told(tmp_path: Path, echo_s: float, wrapped: str) -> None:
    """Ten milliseconds more on one line in twenty would move a p99 sevenfold in silence."""
    lines = [wrapped + line for line in framed_log(60, echo_s)]
    assert _report(tmp_path / "whole", *lines) == []
    slow = [line.replace(",0.540000,", ",10.540000,").replace("0001000000,", "0011000000,") for line in lines]
    assert slow != lines
    told = _report(tmp_path / "changed", *slow)
    assert CHANGED in "\n".join(told) or "its trailer announces" in "\n".join(told)


def test_one_digit_of_one_line_is_enough(tmp_path: Path) -> None:
    """A change too small to be seen in a table would pass."""
    lines = framed_log(40, 0.0)
    for n in range(1, 41, 7):
        for at in (40, 60, len(lines[n]) - 8):
            changed = lines[n][:at] + str((int(lines[n][at]) + 1) % 10) + lines[n][at + 1 :]
            assert _report(tmp_path / "log", *lines[:n], changed, *lines[n + 1 :]), (n, at)


def test_line_ends_of_another_system_are_no_change(tmp_path: Path) -> None:
    """A log that was copied through Windows would be called damaged."""
    assert _report(tmp_path / "log", *(line.replace("\n", "\r\n") for line in framed_log(20))) == []


def test_executions_behind_each_other_are_checked_each(tmp_path: Path) -> None:
    """A log of two runs would be checked by the last trailer alone, or be called damaged."""
    first = framed_log(20, 0.0)
    second = [line if line.startswith("KTS_META") else line.replace("1700000", "1700001") for line in first]
    body = "".join(line for line in second if line.startswith("KTS_APP"))
    second[-1] = f"KTS_END,v1,FFT,20,{zlib.crc32(body.encode()):08x}\n"
    assert _report(tmp_path / "log", *first, *second) == []
    second[3] = second[3].replace("0.502000", "9.502000")
    assert sum(CHANGED in line for line in _report(tmp_path / "log", *first, *second)) == 1


@pytest.mark.parametrize("lost", [1, 5])
def test_a_log_whose_end_is_missing_says_so(tmp_path: Path, lost: int) -> None:
    """Iterations behind the cut would be missing from the figures unsaid."""
    told = _report(tmp_path / "log", *framed_log(40, 0.0)[:-lost])
    assert any("a header and no trailer" in line for line in told)
    assert _report(tmp_path / "plain", *(line for line in framed_log(40, 0.0) if line.startswith("KTS_APP"))) == []


def test_a_worker_of_no_tenant_is_refused(tmp_path: Path) -> None:
    """A flipped bit in its tenant's name would end the report in a traceback."""
    write_run(tmp_path / "run")
    path = tmp_path / "run" / layout.RUN
    path.write_text(path.read_text().replace('"tenant": "fft"', '"tenant": "vft"'))
    with pytest.raises(DataError, match="a worker's tenant is not in the plan"):
        open_run(tmp_path / "run")
