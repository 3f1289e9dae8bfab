"""One pod of a fleet, asked at its door, and the copy of the run directory that it offers."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path, PurePosixPath
from typing import Any

from kts import files
from kts.errors import DataError, SetupError
from kts.k8s.cluster.api import Api, Missing, Unavailable
from kts.k8s.objects.names import STATUS_PORT, TOKEN_HEADER
from kts.k8s.pod.status import PART_BYTES, Status
from kts.model.run import Outcome
from kts.store import layout
from kts.store.mirror import GROWING, Mirror


class Member:
    """``outcome``: how the pod's run ended, once everything of it is here."""

    def __init__(self, api: Api, namespace: str, pod: str, token: str, directory: Path) -> None:
        self.outcome: Outcome | None = None
        self._api, self._namespace, self._pod, self._headers = api, namespace, pod, {TOKEN_HEADER: token}
        self._mirror = Mirror.resume(directory)

    def fetched(self) -> Status | None:
        """Brings the copy up to what is there; what the pod says, None while it does not answer. DataError, SetupError
        where the copy cannot be made."""
        try:
            answer = self._ask("GET", "/v1/status")
            status = files.decode(answer, Status, "the pod's answer", "not a status", "use one kts version")
            if status.outcome is None:
                self._grow(status)
            else:
                self._take_all(status)
                self.outcome = status.outcome
        except (Unavailable, Missing):
            self._api.version()  # Unavailable if it is the server that is away, and not only the pod
            return None
        return status

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
        with contextlib.suppress(SetupError):
            self._ask("POST", "/v1/done")

    def close(self) -> None:
        """Lets others write the directory."""
        self._mirror.close()

    def _ask(self, method: str, path: str, **more: Any) -> bytes:
        return self._api.proxy(method, self._namespace, self._pod, STATUS_PORT, path, headers=self._headers, **more)

    def _grow(self, status: Status) -> None:
        """The growing files first, so that run.json, which names their blocks, is never ahead of them."""
        if layout.RUN not in status.files:
            return
        run = self._ask("GET", f"/v1/files/{layout.RUN}")
        for name in GROWING:
            have = self._mirror.size(name)
            while have < status.files.get(name, 0):
                part = self._ask("GET", f"/v1/files/{name}", params={"offset": str(have)})
                if not part:
                    break
                have = self._mirror.append(name, part, have)
        self._mirror.replace_run(run)

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
        return self._ask("GET", f"/v1/files/{name}", params={"offset": str(offset)})


def _checked(name: str) -> None:
    """DataError for what would not be a file of the run directory."""
    path = PurePosixPath(name)
    if path.parts[:1] == () or path.is_absolute() or ".." in path.parts or path.parts[0] not in layout.OURS:
        raise DataError(f"the pod offers {name!r}, which is no file of a run", "use one kts version")
