"""Observing processes that kts did not start: calls into the driver in, round trips and what sharing costs out."""
