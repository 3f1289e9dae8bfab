"""Samples taken beside the measuring, off its cores: NVML, NVML GPM, dcgm-exporter, the kernel's scheduler.

`kts.telemetry.sampler.Sampler` is what a run uses; `kts.telemetry.choice.probe` tells what is here.
"""
