"""Small files of ours: JSON read within limits and with the reason where it is none, and files replaced as a whole."""

from __future__ import annotations

import errno
import itertools
import math
import os
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from kts import opening
from kts.errors import DataError
from kts.shown import without_mark

MAX_BYTES = 256 << 20
"""No file that is read whole is larger."""
LARGEST = 1e18
"""No figure of ours is beyond it: sums, ratios and squares of two stay finite. Whole numbers fit int64."""
TEMPORARY = ".tmp"
"""Suffix of a file that is being written and will be renamed."""

_UNSEEN = re.compile(
    "[\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e007f]"
)
"""Of what JSON may hold as it is: what controls a terminal or the direction of text, or has no width."""
_T = TypeVar("_T")
_serial = itertools.count()


class _Versioned(msgspec.Struct):
    schema: int = 0


def read(path: Path, remedy: str, *, pipes: bool = True) -> bytes:
    """The content of a file; with ``pipes`` also what comes through one, as of ``<(...)`` in a shell. DataError if it
    cannot be read, or is larger than `MAX_BYTES`."""
    try:
        with opening.opened(path, pipes=pipes) as file:
            raw = file.read(MAX_BYTES + 1)
    except PermissionError as error:
        raise DataError(f"{path}: no permission to read", "ask its owner for read permission") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {getattr(error, 'strerror', None) or error}", remedy) from error
    if len(raw) > MAX_BYTES:
        raise DataError(f"{path}: larger than {MAX_BYTES >> 20} MiB", remedy)
    return raw


def encode(value: object) -> bytes:
    """JSON for a file: indented, ending in a newline. What cannot be seen is escaped: no terminal obeys it."""
    return shaped(msgspec.json.encode(value))


def shaped(encoded: bytes) -> bytes:
    """The same for what is JSON already."""
    text = msgspec.json.format(encoded, indent=2) + b"\n"
    if text.isascii() and b"\x7f" not in text:
        return text
    return _UNSEEN.sub(_escaped, text.decode()).encode()


def _escaped(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be")
    return "".join(f"\\u{units[k : k + 2].hex()}" for k in range(0, len(units), 2))


def decode(
    raw: bytes,
    kind: type[_T],
    name: str,
    complaint: str,
    remedy: str,
    *,
    newest: int | None = None,
    upgrade: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> _T:
    """The value of type ``kind`` that the JSON text ``raw`` holds: UTF-8, or UTF-16 with its byte order mark.

    Every number in it is finite, whole ones fit int64, and every struct in it that has a method ``check`` has passed
    it (ValueError says what cannot be). Else DataError: ``NAME: COMPLAINT: why``, the complaint being such as ``not a
    profile``; DataError, too, where its ``schema`` is above ``newest``. ``upgrade`` gives what older schemas wrote
    today's shape.
    """
    try:
        raw = without_mark(raw)
        if newest is not None:
            _check_version(raw, kind, name, newest)
        value = _converted(raw, kind, upgrade) if upgrade else msgspec.json.decode(raw, type=kind)
        check(value)
    except UnicodeError as error:
        raise DataError(f"{name}: {complaint}: its text is not UTF-8", remedy) from error
    except RecursionError as error:
        raise DataError(f"{name}: {complaint}: nested too deeply", remedy) from error
    except (msgspec.DecodeError, ValueError, OverflowError) as error:
        raise DataError(f"{name}: {complaint}: {error}", remedy) from error
    return value


def _converted(raw: bytes, kind: type[_T], upgrade: Callable[[dict[str, Any]], dict[str, Any]]) -> _T:
    content = msgspec.json.decode(raw)
    return msgspec.convert(upgrade(content) if isinstance(content, dict) else content, kind)


def check(value: object) -> None:
    """ValueError where a number in ``value`` is beyond what any of ours can be, or a struct says that it cannot be."""
    waiting: list[Any] = [value]
    while waiting:
        one = waiting.pop()
        match one:
            case float():
                if not abs(one) <= LARGEST:
                    raise ValueError(f"a figure of {one:g} cannot be")
            case int():
                if not -(2**63) <= one < 2**63:
                    raise ValueError(f"a whole number of {len(str(abs(one)))} digits cannot be")
            case dict():
                waiting += one.values()
            case list() | tuple():
                waiting += one
            case msgspec.Struct():
                waiting += (getattr(one, field) for field in one.__struct_fields__)
                if (own := getattr(one, "check", None)) is not None:
                    own()


def ordered(lo: float | None, value: float | None, hi: float | None) -> bool:
    """Whether a figure that is not below 0 lies in its interval. None: not told, all three or the ends alone."""
    told = [one for one in (lo, value, hi) if one is not None]
    if value is None or (lo is None) != (hi is None):
        return not told
    return told == sorted(told) and told[0] >= 0 and math.isfinite(told[-1])


def _check_version(raw: bytes, kind: type[Any], name: str, newest: int) -> None:
    try:
        schema = msgspec.json.decode(raw, type=_Versioned).schema
    except msgspec.ValidationError:
        return  # no object, or its schema is no number: decoding says so in the words of the whole
    if schema > newest and _looks_like(kind, msgspec.json.decode(raw, type=dict[str, msgspec.Raw])):
        raise newer(name, schema, newest)


def _looks_like(kind: type[Any], keys: Collection[str]) -> bool:
    """Whether such files have most of these keys: files of other kinds have schemas of their own."""
    return 2 * sum(key in kind.__struct_encode_fields__ for key in keys) >= len(keys)


def newer(name: object, schema: int, newest: int) -> DataError:
    """The error for what a newer kts wrote."""
    return DataError(f"{name}: written by a newer kts (schema {schema}, this one reads up to {newest})", "upgrade kts")


@contextmanager
def replacing(path: Path, *, durably: bool = True) -> Iterator[Path]:
    """The path of an empty temporary file, to be written; it takes the place of ``path`` where the block ends well.

    A reader sees the old file or the new one; with ``durably`` also after a loss of power. Two writers at once do not
    meet. OSError.
    """
    temporary, descriptor = _beside(path)
    os.close(descriptor)
    with _taking_place(temporary, path, durably=durably):
        yield temporary
        if durably:
            _sync(temporary, os.O_RDONLY)


def _beside(path: Path) -> tuple[Path, int]:
    """An empty temporary file, ours alone whoever may write in that folder, and its descriptor for writing."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{next(_serial)}{TEMPORARY}")
    try:
        return temporary, opened(temporary, os.O_WRONLY | os.O_EXCL)
    except FileExistsError:  # of a process that had our number
        temporary.unlink(missing_ok=True)
        return temporary, opened(temporary, os.O_WRONLY | os.O_EXCL)


@contextmanager
def _taking_place(temporary: Path, path: Path, *, durably: bool) -> Iterator[None]:
    """``temporary`` takes the place of ``path`` where the block ends well, and is gone where it does not."""
    try:
        yield
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durably:
        sync_directory(path.parent)


def opened(path: Path, flags: int) -> int:
    """The descriptor of a file of ours, made where it is not there, with the rights that the umask leaves. OSError.

    A link is not followed: it would let whoever may write in that folder choose what is overwritten.
    """
    try:
        return os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "is a link, and kts writes into none", str(path)) from error
        raise


def replace(path: Path, content: bytes, *, durably: bool = True) -> None:
    """Gives ``path`` another content as `replacing` does. OSError."""
    temporary, descriptor = _beside(path)
    with _taking_place(temporary, path, durably=durably), os.fdopen(descriptor, "wb") as file:
        file.write(content)
        if durably:
            file.flush()
            os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Makes creations, renames and deletions in a directory durable. OSError."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
