"""What a report is made of: sections of sentences, tables and figures; without behaviour."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from orchestrator.canvas import Figure

Verdict = Literal["better", "worse", "mixed", "unclear", "untested", "note", "warning"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One sentence of the summary.

    Attributes:
        verdict: how it is marked; a word stands beside the colour.
        lead: its first words, set in bold.
        text: the rest.
    """

    verdict: Verdict
    lead: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of the page.

    Attributes:
        name: of its files in a bundle.
        caption: what it shows.
        frame: its rows, values as they are.
        formats: column to how it is written: number, signed, p, share, count; text otherwise.
        notes: sentences below it: what the numbers are.
        filters: whether the page offers to filter rows.
    """

    name: str
    caption: str
    frame: pd.DataFrame
    formats: Mapping[str, str]
    notes: tuple[str, ...] = ()
    filters: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A section of the page.

    Attributes:
        anchor: its name in links.
        title: its heading.
        text: paragraphs.
        findings: marked sentences.
        tables: below the figures, unless there are none.
        figures: in the order of the page.
        texts: title and text of what is shown as it is, folded away.
    """

    anchor: str
    title: str
    text: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    texts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The whole page.

    Attributes:
        title: the name of the sweep.
        lead: what it compares, in a sentence.
        facts: label and value of the numbers at the top.
        sections: in order.
        foot: where it comes from.
    """

    title: str
    lead: str
    facts: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]
    foot: str
