"""The worker: one process per tenant, or several as threads of one (`crew.py`). It opens the device, finds the size,
runs blocks and reports every iteration.

Light on purpose: of our own code only `kts.model`, `kts.wire`, `kts.units` and `kts.errors`.
"""
