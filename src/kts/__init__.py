"""Kube-Timeslice-Profiler: what sharing one accelerator costs each tenant's tail latency."""

__version__ = "0.1.0"
