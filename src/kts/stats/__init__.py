"""Quantiles, intervals, degradation: arrays in, figures out. Pure."""
