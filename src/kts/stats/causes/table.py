"""Which causes may have changed which place, in the order in which they are asked."""

from __future__ import annotations

from kts.stats.causes import host, outside, queueing, slower, turns
from kts.stats.causes.components import Place
from kts.stats.causes.facts import Change, Facts, Rule, Told

CAUSES_OF: dict[Place, tuple[Rule, ...]] = {
    "backlog": (queueing.queue,),
    "late": (queueing.between,),
    "first": (turns.side_by_side, turns.first_turn),
    "turns": (turns.side_by_side, turns.turns),
    "contended": (turns.side_by_side, turns.contended),
    "core": (host.strangers, host.core),
    "quota": (host.quota,),
    "disk": (host.disk,),
    "speed": (host.slow_core,),
    "ill": (outside.xid,),
    "hidden": (turns.hidden,),
    "queued": (turns.back_to_back,),
    "host": (outside.uninvited, host.by_samples, host.launch, slower.own),
    "work": (
        outside.uninvited,
        slower.limited,
        slower.clocks,
        slower.sibling,
        slower.memory,
        slower.slower,
        slower.own,
    ),
    "whole": (outside.uninvited, slower.limited, host.by_samples, slower.own),
}


def named(facts: Facts, change: Change) -> Told | None:
    """The first cause that the data show; None: they show none."""
    return next((told for rule in CAUSES_OF[change.place] if (told := rule(facts, change)) is not None), None)
