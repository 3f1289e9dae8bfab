"""A program's own lines out of what keeps or carries them: kubectl, the kubelet, docker, stern, journald, syslog.

Each wrapper is taken off where its shape is beyond doubt, one inside the other. What it says of who printed the line
(pod and container, process) stays with it, so that several programs in one stream can be told apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

_DEEPEST = 6
_LONGEST_JOINED = 1 << 20
_DOCKER_PART = 16_000
"""docker cuts lines at 16 KiB; a shorter record without a line end only lost it on its way."""

_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*(?!KTS_)[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -/]*(?!KTS_)[0-~]"
    r"|#033\[[0-9;]*(?!KTS_)[A-Za-z]|[\x00\ufeff\x07]"
)
_CRI = re.compile(r"\d{4}-\d\d-\d\dT\S+ (?:stdout|stderr) ([FP])(?::\S*)?(?: |$)")
_TIME = r"\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?: ?(?:Z|[A-Z]{3,4}|[+-]\d\d:?\d\d))?"
_MONTH_TIME = r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?:\.\d+)?"
_UPTIME = r"\[ *\d+\.\d{6}\]|\d{9,11}\.\d{6}"
_STAMP = re.compile(rf"(?:[A-Z][a-z]{{2}} )?(?:{_TIME}|{_MONTH_TIME}|{_UPTIME})[ \t]+")
_NAMED = re.compile(
    r"\[pod/([^\]\s]+)\] ?"  # kubectl --prefix
    r"|\[([a-z0-9.-]+-[bcdfghjklmnpqrstvwxz2456789]{5}(?: [a-z0-9-]+)?)\] ?"  # kubetail
    r"|\[((?:rank|default)\d+)\]:? ?|\(([^()]*pid=\d+[^()]*)\) "  # torchrun, ray
)
_PRIORITY = re.compile(r"<\d{1,3}>(1 (?=\S+T\S+ ))?")
_SYSLOG_5424 = re.compile(r"(\S+) (\S+) (\S+) \S+ (?:-|(?:\[[^\]]*\])+) ")
_IDENT = re.compile(r"([\w.:@-]+ [\w.@/()+-]*[A-Za-z][\w.@/()+-]*(?:\[\d+\])?): ")
_COLUMNS = re.compile(
    r"([\w.-]+) +\| ?"  # docker compose
    r"|((?:[a-z0-9.-]+ )?[a-z0-9][a-z0-9.]*-[a-z0-9.-]+ [a-z0-9-]*[a-z][a-z0-9-]*) (?:[›│|] )?"  # stern
)

_MESSAGES = ("log", "MESSAGE", "message", "msg", "textPayload", "line", "body")
_WHO = ("namespace", "pod", "podName", "pod_name", "container", "containerName", "container_name", "CONTAINER_NAME")
_WHO_JOURNAL = ("_HOSTNAME", "SYSLOG_IDENTIFIER", "_PID")


class Unwrapped(NamedTuple):
    """A line of a program's own. ``source``: who printed it, as its wrapper says. ``ended``: it had its line end."""

    text: str
    source: str
    ended: bool


class _Layer(NamedTuple):
    text: str
    source: str = ""
    partial: bool = False


class Unwrapper:
    """Of one stream. Keeps the parts of lines that were cut by the wrapper until the last one comes."""

    def __init__(self) -> None:
        self._parts: dict[str, str] = {}

    def unwrap(self, text: str) -> Unwrapped | None:
        """The program's own line in ``text``; None if it is a part of one that is still to come."""
        body = text.rstrip("\r\n")
        ended = len(body) < len(text)
        source = ""
        for _ in range(_DEEPEST):
            body = _seen(body)
            layer = _peeled(body, source)
            if layer is None:
                break
            source = f"{source} {layer.source}".strip()
            body = layer.text
            if layer.partial:
                self._parts[source] = (self._parts.get(source, "") + body)[-_LONGEST_JOINED:]
                return None
            if self._parts:
                body = self._parts.pop(source, "") + body
        if _ours(text) and not _ours(body):  # it stood in what was taken for a wrapper
            body = _seen(text.rstrip("\r\n"))
        return Unwrapped(body, source, ended)

    def rest(self) -> Iterator[Unwrapped]:
        """What was begun and never finished."""
        for source, text in self._parts.items():
            yield Unwrapped(text, source, ended=False)
        self._parts.clear()


def _ours(text: str) -> bool:
    """Whether a line of ours may be in it, in capitals or not."""
    return "KTS_" in text or "kts_" in text.lower()


def _seen(text: str) -> str:
    """The text as a terminal shows it, apart from what it writes over."""
    return text if text.isprintable() and "#033[" not in text else _ESCAPES.sub("", text)


def _peeled(text: str, source: str) -> _Layer | None:
    """``text`` without its outermost wrapper; None if it has none."""
    if _ours(text[:4]):
        return None
    if text.startswith("{"):
        return _json_layer(text)
    for shape, layer in _SHAPES:
        if match := shape.match(text):
            return layer(match, text[match.end() :])
    match = None if source else _COLUMNS.match(text)
    return _Layer(text[match.end() :], match[1] or match[2]) if match else None


def _container_runtime(match: re.Match[str], rest: str) -> _Layer:
    return _Layer(rest, partial=match[1] == "P")


def _named(match: re.Match[str], rest: str) -> _Layer:
    return _Layer(rest, match[match.lastindex or 0])


def _prioritised(match: re.Match[str], rest: str) -> _Layer:
    """A syslog line behind its priority, with a version where it is as RFC 5424 has it."""
    stamp = _STAMP.match(rest)
    rest = rest[stamp.end() :] if stamp else rest
    who = (_SYSLOG_5424 if match[1] else _IDENT).match(rest)
    return _Layer(rest[who.end() :], " ".join(who.groups())) if who else _Layer(rest)


def _stamped(_: re.Match[str], rest: str) -> _Layer:
    """Behind a time: perhaps a host and a process, as journald and syslog write them."""
    who = _IDENT.match(rest)
    return _Layer(rest[who.end() :], who[1]) if who else _Layer(rest)


_SHAPES = ((_CRI, _container_runtime), (_NAMED, _named), (_PRIORITY, _prioritised), (_STAMP, _stamped))


def _json_layer(text: str) -> _Layer | None:
    try:
        record = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    messages = {name: said for name in _MESSAGES if (said := _message(record.get(name))) is not None}
    if not messages:
        return None
    key = next((name for name, said in messages.items() if _ours(said)), next(iter(messages)))
    message = messages[key]
    if record.get("CONTAINER_PARTIAL_MESSAGE") == "true" or (
        key == "log" and "stream" in record and len(message) >= _DOCKER_PART and not message.endswith("\n")
    ):
        return _Layer(message, _who(record), partial=True)
    return _Layer(message.rstrip("\r\n"), _who(record))


def _message(value: Any) -> str | None:
    """journald writes what is no text as numbers; extended JSON of other tools nests."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(byte, int) and 0 <= byte < 256 for byte in value):
        return bytes(value).decode(errors="replace")
    if isinstance(value, dict):
        return msgspec.json.encode(value).decode()
    return None


def _who(record: dict[str, Any]) -> str:
    pod = record.get("kubernetes")
    names = [place.get(name) for place in (record, pod) if isinstance(place, dict) for name in _WHO]
    names += [record.get(name) for name in _WHO_JOURNAL]
    return " ".join(name for name in names if isinstance(name, str))
