"""Container engines, and ways into a cluster: commands of others, within a limit, and ended with all they started."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from kts.errors import SetupError, UsageError
from kts.shown import LONGEST_LINE, visible

ENGINES = ("podman", "docker", "nerdctl")
LIMIT = "KTS_IMAGE_SECONDS"
"""How long any one command may take, in place of the limits below."""
BUILD_S, MOVE_S, ASK_S = 3600.0, 900.0, 60.0
"""For a build, which may fetch gigabytes; for an image to be saved or loaded; for what is only asked."""
TOLD_EVERY_S = 30.0
_GRACE_S = 5.0
"""Between SIGTERM and SIGKILL: podman and docker put away what they began."""
_TAIL_LINES = 12
_INTERRUPTED = frozenset({-signal.SIGINT, 128 + signal.SIGINT})
_NO_SPACE = re.compile("no space left on device|disk quota exceeded", re.IGNORECASE)

Say = Callable[[str], None]


def engine() -> str:
    """The first container engine that is installed. SetupError if there is none."""
    for name in ENGINES:
        if shutil.which(name):
            return name
    raise SetupError(
        f"no container engine is installed (looked for {', '.join(ENGINES)})",
        "install podman, or name an image that the cluster can get: --image",
    )


def loader(engine_name: str) -> list[str]:
    """The command by which an image archive gets into the cluster here. SetupError if no way is known."""
    own = os.environ.get("KTS_IMAGE_LOADER", "")
    if own:
        return split("KTS_IMAGE_LOADER", own)
    for command in (["k3s", "ctr", "images", "import"], ["kind", "load", "image-archive"]):
        if shutil.which(command[0]):
            return command
    if shutil.which("ctr"):
        return ["ctr", "-n", "k8s.io", "images", "import"]
    raise SetupError(
        f"{engine_name} has the image, and there is no known way into the cluster (no k3s, kind or ctr here)",
        "set KTS_IMAGE_LOADER to a command that takes an image archive, or push it and give --image",
    )


def split(variable: str, text: str) -> list[str]:
    """An environment variable that holds a command, as a shell would read it. UsageError if it cannot be read."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UsageError(f"{variable}={text!r} is no command: {error}", "close its quotes") from error


def load(names: Sequence[str], say: Say) -> None:
    """Brings an image from the engine to the cluster under all its ``names``. SetupError if that fails."""
    tool = engine()
    into = loader(tool)
    with tempfile.TemporaryDirectory(prefix="kts-image-", ignore_cleanup_errors=True) as folder:
        archive = Path(folder) / "image.tar"
        form = ["--format", "docker-archive"] if tool == "podman" else []
        say(f"saving {names[0]} with {tool}")
        run(
            [tool, "save", *form, "--output", str(archive), *names],
            f"{tool} could not save {names[0]}",
            "see the lines above; TMPDIR says where it is kept meanwhile",
            limit_s=MOVE_S,
            say=say,
        )
        size = archive.stat().st_size / (1 << 20) if archive.exists() else 0
        say(f"loading {', '.join(names)} with {into[0]} ({size:.0f} MiB)")
        remedy = "see the lines above; it may need root, and KTS_IMAGE_LOADER names another command"
        what = f"{into[0]} could not load the image"
        run([*into, str(archive)], what, remedy, limit_s=MOVE_S, say=say, lends_terminal=True)


def succeeds(command: Sequence[str]) -> bool:
    """Whether a question to an engine is answered by success."""
    try:
        return _ran(command, limit_s=limit(ASK_S))[0] == 0
    except OSError:
        return False


def told(command: Sequence[str], what: str) -> list[str]:
    """All lines that a question to an engine is answered by. SetupError ``what`` where it is not."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=limit(ASK_S),
            check=True,
            encoding="utf-8",
            errors="replace",
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise SetupError(f"{what}: {error}", "try it by hand") from error
    return [line for line in done.stdout.splitlines() if line.strip()]


def run(
    command: Sequence[str], what: str, remedy: str, *, limit_s: float, say: Say, lends_terminal: bool = False
) -> list[str]:
    """Runs it to its end; the last lines that it printed. ``say``: is told every 30 s that it still runs.
    ``lends_terminal``: it may ask for a password there.

    SetupError ``what`` with these lines if it fails, or takes longer than ``limit_s`` or KTS_IMAGE_SECONDS. Whatever
    ends this call early ends the command, too, with all that it started.
    """
    allowed_s = limit(limit_s)
    try:
        code, lines = _ran(command, limit_s=allowed_s, say=say, lends_terminal=lends_terminal)
    except OSError as error:
        raise SetupError(f"{what}: {command[0]}: {error.strerror}", remedy) from error
    if code == 0:
        return lines
    if code in _INTERRUPTED:  # Ctrl-C goes to whoever has the terminal
        raise KeyboardInterrupt
    tail = "\n".join(lines)
    if code is None:
        raise SetupError(
            f"{what}: it did not end within {allowed_s:g} s: {shlex.join(command)}\n{tail}".rstrip(),
            f"see whether it waits for something; {LIMIT}={allowed_s * 2:g} gives it longer",
        )
    if _NO_SPACE.search(tail):
        remedy = "free space: kts k8s image --prune; TMPDIR names another place for the archive of an image"
    raise SetupError(f"{what} ({_how(code)})\n{tail}".rstrip(), remedy)


def limit(usual_s: float) -> float:
    """``usual_s``, or what KTS_IMAGE_SECONDS says. UsageError if that is no number of seconds."""
    text = os.environ.get(LIMIT, "")
    if not text:
        return usual_s
    try:
        given = float(text)
    except ValueError:
        given = 0.0
    if not 0 < given < threading.TIMEOUT_MAX:
        raise UsageError(f"{LIMIT}={text!r} is no number of seconds", f"for example {LIMIT}=3600")
    return given


def _how(code: int) -> str:
    return f"exit code {code}" if code > 0 else f"ended by signal {-code}"


def _ran(
    command: Sequence[str], *, limit_s: float, say: Say | None = None, lends_terminal: bool = False
) -> tuple[int | None, list[str]]:
    """(exit code, its last lines); None for one that was ended at its limit. OSError if it cannot be started."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, process_group=0
    )
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    code = None
    try:
        reader = threading.Thread(target=_read, args=(process, tail), daemon=True)
        reader.start()
        with _terminal_lent(process.pid) if lends_terminal else contextlib.nullcontext():
            code = _waited(process, tail, limit_s, f"still running {' '.join(command[:2])}", say)
    finally:
        if code is None or code in _INTERRUPTED:
            _end(process)
    reader.join(1.0)  # what it left running may hold its output open
    return code, list(tail)


def _waited(
    process: subprocess.Popen[bytes], tail: deque[str], limit_s: float, doing: str, say: Say | None
) -> int | None:
    began = time.monotonic()
    while True:
        spent = time.monotonic() - began
        if spent >= limit_s:
            return None
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(min(TOLD_EVERY_S, limit_s - spent))
        if say is not None and (spent := time.monotonic() - began) < limit_s:
            last = f": {tail[-1][:LONGEST_LINE]}" if tail else ""
            say(f"{doing}, {spent:.0f} s so far{last}")


def _read(process: subprocess.Popen[bytes], tail: deque[str]) -> None:
    """Keeps the last lines, as a message may show them; a progress bar's as it was last drawn."""
    assert process.stdout is not None
    with process.stdout as output:
        while raw := output.readline(65_536):
            text = raw.decode(errors="replace").rstrip("\r\n").split("\r")[-1]
            if line := visible(_COLOUR.sub("", text)).strip():
                tail.append(line if len(line) <= LONGEST_LINE * 4 else f"{line[: LONGEST_LINE * 4]}...")


_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the command and all that is in its process group."""
    for number, patience_s in ((signal.SIGTERM, _GRACE_S), (signal.SIGKILL, None)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def _terminal_lent(group: int) -> Iterator[None]:
    """The terminal is the group's meanwhile, if it is ours now: sudo may ask for a password there."""
    try:
        terminal = os.open(os.ctermid(), os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        yield
        return
    try:
        mine = os.tcgetpgrp(terminal)
        if mine != os.getpgrp():
            yield
            return
        _give(terminal, group)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGCONT)  # it may have asked already, and been stopped for it
        try:
            yield
        finally:
            _give(terminal, mine)
    finally:
        os.close(terminal)


def _give(terminal: int, group: int) -> None:
    """A process in the background is stopped for this, unless it does not hear of it."""
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        with contextlib.suppress(OSError):
            os.tcsetpgrp(terminal, group)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)
