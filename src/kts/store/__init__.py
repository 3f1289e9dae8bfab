"""The run directory: written while measuring, read back for reports."""
