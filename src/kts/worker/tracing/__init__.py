"""Seeing what any CUDA program hands to the GPU, unchanged: a library in the program, rings in shared memory, a reader.

The library (``native/``, C) is loaded by the driver (``CUDA_INJECTION64_PATH``) and by NVTX
(``NVTX_INJECTION64_PATH``). It writes events (`kts.worker.tracing.layout`) into a ring per process, in the folder that
``KTS_TRACE_DIR`` names; the worker reads them. docs/tracing.md says more.
"""
