"""From an experiment to the frozen plan and its blocks. Pure."""
