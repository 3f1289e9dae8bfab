"""One pod of a fleet, asked at its door, and the copy of the run directory that it offers."""

from __future__ import annotations

import shutil
from pathlib import Path, PurePosixPath

from kts import files
from kts.errors import DataError, SetupError
from kts.k8s.cluster.api import Api, Missing, Unavailable
from kts.k8s.follow.conductor import Conductor
from kts.k8s.objects import Object
from kts.k8s.pod.status import PART_BYTES, Status
from kts.model.run import Outcome
from kts.store import layout
from kts.store.mirror import GROWING, Mirror


class Member:
    """``outcome``: how the pod's run ended, once everything of it is here."""

    def __init__(self, api: Api, namespace: str, pod: str, token: str, directory: Path) -> None:
        self.outcome: Outcome | None = None
        self._api = api
        self._mirror = Mirror.resume(directory)
        self._door = Conductor(api, namespace, pod, token, note=self._mirror.note)

    def fetched(self, pod: Object) -> Status | None:
        """Brings the copy up to what is there; what the ``pod`` says, None while it does not answer. DataError,
        SetupError where the copy cannot be made."""
        self._door.see(pod)
        try:
            status = self._door.status()
            if status.outcome is not None:
                self._take_all(status)
                self.outcome = status.outcome
            elif layout.RUN in status.files:
                self._door.bring_up(self._mirror)
        except (Unavailable, Missing):
            self._api.version()  # Unavailable if it is the server that is away, and not only the pod
            return None
        return status

    @property
    def unreachable(self) -> SetupError | None:
        """What must be done where nothing ever led to the pod."""
        return self._door.unreachable

    def finish(self, outcome: Outcome) -> bool:
        """Ends the copy, with ``outcome`` unless it is the run's own; whether there is a run in it."""
        there = (self._mirror.directory / layout.RUN).exists()
        if there:
            self._mirror.finish(None if self.outcome is not None else outcome)
        self.close()
        if not there:
            shutil.rmtree(self._mirror.directory, ignore_errors=True)
        return there

    def done(self) -> None:
        """Lets the pod go; best effort."""
        self._door.post("/v1/done")

    def close(self) -> None:
        """Lets others write the directory."""
        self._door.close()
        self._mirror.close()

    def _take_all(self, status: Status) -> None:
        """Every file of a run that is over, run.json last; what it grew by before is then not needed any more."""
        for name in sorted(status.files, key=lambda name: name == layout.RUN):
            _checked(name)
            path = self._mirror.directory / name
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with files.replacing(path, durably=False) as temporary, temporary.open("wb") as file:
                    while len(part := self._part(name, file.tell())) == PART_BYTES:
                        file.write(part)
                    file.write(part)
                    file.flush()
            except OSError as error:
                raise SetupError(f"{path}: {error.strerror or error}", "free some space; kts attach goes on") from error
        for name in GROWING:
            if name not in status.files:
                (self._mirror.directory / name).unlink(missing_ok=True)
        if layout.RUN in status.files:  # under the name of its folder here
            self._mirror.replace_run((self._mirror.directory / layout.RUN).read_bytes())

    def _part(self, name: str, offset: int) -> bytes:
        return self._door.ask("GET", f"/v1/files/{name}", params={"offset": str(offset)})


def _checked(name: str) -> None:
    """DataError for what would not be a file of the run directory."""
    path = PurePosixPath(name)
    if path.parts[:1] == () or path.is_absolute() or ".." in path.parts or path.parts[0] not in layout.OURS:
        raise DataError(f"the pod offers {name!r}, which is no file of a run", "use one kts version")
