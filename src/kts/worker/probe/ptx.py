"""Makes kernels.ptx of kernels.cu: `python -m kts.worker.probe.ptx`. Needs an NVRTC that still knows Pascal (CUDA 12).

The version in its header is set to the oldest that has all it uses, so that old drivers take it, too.
"""

from __future__ import annotations

import ctypes
import hashlib
import re

from kts.worker.probe.compile import PTX, SOURCE, Nvrtc, nvrtc_libraries

OLDEST_GPU = "compute_61"
OLDEST_VERSION = "6.0"


def stamp() -> str:
    """The first line: of which source the text is."""
    return f"// kernels.cu, sha256 {hashlib.sha256(SOURCE.read_bytes()).hexdigest()}\n"


def main() -> None:
    """Writes the file. The error of the last library tried, if none can."""
    last: Exception = FileNotFoundError("no libnvrtc")
    for path in nvrtc_libraries():
        try:
            text = (
                Nvrtc(ctypes.CDLL(path)).compile(SOURCE.read_text(encoding="utf-8"), OLDEST_GPU).rstrip(b"\0").decode()
            )
        except (OSError, RuntimeError) as error:
            last = error
            continue
        code = re.sub(r"\.version \S+", f".version {OLDEST_VERSION}", text[text.index(".version") :])
        PTX.write_text(stamp() + code, encoding="utf-8")
        return
    raise last


if __name__ == "__main__":
    main()
