"""The program of the process that draws: requests on standard input, answers on standard output, until the first ends.

Each is a letter and a length of 4 bytes, and so many bytes: ``s`` a Vega-Lite chart, answered by an SVG; ``p`` an SVG,
answered by a PNG; the answer ``e`` is why there is none. It imports nothing of kts. The folder that holds the renderer
is its argument.
"""

import json
import os
import signal
import struct
import sys

signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it ends it
sys.path.append(sys.argv[1])

import vl_convert  # noqa: E402

_HEAD = struct.Struct(">cI")
_SCALE = 2
_LONGEST = 200


def main() -> None:
    """Answers until there are no more requests."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    while len(head := sys.stdin.buffer.read(_HEAD.size)) == _HEAD.size:
        what, length = _HEAD.unpack(head)
        content = sys.stdin.buffer.read(length)
        try:
            answer = _drawn(what, content)
        except Exception as error:  # whatever it is, it costs one picture
            lines = str(error).splitlines() or [type(error).__name__]
            what, answer = b"e", lines[0].encode(errors="replace")[:_LONGEST]
        answers.write(_HEAD.pack(what, len(answer)) + answer)
        answers.flush()


def _drawn(what: bytes, content: bytes) -> bytes:
    if what == b"s":
        return str(vl_convert.vegalite_to_svg(json.loads(content), allowed_base_urls=[])).encode()
    return bytes(vl_convert.svg_to_png(content.decode(), scale=_SCALE))


main()
