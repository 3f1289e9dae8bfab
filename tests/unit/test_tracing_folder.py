"""The folder of a trace is gone when its worker is, whoever ended that and when."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.helpers_wait import until

from kts.worker.keeper import descendants
from kts.worker.tracing.control import Folder

MAKER = """
from kts.worker.tracing.control import Folder
folder = Folder(1)
(folder.path / "1-2.ring").write_bytes(b"x")
print(folder.path, flush=True)
input()
"""


@pytest.mark.parametrize("ended_by", ["SIGKILL", "SIGKILL of its group", "its end"])
def test_it_goes_with_the_worker(ended_by: str) -> None:
    """Megabytes of memory would stay taken after a kill -9. The keepers did it, but for a worker that was killed after
    it had told its keeper to end: of the command the sockets close a moment before its workers are killed."""
    worker = subprocess.Popen(
        [sys.executable, "-c", MAKER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert worker.stdout is not None
        folder = Path(worker.stdout.readline().strip())
        assert folder.is_dir()
        assert list(folder.iterdir())
        if ended_by == "SIGKILL":
            worker.kill()
        elif ended_by == "its end":
            worker.communicate("")
        else:
            os.killpg(worker.pid, signal.SIGKILL)
        until(lambda: not folder.exists(), "the folder goes")
    finally:
        worker.kill()
        worker.communicate()


def test_a_worker_that_removes_it_leaves_no_process() -> None:
    """Each traced tenant would leave a shell."""
    before = set(descendants(os.getpid()))
    folder = Folder(1)
    assert len(set(descendants(os.getpid())) - before) == 1
    folder.remove()
    folder.remove()
    assert not folder.path.exists()
    assert set(descendants(os.getpid())) == before


ORPHANS = """
import os
from kts.worker.keeper import adopt_orphans, end_orphans
from kts.worker.tracing.control import Folder
adopt_orphans()
folder = Folder(1)
end_orphans()
print(folder.path, flush=True)
os.kill(os.getpid(), 9)
"""


def test_ending_the_orphans_of_a_program_spares_it() -> None:
    """After the first of a program's lives nobody would be there to remove the folder."""
    done = subprocess.run([sys.executable, "-c", ORPHANS], stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    until(lambda: not Path(done.stdout.strip()).exists(), "the folder goes")
