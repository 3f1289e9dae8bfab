"""The commands as typer has them. A command's module is loaded when it is called, or its own help is asked for."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from kts import __version__
from kts.cli.commands import ABOUT, COMMANDS, MODULES, help_text
from kts.cli.groups import grouped

if TYPE_CHECKING:
    from typer import Context

_PLAIN: dict[str, Any] = {"rich_markup_mode": None, "pretty_exceptions_enable": False}


class Commands(TyperGroup):
    """Holds names and one line of help of each command, until one of them is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """As typer does, with the command that was named loaded."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command if name is None else _loaded(name), rest

    def get_help(self, ctx: Context) -> str:  # type: ignore[override] # typer's own click
        """Written down, not computed."""
        del ctx
        return help_text().rstrip()


def root() -> Any:
    """The group of all commands; call it with arguments, ``prog_name`` and ``standalone_mode``."""
    app = typer.Typer(
        name="kts",
        help=ABOUT,
        cls=Commands,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        **_PLAIN,
    )
    app.callback()(_root)
    group = cast(Commands, get_command(app))
    for name, text in COMMANDS.items():
        group.add_command(TyperCommand(name=name, help=text))
    return group


def _loaded(name: str) -> Any:
    module = import_module(f"kts.cli.{MODULES.get(name, name)}")
    app = typer.Typer(name=name, add_completion=False, **_PLAIN)
    if name == "k8s":
        return get_command(module.app)
    kind, settings = getattr(module, "COMMAND", TyperCommand), getattr(module, "SETTINGS", None)
    app.command(name, cls=kind, context_settings=settings)(grouped(getattr(module, name)))
    return get_command(app)


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"kts {__version__}\n")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    del version
