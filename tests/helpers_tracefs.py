"""A kernel made of files: a tracefs and a /proc that answer as one does, and pages as its documentation has them."""

from __future__ import annotations

import errno
import itertools
import re
import shutil
import struct
from collections.abc import Sequence
from pathlib import Path

from kts.watch.source.tracefs import Tracefs

HEADER_PAGE = """\
\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;
\tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;
\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;
\tfield: char data;\toffset:16;\tsize:4080;\tsigned:0;
"""
HEADER_EVENT = """\
# compressed entry header
\ttype_len    :    5 bits
\ttime_delta  :   27 bits
\tarray       :   32 bits

\tpadding     : type == 29
\ttime_extend : type == 30
\ttime_stamp : type == 31
\tdata max type_len  == 28
"""
_COMMON = """\
name: {name}
ID: {number}
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;
\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

"""
_ENTRY = _COMMON + "\tfield:unsigned long __probe_ip;\toffset:8;\tsize:8;\tsigned:0;\n\nprint fmt: ...\n"
_RETURN = _COMMON + (
    "\tfield:unsigned long __probe_func;\toffset:8;\tsize:8;\tsigned:0;\n"
    "\tfield:unsigned long __probe_ret_ip;\toffset:16;\tsize:8;\tsigned:0;\n\nprint fmt: ...\n"
)
_BEGAN = _COMMON + (
    "\tfield:pid_t pid;\toffset:8;\tsize:4;\tsigned:1;\n\tfield:char comm[16];\toffset:12;\tsize:16;\tsigned:0;\n"
    "\tfield:u64 clone_flags;\toffset:32;\tsize:8;\tsigned:0;\n\nprint fmt: ...\n"
)
_ENDED = _COMMON + "\tfield:char comm[16];\toffset:8;\tsize:16;\tsigned:0;\n\nprint fmt: ...\n"
BEGAN, ENDED = 401, 402
THREAD = 0x10000
PAGE, DATA = 4096, 4080
LIMIT = 1 << 27


def entry(number: int, tid: int, ip: int = 0x7F0000001000) -> bytes:
    """The data of a probe's hit, or of a return."""
    return struct.pack("<HBBiQ", number, 0, 0, tid, ip)


def returned(number: int, tid: int, ip: int = 0x7F0000001000) -> bytes:
    return struct.pack("<HBBiQQ", number, 0, 0, tid, ip, 0x550000002000)


def began(by: int, tid: int, flags: int = THREAD) -> bytes:
    return struct.pack("<HBBii16s4xQ", BEGAN, 0, 0, by, tid, b"x", flags)


def ended(tid: int) -> bytes:
    return struct.pack("<HBBi16s", ENDED, 0, 0, tid, b"x")


def pages(rows: Sequence[tuple[int, bytes]], *, missed: bool = False, absolute: bool = False) -> bytes:
    """Whole pages with these events (ns, data), by time. ``missed``: some were overwritten before the first.
    ``absolute``: times of their own before events, as the kernel writes them when it was interrupted."""
    made, left = b"", list(rows)
    while left:
        begin_ns = last_ns = left[0][0]
        body = b""
        while left:
            ns, data = left[0]
            padded = data + bytes(-len(data) % 4)
            event = b""
            if absolute:
                event += struct.pack("<II", 31 | (ns % LIMIT) << 5, ns >> 27 & 0xFFFFFFFF)
                delta = 0
            elif (delta := ns - last_ns) >= LIMIT:
                event += struct.pack("<II", 30 | (delta % LIMIT) << 5, delta >> 27)
                delta = 0
            if len(padded) <= 112:
                event += struct.pack("<I", len(padded) // 4 | delta << 5) + padded
            else:
                event += struct.pack("<II", delta << 5, len(padded) + 4) + padded
            if len(body) + len(event) > DATA:
                break
            body, last_ns, left = body + event, ns, left[1:]
        commit = len(body) | (1 << 31 if missed and not made else 0)
        if len(body) + 4 <= DATA and left:
            body += struct.pack("<I", 29)  # nothing more on this page
        made += struct.pack("<QQ", begin_ns, commit) + body + bytes(DATA - len(body))
    return made


class KernelOfFiles(Tracefs):
    """Does to its folder what a kernel does. ``refuse``: an error number for everything that is written."""

    def __init__(self, root: Path, proc: Path, cpus: int = 2) -> None:
        for name, text in (("trace_clock", "[local] global mono boot"), ("uprobe_events", "")):
            root.mkdir(parents=True, exist_ok=True)
            if not (root / name).exists():
                (root / name).write_text(text)
        (root / "instances").mkdir(exist_ok=True)
        (root / "events").mkdir(exist_ok=True)
        (root / "events" / "header_page").write_text(HEADER_PAGE)
        (root / "events" / "header_event").write_text(HEADER_EVENT)
        self.cpus = cpus
        self.ids = itertools.count(2000)
        self.refuse_probes = 0
        super().__init__(root, proc)

    def _mkdir(self, path: Path) -> None:
        path.mkdir()
        for name, text in (
            ("tracing_on", "1"),
            ("trace_clock", ""),
            ("buffer_size_kb", ""),
            ("set_event_notrace_pid", ""),
        ):
            (path / name).write_text(text)
        for cpu in range(self.cpus):
            (path / "per_cpu" / f"cpu{cpu}").mkdir(parents=True)
            (path / "per_cpu" / f"cpu{cpu}" / "trace_pipe_raw").touch()
            self.tell_lost(cpu, 0, path)
        (path / "options").mkdir()
        (path / "options" / "event-fork").write_text("0")
        for system, event, text, number in (
            ("task", "task_newtask", _BEGAN, BEGAN),
            ("sched", "sched_process_exit", _ENDED, ENDED),
        ):
            self._event(path, system, event, text, number)
        (path / "events" / "enable").write_text("X")

    def _event(self, instance: Path, system: str, event: str, text: str, number: int) -> None:
        place = instance / "events" / system / event
        place.mkdir(parents=True)
        (place / "format").write_text(text.format(name=event, number=number))
        (place / "enable").write_text("0")
        (place.parent / "enable").write_text("0")

    def _rmdir(self, path: Path) -> None:
        shutil.rmtree(path)

    def _write(self, path: Path, text: str) -> None:
        if path.name == "uprobe_events":
            for line in text.splitlines():
                self._probe(path, line)
        elif path.name == "set_event_notrace_pid":
            path.write_text(path.read_text() + text)
        elif path.exists():
            path.write_text(text)
        else:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))

    def _probe(self, path: Path, line: str) -> None:
        known = path.read_text().splitlines(keepends=True)
        if gone := re.fullmatch(r"-:(\S+)/(\S+)", line):
            for instance in (self.root / "instances").iterdir():
                place = instance / "events" / gone[1]
                if place.is_dir():
                    if (place / "enable").read_text() == "1":
                        raise OSError(errno.EBUSY, "Device or resource busy")
                    shutil.rmtree(place / gone[2])
            path.write_text("".join(one for one in known if f":{gone[1]}/{gone[2]} " not in one))
            return
        made = re.fullmatch(r"([pr]):(\S+)/(\S+) (\S+):(0x[0-9a-f]+)", line)
        assert made is not None, line
        if self.refuse_probes or not Path(made[4]).is_file():
            raise OSError(self.refuse_probes or errno.ENOENT, "refused")
        path.write_text("".join(known) + line + "\n")
        for instance in (self.root / "instances").iterdir():
            text = _RETURN if made[1] == "r" else _ENTRY
            self._event(instance, made[2], made[3], text, next(self.ids))

    def wait(self, seconds: float) -> None:
        """Nothing to wait for: what happens has happened."""

    # what a test does to it

    def number(self, event: str, library: int = 1) -> int:
        """The kernel's number of a probe of ours."""
        text = (self.instance / "events" / self.group(library) / event / "format").read_text()
        return int(text.split("ID: ")[1].split()[0])

    def happen(self, cpu: int, rows: Sequence[tuple[int, bytes]], *, missed: bool = False) -> None:
        """These events lie in the ring of ``cpu`` now."""
        with (self.instance / "per_cpu" / f"cpu{cpu}" / "trace_pipe_raw").open("ab") as file:
            file.write(pages(rows, missed=missed))

    def tell_lost(self, cpu: int, overrun: int, instance: Path | None = None) -> None:
        """So many have found no room on ``cpu`` since the start."""
        text = f"entries: 0\noverrun: {overrun}\ncommit overrun: 0\nbytes: 0\ndropped events: 0\nread events: 0\n"
        ((instance or self.instance) / "per_cpu" / f"cpu{cpu}" / "stats").write_text(text)


class ProcOfFiles:
    """A /proc. ``self`` is process 1."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def begin(
        self, pid: int, ticks: int, *, command: str = "program", cgroup: str = "0::/", threads: Sequence[int] = ()
    ) -> None:
        """A process is there; another of that number is not any more."""
        self.end(pid)
        for number in (pid, *threads):
            place = self.root / str(number)
            place.mkdir()
            (place / "status").write_text(f"Name:\t{command}\nTgid:\t{pid}\nPid:\t{number}\n")
            fields = [b"S", b"1", *[b"0"] * 15, b"%d" % (1 + len(threads)), b"0", b"%d" % ticks, b"0"]
            (place / "stat").write_bytes(b"%d (a) b) " % number + b" ".join(fields))
        for name, text in (("comm", command + "\n"), ("cgroup", cgroup), ("cmdline", ""), ("maps", "")):
            (self.root / str(pid) / name).write_text(text)
        for number in (pid, *threads):
            (self.root / str(pid) / "task" / str(number)).mkdir(parents=True)

    def end(self, pid: int) -> None:
        """It is gone, with its threads."""
        for thread in (self.root / str(pid) / "task").glob("*"):
            shutil.rmtree(self.root / thread.name, ignore_errors=True)
        shutil.rmtree(self.root / str(pid), ignore_errors=True)

    def load(self, pid: int, library: Path, inode: int, name: str = "/usr/lib/libcuda.so.1") -> None:
        """The process maps a driver's library, of which ``library`` is the content."""
        with (self.root / str(pid) / "maps").open("a") as file:
            file.write(f"7f0000000000-7f0000100000 r-xp 00001000 08:01 {inode}      {name}\n")
        (self.root / str(pid) / "map_files").mkdir(exist_ok=True)
        shutil.copy(library, self.root / str(pid) / "map_files" / "7f0000000000-7f0000100000")


def elf(path: Path, functions: dict[str, int], *, address: int = 0x400000, code: int = 0x1000) -> Path:
    """A library of nothing but names: each function at so many bytes behind the begin of its code, which lies at
    ``code`` in the file and at ``address`` in memory."""
    names, symbols = b"\0", bytes(24)
    for name, offset in functions.items():
        symbols += struct.pack("<IBBHQQ", len(names), 0x12, 0, 1, address + offset, 16)
        names += name.encode() + b"\0"
    symbols += struct.pack("<IBBHQQ", 1, 0x12, 0, 0, 0, 0)  # one that it only uses
    at_names, at_symbols = 0x2000, 0x2000 + len(names) + (-len(names)) % 8
    at_sections = at_symbols + len(symbols)
    segment = struct.pack("<IIQQQQQQ", 1, 5, code, address, address, 0x1000, 0x1000, 0x1000)
    sections = bytes(64) + struct.pack("<IIQQQQIIQQ", 0, 11, 2, 0, at_symbols, len(symbols), 2, 1, 8, 24)
    sections += struct.pack("<IIQQQQIIQQ", 0, 3, 2, 0, at_names, len(names), 0, 0, 1, 0)
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, at_sections, 0, 64, 56, 1, 64, 3, 0)
    content = bytearray(at_sections + len(sections))
    for at, part in ((0, head), (64, segment), (at_names, names), (at_symbols, symbols), (at_sections, sections)):
        content[at : at + len(part)] = part
    path.write_bytes(content)
    return path
