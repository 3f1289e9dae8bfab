"""The text that a worker alone prints: others read it, so that it changes only on purpose."""

from __future__ import annotations

from pathlib import Path

from tests.helpers_log import META, framed_log

from kts.store import open_run
from kts.wire.logframe import format_meta, parse_meta

GOLDEN = Path(__file__).parent / "framed_log_v1.log"


def test_a_framed_log_is_as_documented() -> None:
    """Else logs kept from before, or those of another version's worker, would not be read."""
    assert "".join(framed_log(6, echo_s=0.025)) == GOLDEN.read_text(encoding="utf-8")


def test_the_kept_log_is_read(tmp_path: Path) -> None:
    """Else a change to both ends would go unnoticed."""
    (tmp_path / "fft.log").write_bytes(GOLDEN.read_bytes())
    run = open_run(tmp_path)
    assert (run.damage, [block.counts for block in run.blocks]) == ((), [{"fft": 6}])
    assert [worker.device for worker in run.info.workers] == [META.device]


def test_a_header_of_a_newer_kts_is_read() -> None:
    """Else adding a field would break what reads it."""
    newer = format_meta(META).replace('{"kts"', '{"news":[1],"kts"')
    assert parse_meta(newer) == META
