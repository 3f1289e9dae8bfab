"""The door of a fleet's member: it offers the run directory that kts makes in this very pod, and takes no orders."""

from __future__ import annotations

from pathlib import Path

from kts.backends.pods import PodsBackend
from kts.conduct.stop import StopRequest
from kts.k8s.pod.door import FILES, Desk
from kts.k8s.pod.status import Status
from kts.store import layout


class Offer(Desk):
    """While the run goes on its growing files and run.json, once it is over (``outcome``) all that was made."""

    def __init__(self, run: str, directory: Path, token: str) -> None:
        super().__init__(run, directory, token, PodsBackend(), StopRequest())

    def status(self) -> Status:
        """As it is now."""
        outcome = self.outcome  # before the files are listed: what is over stays as it is
        told = super().status()
        files = {name: self._size(name) for name in self._names()} if outcome is not None else told.files
        return Status(run=told.run, kts=told.kts, progress=told.progress, outcome=outcome, files=files)

    def offers(self, name: str) -> bool:
        """Whether it hands out a file of that name now."""
        return name in (self._names() if self.outcome is not None else FILES)

    def _names(self) -> list[str]:
        tops = [self.directory / name for name in layout.OURS - layout.SCAFFOLD]
        found = [path for top in tops for path in ([top] if top.is_file() else top.rglob("*")) if path.is_file()]
        return sorted(path.relative_to(self.directory).as_posix() for path in found)

    def _size(self, name: str) -> int:
        return (self.directory / name).stat().st_size
