"""Where calls come from: the running kernel's probes in the driver's library. A recording is `kts.watch.recording`."""

from kts.watch.source.live import MOST_CALLS_S, LiveSource
from kts.watch.source.tracefs import default_tracefs

__all__ = ["MOST_CALLS_S", "LiveSource", "default_tracefs"]
