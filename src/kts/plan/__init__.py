"""From an experiment to the frozen plan and its blocks, and what they are expected to hold. Pure."""

from kts.plan.blocks import block_seed, blocks_of_round
from kts.plan.build import build
from kts.plan.expected import ExpectedBlock, expected_block, expected_seconds, most_rounds
from kts.plan.modes import in_modes
from kts.plan.pair import pair

__all__ = [
    "ExpectedBlock",
    "block_seed",
    "blocks_of_round",
    "build",
    "expected_block",
    "expected_seconds",
    "in_modes",
    "most_rounds",
    "pair",
]
