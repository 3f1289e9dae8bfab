"""Drawing in a process of its own: the renderer is foreign code that may end whatever process it is in."""

from __future__ import annotations

import json
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import resources, util
from pathlib import Path
from typing import Any

from kts.shown import clean

LONGEST_S = 120.0
"""For one picture; a usual one takes below 1 s."""
_SVG, _PNG = b"s", b"p"
_HEAD = struct.Struct(">cI")


class UndrawnError(Exception):
    """A picture cannot be drawn; the message says why."""


class Renderer:
    """Vega-Lite to SVG, and SVG to PNG. A context manager: leaving it ends the process, which starts on first use.

    What ends the process, or keeps it busy beyond ``longest_s``, costs the picture that did it: the next one gets a new
    process.
    """

    def __init__(self, longest_s: float = LONGEST_S) -> None:
        self._longest_s = longest_s
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Renderer:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def svg(self, spec: Mapping[str, Any]) -> str:
        """A Vega-Lite chart, its text cleaned as `kts.shown.clean` does. UndrawnError."""
        try:
            content = json.dumps(_cleaned(spec), allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise UndrawnError(f"its data cannot be drawn: {error}") from error
        return self._ask(_SVG, content).decode()

    def png(self, svg: str) -> bytes:
        """The picture in pixels, two for each of the SVG's. UndrawnError."""
        return self._ask(_PNG, svg.encode())

    def _ask(self, what: bytes, content: bytes) -> bytes:
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        too_long = threading.Timer(self._longest_s, process.kill)
        too_long.start()
        try:
            with _ended_is_no_error():
                process.stdin.write(_HEAD.pack(what, len(content)) + content)
                process.stdin.flush()
            head = process.stdout.read(_HEAD.size)
            kind, length = _HEAD.unpack(head) if len(head) == _HEAD.size else (b"", 0)
            answer = process.stdout.read(length)
        finally:
            late = not too_long.is_alive()
            too_long.cancel()
        if kind == what and len(answer) == length:
            return answer
        if kind:
            raise UndrawnError(clean(answer.decode(errors="replace")))
        code = self._end()
        why = f"took over {self._longest_s:g} s" if late else f"ended ({_how(code)})"
        raise UndrawnError(f"the renderer {why}")

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            found = util.find_spec("vl_convert")
            folder = str(Path(found.origin).parent.parent) if found and found.origin else ""
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-c", program(), folder],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                )
            except OSError as error:
                raise UndrawnError(f"the renderer cannot be started: {error.strerror or error}") from error
        return self._process

    def _end(self) -> int:
        """Its exit code."""
        process, self._process = self._process, None
        if process is None:
            return 0
        with process:
            with _ended_is_no_error():
                if process.stdin is not None:
                    process.stdin.close()
            if process.stdout is None or process.stdout.read(1) or process.poll() is None:
                process.kill()
        return process.returncode


def program() -> str:
    """What the process runs: Python that imports nothing of kts."""
    return resources.files("kts.report").joinpath("drawing.py").read_text(encoding="utf-8")


@contextmanager
def _ended_is_no_error() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        return


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {_cleaned(key): _cleaned(one) for key, one in value.items()}
    if isinstance(value, Iterable):
        return [_cleaned(one) for one in value]
    return value


def _how(code: int) -> str:
    try:
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"
    except ValueError:
        return f"signal {-code}"
