"""What carries a tenant's work: a file for each kind of `kts.model.plan.Work`, named as its tag."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Protocol, cast

from kts.model.plan import DeviceChoice, Tenant
from kts.model.run import DeviceInfo
from kts.wire.messages import Ready, Start
from kts.worker.host import Container
from kts.worker.loop import LeftOut, Outlet


class Runner(Protocol):
    """A tenant's work, of whichever kind. Called in this order, ``run`` once per block.

    ``container``: another one than the worker's that the work is done in, once it is open and if it shows its
    processes.
    """

    @property
    def container(self) -> Container | None: ...

    def open(self) -> DeviceInfo:
        """Opens the device, and nothing more."""

    def calibrate(self, pulse: Callable[[], None], size: int | None = None) -> Ready:
        """Gets ready for the first block. ``pulse`` is called often enough to show that it is alive. ``size``: of the
        work, if it is not to be found."""

    def run(self, start: Start, outlet: Outlet) -> LeftOut:
        """Runs a block; all its records go to ``outlet``."""

    def close(self) -> None:
        """Ends all that must not outlive the worker. Always called."""


def runner_for(tenant: Tenant, device: DeviceChoice) -> Runner:
    """What ``make`` in the file of the tenant's work makes."""
    module = importlib.import_module(f"{__name__}.{tenant.work.__struct_config__.tag}")
    return cast(Runner, module.make(tenant, device))
