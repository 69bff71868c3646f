"""From a report to one HTML file that opens offline; the only file that imports jinja2.

Style and script are in the page, figures are inline SVG, and a content policy forbids every
request. Text is escaped by the template engine, always: nothing of a name becomes markup. The page
reads without the script, which only sorts and filters rows. The same report gives the same bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from orchestrator.canvas import Figure
from orchestrator.report_parts import Report, Table
from orchestrator.wording import chance, label_of, number, signed

ROWS_MAX = 1000
"""Rows of a table on the page; its files have all of them."""
FIGURES_MAX = 40
"""Figures of a section on the page; a bundle has all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A cell of a table on the page.

    Attributes:
        text: what is shown.
        key: what it is sorted by: a number as text, or empty for the text itself.
        numeric: whether it is aligned as a number.
    """

    text: str
    key: str
    numeric: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A table on the page.

    Attributes:
        table: what it shows.
        columns: heading, and whether it is numeric.
        rows: cells.
        left: rows that are not on the page.
    """

    table: Table
    columns: list[tuple[str, bool]]
    rows: list[list[Cell]]
    left: int


def html(report: Report) -> str:
    """Write the page."""
    template = _environment().get_template("report.html")
    return template.render(
        report=report,
        grid=grid,
        svg=_svg,
        figures_max=FIGURES_MAX,
        style=_file("report.css"),
        script=_file("report.js"),
    )


def grid(table: Table) -> Grid:
    """Lay out a table: what is written and sorted by; columns without values are left out."""
    frame = table.frame
    bounds = {f"{name}_{end}" for name in frame.columns for end in ("low", "high")}
    intervals = {n for n, form in table.formats.items() if form.endswith("interval")}
    names = [
        str(name)
        for name in frame.columns
        if not (name in bounds and str(name).rpartition("_")[0] in intervals)
        and not (name in ("low", "high") and "estimate" in intervals)
        and not (str(name).endswith("_difference") and "beside" in table.formats.values())
        and not _empty(frame[name])
    ]
    shown = frame.head(ROWS_MAX).to_dict("records")
    return Grid(
        table=table,
        columns=[(label_of(name), table.formats.get(name, "") not in _TEXTS) for name in names],
        rows=[[_cell(name, row, table.formats.get(name, "")) for name in names] for row in shown],
        left=len(frame) - len(shown),
    )


_TEXTS = ("", "metric", "flag")


def _cell(name: str, row: Mapping[Any, Any], form: str) -> Cell:
    value = row[name]
    if form in _TEXTS:
        return Cell(text=_text(value, form), key="", numeric=False)
    known = float("nan") if value is None else float(value)
    key = "" if known != known else repr(known)
    return Cell(text=_number(name, row, known, form), key=key, numeric=True)


def _text(value: object, form: str) -> str:
    if value is None or value != value:
        return ""
    if form == "metric":
        return label_of(str(value))
    if form == "flag":
        return "yes" if bool(value) else "no"
    return str(value)


def _number(name: str, row: Mapping[Any, Any], value: float, form: str) -> str:
    match form:
        case "p":
            return chance(value)
        case "signed":
            return signed(value)
        case "count":
            return number(value, digits=0) if value < 1000 else f"{value:,.0f}"
        case "hours":
            return number(value, digits=2 if value >= 0.1 or not value else 4)
        case "share":
            return "–" if value != value else f"{100 * value:.0f} %"
        case "interval" | "signed_interval":
            ends = ("low", "high") if name == "estimate" else (f"{name}_low", f"{name}_high")
            write = signed if form == "signed_interval" else number
            low, high = (float(row[end]) for end in ends)
            between = "" if low != low else f" [{write(low)}, {write(high)}]"
            return f"{write(value)}{between}"
        case "beside":
            apart = float(row[f"{name}_difference"])
            return number(value) + ("" if apart != apart else f" ({signed(apart)})")
        case _:
            return number(value)


def _empty(values: "pd.Series[Any]") -> bool:
    return bool(values.isna().all() or (values.astype(str) == "").all()) and len(values) > 0


def _svg(figure: Figure) -> Markup:
    """Take a figure into the page as it is: matplotlib has escaped its text."""
    return Markup(figure.svg())


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("orchestrator"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _file(name: str) -> Markup:
    text = resources.files("orchestrator").joinpath("templates", name).read_text("utf-8")
    return Markup(text)
