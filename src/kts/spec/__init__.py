"""Experiment files: YAML to a validated, frozen experiment."""
