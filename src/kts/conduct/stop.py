"""Asking a run to end from elsewhere: another thread, or a signal handler. Before, while and after it is conducted."""

from __future__ import annotations

from kts.errors import Interrupted
from kts.model.run import Outcome

BY_USER = Outcome(kind="interrupted", reason="stopped by the user", exit_code=Interrupted.exit_code)
"""How a run ends on which somebody pressed Ctrl-C."""


class StopRequest:
    """The first reason asked for counts. Plain attributes, no lock: a signal handler may not wait for one.

    ``insisted``: somebody asked who will not wait, and there was no run left to end: nobody should wait for
    anything any more, neither for workers that leave nor for results to be fetched.
    """

    def __init__(self) -> None:
        self.insisted = False
        self._reason: Outcome | None = None
        self._insistent = False
        self._taken = False
        self._over = False

    def ask(self, reason: Outcome, *, insistent: bool = False) -> None:
        """Ends the run with ``reason`` as its outcome. ``insistent``: a further one sets ``insisted``."""
        if self._reason is None and not self._over:
            self._insistent = insistent
            self._reason = reason
        elif insistent:
            self.insisted = True

    def take(self) -> Outcome | None:
        """The reason, once; None if nobody asked, or it was taken."""
        if self._taken or self._reason is None:
            return None
        self._taken = True
        return self._reason

    def close(self) -> None:
        """The run is over. What was asked for and not taken came too late to end it."""
        self._over = True
        if self._reason is not None and not self._taken and self._insistent:
            self.insisted = True
