"""Seeds: many from one, the same on every machine and Python."""

from __future__ import annotations

from hashlib import blake2b


def derive(*parts: str | int) -> int:
    """A seed in [0, 2**63) from ``parts``: the same parts always give the same seed."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
