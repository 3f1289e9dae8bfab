"""The conditions for believing a figure, each in a file of its own; `table` lists them. Pure."""
