"""Prediction: how a GPU's sharing and each tenant alone make what a mix will do. Pure; the model is in docs/physics.md.

numba is loaded only where something is simulated.
"""
