"""The launcher, made by the C compiler at hand, and programs that it starts beside this process."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from kts.worker.launcher.compile import compiled
from kts.worker.launcher.remote import LaunchedProgram, Launcher


def launcher_binary(folder: Path) -> Path:
    """The launcher, made anew in ``folder`` unless it is there. Skips where there is no C compiler."""
    if not (cc := shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")):
        pytest.skip("needs a C compiler")
    to = folder / "launcher"
    return to if to.exists() else compiled(to, [cc])


class Beside:
    """Implements `kts.worker.tenants.process.Launch`: each program gets a launcher of its own, as in a pod of its own.

    ``launchers``: their processes.
    """

    def __init__(self, folder: Path, binary: Path) -> None:
        self.launchers: list[subprocess.Popen[bytes]] = []
        self._folder, self._binary = folder, binary
        self._ends: list[Launcher] = []

    def __call__(self, argv: Sequence[str], env: Mapping[str, str], folder: str | None = None) -> LaunchedProgram:
        """Starts it by a launcher in ``folder``, which has ``env``."""
        end = Launcher(self._folder / f"{len(self._ends)}.sock")
        self._ends.append(end)
        command = [str(self._binary), str(self._folder / f"{len(self._ends) - 1}.sock"), "--", *argv]
        self.launchers.append(subprocess.Popen(command, env=dict(env), cwd=folder))
        end.join()
        return end(argv, {})

    def close(self) -> None:
        """Ends the launchers."""
        for end in self._ends:
            end.close()
        for process in self.launchers:
            process.wait(60)


def environment(**more: str) -> dict[str, str]:
    """This process's, and more."""
    return {**os.environ, **more}
