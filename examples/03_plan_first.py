"""What an experiment will do, before anything is measured: conditions, blocks, and what its time can decide.

python examples/03_plan_first.py [FILE OR NAME]
"""

from __future__ import annotations

import sys

import kts
from ending import plain


def main(experiment: str) -> None:
    """Prints the first two rounds of the plan, what a round holds, and what is foretold of the run."""
    preview = kts.preview(experiment)
    plan = preview.plan
    print(f"{plan.name}: {plan.design}, {plan.rounds} rounds of {len(plan.conditions)} blocks")
    for number in range(min(plan.rounds, 2)):
        for block in preview.blocks(number):
            amounts = ", ".join(f"{name} {quota.iterations or quota.seconds}" for name, quota in block.quotas.items())
            print(f"  round {number + 1}, block {block.index}: {block.condition} ({amounts})")
    kts.show(preview)


if __name__ == "__main__":
    with plain():
        main(sys.argv[1] if len(sys.argv) > 1 else "agents")
