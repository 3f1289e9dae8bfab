"""How the source is built, one tree or two side by side: modules, functions, arrows, circles, class names that exist
twice, imports inside functions, and how many files know of one member of each thing that is added again and again.

python -m bench structure                       # this tree
python -m bench structure --before DIR          # beside the tree of another commit (git worktree add DIR COMMIT)
python -m bench structure --show                # also which files, names and imports
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

MEMBERS: dict[str, tuple[str, ...]] = {
    "a kind of work (program)": ("CommandTenant", "Program", "PROGRAM", "==command"),
    "a workload kernel (tiny)": ("=tiny",),
    "a telemetry source (gpm)": ("GpmSource",),
    "an arrival process (Poisson)": ("Poisson",),
    "a report section (mixes)": (">kts.report.mixes", ">kts.report.sections.mixes"),
}
"""What is added -> how an existing member of it shows in code: a name; with ``=`` a string, with ``==`` one that is
compared with; with ``>`` a module that is imported."""


@dataclass(frozen=True)
class Module:
    """One file. ``arrows``: modules of ours that it imports when it runs, with the imports of its functions."""

    name: str
    lines: int
    functions: int
    longest: int
    classes: tuple[str, ...]
    arrows: frozenset[str]
    inside: tuple[str, ...]
    words: frozenset[str]


def read(root: Path) -> dict[str, Module]:
    """Every module of ``root/src/kts`` by its dotted name."""
    source = root / "src"
    files = {_dotted(path, source): path for path in sorted((source / "kts").rglob("*.py"))}
    return {name: _module(name, path, frozenset(files)) for name, path in files.items()}


def _dotted(path: Path, source: Path) -> str:
    parts = path.relative_to(source).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _module(name: str, path: Path, ours: frozenset[str]) -> Module:
    text = path.read_text()
    tree = ast.parse(text)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    at_import = {target for node in _imports(tree) for target in _targets(node, package, ours)}
    inside = [node for function in functions for node in _imports(function)]
    return Module(
        name=name,
        lines=text.count("\n"),
        functions=len(functions),
        longest=max((function.end_lineno or 0) - function.lineno + 1 for function in functions) if functions else 0,
        classes=tuple(node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)),
        arrows=frozenset(at_import - {name}),
        inside=tuple(f"{name}:{node.lineno}" for node in {id(node): node for node in inside}.values()),
        words=frozenset(_words(tree)) | {f">{target}" for target in at_import} | {f">{name}"},
    )


def _imports(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Imports anywhere below, but for those that only a type checker sees."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        yield from _imports(child)


def _targets(node: ast.Import | ast.ImportFrom, package: str, ours: frozenset[str]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name in ours)
        return
    above = package.rsplit(".", node.level - 1)[0] if node.level else ""
    base = ".".join(part for part in (above, node.module) if part)
    for alias in node.names:
        if f"{base}.{alias.name}" in ours:
            yield f"{base}.{alias.name}"
        elif base in ours:
            yield base


def _words(tree: ast.AST) -> Iterator[str]:
    """Names and, with ``=`` before, strings; with ``==`` those that something is compared with."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.alias):
            yield node.name.rpartition(".")[2]
        elif isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield f"={node.value}"
        elif isinstance(node, ast.Compare):
            for side in node.comparators:
                if isinstance(side, ast.Constant) and isinstance(side.value, str):
                    yield f"=={side.value}"


def circles(modules: dict[str, Module]) -> list[list[str]]:
    """Groups of modules that import each other in a circle (strongly connected components; Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    circles: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for target in modules[name].arrows:
            if target not in index:
                visit(target)
                low[name] = min(low[name], low[target])
            elif target in stack:
                low[name] = min(low[name], index[target])
        if low[name] == index[name]:
            place = stack.index(name)
            if len(stack) - place > 1:
                circles.append(sorted(stack[place:]))
            del stack[place:]

    sys.setrecursionlimit(10_000)
    for name in modules:
        if name not in index:
            visit(name)
    return circles


def figures(modules: dict[str, Module]) -> dict[str, list[str]]:
    """What is counted -> its instances."""
    where: dict[str, list[str]] = defaultdict(list)
    for module in modules.values():
        for name in module.classes:
            where[name].append(module.name)
    twice = [f"{name}: {', '.join(homes)}" for name, homes in sorted(where.items()) if len(homes) > 1]
    counted = {
        "modules": list(modules),
        "arrows": [f"{module.name} -> {target}" for module in modules.values() for target in sorted(module.arrows)],
        "circles": [" <-> ".join(circle) for circle in circles(modules)],
        "class names that exist twice": twice,
        "imports inside functions": [place for module in modules.values() for place in module.inside],
    }
    for what, words in MEMBERS.items():
        counted[f"files that know of {what}"] = [m.name for m in modules.values() if m.words & set(words)]
    return counted


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the figures; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m bench structure", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--before", type=Path, help="another tree, shown in the first column")
    parser.add_argument("--show", action="store_true", help="list what is counted")
    options = parser.parse_args(arguments)
    trees = [read(tree) for tree in ([options.before] if options.before else []) + [Path(__file__).parents[1]]]
    counted = [figures(tree) for tree in trees]
    rows = {what: [len(each[what]) for each in counted] for what in counted[-1]}
    rows["functions"] = [sum(module.functions for module in tree.values()) for tree in trees]
    rows["lines"] = [sum(module.lines for module in tree.values()) for tree in trees]
    rows["modules over 400 lines"] = [sum(module.lines > 400 for module in tree.values()) for tree in trees]
    rows["lines of the longest function"] = [max(module.longest for module in tree.values()) for tree in trees]
    print(f"{'':<52}{'before' if options.before else '':>10}{'here':>10}")
    for what, values in rows.items():
        print(f"{what:<52}" + "".join(f"{value:>10,}" for value in values))
    if options.show:
        for what, instances in counted[-1].items():
            if what not in ("modules", "arrows"):
                print(f"\n{what}")
                print("\n".join(f"  {instance}" for instance, _ in sorted(Counter(instances).items())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
