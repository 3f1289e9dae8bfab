"""What frames the KTS_APP lines of a worker's log, so that whoever reads it knows that nothing is missing.

``KTS_META,v1,{json}``                  before the first iteration, and again: who measures what, by which clock
``KTS_ECHO,v1,FFT,{i},...``             an iteration's KTS_APP line again, some seconds later (the same fields)
``KTS_END,v1,FFT,{count},{crc32:08x}``  how many KTS_APP lines there were, and zlib's CRC-32 of them with line ends

A log that is followed loses lines where it is rotated. A line that was lost once is there a second time, and what was
lost twice shows in the numbers and in the checksum.
"""

from __future__ import annotations

import re
import zlib
from typing import Any

import msgspec

from kts.model.run import ClockPair, DeviceInfo
from kts.wire.appline import PREFIX

META = "KTS_META,"
ECHO = "KTS_ECHO,"
END = "KTS_END,"

_META = f"{META}v1,"
_CRC = "crc32"
_END = re.compile(r"KTS_END,v1,([A-Za-z0-9_.-]{1,64}),(\d{1,10}),([0-9a-f]{8})\r?\n?", re.ASCII)


class Meta(msgspec.Struct, frozen=True, kw_only=True):
    """Who prints the log. ``app``: the name in its lines. ``clock``: read just before the first iteration.

    ``solo_ms``: what calibration measured; None where the size was given. ``gpus``: UUIDs that NVML shows.
    """

    kts: str
    app: str
    workload: str
    size: int
    device: DeviceInfo
    clock: ClockPair
    pid: int
    hostname: str
    solo_ms: float | None = None
    gpus: tuple[str, ...] = ()
    cores: tuple[int, ...] = ()
    environment: dict[str, str] = {}


class End(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a whole log: KTS_APP lines printed, and their CRC-32."""

    app: str
    count: int
    crc32: int


def format_meta(meta: Meta) -> str:
    """The line, without a line end; with a checksum of what it says."""
    content = msgspec.json.decode(msgspec.json.encode(meta))
    return _META + msgspec.json.encode({**content, _CRC: _crc32(content)}).decode()


def parse_meta(text: str) -> Meta | None:
    """What a KTS_META line tells; None if it is torn, damaged or of another version."""
    if not text.startswith(_META):
        return None
    try:
        raw = text[len(_META) :].rstrip("\r\n").encode()
        meta, content = msgspec.json.decode(raw, type=Meta), msgspec.json.decode(raw)
        told = content.pop(_CRC, None)
        if told is None:  # of an older kts, which had no other keys; else the name of the checksum is what is damaged
            return meta if content.keys() <= set(Meta.__struct_fields__) else None
        return meta if told == _crc32(content) else None
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def _crc32(content: dict[str, Any]) -> str:
    return f"{zlib.crc32(msgspec.json.encode(content, order='deterministic')):08x}"


def echo_of(app_line: str) -> str:
    """The KTS_ECHO line of a KTS_APP line."""
    return ECHO + app_line.removeprefix(PREFIX)


def app_of(echo_line: str) -> str:
    """The KTS_APP line of which ``echo_line`` is the echo."""
    return PREFIX + echo_line.removeprefix(ECHO)


def format_end(end: End) -> str:
    """The line, without a line end."""
    return f"{END}v1,{end.app},{end.count},{end.crc32:08x}"


def parse_end(text: str) -> End | None:
    """What a KTS_END line tells; None if it is not a whole one."""
    match = _END.fullmatch(text)
    if match is None:
        return None
    return End(app=match[1], count=int(match[2]), crc32=int(match[3], 16))
