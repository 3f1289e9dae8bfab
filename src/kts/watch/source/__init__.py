"""Where calls come from: the running kernel's probes in the driver's library. A recording is `kts.watch.recording`."""

from kts.watch.source.live import LiveSource
from kts.watch.source.tracefs import default_tracefs

__all__ = ["LiveSource", "default_tracefs"]
