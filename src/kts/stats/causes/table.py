"""Which causes may have changed which place, in the order in which they are asked."""

from __future__ import annotations

from kts.stats.causes import host, queueing, slower, turns
from kts.stats.causes.components import Place
from kts.stats.causes.facts import Change, Facts, Rule, Told

CAUSES_OF: dict[Place, tuple[Rule, ...]] = {
    "backlog": (queueing.queue,),
    "late": (queueing.between,),
    "first": (turns.first_turn,),
    "turns": (turns.turns,),
    "contended": (turns.contended,),
    "hidden": (turns.hidden,),
    "queued": (turns.back_to_back,),
    "host": (host.core, host.launch, slower.own),
    "work": (slower.clocks, slower.slower, slower.own),
    "whole": (slower.own,),
}


def named(facts: Facts, change: Change) -> Told | None:
    """The first cause that the data show; None: they show none."""
    return next((told for rule in CAUSES_OF[change.place] if (told := rule(facts, change)) is not None), None)
