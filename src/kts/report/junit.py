"""A gate as JUnit XML: a test case per criterion. Inconclusive is *skipped*, which no reader counts as a failure."""

from __future__ import annotations

from junitparser import Failure, JUnitXml, Skipped, TestCase, TestSuite

from kts.model.gate import Criterion, Gate
from kts.report.gate import limit, measured, seconds
from kts.shown import visible


def as_junit(gate: Gate) -> bytes:
    """The file's content, UTF-8."""
    suite = TestSuite(visible(f"kts check: {', '.join(gate.new)}"))
    for one in gate.criteria:
        suite.add_testcase(_case(gate, one))
    for key, value in (("judgement", gate.judgement), ("sentence", gate.sentence), *(("note", n) for n in gate.notes)):
        suite.add_property(key, visible(value))
    suite.update_statistics()  # type: ignore[no-untyped-call]
    suite.time = gate.measured_s or 0.0
    xml = JUnitXml("kts check")
    xml.add_testsuite(suite)
    written: bytes = xml.tostring()  # type: ignore[no-untyped-call]
    return written


def _case(gate: Gate, one: Criterion) -> TestCase:
    unit = " ms" if one.unit == "ms" else ""
    case = TestCase(visible(f"{one.tenant}: {one.figure} at most {limit(one)}{unit}"), f"kts.{gate.question}")
    said = f"{measured(one)}{unit}, at most {limit(one)}{unit}"
    said = visible(f"{said}: {one.why}" if one.why else said)
    if one.judgement == "fail":
        case.result = [Failure(said, "fail")]
    elif one.judgement == "inconclusive":
        more = "" if one.more_s is None else f"; about {seconds(one.more_s, gate)} more would decide it"
        case.result = [Skipped(f"inconclusive: {said}{more}", "inconclusive")]
    case.system_out = said
    return case
