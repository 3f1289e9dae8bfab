"""Frozen values that the parts hand to each other. No behaviour beyond what the values themselves imply."""
