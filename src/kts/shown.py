"""Text that others wrote, as it is shown: what cannot be seen is escaped, and in messages named; without its mark."""

from __future__ import annotations

import codecs
import io
import os
import unicodedata
from collections.abc import Sequence

LONGEST, LONGEST_LINE = 60, 120
"""Characters of a value, and of a line of a log, that a message shows."""
MOST_WHOLE = 10**300
"""Python does not print much larger ones in decimals."""
PASTED = "as web pages paste them"
"""In every text of `named`."""
_QUOTES = "‘’‚‛“”„‟«»‹›′″＂＇"
_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\uff0d"
_NAMES = {
    "\u00a0": "a no-break space",
    "\u202f": "a narrow no-break space",
    "\u200b": "a zero-width space",
    "\u200c": "a zero-width non-joiner",
    "\u200d": "a zero-width joiner",
    "\u2060": "a zero-width word joiner",
    "\ufeff": "a byte order mark (zero-width no-break space)",
    "\u00ad": "a soft hyphen, which cannot be seen",
}
_KINDS = {
    "Zs": "a space that is none",
    "Zl": "a line break that is none",
    "Zp": "a line break that is none",
    "Cf": "a character without width",
    "Cc": "a control character",
    "Cs": "half a character",
    "Co": "a private character",
    "Cn": "a character that is none",
}
_MOST_NAMED = 3


def shown(value: object, most: int = LONGEST) -> str:
    """A value as a message quotes it: short, with escapes for what cannot be seen, and the names of what misleads."""
    if isinstance(value, (bytes, str, os.PathLike)):
        return f"{_short(repr(os.fspath(value)), most)}{named(str(value))}"
    return _short(hex(value) if isinstance(value, int) and abs(value) > MOST_WHOLE else repr(value), most)


def named(text: str) -> str:
    """``, with a no-break space, as web pages paste them``: what in ``text`` looks like something else, or like
    nothing; empty where all is as it looks."""
    found = dict.fromkeys(name for char in text[:10_000] if (name := _name(char)))
    if not found:
        return ""
    return f", with {' and '.join(list(found)[:_MOST_NAMED])}, {PASTED}"


def first_few(names: Sequence[str], most: int, joint: str = ", ") -> str:
    """``a, b and 3 more``: the first ``most``, and how many are left out."""
    return joint.join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def visible(text: str) -> str:
    """One line of a message: escapes for characters that cannot be seen, replacement characters for what is no text."""
    return "".join(_visible(char) for char in text)


def clean(text: str) -> str:
    """Text of others as any medium may show it: lines stay, and tabs as blanks; what else cannot be seen is escaped, as
    `visible` does: a terminal would obey it, and a page read otherwise than it stands."""
    if text.isprintable():
        return text
    return "\n".join(visible(line.expandtabs()) for line in text.replace("\r\n", "\n").split("\n"))


def one_line(text: str) -> str:
    """`clean`, with a blank for each line break, so that no text can pretend to be a line of ours."""
    return text if text.isprintable() else clean(text).replace("\n", " ")


def without_mark(raw: bytes) -> bytes:
    """UTF-8 without the byte order mark that editors and shells of other systems put in front, also where they wrote
    UTF-16. UnicodeError."""
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return raw.decode("utf-16").encode()
    return raw.removeprefix(b"\xef\xbb\xbf")


def as_text(name: str) -> str:
    """A file's name, or text with one in it, that can be stored: bytes that are no UTF-8 become replacement
    characters."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace") if not name.isascii() else name


def as_it_can_be(error: UnicodeError) -> tuple[str | bytes, int]:
    """For ``codecs.register_error``: what an output cannot show becomes a replacement character, or ``?``."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    mark = "\ufffd".encode() if error.encoding.lower() in {"utf-8", "utf8"} else b"?"
    return mark * (error.end - error.start), error.end


REPLACE = "kts.replace"
"""The name of `as_it_can_be` as an ``errors`` argument."""
codecs.register_error(REPLACE, as_it_can_be)


def take_any_text(*streams: object, encoding: str | None = None) -> None:
    """Lets outputs take whatever text there is, in any locale: what they cannot show is replaced. ``encoding``: theirs
    from now on; None: what the locale says."""
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding=encoding, errors=REPLACE)


def _name(char: str) -> str:
    number, kind = f"(U+{ord(char):04X})", unicodedata.category(char)
    if char in " \t\n\r" or 0xDC80 <= ord(char) <= 0xDCFF:  # the latter stands for a byte that is no UTF-8
        return ""
    if char in _QUOTES:
        return "typographic quotes"
    if char in _DASHES:
        return f"a dash that is no '-' {number}"
    return _NAMES.get(char) or (f"{_KINDS[kind]} {number}" if kind in _KINDS else "")


def _visible(char: str) -> str:
    if char.isprintable():
        return char
    if 0xD800 <= ord(char) <= 0xDFFF:
        return "\ufffd"
    return repr(char)[1:-1]


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."
