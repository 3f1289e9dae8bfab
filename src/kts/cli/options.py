"""Options and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Only JSON on stdout; everything else on stderr.")]
NoFigures = Annotated[bool, typer.Option("--no-figures", help="Write tables and pages, draw nothing.")]
RunDirectory = Annotated[
    Path,
    typer.Argument(metavar="DIR", help="A run directory. Or KTS_APP v1 logs: a directory, a file, or - for stdin."),
]
Telemetry = Annotated[
    bool, typer.Option("--telemetry/--no-telemetry", help="Sample the device and the CPU scheduler beside the run.")
]
Dcgm = Annotated[
    str,
    typer.Option(
        help="Scrape this dcgm-exporter, too, e.g. http://NODE:9400/metrics. auto: look for one.", metavar="URL|auto"
    ),
]
