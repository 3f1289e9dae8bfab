"""The files of a report: pictures, Markdown and the page."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.helpers_report import (
    CPU,
    HOSTILE,
    FakeRun,
    activity_summary,
    analysis,
    bare_summary,
    fft_summary,
    gemm_summary,
    summary,
)

from kts.errors import SetupError
from kts.model.summary import Summary
from kts.report import theme, write
from kts.report.figures import degradation_title

FIGURES = ("degradation", "four-panel", "tail", "over-time", "timeline")
VOID = {"meta", "link", "br", "img", "hr", "source"}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole report of a run on the CPU, with a hostile tenant and damage."""
    of = summary({HOSTILE: fft_summary(), "gemm": gemm_summary()}, gpu=False)
    directory = tmp_path_factory.mktemp("report")
    write(FakeRun(of, damage=("records.journal: torn <b>after</b> byte 8812",)), analysis(of), directory)
    return directory


def test_every_picture_exists_in_both_themes_and_formats(written: Path) -> None:
    """Else a README in dark mode, or a paper that needs vectors, would miss a picture."""
    for name in FIGURES:
        for suffix in ("", "-dark"):
            png = (written / "plots" / f"{name}{suffix}.png").read_bytes()
            width, height = int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")
            assert png.startswith(b"\x89PNG")
            assert len(png) > 10_000
            assert 1500 <= width <= 2200
            assert height >= 350
            ElementTree.parse(written / "plots" / f"{name}{suffix}.svg")


@pytest.mark.parametrize("name", FIGURES)
def test_every_picture_carries_the_honest_label(written: Path, name: str) -> None:
    """Else a picture taken out of the report could pose as a GPU's."""
    for suffix in ("", "-dark"):
        root = ElementTree.parse(written / "plots" / f"{name}{suffix}.svg").getroot()
        shown = " ".join("".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text"))
        assert CPU in shown
        assert CPU in root.attrib["aria-label"]
        assert "kts 0.1.0" in shown


def test_dark_pictures_have_no_light_colour_left(written: Path) -> None:
    """Else dark text would stand on a dark ground."""
    for name in FIGURES:
        dark = (written / "plots" / f"{name}-dark.svg").read_text()
        assert not [colour for colour in theme.LIGHT.values() if colour in dark]
        assert theme.DARK["background"] in dark


def test_no_two_roles_share_a_colour() -> None:
    """Else exchanging the colours for the dark theme would mix roles."""
    assert len(set(theme.LIGHT.values())) == len(theme.LIGHT) == len(theme.DARK)
    assert theme.LIGHT.keys() == theme.DARK.keys()
    assert not set(theme.LIGHT.values()) & set(theme.DARK.values())


@pytest.mark.parametrize("colours", [theme.LIGHT, theme.DARK])
def test_solo_and_shared_differ_in_greyscale(colours: dict[str, str]) -> None:
    """Else a printed or colour-blind reader could not tell them apart (contrast by WCAG)."""
    solo, shared, ground = (luminance(colours[role]) for role in ("solo", "shared", "background"))
    assert contrast(solo, shared) > 2
    assert min(contrast(solo, ground), contrast(shared, ground)) > 2.7


def test_the_page_is_well_formed_and_accessible(written: Path) -> None:
    """Else screen readers, or browsers, would have to guess."""
    text = (written / "report.html").read_text()
    checker = Checker()
    checker.feed(text)
    checker.close()
    assert checker.open == []
    assert checker.mistakes == []
    assert '<html lang="en">' in text
    assert text.count("<h1") == 1
    assert text.count("<table>") == text.count("<caption>")
    assert text.count('role="img" aria-label=') == len(FIGURES)
    assert len(checker.ids) == len(set(checker.ids))


def test_the_page_needs_no_network_and_no_script(written: Path) -> None:
    """Else a report could not be read offline, or would tell others that it is read."""
    text = (written / "report.html").read_text()
    links = re.findall(r"""(?:https?:)?//[\w.-]+[^"'\s<)]*""", re.sub(r'xmlns(:\w+)?="[^"]*"', "", text))
    assert links == []
    assert "<script" not in text.lower()
    assert not re.search(r"<[^>]*\s(src|srcset|on\w+)=", text)
    assert len(text) < 3_000_000


def test_the_page_has_both_colour_schemes(written: Path) -> None:
    """Else the page would blind its reader at night."""
    text = (written / "report.html").read_text()
    assert "prefers-color-scheme: dark" in text
    for light, dark in zip(theme.LIGHT.values(), theme.DARK.values(), strict=True):
        assert f'figure svg [fill="{light}"] {{ fill: {dark}; }}' in text


def test_user_text_is_escaped_everywhere(written: Path) -> None:
    """Else a tenant's name could run a script in the reader's browser."""
    page = (written / "report.html").read_text()
    markdown = (written / "results.md").read_text()
    assert "&lt;script&gt;alert(" in page
    assert "<script>" not in markdown
    assert "<b>" not in page
    assert "<b>" not in markdown
    for line in markdown.splitlines():
        if line.startswith("| &lt;"):
            assert len(re.findall(r"(?<!\\)\|", line)) in {10, 5}


def test_markdown_links_the_pictures_that_were_written(written: Path) -> None:
    """Else results.md would show broken pictures."""
    paths = re.findall(r'(?:src|srcset)="([^"]+)"', (written / "results.md").read_text())
    assert len(paths) == 2 * len(FIGURES)
    assert all((written / path).is_file() for path in paths)


@pytest.mark.parametrize(
    ("of", "partial"),
    [
        (summary({"alone": bare_summary()}, gpu=False), True),
        (summary({f"tenant-{k}": gemm_summary() if k % 2 else bare_summary() for k in range(6)}), False),
        (summary({}), False),
    ],
    ids=["one tenant, solo only, no device clock", "six tenants", "none"],
)
def test_partial_data_are_reported_as_far_as_they_go(of: Summary, partial: bool, tmp_path: Path) -> None:
    """Else a run that was killed early would end in a traceback instead of a report."""
    paths = write(FakeRun(of), analysis(of, partial=partial), tmp_path)
    assert {path.name for path in paths} >= {"summary.json", "summary.csv", "results.md", "report.html"}
    assert all(path.stat().st_size for path in paths)


def test_without_figures_nothing_is_drawn(tmp_path: Path) -> None:
    """Else --no-figures would still cost seconds, and results.md would link to nothing."""
    paths = write(FakeRun(), analysis(), tmp_path, figures=False)
    assert [path.name for path in paths] == ["summary.json", "summary.csv", "results.md", "report.html"]
    assert "<picture>" not in (tmp_path / "results.md").read_text()


def test_telemetry_is_in_every_kind_of_report_and_says_whose_it_is(tmp_path: Path) -> None:
    """Else a device's activity would be read as a tenant's, or a missing source not be noticed."""
    sampled = activity_summary()
    paths = write(FakeRun(sampled), analysis(sampled), tmp_path)
    names = {path.name for path in paths}
    assert {f"activity{suffix}" for suffix in (".png", ".svg", "-dark.png", "-dark.svg")} <= names
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for text in (page, (tmp_path / "results.md").read_text(encoding="utf-8")):
        assert "SM active" in text
        assert "any kernel ran" not in text
        assert "memory accessed" in text
        assert "not there: DCGM: no metrics from http://n1:9400/metrics" in html.unescape(text).replace("\\", "")
    assert ">device<" in page
    assert ">tenant<" in page
    svg = (tmp_path / "plots" / "activity.svg").read_text(encoding="utf-8")
    assert "SM active (device, NVML GPM)" in svg
    assert "(tenant fft, schedstat)" in svg
    csv_text = (tmp_path / "summary.csv").read_text(encoding="utf-8")
    assert "fft,,shared,gpm:device:sm_active_ratio,0.874,,,ratio," in csv_text
    assert "fft,,shared-fft+gemm block 1,gpm:device:sm_active_ratio,0.874,,,ratio," in csv_text


def test_a_directory_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    """Else a lack of permission or space would be a traceback."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError) as caught:
        write(FakeRun(), analysis(), tmp_path / "file", figures=False)
    assert str(tmp_path / "file") in caught.value.what
    assert caught.value.remedy


def test_the_title_names_the_worst_first_and_claims_nothing_else() -> None:
    """Else a picture's title could say more than its intervals do."""
    assert degradation_title(summary()) == "Sharing makes the p99 worse: fft 2.16x, gemm 1.21x"
    assert degradation_title(summary({"a": bare_summary()})) == "Too few data for a DF99"


class Checker(HTMLParser):
    """Tags that are never closed or closed in the wrong order; all ids."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.mistakes: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.mistakes.append(f"</{tag}> at {self.getpos()}")


def luminance(colour: str) -> float:
    """Relative luminance by WCAG 2."""
    channels = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: float, b: float) -> float:
    """Contrast ratio by WCAG 2."""
    return (max(a, b) + 0.05) / (min(a, b) + 0.05)
