"""What an experiment will do, before anything is measured: conditions, blocks, and how long it will take.

python examples/03_plan_first.py [FILE OR NAME]
"""

from __future__ import annotations

import sys

from kts.errors import SpecError
from kts.plan import blocks_of_round, build, expected_seconds
from kts.spec import load
from kts.units import format_duration


def main(experiment: str) -> None:
    """Prints the first two rounds of the plan."""
    plan = build(load(experiment).experiment)
    print(f"{plan.name}: {plan.design}, {plan.rounds} rounds of {len(plan.conditions)} blocks")
    for number in range(min(plan.rounds, 2)):
        for block in blocks_of_round(plan, number):
            amounts = ", ".join(f"{name} {quota.iterations or quota.seconds}" for name, quota in block.quotas.items())
            print(f"  round {number + 1}, block {block.index}: {block.condition} ({amounts})")
    print(f"about {format_duration(plan.rounds * expected_seconds(plan, {}))} of measuring")


if __name__ == "__main__":
    try:
        main(sys.argv[1] if len(sys.argv) > 1 else "agents")
    except SpecError as error:
        sys.exit(f"error: {error.what}")
