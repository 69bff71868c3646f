"""The page: names stay text, tables sort by their numbers, nothing is asked of a network."""

import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from orchestrator import report_page
from orchestrator.canvas import Figure
from orchestrator.report_parts import Finding, Report, Section, Table

HOSTILE = "</script><script>alert(1)</script>\"'&<img src=x onerror=alert(2)> \\textbf{x} 漢 \u202e"


class Reader(HTMLParser):
    """Collects elements, attributes and text, and checks that elements are closed in order."""

    VOID = frozenset(("meta", "link", "input", "br"))

    def __init__(self, page):
        super().__init__()
        self.elements, self.open, self.text = [], [], []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def of(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


def table(frame, **formats):
    return Table(name="t", caption=HOSTILE, frame=pd.DataFrame(frame), formats=formats)


def titled(axes):
    axes.set_title(HOSTILE)


def report(*tables):
    figure = Figure(name="f", caption=HOSTILE, alt=HOSTILE, plot=titled)
    section = Section(
        anchor="a", title=HOSTILE, text=(HOSTILE,), tables=tables, figures=(figure,),
        findings=(Finding(verdict="better", lead=HOSTILE, text=HOSTILE),),
        texts=((HOSTILE, HOSTILE),),
    )  # fmt: skip
    return Report(title=HOSTILE, lead=HOSTILE, facts=((HOSTILE, HOSTILE),), sections=(section,),
                  foot=HOSTILE)  # fmt: skip


def test_names_of_any_kind_stay_text_and_the_page_is_well_formed():
    page = report_page.html(report(table({HOSTILE: [HOSTILE] * 6})))
    read = Reader(page)
    assert len(read.of("script")) == 1 and not read.of("img")
    assert not any(name.startswith("on") for _, attrs in read.elements for name in attrs)
    assert sum(HOSTILE in text for text in read.text) >= 10
    ids = [attrs["id"] for _, attrs in read.elements if attrs.get("id")]
    assert len(ids) == len(set(ids))


def test_nothing_is_asked_of_a_network_and_the_page_forbids_it():
    page = report_page.html(report())
    read = Reader(page)
    for _, attrs in read.elements:
        for name in ("src", "href", "xlink:href", "action", "srcset"):
            assert (attrs.get(name) or "#").startswith(("#", "data:"))
    assert "@import" not in page and not re.search(r"url\((?!#)", page)
    policy = [m for m in read.of("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy[0]["content"].startswith("default-src 'none'")


def test_readers_of_screens_are_told_language_landmarks_and_what_figures_show():
    read = Reader(report_page.html(report(table({"a": [1] * 7}))))
    assert read.of("html")[0]["lang"] == "en"
    assert all(len(read.of(tag)) == 1 for tag in ("main", "header", "nav", "footer", "h1"))
    images = [attrs for attrs in read.of("div") if attrs.get("role") == "img"]
    assert images and all(attrs["aria-label"] for attrs in images)
    assert all(attrs.get("scope") == "col" for attrs in read.of("th"))
    assert read.of("caption") and read.of("label") and read.of("output")[0]["aria-live"] == "polite"


def test_the_same_report_gives_the_same_bytes():
    assert report_page.html(report()) == report_page.html(report())


def test_intervals_and_differences_stand_in_one_cell_sorted_by_the_estimate():
    grid = report_page.grid(
        table(
            {"arm": ["a", "b"], "auroc": [0.5, np.nan], "auroc_low": [0.25, np.nan],
             "auroc_high": [0.75, np.nan], "p": [0.0001, np.nan], "empty": [np.nan, np.nan]},
            auroc="interval", p="p",
        )
    )  # fmt: skip
    assert [name for name, _ in grid.columns] == ["arm", "AUROC", "p"]
    assert [[(c.text, c.key) for c in row] for row in grid.rows] == [
        [("a", ""), ("0.500 [0.250, 0.750]", "0.5"), ("< 0.001", "0.0001")],
        [("b", ""), ("–", ""), ("–", "")],
    ]
    grid = report_page.grid(table({"rmsd": [2.0], "rmsd_difference": [-0.5]}, rmsd="beside"))
    assert grid.rows[0][0].text == "2.000 (−0.500)" and len(grid.columns) == 1
    grid = report_page.grid(
        table({"estimate": [0.1], "low": [0.0], "high": [0.2]}, estimate="signed_interval")
    )
    assert grid.rows[0][0].text == "+0.100 [+0.000, +0.200]"


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [(True, "flag", "yes"), (None, "flag", ""), ("auroc", "metric", "AUROC"),
     (1234, "count", "1,234"),
     (0.256, "share", "26 %"), (12.345, "hours", "12.35"), (0.0123, "hours", "0.0123"),
     (float("nan"), "share", "–"), (None, "number", "–")],
)  # fmt: skip
def test_values_are_written_by_their_form(value, form, text):
    frame = {"x": [value, True if form == "flag" else "auroc" if form == "metric" else 1]}
    assert report_page.grid(table(frame, x=form)).rows[0][0].text == text


def test_very_long_tables_are_cut_and_say_so():
    made = table({"a": range(100_000)})
    assert report_page.grid(made).left == 99_000
    page = report_page.html(report(made))
    assert "99,000 more rows" in page and len(page) < 500_000


def test_a_table_without_rows_says_so():
    page = report_page.html(report(table({"a": []})))
    assert '<td colspan="1">nothing</td>' in page
