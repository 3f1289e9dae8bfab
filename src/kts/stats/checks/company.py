"""Was somebody uninvited on the device?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kts.model.checks import Check
from kts.model.reading import RunData
from kts.stats import neighbours
from kts.stats.checks.told import count, failed, not_applicable, passed

if TYPE_CHECKING:
    from kts.stats.gathering import Gathered

CODE = "no-neighbour"


def of_run(run: RunData, gathered: Gathered) -> Iterator[Check]:
    """By all who looked while the blocks ran. A figure may be off by what the blocks with somebody there do to a
    tenant's level."""
    there = list(neighbours.uninvited(run))
    for one in there:
        figure = count(len(one.blocks), "block") if one.blocks else "blocks not known"
        yield failed(CODE, "neighbour", figure, one.text, off=gathered.levels.most_off(one.blocks))
    if there:
        return
    if run.info.neighbours is None:
        yield not_applicable(CODE, "Nobody was to look who else is on the device.")
        return
    unseen, blocks = neighbours.unseen_blocks(run), len(run.blocks)
    if blocks and len(unseen) == blocks:
        yield not_applicable(CODE, "Nobody looked who else is on the device, who would have seen everybody.")
    elif unseen:
        text = f"Nobody uninvited was seen; in {len(unseen)} of {count(blocks, 'block')} nobody looked all the time."
        yield passed(CODE, f"0, {len(unseen)} of {blocks} blocks unseen", text)
    else:
        yield passed(CODE, "0", f"Nobody uninvited was there in {count(blocks, 'block')}.")
