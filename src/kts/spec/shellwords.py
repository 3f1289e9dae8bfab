"""A command line as people write it, and what in it is for a shell."""

from __future__ import annotations

import re
import shlex

from kts.shown import shown


def split_words(value: object) -> object:
    """A command line in one string, split as a shell would split it. ValueError for what only a shell understands."""
    split: object = value
    if isinstance(value, str):
        try:
            split = tuple(shlex.split(value))
        except ValueError as error:
            raise ValueError(f"cannot be split into words: {error}") from error
    if found := shell_syntax(value):
        raise ValueError(
            f'{found} is for a shell, and none is used: write ["sh", "-c", "..."], or variables under env: '
            f"(is {shown(value) if isinstance(value, str) else 'a list'})"
        )
    if isinstance(split, (list, tuple)) and split and split[0] == "":
        raise ValueError("names no program: its first word is empty")
    return split


def shell_syntax(command: object) -> str:
    """What in a command line, one string or a list of words, only a shell understands; empty if nothing is."""
    if isinstance(command, str):
        bare = _QUOTED.sub("_", command)
        if operator := _OPERATOR.search(bare):
            return shown(operator[0])
        if expansion := _EXPANSION.search(_SINGLE_QUOTED.sub("_", command)):
            return shown(expansion[0])
        words = bare.split()
    elif isinstance(command, (list, tuple)):
        words = [word for word in command if isinstance(word, str)]
        if operator_word := next((word for word in words if _OPERATOR.fullmatch(word)), ""):
            return shown(operator_word)
    else:
        return ""
    if words and (words[0] in _BUILTINS or _ASSIGNMENT.match(words[0])):
        return shown(words[0])
    return ""


_QUOTED = re.compile(r"""\\.|'[^']*'|"(?:\\.|[^"\\])*\"""", re.DOTALL)
_SINGLE_QUOTED = re.compile(r"\\.|'[^']*'", re.DOTALL)
_OPERATOR = re.compile(r"&&|\|\||[|;]|[0-9]*&?[<>]+[&|]?[0-9-]?|&")
_EXPANSION = re.compile(r"\$(?:\w+|\{[^}]*\}|\([^)]*\))|`[^`]*`")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_BUILTINS = frozenset({"cd", "export", "source", ".", "alias", "set", "unset", "eval", "exec", "ulimit", "umask"})
