"""The fields of one entry of a kubeconfig, each checked as it is read: whatever is wrong is one line with its place."""

from __future__ import annotations

import base64
import binascii
import os
import selectors
import stat
import time
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from kts.errors import SetupError
from kts.shown import LONGEST, shown, visible
from kts.spec.explain import did_you_mean

REMEDY = "set KUBECONFIG, or give --context; kubectl config get-contexts lists them"
MAX_BYTES = 8 << 20
"""No kubeconfig, certificate or token is larger."""
PIPE_S = 30.0
"""How long a pipe is read: who writes may be asking for a password."""
_ELSE = "use a context without it: --context"


class Fields:
    """The fields of ``entry``, which stands in the file ``path`` and is called ``place`` in messages.

    Each method raises SetupError for a field that is not what it asks for.
    """

    def __init__(self, path: Path, place: str, entry: Mapping[str, Any]) -> None:
        self.path = path
        self._place = place
        self._entry = entry

    def fault(self, key: str, why: str, remedy: str = REMEDY) -> SetupError:
        """The error that this field makes."""
        return fault(self.path, f"{self._named(key)} {why}", remedy)

    def only(self, known: Collection[str], harmless: Collection[str]) -> None:
        """Nothing else is set: what we do not know may say who acts, or where."""
        for key, value in self._entry.items():
            if key not in known and key not in harmless and value is not None:
                guess = did_you_mean(key, known)
                raise fault(self.path, f"{self._place} has a field {shown(key)} that kts does not know{guess}", _ELSE)

    def given(self, key: str) -> bool:
        """Whether it says something."""
        return self._entry.get(key) not in (None, "", [], {})

    def text(self, key: str) -> str:
        """A word; empty if absent. No number, since 007 is one, and would become 7."""
        value = self._entry.get(key)
        if value is None or isinstance(value, str):
            return self._whole(key, value or "")
        number = isinstance(value, int | float) and not isinstance(value, bool)
        raise self.fault(key, "is a number, which needs quotes here" if number else "is no text")

    def name(self, key: str) -> str:
        """The name of another entry: a word, or a number as the names are."""
        value = self._entry.get(key)
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else self.text(key)

    def header(self, key: str) -> str:
        """A word that HTTP can carry in a header."""
        return self._sendable(key, self.text(key))

    def headers(self, key: str) -> tuple[str, ...]:
        """Several of them."""
        return tuple(self._sendable(key, one) for one in self.texts(key))

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of words; empty if absent."""
        return self._texts(key, self._entry.get(key))

    def of_texts(self, key: str) -> dict[str, tuple[str, ...]]:
        """Lists of words that HTTP can carry in a header, by name."""
        value = self._mapping(key, self._entry.get(key))
        lists = {name: self._texts(f"{key}.{name}", words) for name, words in value.items()}
        return {name: tuple(self._sendable(f"{key}.{name}", one) for one in words) for name, words in lists.items()}

    def flag(self, key: str) -> bool:
        """Yes or no; no if absent."""
        value = self._entry.get(key)
        if value is None or isinstance(value, bool):
            return bool(value)
        raise self.fault(key, f"is {shown(value)}, not true or false")

    def inner(self, key: str) -> Fields | None:
        """The fields of the mapping that stands there; None if nothing does."""
        value = self._entry.get(key)
        return None if value is None else Fields(self.path, self._named(key), self._mapping(key, value))

    def items(self, key: str) -> list[Fields]:
        """The mappings of a list; none if absent."""
        value = self._entry.get(key)
        if not isinstance(value, list | None):
            raise self.fault(key, "is no list")
        return [
            Fields(self.path, self._named(f"{key}[{number}]"), self._mapping(f"{key}[{number}]", one))
            for number, one in enumerate(value or [])
        ]

    def anything(self, key: str) -> Any:
        """What stands there."""
        return self._entry.get(key)

    def file(self, key: str) -> Path | None:
        """A file that can be read, from the kubeconfig's folder on; None if absent."""
        if not self.given(key):
            return None
        file = self.path.absolute().parent / self.text(key)
        try:
            content(file)
        except OSError as error:
            raise self.fault(f"{key}:", f"{visible(str(file))}: {error.strerror or error}") from error
        return file

    def pem(self, key: str) -> bytes | Path | None:
        """Certificates or a key: the bytes that KEY-data holds in base64, else the file of KEY; None if absent."""
        data = f"{key}-data"
        if not self.given(data):
            return self.file(key)
        try:
            raw = base64.b64decode("".join(self.text(data).split()), validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        if b"-----BEGIN" not in raw:
            raise self.fault(data, "is no certificate or key in base64")
        return raw

    def _named(self, key: str) -> str:
        key = visible(key[:LONGEST])
        return f"{self._place}.{key}" if self._place else key

    def _mapping(self, key: str, value: object) -> Mapping[str, Any]:
        if not isinstance(value, dict | None):
            raise self.fault(key, "is no mapping")
        return value or {}

    def _texts(self, key: str, value: object) -> tuple[str, ...]:
        if isinstance(value, list | None) and all(isinstance(one, str) for one in value or []):
            return tuple(self._whole(key, one) for one in value or [])
        raise self.fault(key, "is no list of words (a number needs quotes)")

    def _whole(self, key: str, text: str) -> str:
        """``text``, which can be sent."""
        if any(0xD800 <= ord(char) <= 0xDFFF for char in text):
            raise self.fault(key, "holds half a character")
        return text

    def _sendable(self, key: str, text: str) -> str:
        if any(ord(char) < 32 or ord(char) == 127 for char in text):
            raise self.fault(key, "holds control characters or line breaks")
        if text != text.strip():
            raise self.fault(key, "has white space around it, which would be lost on the way")
        return text


def fault(path: Path, why: str, remedy: str = REMEDY) -> SetupError:
    """The error that this kubeconfig makes."""
    return SetupError(f"kubeconfig {visible(str(path))}: {why}", remedy)


def content(path: Path) -> bytes:
    """A file's bytes. A pipe (``<(command)``, /dev/stdin) is read once per process, as it can be. OSError."""
    about = path.stat()
    if stat.S_ISFIFO(about.st_mode):
        return _piped(path, about.st_dev, about.st_ino)
    with path.open("rb") as file:
        if file.isatty():
            raise OSError(None, "is a terminal, not a file")
        return _limited(file.read(MAX_BYTES + 1))


@cache
def _piped(path: Path, device: int, inode: int) -> bytes:  # noqa: ARG001 - they tell one pipe from another
    """What is written into a pipe until all its writers have closed it. Opened so that it does not wait for one."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    read = bytearray()
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            deadline = time.monotonic() + PIPE_S
            while selector.select(deadline - time.monotonic()):
                piece = os.read(descriptor, 1 << 16)
                if not piece:
                    return bytes(read)
                read += piece
                _limited(read)
    finally:
        os.close(descriptor)
    raise OSError(None, f"a pipe that nobody wrote to the end within {PIPE_S:g} s")


def _limited(raw: bytes | bytearray) -> bytes:
    if len(raw) > MAX_BYTES:
        raise OSError(None, f"larger than {MAX_BYTES >> 20} MiB")
    return bytes(raw)
