"""The text that a worker alone prints: others read it, so that it changes only on purpose."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import pytest
from tests.helpers_log import META, framed_log

from kts.store import open_run
from kts.wire.logframe import format_meta, parse_meta

GOLDEN = Path(__file__).parent / "framed_log_v1.log"


def test_a_framed_log_is_as_documented() -> None:
    """Else logs kept from before, or those of another version's worker, would not be read."""
    assert "".join(framed_log(6, echo_s=0.025)) == GOLDEN.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["framed_log_v1.log", "framed_log_v1_unsealed.log"])
def test_the_kept_log_is_read(name: str, tmp_path: Path) -> None:
    """Else a change to both ends would go unnoticed, or logs from before headers had a checksum would be damaged."""
    (tmp_path / "fft.log").write_bytes(GOLDEN.with_name(name).read_bytes())
    run = open_run(tmp_path)
    assert (run.damage, [block.counts for block in run.blocks]) == ((), [{"fft": 6}])
    assert [worker.device for worker in run.info.workers] == [META.device]


def test_a_header_of_a_newer_kts_is_read() -> None:
    """Else adding a field would break what reads it."""
    content = {**json.loads(format_meta(META).partition("v1,")[2]), "news": [1]}
    del content["crc32"]
    text = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    newer = json.dumps({**content, "crc32": f"{zlib.crc32(text):08x}"})
    assert parse_meta(f"KTS_META,v1,{newer}") == META
    assert parse_meta(f"KTS_META,v1,{newer.replace('not a GPU', 'a GPU')}") is None
