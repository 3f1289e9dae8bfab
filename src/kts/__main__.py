"""``python -m kts`` is the command ``kts``."""

import os
import sys

if not sys.flags.safe_path and sys.path[0] == os.path.realpath("."):  # kts is loaded; no more is to come from there
    del sys.path[0]

from kts.cli.entry import entry

sys.exit(entry())
