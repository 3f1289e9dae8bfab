"""Colours and type of the pictures. Every picture is drawn light; dark is the same picture with its colours exchanged.

So each role has one colour per theme, no two roles share a colour, and both themes always show the same.
Solo against shared differs in lightness as well as in hue (blue against orange): it survives greyscale and
the common kinds of colour blindness.
"""

from __future__ import annotations

import re
from typing import Any

FONT = "Liberation Sans, Arial, Arimo, Helvetica, Nimbus Sans, sans-serif"
"""Liberation Sans comes with vl-convert and has the widths of Arial and Helvetica, so a browser without it
lays the same picture out the same way."""

LIGHT = {
    "background": "#ffffff",
    "ink": "#1f2328",
    "muted": "#57606a",
    "grid": "#e6eaef",
    "solo": "#6f9bd1",
    "shared": "#a63a00",
    "wait": "#f0c4a6",
    "shade": "#fbefe6",
    "invalid": "#d5d9de",
    "much better": "#7fb0de",
    "better": "#b9d5ef",
    "same": "#f4f4ef",
    "little worse": "#fbe0c4",
    "worse": "#f3b57e",
    "much worse": "#e08a4a",
    "far worse": "#8f3000",
}
DARK = {
    "background": "#0d1117",
    "ink": "#e6edf3",
    "muted": "#9aa4af",
    "grid": "#262d36",
    "solo": "#4f7fbc",
    "shared": "#ffa657",
    "wait": "#74492a",
    "shade": "#2b1f15",
    "invalid": "#2d333b",
    "much better": "#2f5f93",
    "better": "#1f3a57",
    "same": "#1a2129",
    "little worse": "#432f1d",
    "worse": "#6e4118",
    "much worse": "#9a5413",
    "far worse": "#ffb877",
}
_DARK_OF = {LIGHT[role]: DARK[role] for role in LIGHT}
_COLOUR = re.compile("|".join(LIGHT.values()))

SIDE_COLOURS = [LIGHT["solo"], LIGHT["shared"]]
"""In the order solo, shared."""
HEAT = [LIGHT[role] for role in ("much better", "better", "same", "little worse", "worse", "much worse", "far worse")]
"""Steps of a scale around 1: blue below, orange above, both away from the page's own lightness."""
HEAT_STRONG = (LIGHT["far worse"],)
"""On these, text takes the background's colour."""


def darken(svg: str) -> str:
    """The dark version of an SVG drawn with `LIGHT`."""
    return _COLOUR.sub(lambda match: _DARK_OF[match.group()], svg)


def dark_css(scope: str) -> str:
    """CSS rules that turn light SVGs inside ``scope`` dark; the caller wraps them in its media query."""
    return "\n".join(
        f'{scope} [{attribute}="{light}"] {{ {attribute}: {dark}; }}'
        for light, dark in _DARK_OF.items()
        for attribute in ("fill", "stroke")
    )


def config() -> dict[str, Any]:
    """The Vega-Lite config of every picture."""
    text = {"labelColor": LIGHT["ink"], "labelFontSize": 12}
    text |= {"titleColor": LIGHT["muted"], "titleFontSize": 12, "titleFontWeight": "normal"}
    lines = {"gridColor": LIGHT["grid"], "domainColor": LIGHT["muted"], "tickColor": LIGHT["muted"]}
    subtitle = {"subtitleColor": LIGHT["muted"], "subtitleFontSize": 12, "subtitlePadding": 4}
    symbols = {"orient": "top", "direction": "horizontal", "symbolStrokeWidth": 2}
    return {
        "aria": False,  # one description for the whole picture instead of one per dot
        "background": LIGHT["background"],
        "font": FONT,
        "padding": 14,
        "axis": {**text, **lines, "labelLimit": 160},
        "axisX": {"labelFlush": False},
        "title": {"anchor": "start", "frame": "group", "color": LIGHT["ink"], "fontSize": 13, "offset": 10, **subtitle},
        "legend": {**text, **symbols, "labelLimit": 300},
        "text": {"color": LIGHT["ink"], "fontSize": 12},
        "view": {"stroke": None},
        "concat": {"spacing": 26},
    }
