"""Programs in a container of the user's own image, which needs nothing for it.

A tenant's pod then has two containers. That of the user's image runs the launcher (`launcher.c`), which starts the
program when it is told to; that of kts runs the worker, which tells it (`remote.py`). They share a volume with a
socket. A container that runs before both brings the launcher there (`bring.py`).
"""
