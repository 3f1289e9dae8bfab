"""From an experiment to the frozen plan and its blocks. Pure."""

from kts.plan.blocks import block_seed, blocks_of_round, expected_seconds
from kts.plan.build import build

__all__ = ["block_seed", "blocks_of_round", "build", "expected_seconds"]
