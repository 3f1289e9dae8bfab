"""``python -m kts`` is the command ``kts``."""

import sys

from kts.cli.main import main

sys.exit(main())
