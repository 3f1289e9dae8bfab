"""The experiment of one program: it alone, and beside ready-made neighbours. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import PurePath

from kts.errors import UsageError
from kts.shown import shown
from kts.spec.shellwords import shell_syntax

COPY = "copy"
_SCRIPTS = frozenset({".py", ".sh", ".pl", ".rb", ".js", ".jl", ".r", ".lua"})
_LONGEST = 40
_TEXT = """\
name: "{name}"
description: {name} alone, beside a light neighbour, beside a heavy one, and beside a copy of itself

# kts run made this of a command line. A file of it can be changed: kts run FILE.
rounds: 10
precision: 0.1
max_seconds: 180
subject: "{name}"
mixes: [["{name}", heavy], ["{name}", light], ["{name}", copy]]

tenants:
  "{name}": &program
    workload: command
    command: {command}{image}
    seconds: 20
    settle_seconds: 60
  light: {{workload: fft, target_ms: 2, think_ms: 20, seconds: 20}}
  heavy: {{workload: gemm, target_ms: 20, seconds: 20}}
  copy: *program
"""
"""Light: about a tenth of the device, in short turns. Heavy: always has work, in long ones, and so is the first mix of
the file: the one that "shared" means. A copy: what a second replica would do."""


def beside(command: Sequence[str], image: str = "") -> str:
    """The experiment file for a program and its arguments, and for the container image that it runs in. UsageError
    where that is no command line."""
    if not command or not command[0]:
        raise UsageError("no program behind --", "for example: kts run -- python train.py --steps 100")
    if shell_syntax([command[0]]):
        raise UsageError(
            f"{shown(command[0])} is a word for a shell, and none is used",
            "variables go before kts (NAME=VALUE kts run -- ...), the rest into a shell: kts run -- sh -c '...'",
        )
    try:
        "".join(command).encode()
    except UnicodeEncodeError:
        raise UsageError(f"{shown(command)}: not UTF-8", "rename the file, or call the program from a script") from None
    runs_in = f"\n    image: {_quoted(image)}" if image else ""
    return _TEXT.format(name=program_name(command), command=_quoted(shlex.join(command)), image=runs_in)


def program_name(command: Sequence[str]) -> str:
    """What to call a program in tables: its script's name, its module's, or its own; ``program`` where no name for a
    tenant can be made of that."""
    script = next((word for word in command if PurePath(word).suffix.lower() in _SCRIPTS), "")
    if not script and "-m" in command[:-1]:
        script = command[command.index("-m") + 1].rpartition(".")[2]
    stem = PurePath(script or command[0]).stem.lower()
    name = re.sub(r"[^a-z0-9]+", "-", stem)[:_LONGEST].strip("-")
    return name if name and name not in {"light", "heavy", COPY} else "program"


def _quoted(text: str) -> str:
    import yaml

    return str(yaml.safe_dump(text, default_style='"', allow_unicode=True, width=float("inf"))).rstrip("\n")
