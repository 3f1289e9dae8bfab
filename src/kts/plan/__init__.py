"""From an experiment to the frozen plan and its blocks. Pure."""

from kts.plan.blocks import block_seed, blocks_of_round
from kts.plan.build import build
from kts.plan.estimate import expected_seconds

__all__ = ["block_seed", "blocks_of_round", "build", "expected_seconds"]
