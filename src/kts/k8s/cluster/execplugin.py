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
from typing import IO, Any

import msgspec

from kts.errors import SetupError
from kts.k8s.cluster.identity import ALWAYS, NEVER, Plugin
from kts.shown import shown, visible
from kts.spec.yamltree import TreeError, parse

LIMIT_S, INTERACTIVE_LIMIT_S = 60.0, 300.0
"""How long a plugin may take: without, and with somebody who may be typing."""
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
    try:
        output, told = _outputs(process, time.monotonic() + limit_s)
    except TimeoutError:
        raise _error(plugin, f"did not end within {limit_s:g} s") from None
    except OSError as error:
        raise _error(plugin, error.strerror or str(error)) from error
    finally:
        _end(process, interactive)
    if process.returncode:
        how = f"exit code {process.returncode}" if process.returncode > 0 else f"signal {-process.returncode}"
        raise _error(plugin, f"failed with {how}{_quoted(told)}")
    return credential(plugin, output, told)


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


def _outputs(process: subprocess.Popen[bytes], deadline: float) -> tuple[bytes, bytes]:
    """What it wrote to stdout and, unless that is the terminal, to stderr, until its end. TimeoutError, OSError."""
    pipes: list[IO[bytes]] = [pipe for pipe in (process.stdout, process.stderr) if pipe is not None]
    written = {pipe.fileno(): bytearray() for pipe in pipes}
    with selectors.DefaultSelector() as selector:
        for pipe in pipes:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError
            for key, _ in ready:
                piece = os.read(key.fd, 1 << 16)
                if not piece:
                    selector.unregister(key.fileobj)
                written[key.fd] += piece
                if len(written[key.fd]) > _MOST_BYTES:
                    raise OSError(None, f"wrote more than {_MOST_BYTES >> 20} MiB")
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise TimeoutError from None
    output, told = [*written.values(), bytearray()][:2]
    return bytes(output), bytes(told)


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


def credential(plugin: Plugin, output: bytes, told: bytes = b"") -> Credential:
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


def _quoted(told: bytes) -> str:
    """The end of what it wrote to stderr, as part of a line; where the terminal has it, nothing."""
    words = visible(" ".join(told.decode(errors="replace").split()))
    return f": {'...' if len(words) > _MOST_WORDS else ''}{words[-_MOST_WORDS:]}" if words else ""


def _error(plugin: Plugin, why: str, remedy: str = "") -> SetupError:
    command = visible(shlex.join([plugin.command]))
    return SetupError(f"no credentials for the cluster: the exec plugin {command} {why}", remedy or _LOGIN)
