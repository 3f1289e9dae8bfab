"""YAML text to plain data plus the line of every key.

Differs from PyYAML's loading where that bites people: scalars follow YAML 1.2 (``on`` and ``yes``
are words, ``1e3`` is a number, ``1:30`` is text), keys are always text, a key given twice is a
mistake, and aliases cannot blow up.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import yaml

from kts.shown import shown

Path = tuple[str | int, ...]

MAX_VALUES = 50_000
MAX_DEPTH = 20
MOST_EXPLAINED = 1 << 14
"""Characters of a text of which PyYAML's own scanner says what is wrong: some tenths of a second at most."""
_LONGEST_KEY = 1024
"""Characters of a key that no ``?`` announces, as YAML has it."""
_TAG = "tag:yaml.org,2002:"
_IMPLICIT: tuple[tuple[str, str, str], ...] = (
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)", "tTfF"),
    ("null", r"(?:~|null|Null|NULL|)", "~nN\0"),
    ("int", r"(?:[-+]?[0-9]+|0x[0-9a-fA-F]+|0o[0-7]+)", "-+0123456789"),
    ("float", r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?)", "-+.0123456789"),
    ("float", r"(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))", "-+."),
    ("merge", r"(?:<<)", "<"),
)


class _Loader(yaml.SafeLoader):
    """Composes nodes with the scalar rules of YAML 1.2.

    Of the places at which a key may have begun, PyYAML looks at all for each token, and there is one per open bracket.
    They stand in the order of the text: the first one tells.
    """

    yaml_implicit_resolvers = {}  # noqa: RUF012 - as PyYAML declares it

    def stale_possible_simple_keys(self) -> None:
        """Forgets those from the first on of which it is too late to be keys; as PyYAML's, which asks each."""
        while keys := self.possible_simple_keys:
            level = next(iter(keys))
            if keys[level].line == self.line and self.index - keys[level].index <= _LONGEST_KEY:
                return
            if keys[level].required:
                message = "could not find expected ':'"
                mark = keys[level].mark
                raise yaml.scanner.ScannerError("while scanning a simple key", mark, message, self.get_mark())
            del keys[level]

    def next_possible_simple_key(self) -> int | None:
        """The number of the first one's token."""
        return next((key.token_number for key in self.possible_simple_keys.values()), None)


for _name, _pattern, _first in _IMPLICIT:
    _Loader.add_implicit_resolver(
        _TAG + _name, re.compile(f"^{_pattern}$"), ["" if char == "\0" else char for char in _first]
    )


class TreeError(Exception):
    """The text is no YAML that can be used. ``line`` and ``column`` count from 1; 0 where unknown."""

    def __init__(self, message: str, line: int = 0, column: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column


@dataclass
class Tree:
    """Data and places. ``lines``: path of keys and list positions to the line (from 1) where it stands.

    ``repeated``: (path, first line, second line) of keys given twice; the first value counts. ``most`` ``values`` are
    built: more than the text can hold come of aliases.
    """

    data: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    repeated: list[tuple[Path, int, int]] = field(default_factory=list)
    values: int = 0
    most: int = MAX_VALUES

    def line(self, path: Path) -> int:
        """The line of ``path``, or of the nearest thing around it that is in the text; at least 1."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def parse(text: str) -> Tree:
    """The tree of a YAML document; ``data`` is None if the document is empty. TreeError if it is not YAML."""
    try:
        node = composed(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = " ".join(filter(None, (error.problem, error.context and f"({error.context})")))
        if isinstance(error, yaml.composer.ComposerError) and "single document" in str(error.context):
            problem = "a second document begins here; give one experiment a file"
        raise TreeError(problem, mark.line + 1 if mark else 0, mark.column + 1 if mark else 0) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise TreeError(f"character {error.character!r} is not allowed in YAML", line) from error
    except RecursionError as error:
        raise TreeError(f"nested deeper than {MAX_DEPTH} levels") from error
    tree = Tree(most=MAX_VALUES + len(text))
    if node is not None:
        tree.lines[()] = node.start_mark.line + 1
        tree.data = _build(tree, node, ())
    return tree


def composed(text: str) -> yaml.Node | None:
    """The document's node. By libyaml's scanner, ten times as fast, where PyYAML has it and it takes the text; what is
    wrong with a text of ordinary size PyYAML's own says better."""
    if yaml.__with_libyaml__:
        try:
            return _quick_loader()(text).get_single_node()
        except yaml.YAMLError:
            if len(text) > MOST_EXPLAINED:
                raise
    return _Loader(text).get_single_node()


@cache
def _quick_loader() -> Callable[[str], _Loader]:
    """Composes as `_Loader` does, in Python: libyaml's own composer crashes on deep nesting."""

    parser: Any = yaml.cyaml.CParser  # type: ignore[attr-defined] # of the compiled half, which has no types

    class Quick(yaml.composer.Composer, parser, yaml.resolver.Resolver):  # type: ignore[misc]
        yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers

        def __init__(self, text: str) -> None:
            parser.__init__(self, text)
            yaml.composer.Composer.__init__(self)
            yaml.resolver.Resolver.__init__(self)

    return Quick


def _build(tree: Tree, node: yaml.Node, path: Path) -> Any:
    line, column = node.start_mark.line + 1, node.start_mark.column + 1
    tree.values += 1
    if tree.values > tree.most:
        raise TreeError(f"aliases expand to more than {tree.most} values", line, column)
    if len(path) > MAX_DEPTH:
        raise TreeError(f"nested deeper than {MAX_DEPTH} levels", line, column)
    if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
        return _build_mapping(tree, node, path)
    if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
        items = []
        for index, item in enumerate(node.value):
            tree.lines[(*path, index)] = item.start_mark.line + 1
            items.append(_build(tree, item, (*path, index)))
        return items
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node, line, column)
    raise TreeError(f"tag {_shown(node.tag)} is not supported", line, column)


def _build_mapping(tree: Tree, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    own: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise TreeError("a key must be a word", line, key_node.start_mark.column + 1)
        if key_node.tag == _TAG + "merge":
            merged = _merge(tree, value_node, path) | merged
            continue
        key = str(key_node.value)
        place = (*path, key)
        if key in own:
            tree.repeated.append((place, tree.lines[place], line))
            continue
        tree.lines[place] = line
        own[key] = _build(tree, value_node, place)
    return merged | own


def _merge(tree: Tree, node: yaml.Node, path: Path) -> dict[str, Any]:
    sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
    merged: dict[str, Any] = {}
    for source in sources:
        value = _build(tree, source, path)
        if not isinstance(value, dict):
            raise TreeError("<< merges mappings only", source.start_mark.line + 1, source.start_mark.column + 1)
        merged = value | merged
    return merged


def _scalar(node: yaml.ScalarNode, line: int, column: int) -> Any:
    text = str(node.value)
    kind = node.tag.removeprefix(_TAG)
    try:
        match kind:
            case "str" | "merge":
                return text
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int":
                return int(text, 0) if text[:2] in ("0x", "0o") else int(text)
            case "float":
                return float(text.replace(".inf", "inf").replace(".nan", "nan").replace(".Inf", "inf"))
    except ValueError as error:
        raise TreeError(f"{shown(text)} is not a usable {kind}", line, column) from error
    raise TreeError(f"tag {_shown(node.tag)} is not supported", line, column)


def _shown(tag: str) -> str:
    return tag.replace(_TAG, "!!")
