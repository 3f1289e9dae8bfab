"""Makes the table of simulated runs with a known truth, from what the full check wrote.

kts selfcheck --simulated --json > examples/selfcheck.json    runs it
python examples/08_selfcheck.py            prints the table
python examples/08_selfcheck.py --write    puts it into docs/measuring.md
python examples/08_selfcheck.py --check    exits 1 if docs/measuring.md holds another one
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from ending import mode, plain
from in_docs import put
from kts.physics.selfcheck import SelfCheck
from kts.report.selfcheck import as_markdown

FOUND = Path(__file__).parent / "selfcheck.json"
PAGE = Path(__file__).parents[1] / "docs" / "measuring.md"

if __name__ == "__main__":
    with plain():
        asked = mode()
        put(PAGE, {"selfcheck": as_markdown(msgspec.json.decode(FOUND.read_bytes(), type=SelfCheck))}, asked)
