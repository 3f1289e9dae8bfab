"""Valid files made invalid in every way: by bytes, and where they are JSON or YAML by what they say."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

ODD: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1,
    2**31,
    2**53 + 1,
    2**63 - 1,
    -(2**63),
    2**63,
    10**25,
    0.0,
    -0.5,
    1e-320,
    1e-9,
    1e17,
    1e19,
    1e308,
    -1e308,
    "",
    "x",
    "closed",
    "solo",
    "\ud800",
    "a\0b",
    "ä\u200b\u202e",
    "x" * 3000,
    [],
    {},
    [[]],
    [0, 0],
    {"a": 1},
)
"""What may stand where something else is due."""
BYTES = (
    b"\0",
    b"\xff",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"9" * 400,
    b"1e999",
    *(bytes([c]) for c in b'[{",\n-'),
)
DEEP = 30_000


def mutations(content: bytes, seed: int, number: int, *, text: bool) -> Iterator[bytes]:
    """``number`` mutations; ``text``: also of what it says, if it is JSON. The same for the same seed."""
    rng = random.Random(seed)
    value = _parsed(content) if text else None
    for _ in range(number):
        if value is not None and rng.random() < 0.6:
            yield _said(value, rng)
        else:
            mutated = content
            for _ in range(rng.choice((1, 1, 1, 2, 5))):
                mutated = _bytes(mutated, rng, text)
            yield mutated


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def _bytes(content: bytes, rng: random.Random, text: bool) -> bytes:
    at = rng.randrange(len(content) + 1)
    to = min(len(content), at + rng.choice((1, 2, 4, 8, 30, 300)))
    other, kept = rng.randrange(len(content) + 1), to if rng.random() < 0.5 else at
    deep = rng.choice((b"[", b'{"a":', b"- ", b"{a: ", b"[[")) * rng.choice((40, 900, DEEP))
    flipped = bytes([content[at] ^ 1 << rng.randrange(8)]) if at < len(content) else b""
    middles = (
        (flipped, at + 1),
        (b"", len(content)),
        (b"", to),
        (content[at:to], at),
        (rng.randbytes(to - at), to),
        (rng.choice(BYTES), kept),
        (content[other : other + to - at], to),
        (deep, kept),
    )
    middle, behind = rng.choice(middles if text else middles[:-1])
    return content[:at] + middle + content[behind:]


def _said(value: Any, rng: random.Random) -> bytes:
    changed = json.loads(json.dumps(value))
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        places = list(_places(changed))
        if not places:
            break
        holder, key = rng.choice(places)
        kind = rng.randrange(6)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, list):
            holder.append(holder[key])
        elif kind == 2:
            other, there = rng.choice(places)
            holder[key] = json.loads(json.dumps(other[there]))
        elif kind == 3 and isinstance(holder[key], (int, float)):
            holder[key] = type(holder[key])(holder[key] * rng.choice((-1, 0, 10, 1000, 10**9)))
        else:
            holder[key] = copy.deepcopy(rng.choice(ODD))
    return json.dumps(changed).encode(errors="surrogatepass")


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield value, key
            yield from _places(inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value[:200]):
            yield value, index
            yield from _places(inner)
