"""The page of a load test: what stands on it, and that it needs nothing else."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from loadtest.checker.looking import EVERY_CHECK
from loadtest.report.command import report
from loadtest.report.page import page
from loadtest.report.promises import NAMES
from loadtest.report.reading import read
from loadtest.report.series import grid, level, rate
from pipeline.errors import NotFound, Usage
from tests.unit.report.sample import make


def titles(html: str) -> list[str]:
    return re.findall(r"<h3>(.*?)</h3>", html)


def test_the_verdict_comes_first_and_every_chart_has_its_place(tmp_path: Path) -> None:
    """One file without a network; ids are told apart, tags are closed."""
    html = page([read(make(tmp_path / "letters-1"))])

    assert html.index("All 6 promises kept") < html.index("Throughput by stage")
    assert titles(html) == [
        *("Stages finished a second", "Throughput by stage", "Items in each state"),
        *("In flight", "Age of the oldest in line", "Time left to the deadlines"),
        *("Held for a person", "Finished by tenant", "Memory"),
        *("Calls of llm", "Calls of ocr", "Calls of printer"),
        *("Recovery after each fault", "Faults", "Promises"),
    ]
    assert not re.search(r"""(src|href)=["'](?!#)|url\((?!#)|@import|<script""", html)
    assert "#fe0" not in html
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert len(html) < 600_000
    closed(html)


def closed(html: str) -> None:
    """Every tag that is opened is closed, in order."""
    open_: list[str] = []
    alone = {"meta", "br", "link", "input"}

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in alone:
                open_.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert open_.pop() == tag

    Reader().feed(html)
    assert open_ == []


def test_a_broken_promise_is_told_before_all_else(tmp_path: Path) -> None:
    """By its number, with what was found."""
    html = page([read(make(tmp_path / "letters-1", broken="I7"))])

    assert "1 of 6 promises broken" in html
    assert html.index("item 17; item 4711") < html.index("Throughput by stage")
    assert 'tr class="promise bad"><td class="mark">✕</td><th>I7</th>' in html


def test_what_was_not_sampled_is_not_drawn(tmp_path: Path) -> None:
    """No empty chart, and no summary needed."""
    folder = make(tmp_path / "letters-1", metrics=("finished",))
    (folder / "summary.json").unlink()
    (folder / "faults.csv").unlink()

    assert titles(page([read(folder)])) == [
        *("Stages finished a second", "Throughput by stage", "Promises")
    ]


def test_two_runs_stand_side_by_side(tmp_path: Path) -> None:
    """Each chart twice, and the figures in one table with their change."""
    first = make(tmp_path / "before")
    second = make(tmp_path / "after", seed=2, items=12_000, seconds=700.0)

    html = page([read(first), read(second)])

    assert titles(html).count("Throughput by stage") == 2
    assert "<th>before</th><th>after</th><th>change</th>" in html
    assert "<td>10,000</td><td>12,000</td>" in html
    assert "× 1.20" in html
    closed(html)


def test_what_a_file_says_is_no_markup(tmp_path: Path) -> None:
    folder = make(tmp_path / "letters-1")
    with (folder / "faults.csv").open("a") as file:
        file.write("700,701,<b>kill</b> & more,x,1\n")
    with (folder / "samples.csv").open("a") as file:
        file.write("5,held,<script>alert(1)</script>,3\n")

    html = page([read(folder)])

    assert "<b>kill" not in html
    assert "<script" not in html
    closed(html)


def test_a_rate_is_what_was_counted_a_second() -> None:
    at = grid(100.0)
    steady = ([0.0, 50.0, 100.0], [0.0, 500.0, 1000.0])

    assert rate(steady, at) == pytest.approx(10.0)
    assert level(steady, at)[-1] == 1000.0


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    """No folder of a run, and a file that is cut off."""
    with pytest.raises(NotFound, match="no folder of a run"):
        report([tmp_path])
    folder = make(tmp_path / "letters-1")
    report([folder])
    assert (folder / "report.html").stat().st_size > 50_000

    (folder / "summary.json").write_text("{")
    with pytest.raises(Usage, match=r"summary.json is not JSON"):
        report([folder])


def test_every_promise_has_a_name_and_a_line_in_the_docs() -> None:
    """The checker's numbers, the page's names and the table are the same."""
    docs = (Path(__file__).parents[3] / "docs" / "loadtest.md").read_text()
    told = dict(re.findall(r"^\| (I\d+) \| ([^|]+) \|", docs, flags=re.MULTILINE))
    checked = {check.invariant for check in EVERY_CHECK}

    assert checked == set(NAMES)
    assert told == {
        number: name[0].lower() + name[1:] for number, name in NAMES.items()
    }
