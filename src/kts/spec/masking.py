"""The text of an experiment without the values of its programs, as it is kept with a run."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

from kts.model.masking import HIDDEN, hidden_values, masked_command

if TYPE_CHECKING:
    import yaml

_SHORTEST = 6
"""Characters of a value that is sought in all of the text: shorter ones are words of any text."""
_IN_FRONT = re.compile(r"(?:[&!]\S*\s+)*")
Hidden = tuple[int, int, str, list[str]]
"""From where to where a scalar stands, what is kept of it, and what is not."""


def masked_text(text: str) -> str:
    """``text`` with `HIDDEN` in place of what `kts.model.masking` hides: in ``env`` and ``command`` of whatever holds
    them, but where that has ``keep_values: true``. What is not all too short is hidden wherever it stands again, as in
    comments. What is no YAML is hidden as a whole."""
    import yaml

    from kts.spec.yamltree import composed

    try:
        node = composed(text)
        found = {} if node is None else {one[0]: one for one in _places(node)}  # an alias may stand for several
    except (yaml.YAMLError, RecursionError, ValueError):
        return f"{HIDDEN}\n"
    places = [found[start] for start in sorted(found, reverse=True)]
    for start, end, new, _ in places:
        old = text[start:end]
        in_front = _IN_FRONT.match(old)
        behind = old[len(old.rstrip()) :]
        quoted = json.dumps(new, ensure_ascii=False)
        text = f"{text[:start]}{in_front[0] if in_front else ''}{quoted}{behind}{text[end:]}"
    for value in {value for *_, hidden in places for value in hidden if len(value) >= _SHORTEST}:
        text = text.replace(value, HIDDEN)
    return text


def _places(top: object) -> Iterator[Hidden]:
    import yaml

    seen: set[int] = set()
    waiting = [top]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            pairs = {str(key.value): value for key, value in node.value}
            waiting += pairs.values()
            keeps = pairs.get("keep_values")
            if keeps is None or str(keeps.value).lower() != "true":
                yield from _of_env(pairs.get("env"))
                yield from _of_command(pairs.get("command"))


def _of_env(node: object) -> Iterator[Hidden]:
    import yaml

    for _, value in node.value if isinstance(node, yaml.MappingNode) else ():
        yield *_place(value), HIDDEN, [str(value.value)]


def _of_command(node: object) -> Iterator[Hidden]:
    import yaml

    if isinstance(node, yaml.ScalarNode):
        words = shlex.split(str(node.value))
        line = shlex.join(masked_command(words)).replace(f"'{HIDDEN}'", HIDDEN)
        yield *_place(node), line, hidden_values(words)
    elif isinstance(node, yaml.SequenceNode):
        words = [str(word.value) for word in node.value]
        for word, old, new in zip(node.value, words, masked_command(words), strict=True):
            if new != old:
                yield *_place(word), new, [old.removeprefix(new.removesuffix(HIDDEN))]


def _place(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.index, node.end_mark.index
