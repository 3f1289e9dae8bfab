"""Asking an exec plugin for credentials, as client-go does (client.authentication.k8s.io v1 and v1beta1)."""

from __future__ import annotations

import contextlib
import os
import selectors
import shlex
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from kts.errors import SetupError
from kts.k8s.cluster.identity import ALWAYS, NEVER, Plugin
from kts.shown import shown, visible
from kts.spec.yamltree import TreeError, parse

LIMIT_S, INTERACTIVE_LIMIT_S = 60.0, 300.0
"""How long a plugin may take: without, and with somebody who may be typing."""
SILENT_S = 3.0
"""How long what it writes to stderr is kept from the user: most plugins are done by then."""
_MOST_BYTES = 1 << 20
_MOST_WORDS = 300
_LOGIN = "log in to the cluster again, or run the command by hand"


class Credential(msgspec.Struct, frozen=True):
    """What a request shows. ``expires``: from when on it does not count; None if it does not say."""

    token: str = ""
    certificate: bytes = b""
    key: bytes = b""
    expires: datetime | None = None


def ask(plugin: Plugin) -> Credential:
    """Runs the plugin. SetupError, one line with the command and what it said, if it gives no credentials."""
    interactive = _interactive(plugin)
    asked = {
        "kind": "ExecCredential",
        "apiVersion": plugin.version,
        "spec": {"interactive": interactive, **({"cluster": plugin.cluster} if plugin.cluster else {})},
    }
    try:
        told_of = msgspec.json.encode(asked).decode()
    except (ValueError, OverflowError) as error:
        raise _error(plugin, f"cannot be told of the cluster by its extensions: {error}") from error
    env = {**os.environ, **dict(plugin.env), "KUBERNETES_EXEC_INFO": told_of}
    process = _started(plugin, env, interactive)
    limit_s = INTERACTIVE_LIMIT_S if interactive else LIMIT_S
    output, told = bytearray(), bytearray()
    try:
        _listen(process, output, told, time.monotonic() + limit_s)
    except TimeoutError:
        raise _error(plugin, f"did not end within {limit_s:g} s{_quoted(told)}") from None
    except OSError as error:
        raise _error(plugin, error.strerror or str(error)) from error
    finally:
        _end(process, interactive)
    if process.returncode:
        how = f"exit code {process.returncode}" if process.returncode > 0 else f"signal {-process.returncode}"
        raise _error(plugin, f"failed with {how}{_quoted(told)}")
    return credential(plugin, bytes(output), told)


def _interactive(plugin: Plugin) -> bool:
    """Whether the plugin gets the terminal; SetupError if it needs one and there is none."""
    with contextlib.suppress(AttributeError, ValueError, OSError):  # there may be no stdin at all
        if sys.stdin.isatty():
            return plugin.interactive != NEVER
    if plugin.interactive == ALWAYS:
        raise _error(plugin, "wants to ask you something (interactiveMode: Always), and standard input is no terminal")
    return False


def _started(plugin: Plugin, env: dict[str, str], interactive: bool) -> subprocess.Popen[bytes]:
    """The running plugin. Without a terminal in a session of its own: a Ctrl-C that ends a run in order is not its."""
    command = plugin.command if os.sep in plugin.command else shutil.which(plugin.command) or ""
    hint = f"install it: {' '.join(visible(plugin.hint.replace(chr(10), ' ')).split())}" if plugin.hint else ""
    if not Path(command).is_absolute():  # as for Go: one in the current folder is not meant
        raise _error(plugin, "is not on the PATH", hint or "install it, or put its folder on the PATH")
    try:
        return subprocess.Popen(
            [command, *plugin.args],
            env=env,
            stdin=None if interactive else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=None if interactive else subprocess.PIPE,  # what it asks must be seen at once
            start_new_session=not interactive,
        )
    except (OSError, ValueError) as error:
        raise _error(plugin, f"cannot be run: {getattr(error, 'strerror', '') or error}", hint) from error


def _listen(process: subprocess.Popen[bytes], output: bytearray, told: bytearray, deadline: float) -> None:
    """Waits for its end, and adds what it writes to stdout and, unless that is the terminal, to stderr. TimeoutError,
    OSError. What it tells is shown after a while, as it may be the address at which to log in."""
    slow, heard = time.monotonic() + SILENT_S, 0
    with selectors.DefaultSelector() as selector:
        for pipe, written in ((process.stdout, output), (process.stderr, told)):
            if pipe is not None:
                selector.register(pipe, selectors.EVENT_READ, written)
        while selector.get_map():
            now = time.monotonic()
            if now >= slow and len(told) > heard:
                _say(told[heard:])
                heard = len(told)
            ready = selector.select(max(0.0, (slow if now < slow else deadline) - now))
            if not ready and time.monotonic() >= deadline:
                raise TimeoutError
            for key, _ in ready:
                piece = os.read(key.fd, 1 << 16)
                if not piece:
                    selector.unregister(key.fileobj)
                key.data.extend(piece)
                if len(key.data) > _MOST_BYTES:
                    raise OSError(None, f"wrote more than {_MOST_BYTES >> 20} MiB")
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise TimeoutError from None


def _say(told: bytes | bytearray) -> None:
    """To the user, as it came, but for what would act on the terminal."""
    text = "\n".join(visible(line) for line in told.decode(errors="replace").split("\n"))
    with contextlib.suppress(AttributeError, ValueError, OSError):  # there may be no stderr
        sys.stderr.write(text)
        sys.stderr.flush()


def _end(process: subprocess.Popen[bytes], interactive: bool) -> None:
    """Ends what still runs of it, and what it started where that is told apart from us."""
    for pipe in filter(None, (process.stdout, process.stderr)):
        pipe.close()
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            if interactive:
                process.kill()
            else:
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def credential(plugin: Plugin, output: bytes, told: bytes | bytearray = b"") -> Credential:
    """What the plugin's output holds. ``told``: what it wrote beside it. SetupError if that is no credential."""
    answer = _parsed(output)
    if not isinstance(answer, dict) or answer.get("kind") != "ExecCredential":
        raise _error(plugin, f"answered {shown(output.decode(errors='replace'))}, no ExecCredential{_quoted(told)}")
    version, status = answer.get("apiVersion"), answer.get("status")
    if version != plugin.version:
        raise _error(plugin, f"answered as {shown(version)}, and is asked as {plugin.version} in the kubeconfig")
    if not isinstance(status, dict):
        raise _error(plugin, f"gave no status{_quoted(told)}")
    words = {}
    for key in ("token", "clientCertificateData", "clientKeyData", "expirationTimestamp"):
        words[key] = status.get(key) or ""
        if not isinstance(words[key], str):
            raise _error(plugin, f"gave a status.{key} that is no text")
    token, certificate, key = words["token"].strip(), words["clientCertificateData"], words["clientKeyData"]
    if not token and not certificate and not key:
        raise _error(plugin, f"gave neither a token nor a certificate{_quoted(told)}")
    if bool(certificate) != bool(key):
        raise _error(plugin, "gave a certificate without its key, or a key without its certificate")
    if not token.isprintable() or not token.isascii():
        raise _error(plugin, "gave a token that cannot be sent: it holds line breaks or other than ASCII")
    return Credential(token, certificate.encode(), key.encode(), _time(plugin, words["expirationTimestamp"]))


def _parsed(output: bytes) -> Any:
    """JSON or, as client-go takes it, too, YAML; None if it is neither."""
    with contextlib.suppress(msgspec.DecodeError, UnicodeError, RecursionError):
        return msgspec.json.decode(output)
    with contextlib.suppress(TreeError, UnicodeError):
        return parse(output.decode()).data
    return None


def _time(plugin: Plugin, text: str) -> datetime | None:
    if not text:
        return None
    with contextlib.suppress(ValueError):
        if (when := datetime.fromisoformat(text)).tzinfo is not None:
            return when
    raise _error(plugin, f"gave an expirationTimestamp {shown(text)}, no time with a zone")


def _quoted(told: bytes | bytearray) -> str:
    """The end of what it wrote to stderr, as part of a line; where the terminal has it, nothing."""
    words = visible(" ".join(told.decode(errors="replace").split()))
    return f": {'...' if len(words) > _MOST_WORDS else ''}{words[-_MOST_WORDS:]}" if words else ""


def _error(plugin: Plugin, why: str, remedy: str = "") -> SetupError:
    command = visible(shlex.join([plugin.command]))
    return SetupError(f"no credentials for the cluster: the exec plugin {command} {why}", remedy or _LOGIN)
