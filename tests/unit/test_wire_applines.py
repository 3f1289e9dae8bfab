"""One stream of text as iterations: which spellings are taken, which are refused and why, and every wrapper."""

from __future__ import annotations

import json
import math

import pytest

from kts.wire.appline import AppLine, RefusedLine, device_unit, take_line, unlike_epoch_ns
from kts.wire.applines import AppLines, Said

HEAD = "KTS_APP,v1,FFT,3,1700000000000000000,1700000000003800000,"
LINE = HEAD + "3.598000,shared"
STAMP = "2023-11-14T22:15:20.008043737Z"


def said(text: str) -> list[Said]:
    return AppLines().read(text) or []


@pytest.mark.parametrize(
    ("tail", "ms", "phase"),
    [
        ("3.598", 3.598, ""),
        ("3.59800000001", 3.59800000001, ""),
        (".5", 0.5, ""),
        ("3.", 3.0, ""),
        ("4", 4.0, ""),
        ("4,solo", 4.0, "solo"),
        ("3.598e0,solo,", 3.598, "solo"),
        ("3598E-3", 3.598, ""),
        ("+3.5 ,  solo ", 3.5, "solo"),
        ("3.598ms", 3.598, ""),
        ("3,598000", 3.598, ""),
        ("3,598000,", 3.598, ""),
        ("3,598000,solo", 3.598, "solo"),
        ("3,6,solo", 3.6, "solo"),
        ("NaN", math.nan, ""),
        ("-nan,solo", math.nan, "solo"),
        ("-nan(ind)", math.nan, ""),
        ("1.#QNAN", math.nan, ""),
        ("NAN", math.nan, ""),
        ("null", math.nan, ""),
        ("None,shared", math.nan, "shared"),
    ],
)
def test_a_latency_is_taken_in_every_spelling_beyond_doubt(tail: str, ms: float, phase: str) -> None:
    """A program in another language, or under another locale, would lose its iterations, the slow ones first."""
    for end in ("\n", "\r\n", "  \r\r\n", "\r"):
        (only,) = said(HEAD + tail + end)
        assert isinstance(only.what, AppLine)
        assert only.what.device_ms == pytest.approx(ms, nan_ok=True)
        assert (only.what.phase, only.what.i) == (phase, 3)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (HEAD + "3,59", "device_ms '3,59': a decimal comma, or a phase?"),
        (HEAD + "3,5,", "device_ms '3,5'"),
        (HEAD + "fast", "device_ms 'fast'"),
        (HEAD + "inf", "device_ms 'inf'"),
        (HEAD + "-3.5", "device_ms '-3.5'"),
        (HEAD + "3598us", "device_ms '3598us'"),
        (HEAD + "1_000.5", "device_ms '1_000.5'"),
        (HEAD, "device_ms is empty"),
        (HEAD + "3.5,a,b", "9 fields"),
        (HEAD + "3.5," + "x" * 65, "phase of 65 characters"),
        ("KTS_APP,v1,FFT,3,1700000000000000000", "5 fields"),
        ("KTS_APP,v2,FFT,3,1,2,3.5", "version 'v2'"),
        ("KTS_APP,v1,my model,3,1,2,3.5", "app 'my model'"),
        ("KTS_APP,v1,FFT,-1,1,2,3.5", "i '-1'"),
        ("KTS_APP,v1,FFT,4294967296,1,2,3.5", "i '4294967296'"),
        ("KTS_APP,v1,FFT,3,1700000000.25,1700000000.5,3.5", "looks like seconds since 1970"),
        ("KTS_APP,v1,FFT,3,1.7e+18,1.7e+18,3.5", "start_ns '1.7e+18'"),
        ("KTS_APP,v1,FFT,3,20,10,3.5", "end_ns 10 lies 1e-05 ms before start_ns"),
        ("KTS_APP v1 FFT 3 1700000000000000000 1700000000003800000 3.5", "not parted by commas"),
    ],
)
def test_what_is_refused_says_which_field_is_why(text: str, why: str) -> None:
    """Nobody would know what to change in the program."""
    (only,) = said(text + "\n")
    assert isinstance(only.what, RefusedLine)
    assert why in only.what.why


def test_semicolons_and_tabs_with_a_decimal_comma_are_taken() -> None:
    """A spreadsheet's dialect would be lost, although nothing in it is ambiguous."""
    for mark in (";", "\t"):
        (only,) = said(LINE.replace(",", mark).replace("3.598000", "3,598") + "\n")
        assert isinstance(only.what, AppLine)
        assert (only.what.device_ms, only.what.phase) == (3.598, "shared")


@pytest.mark.parametrize("wrapper", ["{}", '{{"log": "{}"}}', "2026-11-29T10:00:00Z {}"])
def test_capitals_are_not_asked_for(wrapper: str) -> None:
    """`kts_app,v1,...` would be passed over in silence: whoever prints it means nothing else."""
    for text in (LINE.replace("KTS_APP,v1", "kts_app,V1"), LINE.replace("KTS_APP", "Kts_App")):
        (only,) = said(wrapper.format(text) + "\n")
        assert only.what == said(LINE + "\n")[0].what


def test_without_its_end_only_six_decimals_tell_that_a_line_is_whole() -> None:
    """3.5 of a torn 3.598 would be measured."""
    assert isinstance(said(HEAD + "3.5")[0].what, RefusedLine)
    assert isinstance(said(HEAD + "3.598000")[0].what, AppLine)


def test_a_line_that_begins_within_another_is_taken_and_the_other_is_counted() -> None:
    """Two processes that write at once would lose both lines, or one in silence."""
    first, second = said(LINE[:45] + LINE + "\n")
    assert isinstance(first.what, RefusedLine)
    assert isinstance(second.what, AppLine)


WRAPPERS = {
    "plain": "{}",
    "kubectl --timestamps": f"{STAMP} {{}}",
    "kubectl --prefix": "[pod/fft-solo-x7k2p/worker] {}",
    "kubectl --prefix --timestamps": f"[pod/fft-solo-x7k2p/worker] {STAMP} {{}}",
    "CRI": f"{STAMP} stdout F {{}}",
    "CRI on stderr, with an offset": "2023-11-14T23:15:20.008043737+01:00 stderr F {}",
    "stern": "fft-solo-x7k2p worker {}",
    "stern, all namespaces": "team-a fft-solo-x7k2p worker {}",
    "kubetail": "[fft-solo-x7k2p worker] {}",
    "docker compose": "fft-1      | {}",
    "journald short": "Nov 14 22:15:20 node-1 fft[812]: {}",
    "journald short-iso": "2023-11-14T22:15:20+0000 node-1 fft[812]: {}",
    "journald short-iso-precise": "2023-11-14T22:15:20.008043+0100 node-1 fft[812]: {}",
    "journald short-full": "Tue 2023-11-14 22:15:20 UTC node-1 fft[812]: {}",
    "journald short-monotonic": "[ 8123.456789] node-1 fft[812]: {}",
    "journald short-unix": "1700000000.008043 node-1 fft[812]: {}",
    "syslog": "<13>Nov 14 22:15:20 node-1 fft[812]: {}",
    "syslog, RFC 5424": "<13>1 2023-11-14T22:15:20.003Z node-1 fft 812 - - {}",
    "rsyslog's colours": "Nov 14 22:15:20 node-1 fft[812]: #033[32m{}#033[0m",
    "Python logging": "2023-11-14 22:15:20,123 - INFO - {}",
    "logging.basicConfig": "INFO:root:{}",
    "logfmt": 'level=info msg="{}" step=3',
    "torchrun": "[rank0]: {}",
    "ray": "(Tenant pid=812) {}",
    "shell trace": "+ echo {}",
    "colour": "\x1b[32m{}\x1b[0m",
    "colour in the prefix": "\x1b[1;34mfft-solo-x7k2p\x1b[0m \x1b[2mworker\x1b[0m {}",
    "link": "\x1b]8;;http://x\x07{}\x1b]8;;\x07",
    "progress bar": "\r 50%|#####     | 5/10 [00:01<00:01]\r{}",
    "progress bar behind": "{}\r 60%|######    | 6/10",
    "progress bar left standing": "100%|##########| 10/10 [00:01<00:00]{}",
    "erased line": "\x1b[2K\r{}\x1b[K",
    "byte order mark": "\ufeff{}",
    "hole of a truncated file": "\x00\x00\x00\x00{}",
}
JSON = {
    "docker": lambda line: {"log": line + "\n", "stream": "stdout", "time": STAMP},
    "journald": lambda line: {"MESSAGE": line, "_PID": "812", "_HOSTNAME": "node-1", "PRIORITY": "6"},
    "journald, not printable": lambda line: {"MESSAGE": list(f"\x1b[32m{line}\x1b[0m".encode())},
    "stern -o json": lambda line: {"message": line, "podName": "fft-solo-x7k2p", "containerName": "worker"},
    "fluent-bit": lambda line: {"log": line, "stream": "stdout", "kubernetes": {"pod_name": "fft-solo-x7k2p"}},
    "structured logger": lambda line: {"level": "info", "msg": line, "ts": 1.5},
    "Cloud Logging": lambda line: {"textPayload": line, "timestamp": STAMP},
}


def wrapped(line: str, name: str) -> str:
    """The line in a wrapper."""
    return WRAPPERS[name].format(line) if name in WRAPPERS else json.dumps(JSON[name](line))


@pytest.mark.parametrize("name", [*WRAPPERS, *JSON])
def test_each_wrapper_comes_off(name: str) -> None:
    """Good lines would be called damaged because of who fetched or kept them."""
    (only,) = said(wrapped(LINE, name) + "\n")
    assert only.what == take_line(LINE)
    (short,) = said(wrapped(HEAD + "3.5", name) + "\n")
    assert isinstance(short.what, AppLine)
    assert short.what.device_ms == 3.5


def test_who_printed_a_line_stays_with_it() -> None:
    """Two pods of one app in one stream would be mixed."""
    sources = {name: said(wrapped(LINE, name))[0].source for name in (*WRAPPERS, *JSON)}
    assert sources["kubectl --prefix --timestamps"] == "fft-solo-x7k2p/worker"
    assert sources["stern"] == sources["colour in the prefix"] == "fft-solo-x7k2p worker"
    assert sources["stern -o json"] == "fft-solo-x7k2p worker"
    assert sources["journald short"] == "node-1 fft[812]"
    assert sources["journald"] == "node-1 812"
    assert sources["Python logging"] == sources["progress bar"] == ""


def test_the_parts_of_a_line_that_its_keeper_cut_are_joined() -> None:
    """The runtime cuts long lines: what stands behind the cut would be lost."""
    bar = "x" * 16_384 + "\r"
    for cut in (0, 7, 30, len(LINE) - 1):
        first, last = bar + LINE[:cut], LINE[cut:]
        for parts in (
            [f"{STAMP} stdout P {first}\n", f"{STAMP} stdout F {last}\n"],
            [json.dumps({"log": text, "stream": "stdout", "time": STAMP}) + "\n" for text in (first, last + "\n")],
            [
                json.dumps({"MESSAGE": first, "CONTAINER_PARTIAL_MESSAGE": "true"}) + "\n",
                json.dumps({"MESSAGE": last}) + "\n",
            ],
        ):
            reader = AppLines()
            assert reader.read(parts[0]) is None
            assert [said.what for said in reader.read(parts[1]) or []] == [take_line(LINE)]


def test_a_part_whose_rest_never_comes_is_counted() -> None:
    """The last line of a pod that was killed would vanish."""
    reader = AppLines()
    assert reader.read(f"{STAMP} stdout P {LINE[:60]}\n") is None
    assert [type(said.what) for said in reader.rest()] == [RefusedLine]
    assert reader.rest() == []


@pytest.mark.parametrize(
    "text", ["", "\n", "hello", "KTS_APP v1 lines follow", "{", "{}", "[1]", '{"log":3}', "KTS_APPLE,v1,x", "Nov 14"]
)
def test_other_output_says_nothing(text: str) -> None:
    """Prose about the format would be counted as lost iterations."""
    assert said(text + "\n") == []


@pytest.mark.parametrize(
    ("value", "like"),
    [
        (1_700_000_000, "seconds since 1970"),
        (1_700_000_000_123, "milliseconds since 1970"),
        (1_700_000_000_123_456, "microseconds since 1970"),
        (1_700_000_000_123_456_789, ""),
        (123_456_789_012, "a clock that does not count from 1970, such as CLOCK_MONOTONIC"),
        (0, "a clock that does not count from 1970, such as CLOCK_MONOTONIC"),
        (9_000_000_000_000_000_000, "a clock that does not count from 1970, such as CLOCK_MONOTONIC"),
    ],
)
def test_the_unit_of_an_epoch_is_told_from_its_size(value: int, like: str) -> None:
    """Times that are 1000 times too short would be reported with three digits."""
    assert unlike_epoch_ns(value) == like


def test_the_unit_of_a_device_time_is_told_from_the_response() -> None:
    """3920 ms of device time would be believed in a response of 4 ms."""
    assert device_unit(3920.0, 4.0) == "device_ms looks like microseconds"
    assert device_unit(3.92e6, 4.0) == "device_ms looks like nanoseconds"
    assert device_unit(3.92e9, 4.0) == ""
