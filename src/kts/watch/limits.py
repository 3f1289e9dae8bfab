"""Bounds of watching that the command line tells: nothing heavy is loaded for them."""

MOST_CALLS_S = 200_000
"""Beyond so many calls per second whole processes are left out."""
