"""What Kubernetes takes as a name, a label or an image: checked before anything is sent, in its own rules. Pure."""

from __future__ import annotations

import re

from kts.errors import UsageError

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_WORD = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_IMAGE = re.compile(
    r"((\[[0-9a-fA-F:]+\]|[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*)(:[0-9]+)?/)?"
    r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*"
    r"(:[A-Za-z0-9_][-A-Za-z0-9_.]{0,127})?(@sha256:[0-9a-f]{64})?"
)
_LONGEST_WORD, _LONGEST_SUBDOMAIN = 63, 253


def namespace(option: str, text: str) -> str:
    """``text``. UsageError if it is no label of DNS."""
    if not _LABEL.fullmatch(text) or len(text) > _LONGEST_WORD:
        raise _refused(option, text, "a name of at most 63 of a-z, 0-9 and '-', with no '-' at an end")
    return text


def name(option: str, text: str) -> str:
    """``text``, which may be empty. UsageError if no object could be called so."""
    if text and not _is_subdomain(text):
        raise _refused(option, text, "a name of a-z, 0-9, '-' and '.', with a letter or digit at both ends")
    return text


def resource(option: str, text: str) -> str:
    """``text``, which may be empty. UsageError if it is no name of an extended resource."""
    prefix, slash, word = text.partition("/")
    if text and not (slash and _is_subdomain(prefix) and _is_word(word) and not prefix.endswith("kubernetes.io")):
        raise _refused(option, text, "a name such as nvidia.com/gpu; each tenant asks one of it")
    return text


def image(option: str, text: str) -> str:
    """``text``. UsageError if it is no reference to an image."""
    if not _IMAGE.fullmatch(text):
        raise _refused(option, text, "an image such as registry.example/kts-worker:v1, in lower case up to the ':'")
    return text


def loadable(option: str, text: str) -> str:
    """``text``. UsageError if an image that is loaded under this name would be looked for under another."""
    host, slash, rest = image(option, text).partition("/")
    if not slash or not (host == "localhost" or set(".:") & set(host)) or ":" not in rest or "@" in rest:
        raise _refused(option, text, "a name with a registry and a tag, such as localhost/kts-worker:v1")
    return text


def is_key(text: str) -> bool:
    """Whether a label, taint or annotation may be called so."""
    prefix, slash, word = text.rpartition("/")
    return _is_word(word) and (not slash or _is_subdomain(prefix))


def is_value(text: str) -> bool:
    """Whether a label or taint may have this value."""
    return not text or _is_word(text)


VALUE = "a value has at most 63 of A-Z, a-z, 0-9, '-', '_' and '.', with a letter or digit at both ends"


def _is_subdomain(text: str) -> bool:
    return len(text) <= _LONGEST_SUBDOMAIN and _SUBDOMAIN.fullmatch(text) is not None


def _is_word(text: str) -> bool:
    return len(text) <= _LONGEST_WORD and _WORD.fullmatch(text) is not None


def _refused(option: str, text: str, rule: str) -> UsageError:
    return UsageError(f"{option}: {text!r} is not for Kubernetes", f"give {rule}")
